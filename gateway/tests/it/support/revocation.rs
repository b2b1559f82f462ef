//! A stub of the backend's admin listener with a revocation feed, which the test controls.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::backend::{Backend, Seen, Step, answer, json_answer};
use super::{Gateway, verify_user01};

/// The interval of the stub's heartbeats, shorter than the backend's so that tests wait less.
const HEARTBEAT: Duration = Duration::from_millis(50);

/// The default status of an identity: active, and its password never changed.
fn active() -> Value {
    json!({"active": true, "password_changed_at": null, "logged_out": []})
}

/// The identifier of the stub's feed.
const FEED: &str = "00";

/// The state of the stub.
#[derive(Clone)]
pub struct RevocationStub {
    /// The status of each identity.
    statuses: Arc<Mutex<BTreeMap<String, Value>>>,
    /// The chunks of all feeds. An empty one ends them.
    feeds: broadcast::Sender<Vec<u8>>,
    heartbeats: Arc<AtomicBool>,
    /// Whether checks and logouts are answered; otherwise they get 503.
    answers: Arc<AtomicBool>,
}

impl RevocationStub {
    /// A stub that accepts `user01` with `password01`, sends heartbeats and reports every identity as active.
    pub async fn start() -> (Self, Backend) {
        let authority = Self {
            statuses: Arc::default(),
            feeds: broadcast::channel(64).0,
            heartbeats: Arc::new(AtomicBool::new(true)),
            answers: Arc::new(AtomicBool::new(true)),
        };
        let beating = authority.clone();
        tokio::spawn(async move {
            for number in 0_u64.. {
                tokio::time::sleep(HEARTBEAT).await;
                if beating.heartbeats.load(Ordering::SeqCst) {
                    beating.send_line(&json!({"beat": number}));
                }
            }
        });
        let answering = authority.clone();
        let backend = Backend::start(move |seen| answering.answer(seen)).await;
        (authority, backend)
    }

    /// A gateway with revocations enabled.
    pub fn gateway(api: &Backend, admin: &Backend, settings: &[(&str, &str)]) -> Gateway {
        let mut all = vec![("REVOCATION_ENABLED", "true")];
        all.extend_from_slice(settings);
        Gateway::start_with(api, admin, &all)
    }

    /// Sends a line on every feed.
    pub fn send_line(&self, line: &Value) {
        let line = format!("{line}\n");
        // Fails if no feed is connected.
        let _ = self.feeds.send(format!("{:x}\r\n{line}\r\n", line.len()).into_bytes());
    }

    /// Sets the status of an identity without a line on the feed.
    pub fn set(&self, identity: &str, status: Value) {
        self.statuses.lock().unwrap().insert(identity.to_owned(), status);
    }

    /// Sets the status of an identity and announces the change on the feed.
    pub fn change(&self, identity: &str, status: Value) {
        self.set(identity, status);
        self.send_line(&json!({"identity": identity}));
    }

    /// Starts or stops the heartbeats of the feeds.
    pub fn set_heartbeats(&self, heartbeats: bool) {
        self.heartbeats.store(heartbeats, Ordering::SeqCst);
    }

    /// Sets whether checks and logouts are answered; otherwise they get 503.
    pub fn set_answering(&self, answers: bool) {
        self.answers.store(answers, Ordering::SeqCst);
    }

    /// Ends every feed.
    pub fn end_feeds(&self) {
        let _ = self.feeds.send(Vec::new());
    }

    fn answer(&self, seen: &Seen) -> Vec<Step> {
        if seen.target == "/revocation/feed" {
            let line = format!("{}\n", json!({"feed": FEED}));
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n\
                 {:x}\r\n{line}\r\n",
                line.len()
            );
            return vec![Step::Write(head.into_bytes()), Step::Follow(self.feeds.clone())];
        }
        if seen.target == "/credentials/verify" {
            return verify_user01(seen);
        }
        if !self.answers.load(Ordering::SeqCst) {
            return answer("503 Service Unavailable", &[], "");
        }
        let body = seen.json();
        let identity = body["identity"].as_str().unwrap().to_owned();
        let mut statuses = self.statuses.lock().unwrap();
        let status = statuses.entry(identity.clone()).or_insert_with(active);
        match seen.target.as_str() {
            "/revocation/check" => {
                let mut status = status.clone();
                status["identity"] = identity.into();
                if status["feed"].is_null() {
                    status["feed"] = FEED.into();
                }
                json_answer("200 OK", &status.to_string())
            }
            "/revocation/logout" => {
                status["logged_out"].as_array_mut().unwrap().push(body["token"].clone());
                answer("204 No Content", &[], "")
            }
            other => panic!("{other}"),
        }
    }
}

/// The number of checks of identities that the stub has received.
pub fn checks(backend: &Backend) -> usize {
    backend.seen().iter().filter(|seen| seen.target == "/revocation/check").count()
}
