//! Upgrades in place of the program: a new process takes over the listening sockets while the old one drains.

mod acme;
mod failure;
mod process;
mod serve;
mod shared_stream;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use holodule_handover::Page;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::program::{command, folder, text};
use crate::support::backend::Backend;
use crate::support::client::{Connection, PATIENCE};
use crate::support::until;

/// The name of the program in the folder of a test.
const PROGRAM: &str = "program";

/// The program, and the processes that it is upgraded to.
pub struct Upgraded {
    pub child: Child,
    pub folder: TempDir,
    https: SocketAddr,
    pub ops: SocketAddr,
}

impl Upgraded {
    /// Starts the program in a folder of its own, by a link in it. Its log is `log`.
    pub async fn start(api: &Backend, admin: &Backend, environment: &[(&str, &str)]) -> Self {
        let folder = folder();
        let path = folder.path().join(PROGRAM);
        symlink(env!("CARGO_BIN_EXE_holodule-gateway"), &path).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(&path);
        command.env_clear().current_dir(folder.path()).stdin(Stdio::null());
        let child = command
            .args(["--config", "gateway.toml"])
            .envs([("UPSTREAM_API", &api.address), ("UPSTREAM_ADMIN", &admin.address)])
            .envs(environment.iter().copied())
            .stderr(log.try_clone().unwrap())
            .stdout(log)
            // Its successors are in the same group, which `drop` ends.
            .process_group(0)
            .spawn()
            .unwrap();
        let none = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut started = Self { child, folder, https: none, ops: none };
        until("the addresses are announced", async || {
            assert_eq!(started.child.try_wait().unwrap(), None, "{}", started.log());
            started.announced().is_some()
        })
        .await;
        let announced = started.announced().unwrap();
        let address = |name: &str| announced[name].as_str().unwrap().parse().unwrap();
        (started.https, started.ops) = (address("https"), address("ops"));
        until("it is ready", async || started.ops("/readyz").await.is_some_and(|(status, _)| status == 200)).await;
        started
    }

    /// What the program has announced.
    pub fn announced(&self) -> Option<Value> {
        let announced = fs::read(self.folder.path().join("announced.json")).ok()?;
        Some(serde_json::from_slice(&announced).unwrap())
    }

    /// Replaces the program that the next upgrade starts by a shell script.
    pub fn replace_by(&self, script: &str) {
        let path = self.folder.path().join(PROGRAM);
        fs::remove_file(&path).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&path, mode).unwrap();
    }

    /// Adds these lines to the beginning of the configuration.
    pub fn configure(&self, lines: &str) {
        let path = self.folder.path().join("gateway.toml");
        let before = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{lines}\n{before}")).unwrap();
    }

    /// Requests an upgrade with the command, and returns its output.
    pub async fn try_upgrade(&self) -> Output {
        self.try_upgrade_to(Stdio::piped()).await
    }

    /// [`Upgraded::try_upgrade`] with this standard output.
    pub async fn try_upgrade_to(&self, stdout: Stdio) -> Output {
        let (folder, ops) = (self.folder.path().to_owned(), self.ops.to_string());
        // The stubs of this test run meanwhile.
        let output =
            spawn_blocking(move || command(&folder).args(["upgrade", "--ops", &ops]).stdout(stdout).output().unwrap());
        output.await.unwrap()
    }

    /// Upgrades, and returns the id of the new process.
    pub async fn upgrade(&self) -> u32 {
        let output = self.try_upgrade().await;
        assert!(output.status.success(), "{output:?}\n{}", self.log());
        let page = self.page().await;
        assert_eq!(text(&output.stdout), format!("upgraded: process {} serves\n", page.process));
        page.process
    }

    /// Requests an upgrade that must fail, and returns the reason.
    pub async fn fail_to_upgrade(&self) -> String {
        let before = self.page().await;
        let output = self.try_upgrade().await;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let after = self.page().await;
        assert_eq!((after.process, after.unsuccessful), (before.process, before.unsuccessful + 1));
        let failure = after.last.unwrap();
        let expected = format!(
            "holodule-gateway: process {} continues to serve: the upgrade {}: {}\n",
            after.process, failure.result, failure.reason
        );
        assert_eq!(text(&output.stderr), expected);
        let mut logged = Vec::new();
        // The log is written by a thread of its own.
        until("the failure is logged", async || {
            logged = self.lines().into_iter().filter(|line| line["error"] == *failure.reason).collect();
            !logged.is_empty()
        })
        .await;
        assert_eq!(logged.len(), 1, "{}", self.log());
        assert_eq!((&logged[0]["level"], &logged[0]["result"]), (&"ERROR".into(), &failure.result.as_str().into()));
        format!("{}: {}", failure.result, failure.reason)
    }

    /// The state of upgrades.
    pub async fn page(&self) -> Page {
        let (status, body) = self.response("/upgrade").await;
        assert_eq!(status, 200);
        serde_json::from_str(&body).unwrap()
    }

    /// The same as [`Upgraded::ops`], repeated until there is a response: while the listener changes hands, the old process
    /// may close a connection without one.
    async fn response(&self, path: &str) -> (u16, String) {
        let mut response = None;
        until("the ops listener responds", async || {
            response = self.ops(path).await;
            response.is_some()
        })
        .await;
        response.unwrap()
    }

    /// `GET path` on the ops listener: the status and the body; `None` without a response.
    pub async fn ops(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.ops).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().unwrap(), body.to_owned()))
    }

    /// The value of a series of its metrics.
    pub async fn metric(&self, series: &str) -> f64 {
        let (_, page) = self.response("/metrics").await;
        page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok()).unwrap()
    }

    pub async fn connect(&self) -> Connection {
        Connection::open(self.https).await.unwrap()
    }

    /// What all processes have logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// The lines of the log that are JSON; others are messages of processes that did not start.
    pub fn lines(&self) -> Vec<Value> {
        self.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until the first process has ended; its exit status must be 0.
    pub async fn first_has_ended(&mut self) {
        let mut status = None;
        until("the old process ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        assert!(status.unwrap().success(), "{}", self.log());
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        // Fails if all have ended.
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

/// Whether a process exists that is not a zombie.
pub fn is_running(process: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}
