//! `/revocation/...`: checks of identities, and the time until changes to identities and days are published.

mod calendars;
mod days;
mod external;
mod local;
mod searches;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holodule_backend::server::Address;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::http::{self, Reply, Stream};
use crate::service::Service;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// A subscriber.
pub(crate) struct Feed {
    stream: BufReader<Box<dyn Stream>>,
    id: String,
}

impl Feed {
    pub(crate) async fn subscribe(admin: &Address) -> Self {
        let mut stream = BufReader::new(http::connect(admin).await);
        stream.write_all(b"GET /revocation/feed HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut feed = Self { stream, id: String::new() };
        let mut header = String::new();
        while !header.ends_with("\r\n\r\n") {
            assert!(feed.stream.read_line(&mut header).await.unwrap() > 0, "{header}");
        }
        let header = header.to_ascii_lowercase();
        assert!(header.starts_with("http/1.1 200 "), "{header}");
        assert!(header.contains("\r\ncontent-type: application/x-ndjson\r\n"), "{header}");
        assert!(header.contains("\r\ntransfer-encoding: chunked\r\n"), "{header}");
        let first = feed.line().await.unwrap();
        feed.id = first["feed"].as_str().unwrap().to_owned();
        assert_eq!(first, json!({ "feed": feed.id }));
        feed
    }

    /// The next line, each in one chunk; `None` at the end of the response.
    async fn line(&mut self) -> Option<Value> {
        let mut read = async |text: &mut String| {
            let read = tokio::time::timeout(PATIENCE, self.stream.read_line(text)).await.expect("no event");
            assert!(read.unwrap() > 0, "the feed is incomplete");
        };
        let mut length = String::new();
        read(&mut length).await;
        if length == "0\r\n" {
            return None;
        }
        let (mut line, mut end) = (String::new(), String::new());
        read(&mut line).await;
        read(&mut end).await;
        assert_eq!((usize::from_str_radix(length.trim(), 16).unwrap(), end.as_str()), (line.len(), "\r\n"));
        Some(serde_json::from_str(&line).unwrap())
    }

    /// The next event about identities.
    pub(crate) async fn event(&mut self) -> Value {
        loop {
            let line = self.line().await.expect("the feed ended");
            if line.get("beat").is_none() && !is_of_days(&line) {
                return line;
            }
        }
    }

    /// The next event about days.
    pub(crate) async fn day(&mut self) -> Value {
        loop {
            let line = self.line().await.expect("the feed ended");
            if is_of_days(&line) {
                return line;
            }
        }
    }

    /// Waits for `count` beats, and returns the events about identities before the last one.
    async fn beats(&mut self, count: usize) -> Vec<Value> {
        self.lines(count).await.into_iter().filter(|line| !is_of_days(line)).collect()
    }

    /// Waits for `count` beats, and returns the events about days before the last one.
    async fn days(&mut self, count: usize) -> Vec<Value> {
        self.lines(count).await.into_iter().filter(is_of_days).collect()
    }

    async fn lines(&mut self, count: usize) -> Vec<Value> {
        let (mut beats, mut others) = (0, Vec::new());
        while beats < count {
            let line = self.line().await.expect("the feed ended");
            if line.get("beat").is_some() { beats += 1 } else { others.push(line) }
        }
        others
    }

    /// Expects an event about this identity.
    async fn expect_identity(&mut self, identity: &str) {
        assert_eq!(self.event().await, json!({ "identity": identity }));
    }
}

fn is_of_days(line: &Value) -> bool {
    line.get("purge").is_some_and(|path| path != LISTS) || line.get("purge_all").is_some()
}

/// The path that stands for all lists.
const LISTS: &str = "/holodules";

async fn check(service: &Service, identity: &str) -> Reply {
    service.admin("POST", "/revocation/check", &json!({ "identity": identity }).to_string()).await
}

pub(crate) async fn account(service: &Service, identity: &str) -> Value {
    let reply = check(service, identity).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let mut account = reply.json();
    // Different in each process, and tested separately.
    account.as_object_mut().unwrap().remove("feed").unwrap();
    account
}

pub(crate) async fn log_out(service: &Service, identity: &str, token: &str, expires_at: i64) -> Reply {
    let body = json!({ "identity": identity, "token": token, "expires_at": expires_at });
    service.admin("POST", "/revocation/logout", &body.to_string()).await
}

fn unknown_user(identity: &str) -> Value {
    inactive(identity, "no_user")
}

fn inactive(identity: &str, reason: &str) -> Value {
    json!({
        "identity": identity, "active": false, "reason": reason,
        "password_changed_at": null, "password_mark": null, "logged_out": [], "roles": [],
    })
}
