//! The program: its command line, log and exit.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use holodule_backend::server::Address;
use tempfile::TempDir;

use crate::http;
use crate::service::holodule;

const BINARY: &str = env!("CARGO_BIN_EXE_holodule-backend");
pub(crate) const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ops/sample/holodules.csv");
pub(crate) const DEFECTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ops/sample/defects.csv");
const PATIENCE: Duration = Duration::from_secs(30);

/// The program without this process's environment, in its own folder.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().current_dir(folder).stdin(Stdio::null());
    command
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} never came");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The running program.
pub(crate) struct Program {
    child: Child,
    pub(crate) api: Address,
    pub(crate) admin: Address,
}

impl Program {
    pub(crate) fn start(folder: &Path, environment: &[(&str, &str)]) -> Self {
        let announced = folder.join("announced.json");
        let _ = fs::remove_file(&announced);
        let log = fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let child = command(folder)
            .envs([("API_ADDR", "127.0.0.1:0"), ("ADMIN_ADDR", "127.0.0.1:0"), ("STORE", "embedded:store.redb")])
            .env("ANNOUNCE_FILE", &announced)
            .envs(environment.iter().copied())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut program = Self { child, api: "127.0.0.1:0".parse().unwrap(), admin: "127.0.0.1:0".parse().unwrap() };
        let addresses: serde_json::Value = wait_for("the announcement", || {
            assert!(program.child.try_wait().unwrap().is_none(), "{}", fs::read_to_string(folder.join("log")).unwrap());
            Some(serde_json::from_str(&fs::read_to_string(&announced).ok()?).unwrap())
        });
        program.api = addresses["api"].as_str().unwrap().parse().unwrap();
        program.admin = addresses["admin"].as_str().unwrap().parse().unwrap();
        program
    }

    pub(crate) fn admin(&self) -> &Address {
        &self.admin
    }

    /// Runs a command with its admin listener.
    pub(crate) fn run(&self, folder: &Path, arguments: &[&str], input: &str) -> Output {
        let mut command = command(folder);
        run(command.args(arguments).args(["--admin", &self.url()]), input)
    }

    /// The value of `--admin` for its admin listener.
    pub(crate) fn url(&self) -> String {
        match &self.admin {
            Address::Tcp(address) => format!("http://{address}"),
            unix @ Address::Unix(_) => unix.to_string(),
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    pub(crate) fn terminate(mut self) -> i32 {
        self.signal("-TERM");
        wait_for("the end", || self.child.try_wait().unwrap()).code().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Usually it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn run(command: &mut Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command without input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

pub(crate) fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn check_reports_every_problem_and_starts_nothing() {
    let folder = folder();
    let output = command(folder.path()).arg("check").output().unwrap();
    assert!(succeeds(&output).ends_with("configuration is valid\n"), "{output:?}");
    fs::write(folder.path().join("backend.toml"), "drain = 'x'\nstore = 'hush://hush'\nnonsense = 1\n").unwrap();
    let output = command(folder.path()).args(["--config", "backend.toml", "check"]).output().unwrap();
    let problems = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    for key in ["drain", "store", "nonsense"] {
        assert!(problems.contains(&format!("  {key}: ")), "{problems}");
    }
    assert!(!problems.contains("hush"), "{problems}");
    let named = command(folder.path()).env("HOLODULE_BACKEND_CONFIG", "backend.toml").arg("check").output().unwrap();
    assert_eq!(text(&named.stderr), problems);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was made");
}

#[test]
fn the_originals_env_file_is_enough() {
    let folder = folder();
    let dotenv = folder.path().join(".env");
    fs::write(&dotenv, "MONGODB_USER=us/er\nMONGODB_PASSWORD=p@ss:hush\nMONGODB_HOST=db.example\n").unwrap();
    let output = command(folder.path()).arg("check").output().unwrap();
    let warning = "warning: .env holds a secret and can be read by every user of this machine\n";
    assert_eq!(succeeds(&output), format!("{warning}configuration is valid\n"));
    fs::set_permissions(&dotenv, fs::Permissions::from_mode(0o600)).unwrap();
    let output = command(folder.path()).arg("check").output().unwrap();
    assert_eq!(succeeds(&output), "configuration is valid\n");
    fs::write(folder.path().join(".env"), "MONGODB_USER=us/er\nMONGODB_PASSWORD='hush\n").unwrap();
    let output = command(folder.path()).arg("check").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!text(&output.stderr).contains("hush"), "{output:?}");
}

#[test]
fn an_invalid_command_line_has_exit_status_1() {
    let folder = folder();
    let status = |arguments: &[&str]| command(folder.path()).args(arguments).output().unwrap().status.code();
    assert_eq!(status(&["nonsense"]), Some(1));
    assert_eq!(status(&["import"]), Some(1));
    assert_eq!(status(&["--help"]), Some(0));
    let help = text(&command(folder.path()).args(["import", "--help"]).output().unwrap().stdout);
    assert!(help.contains("Exit status"), "{help}");
    let wrong = command(folder.path()).args(["upgrade", "--timeout", "soon"]).output().unwrap();
    assert!(text(&wrong.stderr).contains("must be a whole number of seconds"), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_managed_by_commands_and_passwords_stay_out_of_the_log() {
    let folder = folder();
    let path = folder.path();
    let program = Program::start(path, &[]);
    assert_eq!(succeeds(&program.run(path, &["user", "add", "a/b c%"], "hush-first\n")), "\"a/b c%\" was added\n");
    assert_eq!(succeeds(&program.run(path, &["user", "list"], "")), "a/b c%\tenabled\targon2id\n");
    let verify = |password: &'static str| {
        let admin = program.admin.clone();
        async move {
            let body = serde_json::json!({ "username": "a/b c%", "password": password }).to_string();
            http::send(&admin, "POST", "/credentials/verify", &[("Content-Type", "application/json")], &body)
                .await
                .status
        }
    };
    assert_eq!(verify("hush-first").await, 200);
    succeeds(&program.run(path, &["user", "passwd", "a/b c%"], "hush-second\n"));
    assert_eq!((verify("hush-first").await, verify("hush-second").await), (401, 200));
    succeeds(&program.run(path, &["user", "disable", "a/b c%"], ""));
    assert_eq!(succeeds(&program.run(path, &["user", "list"], "")), "a/b c%\tdisabled\targon2id\n");
    assert_eq!(verify("hush-second").await, 401);
    succeeds(&program.run(path, &["user", "enable", "a/b c%"], ""));
    assert_eq!(verify("hush-second").await, 200);

    let taken = program.run(path, &["user", "add", "a/b c%"], "hush-third\n");
    assert_eq!(taken.status.code(), Some(1));
    assert_eq!(text(&taken.stderr), "holodule-backend: the name is taken (409 Conflict)\n");
    assert_eq!(program.run(path, &["user", "add", "user02"], "").status.code(), Some(1), "no password, no user");
    assert_eq!(program.run(path, &["user", "delete", "user02"], "").status.code(), Some(1));
    succeeds(&program.run(path, &["user", "delete", "a/b c%"], ""));
    assert_eq!(succeeds(&program.run(path, &["user", "list"], "")), "");

    let json = [("Content-Type", "application/json")];
    for body in
        [r#"{"username":"shy","password":"hush-wrong"}"#, r#"{"password":"hush-wrong","username":1}"#, "hush-wrong"]
    {
        http::send(&program.admin, "POST", "/credentials/verify?hush-query", &json, body).await;
    }
    http::send(&program.api, "GET", "/holodules/20201209?hush-query", &[("X-Auth-Identity", "user%2001")], "").await;
    assert_eq!(program.terminate(), 0);

    let log = fs::read_to_string(path.join("log")).unwrap();
    assert!(!log.contains("hush"), "{log}");
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failed: Vec<_> = lines.iter().filter(|line| line.to_string().contains("shy")).collect();
    assert!(matches!(failed[..], [line] if line["reason"] == "no_user" && line["username"] == "shy"), "{failed:?}");
    let read = lines.iter().find(|line| line["route"] == "/holodules/{day}").unwrap();
    assert_eq!((&read["listener"], &read["method"], &read["status"]), (&"api".into(), &"GET".into(), &404.into()));
    assert_eq!(
        (&read["identity"], &read["client"], &read["bytes"]),
        (&"user%2001".into(), &"127.0.0.1".into(), &22.into())
    );
    assert!(read["timestamp"].is_string() && read["request_id"].is_string() && read["total_ms"].is_number(), "{read}");
    assert_eq!(lines.last().unwrap()["message"], "stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_and_exports_by_command() {
    let folder = folder();
    let path = folder.path();
    let program = Program::start(path, &[]);
    fs::copy(SAMPLE, path.join("sample.csv")).unwrap();
    fs::copy(DEFECTS, path.join("defects.csv")).unwrap();
    let first = succeeds(&program.run(path, &["import", "sample.csv"], ""));
    assert_eq!(first, "sample.csv: 587 read, 587 inserted, 0 updated, 0 unchanged, 0 rejected\n");
    let again = succeeds(&program.run(path, &["import", "sample.csv"], ""));
    assert_eq!(again, "sample.csv: 587 read, 0 inserted, 0 updated, 587 unchanged, 0 rejected\n");
    assert!(!path.join("sample.csv.rejects.csv").exists());
    let day = http::send(&program.api, "GET", "/Holodules/20201209", &[], "").await.json();
    assert_eq!((&day["result"], &day["holodules"][0]["key"]), (&17.into(), &"HL0503_20201209_230000".into()));

    succeeds(&program.run(path, &["export", "--output", "out.csv"], ""));
    let set = |file: &str| {
        fs::read_to_string(path.join(file)).unwrap().split("\r\n").map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert_eq!(set("out.csv"), set("sample.csv"));
    let ndjson = succeeds(&program.run(path, &["export"], ""));
    assert_eq!(ndjson.lines().count(), 587);
    let piped = succeeds(&program.run(path, &["import", "-", "--format", "ndjson"], &ndjson));
    assert_eq!(piped, "standard input: 587 read, 0 inserted, 0 updated, 587 unchanged, 0 rejected\n");
    assert_eq!(program.run(path, &["import", "-"], &ndjson).status.code(), Some(1), "the form must be named");

    let defects = program.run(path, &["import", "defects.csv"], "");
    assert_eq!(defects.status.code(), Some(2), "{defects:?}");
    assert!(text(&defects.stdout).contains("defects.csv: 10 read,") && text(&defects.stdout).contains(" 8 rejected\n"));
    let rejects = fs::read_to_string(path.join("defects.csv.rejects.csv")).unwrap();
    assert_eq!(rejects.split_terminator("\r\n").count(), 9, "{rejects}");
    assert!(rejects.contains(",7,superseded by row 8\r\n"), "{rejects}");

    let missing = program.run(path, &["import", "missing.csv"], "");
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("missing.csv"), "{missing:?}");
    program.terminate();
    let unreachable =
        run(command(path).args(["export", "--output", "out.csv", "--admin", "unix:/nowhere/admin.sock"]), "");
    assert_eq!(unreachable.status.code(), Some(1));
    assert_eq!(set("out.csv"), set("sample.csv"), "the earlier export is untouched");
}

#[test]
fn commands_use_the_configured_listener_and_systemd_is_notified() {
    let folder = folder();
    let path = folder.path();
    let notified = UnixDatagram::bind(path.join("notify")).unwrap();
    notified.set_read_timeout(Some(PATIENCE)).unwrap();
    let socket = format!("unix:{}", path.join("admin.sock").display());
    let notify = path.join("notify");
    let program = Program::start(path, &[("ADMIN_ADDR", &socket), ("NOTIFY_SOCKET", notify.to_str().unwrap())]);
    let received = || {
        let mut buffer = [0; 256];
        let length = notified.recv(&mut buffer).unwrap();
        text(&buffer[..length])
    };
    assert_eq!(received().trim_end(), "READY=1");
    fs::write(path.join("backend.toml"), format!("admin_addr = '{socket}'\n")).unwrap();
    succeeds(&run(command(path).args(["--config", "backend.toml", "user", "add", "user01"]), "password01\n"));
    assert_eq!(succeeds(&program.run(path, &["user", "list"], "")), "user01\tenabled\targon2id\n");
    assert_eq!(program.terminate(), 0);
    assert_eq!(received().trim_end(), "STOPPING=1");
    assert!(!path.join("admin.sock").exists());
}

#[test]
fn a_store_locked_by_another_process_is_reported_at_start() {
    let folder = folder();
    let _program = Program::start(folder.path(), &[]);
    let second = command(folder.path())
        .envs([("API_ADDR", "127.0.0.1:0"), ("ADMIN_ADDR", "127.0.0.1:0"), ("STORE", "embedded:store.redb")])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(
        text(&second.stderr).starts_with("holodule-backend: store, from STORE: the store cannot be opened"),
        "{second:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_a_kill_during_an_upload() {
    let folder = folder();
    let path = folder.path();
    let mut acknowledged = BTreeSet::new();
    let mut number: u32 = 0;
    for _ in 0..3 {
        let mut program = Program::start(path, &[]);
        let uploader = tokio::spawn({
            let (admin, first) = (program.admin.clone(), number);
            async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut done = first;
                let mut stream = http::connect(&admin).await;
                let mut buffer = vec![0; 4096];
                // Until the service is killed, which ends the stream.
                loop {
                    let lines: Vec<String> = (done..done + 40)
                        .map(|number| serde_json::to_string(&holodule(number, "20201209 230000")).unwrap())
                        .collect();
                    let body = lines.join("\n");
                    let request = format!(
                        "POST /holodules HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    if stream.write_all(request.as_bytes()).await.is_err() {
                        return done;
                    }
                    match stream.read(&mut buffer).await {
                        Ok(length) if length > 0 => {
                            let answer = text(&buffer[..length]);
                            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
                            assert!(answer.contains("\"rejected\":[]"), "{answer:?}");
                        }
                        _ => return done,
                    }
                    done += 40;
                }
            }
        });
        // After some uploads, in the middle of another.
        wait_for("an upload", || {
            let log = fs::read_to_string(path.join("log")).unwrap();
            (log.matches("holodules uploaded").count() >= number as usize / 40 + 5).then_some(())
        });
        program.child.kill().unwrap();
        program.child.wait().unwrap();
        let done = uploader.await.unwrap();
        assert!(done > number);
        acknowledged.extend((number..done).map(|number| format!("video{number:06}")));
        number = done + 40;
    }
    let program = Program::start(path, &[]);
    let exported = http::send(&program.admin, "GET", "/holodules", &[], "").await.body;
    let stored: BTreeSet<String> = exported
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["video_id"].as_str().unwrap().to_owned())
        .collect();
    let lost: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), acknowledged.len());
    assert_eq!(program.terminate(), 0);
}
