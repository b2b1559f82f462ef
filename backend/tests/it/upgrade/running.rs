//! The running program, whose process changes.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use holodule_backend::server::Address;
use holodule_handover::{Page, read_page};

use crate::program::{text, wait_for};

pub(super) const BINARY: &str = env!("CARGO_BIN_EXE_holodule-backend");

/// The program, started through a link that an upgrade follows again.
pub(super) struct Running {
    folder: PathBuf,
    first: Child,
    /// The process that serves.
    pub(super) process: u32,
    pub(super) api: Address,
    pub(super) admin: Address,
}

/// The environment of the program in `folder`, with the announced addresses in a file.
pub(super) fn with_environment<'a>(command: &'a mut Command, folder: &Path) -> &'a mut Command {
    let log = fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    command
        .env_clear()
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .envs([("API_ADDR", "127.0.0.1:0"), ("ADMIN_ADDR", "127.0.0.1:0"), ("STORE", "embedded:store.redb")])
        .env("ANNOUNCE_FILE", folder.join("announced.json"))
}

/// The addresses that the program in `folder` announces.
pub(super) fn announced(folder: &Path) -> [Address; 2] {
    let announced: serde_json::Value = wait_for("the announcement", || {
        serde_json::from_str(&fs::read_to_string(folder.join("announced.json")).ok()?).ok()
    });
    ["api", "admin"].map(|name| announced[name].as_str().unwrap().parse().unwrap())
}

impl Running {
    pub(super) fn start(folder: &Path, environment: &[(&str, &str)]) -> Self {
        symlink(BINARY, folder.join("program")).unwrap();
        let mut command = Command::new(folder.join("program"));
        let first = with_environment(&mut command, folder).envs(environment.iter().copied()).spawn().unwrap();
        let [api, admin] = announced(folder);
        Self { folder: folder.to_owned(), process: first.id(), first, api, admin }
    }

    /// Replaces the program for the next upgrade.
    pub(super) fn next_program(&self, script: &str) {
        let next = self.folder.join("next");
        let _ = fs::remove_file(&next);
        if script == BINARY {
            symlink(BINARY, &next).unwrap();
        } else {
            fs::write(&next, script).unwrap();
            fs::set_permissions(&next, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::rename(next, self.folder.join("program")).unwrap();
    }

    /// Requests an upgrade and waits for its result.
    pub(super) fn upgrade(&self) -> Output {
        self.upgrade_to(Stdio::piped())
    }

    /// [`Running::upgrade`] with this standard output.
    pub(super) fn upgrade_to(&self, output: Stdio) -> Output {
        let mut command = Command::new(BINARY);
        command.args(["upgrade", "--timeout", "60", "--admin", &self.admin.to_string()]).current_dir(&self.folder);
        command.stdout(output).output().unwrap()
    }

    /// An upgrade that succeeds.
    pub(super) fn upgrades(&mut self) {
        let output = self.upgrade();
        assert!(output.status.success(), "{output:?} {}", self.log());
        let process = self.page().process;
        assert_eq!(text(&output.stdout), format!("upgraded: process {process} serves\n"));
        self.process = process;
        let announced = fs::read_to_string(self.folder.join("announced.json")).unwrap();
        assert!(announced.ends_with(&format!("\"process\":{process}}}\n")), "{announced}");
    }

    pub(super) fn page(&self) -> Page {
        read_page(&self.admin.clone().into()).unwrap()
    }

    pub(super) fn admin_address(&self) -> SocketAddr {
        let Address::Tcp(address) = self.admin else { panic!("{}", self.admin) };
        address
    }

    /// The response of the admin listener.
    pub(super) fn get(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut response = String::new();
        match &self.admin {
            Address::Tcp(address) => exchange(TcpStream::connect(address).unwrap(), &request, &mut response),
            Address::Unix(path) => exchange(UnixStream::connect(path).unwrap(), &request, &mut response),
        }
        response
    }

    /// Which of the holodules are not in the store, as of the export.
    pub(super) fn missing(&self, videos: &[String]) -> Vec<String> {
        let export = self.get("/holodules?format=ndjson");
        assert!(export.starts_with("HTTP/1.1 200"), "{export}");
        videos.iter().filter(|video| !export.contains(&format!("\"{video}\""))).cloned().collect()
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    pub(super) fn until_logged(&self, text: &str) {
        wait_for(text, || self.log().contains(text).then_some(()));
    }

    pub(super) fn signal(&self, name: &str) {
        signal(name, self.process);
    }

    /// Waits until a process has ended.
    pub(super) fn ended(&mut self, process: u32) {
        if process == self.first.id() {
            assert!(wait_for("the end", || self.first.try_wait().unwrap()).success(), "{}", self.log());
        } else {
            wait_for("the end", || (!is_running(process)).then_some(()));
        }
    }

    pub(super) fn stop(mut self) {
        self.signal("-TERM");
        self.ended(self.process);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Usually they have ended.
        if is_running(self.process) && self.process != self.first.id() {
            signal("-KILL", self.process);
        }
        let _ = self.first.kill();
        let _ = self.first.wait();
    }
}

fn exchange(mut stream: impl Read + Write, request: &str, response: &mut String) {
    stream.write_all(request.as_bytes()).unwrap();
    stream.read_to_string(response).unwrap();
}

pub(super) fn signal(name: &str, process: u32) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

/// Whether a process runs. One that has ended, and whose parent has not noticed, does not.
pub(super) fn is_running(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}
