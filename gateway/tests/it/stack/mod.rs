//! End-to-end tests: both programs as processes, real stores, and curl as the client.

mod cache;
mod calendar;
mod clocks;
mod days;
mod environment;
mod lists;
mod live;
mod lockout;
mod log;
// The backend's tests use the same harness.
#[path = "../../../../backend/tests/it/mongod.rs"]
mod mongod;
mod outage;
mod process;
mod revocation;
mod roles;
mod stored_user;
mod streams;
mod users;

use std::path::Path;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::support::certificate::certificates;
use crate::support::client::Answer;
use crate::support::token;
use process::{GATEWAY, Process, run, wait_for};

/// A gateway and a backend, each in its folder.
struct Stack {
    gateway: Process,
    backend: Process,
    backend_settings: Vec<(&'static str, String)>,
    gateway_settings: Vec<(&'static str, String)>,
    // Dropped last, since the programs write to it.
    folder: TempDir,
}

impl Stack {
    /// Starts both programs with the embedded store.
    fn embedded() -> Self {
        Self::on_store("embedded:store.redb")
    }

    /// Starts both programs with the store at `url`.
    fn on_store(url: &str) -> Self {
        Self::start(&[("STORE", url.to_owned())], &[("JWT_SECRET_KEY", token::secret())], None)
    }

    /// Starts both programs with this `.env` file in their working directories.
    fn with_env_file(file: &Path) -> Self {
        Self::start(&[], &[], Some(file))
    }

    fn start(backend: &[(&'static str, String)], gateway: &[(&'static str, String)], env_file: Option<&Path>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [backend_folder, gateway_folder] = ["backend", "gateway"].map(|name| {
            let folder = folder.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            if let Some(file) = env_file {
                std::fs::copy(file, folder.join(".env")).unwrap();
            }
            folder
        });
        let mut backend_settings = vec![
            ("API_ADDR", "127.0.0.1:0".to_owned()),
            ("ADMIN_ADDR", "127.0.0.1:0".to_owned()),
            ("STORE_OPERATION_TIMEOUT", "2".to_owned()),
            ("LOG_LEVEL", "debug".to_owned()),
        ];
        backend_settings.extend_from_slice(backend);
        let backend = Process::start(&process::backend(), &backend_folder, &backend_settings);
        for (name, text) in [("cert.pem", &certificates().leaf), ("key.pem", &certificates().key)] {
            std::fs::write(gateway_folder.join(name), text).unwrap();
        }
        std::fs::write(folder.path().join("ca.pem"), &certificates().ca).unwrap();
        let mut gateway_settings = vec![
            ("HTTPS_ADDR", "127.0.0.1:0".to_owned()),
            ("OPS_ADDR", "127.0.0.1:0".to_owned()),
            ("UPSTREAM_API", backend.address("api").to_owned()),
            ("UPSTREAM_ADMIN", backend.address("admin").to_owned()),
            ("TLS_CERTIFICATE", "cert.pem".to_owned()),
            ("TLS_PRIVATE_KEY", "key.pem".to_owned()),
            ("STRIP_PREFIX", "['/holoapi']".to_owned()),
            ("LOG_LEVEL", "debug".to_owned()),
            // The defaults need more file descriptors than some machines allow.
            ("LISTENER_MAX_CONNECTIONS", "256".to_owned()),
            ("UPSTREAM_MAX_CONNECTIONS", "128".to_owned()),
        ];
        gateway_settings.extend_from_slice(gateway);
        let gateway = Process::start(Path::new(GATEWAY), &gateway_folder, &gateway_settings);
        let stack = Self { gateway, backend, backend_settings, gateway_settings, folder };
        stack.wait_until_ready();
        stack
    }

    fn wait_until_ready(&self) {
        for (process, listener) in [(&self.backend, "admin"), (&self.gateway, "ops")] {
            wait_until_ready(process, listener);
        }
    }

    /// Runs a command of the backend against its admin listener, and returns its output.
    fn command(&self, arguments: &[&str], input: &str) -> String {
        let admin = format!("http://{}", self.backend.address("admin"));
        let mut command = Command::new(process::backend());
        run(command.env_clear().current_dir(self.folder.path()).args(arguments).args(["--admin", &admin]), input)
    }

    /// Imports the sample and adds the user of the original's example.
    fn load(&self) {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/sample/holodules.csv");
        std::fs::copy(sample, self.folder.path().join("holodules.csv")).unwrap();
        self.command(&["import", "holodules.csv"], "");
        self.command(&["user", "add", "user01"], "password01\n");
    }

    /// Starts another gateway in front of the same backend, with these settings changed, and waits until it is ready.
    fn another_gateway(&self, settings: &[(&'static str, String)]) -> Process {
        let gateway = self.unready_gateway(settings);
        wait_until_ready(&gateway, "ops");
        gateway
    }

    /// [`Stack::another_gateway`] without waiting for readiness.
    fn unready_gateway(&self, settings: &[(&'static str, String)]) -> Process {
        let folder = self.folder.path().join("another");
        std::fs::create_dir(&folder).unwrap();
        for name in ["cert.pem", "key.pem"] {
            std::fs::copy(self.folder.path().join("gateway").join(name), folder.join(name)).unwrap();
        }
        let mut all = self.gateway_settings.clone();
        all.retain(|(name, _)| settings.iter().all(|(other, _)| name != other));
        all.extend_from_slice(settings);
        Process::start(Path::new(GATEWAY), &folder, &all)
    }

    /// Runs `curl` with these arguments against a path of the gateway.
    fn curl(&self, arguments: &[&str], path: &str) -> Answer {
        self.curl_at(&self.gateway, arguments, path)
    }

    /// Runs `curl` with these arguments against a path of `gateway`.
    fn curl_at(&self, gateway: &Process, arguments: &[&str], path: &str) -> Answer {
        let port = gateway.address("https").rsplit_once(':').unwrap().1;
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--include", "--max-time", "60", "--cacert"]);
        command.arg(self.folder.path().join("ca.pem")).args(arguments).arg(format!("https://localhost:{port}{path}"));
        parse(&run(&mut command, ""))
    }

    /// Logs in as in the original's example.
    fn log_in(&self, username: &str, password: &str) -> Answer {
        let body = json!({"username": username, "password": password}).to_string();
        self.curl(&["-X", "POST", "-H", "Content-Type: application/json", "-d", &body], "/auth")
    }

    /// The token of a login that must succeed.
    fn token(&self, username: &str, password: &str) -> String {
        let answer = self.log_in(username, password);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// `GET path` with a token.
    fn get(&self, path: &str, token: &str) -> Answer {
        self.curl(&["-H", &format!("Authorization: JWT {token}")], path)
    }

    /// Restarts the gateway with the same settings.
    fn restart_gateway(&mut self) {
        self.gateway.kill();
        let folder = self.folder.path().join("gateway");
        self.gateway = Process::start(Path::new(GATEWAY), &folder, &self.gateway_settings);
        self.wait_until_ready();
    }

    /// Restarts the backend on the same addresses with the same settings.
    fn restart_backend(&mut self) {
        let mut settings = self.backend_settings.clone();
        for (name, listener) in [("API_ADDR", "api"), ("ADMIN_ADDR", "admin")] {
            settings.retain(|(other, _)| *other != name);
            settings.push((name, self.backend.address(listener).to_owned()));
        }
        self.backend.kill();
        self.backend = Process::start(&process::backend(), &self.folder.path().join("backend"), &settings);
    }
}

fn wait_until_ready(process: &Process, listener: &str) {
    wait_for("readiness", || {
        let page = format!("http://{}/readyz", process.address(listener));
        let answer =
            process::output(Command::new("curl").args(["-s", "-o", "/dev/null", "-w", "%{http_code}", &page]), "");
        (answer.stdout == b"200").then_some(())
    });
}

/// Parses the output of `curl --include`.
fn parse(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("not a response: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Answer { status, headers, body: body.to_owned() }
}
