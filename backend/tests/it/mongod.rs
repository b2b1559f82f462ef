//! Real MongoDB servers, run by `ops/mongod`. A server ends when the last handle of the program's standard input is
//! closed, at the latest with this process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A running server or replica set.
pub(crate) struct Server {
    program: Child,
    url: String,
}

impl Server {
    /// Starts a server with these arguments of `ops/mongod run`, and waits until it is ready.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut program = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../ops/mongod"))
            .arg("run")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(program.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let url = url.trim_end().to_owned();
        assert!(url.starts_with("mongodb://"), "ops/mongod run {arguments:?} did not start a server");
        Self { program, url }
    }

    /// The server shared by all tests, each with its own databases.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// The URL printed by `ops/mongod`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The URL of a new database.
    pub(crate) fn fresh_url(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.url.replacen("/holoduledb", &format!("/holodule_test_{number}"), 1)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.program.stdin.take());
        let _ = self.program.wait();
    }
}
