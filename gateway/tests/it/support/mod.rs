//! Shared by the tests: a gateway in this process, stub backends, and clients.

pub mod backend;
pub mod certificate;
pub mod client;
pub mod coded;
pub mod frames;
pub mod h2;
pub mod random;
pub mod revocation;
pub mod token;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use holodule_gateway::config::{Config, Environment};
use holodule_gateway::record::log::{self, Writer};
use holodule_gateway::server::{Addresses, NotReloaded, Reloaded, Reloader};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tracing::level_filters::LevelFilter;

use backend::{Backend, Seen, Step, json_answer};
use certificate::certificates;
use client::{Answer, Connection, PATIENCE};

/// A gateway on free ports. Dropping it stops it and waits for its end.
pub struct Gateway {
    pub https: SocketAddr,
    /// The redirect listener, if enabled.
    pub http: Option<SocketAddr>,
    pub ops: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    environment: Arc<Mutex<Environment>>,
    reloader: Reloader,
    /// Writes the access log, if the test reads it.
    _writer: Option<Writer>,
    /// Holds the certificate and the key, which a reload reads again.
    _folder: TempDir,
}

impl Gateway {
    /// A gateway in front of `api` and `admin`.
    pub fn start(api: &Backend, admin: &Backend) -> Self {
        Self::start_with(api, admin, &[])
    }

    /// A gateway with further settings, named as in the environment.
    pub fn start_with(api: &Backend, admin: &Backend, settings: &[(&str, &str)]) -> Self {
        let mut all = vec![("UPSTREAM_API", api.address.as_str()), ("UPSTREAM_ADMIN", admin.address.as_str())];
        all.extend_from_slice(settings);
        Self::start_from(&all)
    }

    /// A gateway with these settings and the defaults of the tests.
    pub fn start_from(settings: &[(&str, &str)]) -> Self {
        Self::start_writing(settings, None)
    }

    /// As [`Gateway::start_with`], and returns the access log.
    pub fn start_logged(api: &Backend, admin: &Backend, settings: &[(&str, &str)]) -> (Self, Log) {
        let mut all = vec![("UPSTREAM_API", api.address.as_str()), ("UPSTREAM_ADMIN", admin.address.as_str())];
        all.extend_from_slice(settings);
        let log = Log::default();
        let form = log::Settings { format: log::Format::Json, level: LevelFilter::INFO };
        (Self::start_writing(&all, Some(Writer::to(log.clone(), form).unwrap())), log)
    }

    fn start_writing(settings: &[(&str, &str)], writer: Option<Writer>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let mut environment = BTreeMap::from([
            ("HTTPS_ADDR", "127.0.0.1:0".to_owned()),
            ("OPS_ADDR", "127.0.0.1:0".to_owned()),
            ("JWT_SECRET_KEY", token::secret()),
            ("TLS_CERTIFICATE", write("cert.pem", &certificates().leaf)),
            ("TLS_PRIVATE_KEY", write("key.pem", &certificates().key)),
            ("LISTENER_WORKERS", "1".to_owned()),
            // Low enough for machines with a low limit of descriptors.
            ("LISTENER_MAX_CONNECTIONS", "256".to_owned()),
            ("UPSTREAM_MAX_CONNECTIONS", "128".to_owned()),
            ("DRAIN_TIMEOUT", "5".to_owned()),
            // The backend then receives each request as the client sent it.
            ("CACHE_MAX_BYTES", "0".to_owned()),
            // The stub of the admin listener only checks logins.
            ("REVOCATION_ENABLED", "false".to_owned()),
        ]);
        if settings.iter().any(|(name, _)| *name == "KEY") {
            environment.remove("JWT_SECRET_KEY");
        }
        environment.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let environment: Environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let config = Config::read(None, environment.clone()).unwrap_or_else(|problems| panic!("{problems}"));
        let gateway = holodule_gateway::server::Gateway::build(config, writer.as_ref()).unwrap();
        let environment = Arc::new(Mutex::new(environment));
        let read = Arc::clone(&environment);
        let reloader = gateway.reloader(move || Config::read(None, read.lock().unwrap().clone()));
        let Addresses { https, http, ops } = gateway.addresses();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let ended = gateway.run(async {
                // Dropping the sender also stops the gateway.
                let _ = stopped.await;
            });
            ended.unwrap();
        });
        Self {
            https,
            http,
            ops,
            stop: Some(stop),
            thread: Some(thread),
            environment,
            reloader,
            _writer: writer,
            _folder: folder,
        }
    }

    /// Reloads the configuration with these settings changed.
    pub fn reload(&self, settings: &[(&str, &str)]) -> Result<Reloaded, NotReloaded> {
        let changed = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.environment.lock().unwrap().extend(changed);
        self.reloader.reload()
    }

    /// The settings that the next reload reads, if no others are given.
    pub fn settings(&self) -> Environment {
        self.environment.lock().unwrap().clone()
    }

    /// Replaces the settings that the next reload reads.
    pub fn set_settings(&self, settings: Environment) {
        *self.environment.lock().unwrap() = settings;
    }

    /// Starts the shutdown without waiting for it.
    pub fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Whether `run` has returned.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    pub async fn connect(&self) -> Connection {
        Connection::open(self.https).await.unwrap()
    }

    /// Sends one request on a new connection.
    pub async fn exchange(&self, request: impl AsRef<[u8]>) -> Answer {
        self.connect().await.exchange(request).await
    }

    /// `GET path` with a valid token.
    pub async fn get(&self, path: &str) -> Answer {
        self.exchange(get(path, "")).await
    }

    /// `GET path` on the ops listener: the status and the body.
    pub async fn ops(&self, path: &str) -> (u16, String) {
        self.ops_with("GET", path).await
    }

    /// A request to the ops listener: the status and the body.
    pub async fn ops_with(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.ops).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// The value of a series of `/metrics`, named as on that page.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let (_, page) = self.ops("/metrics").await;
        page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until `/readyz` returns 200.
    pub async fn ready(&self) {
        until("the gateway is ready", async || self.ops("/readyz").await.0 == 200).await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let joined = thread.join();
            assert!(joined.is_ok() || std::thread::panicking(), "the gateway panicked");
        }
    }
}

/// The access log of a gateway.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The complete lines written so far.
    pub fn lines(&self) -> Vec<serde_json::Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Polls the condition until it holds.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "timed out waiting until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until `count` is positive and has not changed for half a second.
pub async fn until_unchanged(what: &str, count: impl Fn() -> usize) {
    let began = Instant::now();
    let (mut last, mut since) = (count(), began);
    while last == 0 || since.elapsed() < Duration::from_millis(500) {
        assert!(began.elapsed() < PATIENCE, "timed out waiting until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = count();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

/// A `GET` with a valid token and these headers (each with its CRLF).
pub fn get(path: &str, headers: &str) -> String {
    request("GET", path, headers)
}

/// A request with a valid token, these headers (each with its CRLF) and no body.
pub fn request(method: &str, path: &str, headers: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT {}\r\n{headers}\r\n",
        token::token("user01")
    )
}

/// The path of a day that the stub serves.
pub const DAY: &str = "/holodules/20201209";

/// The body of that day.
pub const DAY_BODY: &str = "{\"result\":1,\"holodules\":[{\"key\":\"HL0503_20201209_230000\"}]}\n";

/// A stub of the backend's api listener.
pub async fn api() -> Backend {
    Backend::start(serve_day).await
}

/// The response of the backend's api listener to `GET` of a day.
pub fn serve_day(_: &Seen) -> Vec<Step> {
    let headers = [
        ("Content-Type", "application/json"),
        ("ETag", "\"abc\""),
        ("Cache-Control", "public, max-age=0, s-maxage=5"),
        ("Server", "backend/1.0"),
    ];
    backend::answer("200 OK", &headers, DAY_BODY)
}

/// A response with this text as its body.
pub fn answer_of(text: &str) -> Vec<Step> {
    backend::answer("200 OK", &[("Content-Type", "text/plain")], text)
}

/// A stub of the backend's admin listener with one user, `user01` with `password01`.
pub async fn admin() -> Backend {
    Backend::start(verify_user01).await
}

/// The response of the backend's admin listener to `POST /credentials/verify`.
pub fn verify_user01(seen: &Seen) -> Vec<Step> {
    if seen.json() == serde_json::json!({"username": "user01", "password": "password01"}) {
        json_answer("200 OK", r#"{"username":"user01"}"#)
    } else {
        json_answer("401 Unauthorized", r#"{"error":"Unauthorized"}"#)
    }
}
