//! The program as it is run: its command line, its log and its end.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::auth::{login, user01};
use crate::support::backend::Backend;
use crate::support::certificate::certificates;
use crate::support::client::{Connection, PATIENCE};
use crate::support::{DAY, DAY_BODY, admin, api, get, token, until};

/// The program with an empty environment, in this folder.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holodule-gateway"));
    command.env_clear().current_dir(folder).stdin(Stdio::null());
    command
}

/// A folder with a certificate, its key, a configuration, and a `.env` as the original API reads it.
pub fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("cert.pem", &certificates().leaf);
    write("key.pem", &certificates().key);
    write(".env", &format!("JWT_SECRET_KEY='{}'\nREVOCATION_ENABLED=false\n", token::secret()));
    fs::set_permissions(folder.path().join(".env"), fs::Permissions::from_mode(0o600)).unwrap();
    write(
        "gateway.toml",
        "https_addr = '127.0.0.1:0'\nops_addr = '127.0.0.1:0'\nannounce_file = 'announced.json'\n\
         [tls]\ncertificate = 'cert.pem'\nprivate_key = 'key.pem'\n\
         [listener]\nmax_connections = 256\n[upstream]\nmax_connections = 128\n",
    );
    folder
}

pub fn check(folder: &Path, environment: &[(&str, &str)]) -> Output {
    let arguments = ["--config", "gateway.toml", "check"];
    command(folder).args(arguments).envs(environment.iter().copied()).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The running program.
pub struct Program {
    pub child: Child,
    addresses: Value,
}

impl Program {
    pub async fn start(folder: &Path, api: &Backend, admin: &Backend, environment: &[(&str, &str)]) -> Self {
        Self::spawn(command(folder), folder, api, admin, environment).await
    }

    /// Starts the program by this command.
    pub async fn spawn(
        mut command: Command,
        folder: &Path,
        api: &Backend,
        admin: &Backend,
        environment: &[(&str, &str)],
    ) -> Self {
        let child = command
            .args(["--config", "gateway.toml"])
            .envs([("UPSTREAM_API", &api.address), ("UPSTREAM_ADMIN", &admin.address)])
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut program = Self { child, addresses: Value::Null };
        until("the addresses are announced", async || {
            assert_eq!(program.child.try_wait().unwrap(), None, "the program has exited");
            let announced = fs::read(folder.join("announced.json"));
            announced.is_ok_and(|announced| {
                program.addresses = serde_json::from_slice(&announced).unwrap();
                true
            })
        })
        .await;
        program
    }

    /// The address of its ops listener.
    pub fn ops(&self) -> &str {
        self.addresses["ops"].as_str().unwrap()
    }

    /// Sends the program a signal.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// The value of a series of its metrics.
    pub async fn metric(&self, series: &str) -> f64 {
        let mut stream = TcpStream::connect(self.ops()).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut page = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut page)).await.unwrap().unwrap();
        page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok()).unwrap()
    }

    pub async fn connect(&self) -> Connection {
        Connection::open(self.addresses["https"].as_str().unwrap().parse().unwrap()).await.unwrap()
    }

    /// Stops the program with SIGTERM and returns its standard output.
    pub fn stop(mut self) -> String {
        self.signal("-TERM");
        let mut log = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut log).unwrap();
        assert!(self.child.wait().unwrap().success(), "{log}");
        log
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails if the program has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn check_reports_every_problem_and_no_secret() {
    let folder = folder();
    let path = folder.path();
    let valid = check(path, &[]);
    assert!(valid.status.success(), "{valid:?}");
    assert!(text(&valid.stdout).ends_with("the configuration is valid\n"), "{valid:?}");
    assert!(!path.join("announced.json").exists(), "nothing was started");

    fs::write(path.join(".env"), "JWT_SECRET_KEY=hush\nUPSTREAM_API=hush hush\n").unwrap();
    let wrong = check(path, &[("TOKEN_LIFETIME", "0"), ("TLS_PRIVATE_KEY", "missing.pem"), ("HOSTS", "['a:1']")]);
    let report = text(&wrong.stderr);
    assert_eq!(wrong.status.code(), Some(1));
    for subject in [
        "token.lifetime, from TOKEN_LIFETIME",
        "tls.private_key, from TLS_PRIVATE_KEY",
        "hosts, from HOSTS",
        "jwt_secret_key, from JWT_SECRET_KEY in .env",
        "upstream.api, from UPSTREAM_API in .env",
    ] {
        assert!(report.contains(&format!("  {subject}: ")), "{subject}: {report}");
    }
    assert!(!report.contains("hush"), "{report}");

    fs::write(path.join(".env"), "\nJWT_SECRET_KEY 'hush'\n").unwrap();
    let wrong = check(path, &[]);
    let expected = "holodule-gateway: the configuration has 1 problem:\n  .env: line 2 has no `=` after a name\n\n";
    assert_eq!((wrong.status.code(), text(&wrong.stderr).as_str()), (Some(1), expected));
}

#[test]
fn check_adds_notes_on_valid_settings() {
    let folder = folder();
    let noted =
        check(folder.path(), &[("LOGIN_ENABLED", "false"), ("HSTS_MAX_AGE", "0"), ("OPS_ADDR", "0.0.0.0:9180")]);
    assert!(noted.status.success(), "{noted:?}");
    let report = text(&noted.stdout);
    for key in ["login.enabled", "hsts.max_age", "ops_addr"] {
        assert!(report.contains(&format!("note: {key} ")), "{key}: {report}");
    }
}

#[test]
fn help_explains_the_sources_of_settings() {
    let folder = folder();
    let help = command(folder.path()).arg("--help").output().unwrap();
    assert!(help.status.success());
    for word in ["--config", "HOLODULE_GATEWAY_CONFIG", "JWT_SECRET_KEY_FILE", "check"] {
        assert!(text(&help.stdout).contains(word), "{word}");
    }
    assert_eq!(command(folder.path()).arg("nonsense").output().unwrap().status.code(), Some(2));
}

#[tokio::test]
async fn each_request_is_one_line_and_no_line_contains_a_secret() {
    let (api, admin) = (api().await, admin().await);
    let folder = folder();
    let program = Program::start(folder.path(), &api, &admin, &[]).await;
    let mut connection = program.connect().await;
    let read = connection.exchange(get(&format!("{DAY}?hush-query"), "")).await;
    assert_eq!((read.status, read.body.as_str()), (200, DAY_BODY));
    let granted = connection.exchange(login(user01())).await;
    assert_eq!(granted.status, 200);
    let refused = json!({"username": "hush-user", "password": "hush-password"}).to_string();
    assert_eq!(connection.exchange(login(refused)).await.status, 401);
    assert_eq!(connection.exchange(get("/no-route?day=hush", "User-Agent: test/1 \"a\"\r\n")).await.status, 404);
    let broken = "GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT hush-token\r\n\r\n";
    assert_eq!(connection.exchange(broken).await.status, 401);
    let log = program.stop();

    let token = granted.json()["access_token"].as_str().unwrap().to_owned();
    for secret in ["hush", token.as_str(), "password01", token::secret().as_str()] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let requests: Vec<_> = lines.iter().filter(|line| line["target"] == "access").collect();
    let logged: Vec<_> = requests
        .iter()
        .map(|line| json!([line["method"], line["route"], line["status"], line["identity"], line["reason"]]))
        .collect();
    let expected = [
        json!(["GET", "holodules", 200, "user01", null]),
        json!(["POST", "auth", 200, "user01", null]),
        json!(["POST", "auth", 401, null, "refused"]),
        json!(["GET", "none", 404, "user01", "route"]),
        json!(["GET", "none", 401, null, "encoding"]),
    ];
    assert_eq!(logged, expected);
    let paths: Vec<_> = requests.iter().map(|line| &line["path"]).collect();
    assert_eq!(
        paths,
        [&json!(format!("{DAY}?...")), &json!("/auth"), &json!("/auth"), &json!("/no-route?day"), &json!("/")]
    );
    assert_eq!((&requests[3]["user_agent"], &requests[4]["user_agent"]), (&json!("test/1 \"a\""), &Value::Null));
    assert!(requests.iter().all(|line| line["protocol"] == "HTTP/1.1" && line["tls"] == "1.3"), "{log}");
    let first = requests[0];
    assert_eq!((&first["client"], &first["bytes"]), (&"127.0.0.1".into(), &DAY_BODY.len().into()));
    assert_eq!(first["request_id"], read.value("x-request-id"));
    assert!(first["timestamp"].is_string(), "{first}");
    let milliseconds = |name: &str| first[name].as_f64().unwrap();
    assert!((0.0..=milliseconds("total_ms")).contains(&milliseconds("upstream_ms")), "{first}");
}

/// Creates a static token with the program. Returns the token and its settings.
fn new_static_token(folder: &Path, arguments: &[&str]) -> (String, String) {
    let made = command(folder).args(["static-token", "new"]).args(arguments).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let shown = text(&made.stdout);
    let token = shown.lines().find(|line| line.starts_with("holodule_")).unwrap().to_owned();
    let (_, settings) = shown.split_once("\n\n").unwrap();
    assert!(!settings.contains(&token));
    (token, settings.to_owned())
}

#[test]
fn a_static_token_cannot_be_created_with_invalid_settings() {
    let folder = folder();
    let refused = |arguments: &[&str]| {
        let made = command(folder.path()).args(["static-token", "new"]).args(arguments).output().unwrap();
        assert!(!made.status.success() && made.stdout.is_empty(), "{made:?}");
        text(&made.stderr)
    };
    assert!(refused(&["a b"]).contains("\"a b\" must have 1 to 64 characters"));
    assert!(refused(&["a", "--expires", "2020-01-01T00:00:00Z"]).contains("is in the past"));
    assert!(refused(&["a", "--expires", "soon"]).contains("must be an RFC 3339 date-time"));
    assert!(refused(&["a", "--expires", "tomorrow"]).contains("--expires"));
    assert!(refused(&["a", "--scopes", "a b"]).contains("--scopes must be printable ASCII characters"));
    assert!(refused(&[]).contains("<NAME>"));
}

#[tokio::test]
async fn sighup_applies_a_new_configuration_and_an_invalid_one_changes_nothing() {
    let (api, admin) = (api().await, admin().await);
    let folder = folder();
    let path = folder.path();
    let settings = fs::read_to_string(path.join("gateway.toml")).unwrap();
    let program = Program::start(path, &api, &admin, &[]).await;
    let (token, static_token) =
        new_static_token(path, &["collector", "--routes", "holodules", "--expires", "2100-01-01T00:00:00+09:00"]);
    let request = format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    let mut connection = program.connect().await;
    assert_eq!(connection.exchange(&request).await.status, 401);

    fs::write(path.join("gateway.toml"), format!("{settings}\n{static_token}")).unwrap();
    program.signal("-HUP");
    until("the static token is accepted", async || connection.exchange(&request).await.status == 200).await;

    let wrong = format!("drain_timeout = -1\nstrip_prefix = ['/hush/']\n{settings}");
    fs::write(path.join("gateway.toml"), wrong).unwrap();
    program.signal("-HUP");
    let result = "gateway_config_last_reload_successful";
    until("the invalid configuration is read", async || program.metric(result).await == 0.0).await;
    assert_eq!(connection.exchange(&request).await.status, 200);

    let partly = format!("drain_timeout = 7\n{settings}[log]\nformat = 'json'\n");
    fs::write(path.join("gateway.toml"), partly).unwrap();
    program.signal("-HUP");
    until("the valid configuration is read", async || program.metric(result).await == 1.0).await;
    assert_eq!(connection.exchange(&request).await.status, 401);

    let log = program.stop();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let problems: Vec<_> = lines.iter().filter(|line| line["level"] == "ERROR").map(|line| &line["key"]).collect();
    assert_eq!(problems, [&json!("drain_timeout"), &json!("strip_prefix"), &Value::Null]);
    // One line for each successful reload, with the keys that have changed and those that need an upgrade.
    let reloads: Vec<_> = lines.iter().filter(|line| line["changed"].is_string()).collect();
    assert_eq!(reloads.len(), 2, "{log}");
    let changed = "drain_timeout, log.format, static_token";
    for (line, level, changed, waiting) in
        [(reloads[0], "INFO", "static_token", Value::Null), (reloads[1], "WARN", changed, json!("log.format"))]
    {
        assert_eq!((&line["level"], &line["need_upgrade"]), (&json!(level), &waiting), "{line}");
        assert_eq!(line["changed"], changed, "{line}");
    }
    let about_reloads =
        lines.iter().filter(|line| line["message"].as_str().is_some_and(|text| text.contains("reload")));
    assert_eq!(about_reloads.count(), 3, "{log}");
    let identities: Vec<_> = lines.iter().filter(|line| line["status"] == 200).map(|line| &line["identity"]).collect();
    assert!(!identities.is_empty() && identities.iter().all(|identity| *identity == "static:collector"), "{log}");
    assert!(!log.contains(&token));
}

#[test]
fn check_warns_of_secrets_that_others_can_read() {
    let folder = folder();
    let set_mode = |name: &str, mode: u32| {
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    for name in ["key.pem", ".env"] {
        set_mode(name, 0o644);
        let report = text(&check(folder.path(), &[]).stdout);
        let warning = format!("warning: {name} holds a secret and can be read by every user of this machine\n");
        assert!(report.contains(&warning), "{report}");
        set_mode(name, 0o600);
    }
    let report = text(&check(folder.path(), &[]).stdout);
    assert!(!report.contains("warning"), "{report}");
}

#[tokio::test]
async fn systemd_is_notified_of_the_start_and_the_stop() {
    let (api, admin) = (api().await, admin().await);
    let folder = folder();
    let socket = folder.path().join("notify");
    let notified = UnixDatagram::bind(&socket).unwrap();
    notified.set_read_timeout(Some(PATIENCE)).unwrap();
    let received = || {
        let mut buffer = [0; 256];
        let length = notified.recv(&mut buffer).unwrap();
        text(&buffer[..length])
    };
    let program = Program::start(folder.path(), &api, &admin, &[("NOTIFY_SOCKET", socket.to_str().unwrap())]).await;
    assert_eq!(received().trim_end(), "READY=1");
    let began = Instant::now();
    program.stop();
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(received().trim_end(), "STOPPING=1");
}

/// As [`command`], with this hard limit of descriptors and a low soft limit.
fn command_within(folder: &Path, descriptors: u32) -> Command {
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile=64:{descriptors}")).arg(env!("CARGO_BIN_EXE_holodule-gateway"));
    command.env_clear().current_dir(folder).stdin(Stdio::null());
    command
}

#[test]
fn connections_over_the_hard_limit_are_a_configuration_error() {
    let folder = folder();
    let check = |connections: &str| {
        let mut command = command_within(folder.path(), 1024);
        command.args(["--config", "gateway.toml", "check"]).env("LISTENER_MAX_CONNECTIONS", connections);
        command.output().unwrap()
    };
    // 2 times 128 are for the upstreams, 256 for everything else.
    assert!(check("512").status.success());
    let output = check("513");
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output.stderr);
    assert!(
        report.contains("listener.max_connections, from LISTENER_MAX_CONNECTIONS: 513 do not fit")
            && report.contains("leaves 512"),
        "{report}"
    );
}

#[tokio::test]
async fn the_soft_limit_is_raised_to_the_hard_one() {
    let (api, admin, folder) = (api().await, admin().await, folder());
    let program = Program::spawn(command_within(folder.path(), 1024), folder.path(), &api, &admin, &[]).await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", program.child.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().collect::<Vec<_>>()[3..5], ["1024", "1024"]);
}
