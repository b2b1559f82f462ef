//! The backend's admin side as far as revocations go: a stub whose feed and whose answers the
//! test decides.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::backend::{Backend, Seen, Step, answer, json_answer};
use super::{Gateway, verify_user01};

/// Between two beats of the stub: more often than the backend, so that tests wait less.
const BEAT: Duration = Duration::from_millis(50);

/// What every identity is, where nothing else was said: there, and never changed.
fn active() -> Value {
    json!({"active": true, "password_changed_at": null, "logged_out": []})
}

/// What the feed of the stub is known by.
const FEED: &str = "00";

/// What the stub knows.
#[derive(Clone)]
pub struct RevocationStub {
    standings: Arc<Mutex<BTreeMap<String, Value>>>,
    said: broadcast::Sender<Vec<u8>>,
    beats: Arc<AtomicBool>,
    /// Whether checks and logouts are answered at all.
    answers: Arc<AtomicBool>,
}

impl RevocationStub {
    /// A stub that knows `user01`'s password, beats, and takes everybody for a user.
    pub async fn start() -> (Self, Backend) {
        let authority = Self {
            standings: Arc::default(),
            said: broadcast::channel(64).0,
            beats: Arc::new(AtomicBool::new(true)),
            answers: Arc::new(AtomicBool::new(true)),
        };
        let beating = authority.clone();
        tokio::spawn(async move {
            for number in 0_u64.. {
                tokio::time::sleep(BEAT).await;
                if beating.beats.load(Ordering::SeqCst) {
                    beating.send_line(&json!({"beat": number}));
                }
            }
        });
        let answering = authority.clone();
        let backend = Backend::start(move |seen| answering.answer(seen)).await;
        (authority, backend)
    }

    /// A gateway that follows this stub.
    pub fn gateway(api: &Backend, admin: &Backend, settings: &[(&str, &str)]) -> Gateway {
        let mut all = vec![("REVOCATION_ENABLED", "true")];
        all.extend_from_slice(settings);
        Gateway::start_with(api, admin, &all)
    }

    /// Says a line on every feed.
    pub fn send_line(&self, line: &Value) {
        let line = format!("{line}\n");
        // Nobody may be listening.
        let _ = self.said.send(format!("{:x}\r\n{line}\r\n", line.len()).into_bytes());
    }

    /// Changes what is answered about `identity`, without a word on the feed.
    pub fn set(&self, identity: &str, standing: Value) {
        self.standings.lock().unwrap().insert(identity.to_owned(), standing);
    }

    /// Changes what is answered about `identity`, and says so.
    pub fn change(&self, identity: &str, standing: Value) {
        self.set(identity, standing);
        self.send_line(&json!({"identity": identity}));
    }

    /// Whether the feeds beat.
    pub fn set_heartbeats(&self, beats: bool) {
        self.beats.store(beats, Ordering::SeqCst);
    }

    /// Whether questions are answered.
    pub fn set_answering(&self, answers: bool) {
        self.answers.store(answers, Ordering::SeqCst);
    }

    /// Ends every feed.
    pub fn end_feeds(&self) {
        let _ = self.said.send(Vec::new());
    }

    fn answer(&self, seen: &Seen) -> Vec<Step> {
        if seen.target == "/revocation/feed" {
            let line = format!("{}\n", json!({"feed": FEED}));
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n\
                 {:x}\r\n{line}\r\n",
                line.len()
            );
            return vec![Step::Write(head.into_bytes()), Step::Follow(self.said.clone())];
        }
        if seen.target == "/credentials/verify" {
            return verify_user01(seen);
        }
        if !self.answers.load(Ordering::SeqCst) {
            return answer("503 Service Unavailable", &[], "");
        }
        let body = seen.json();
        let identity = body["identity"].as_str().unwrap().to_owned();
        let mut standings = self.standings.lock().unwrap();
        let standing = standings.entry(identity.clone()).or_insert_with(active);
        match seen.target.as_str() {
            "/revocation/check" => {
                let mut standing = standing.clone();
                standing["identity"] = identity.into();
                if standing["feed"].is_null() {
                    standing["feed"] = FEED.into();
                }
                json_answer("200 OK", &standing.to_string())
            }
            "/revocation/logout" => {
                standing["logged_out"].as_array_mut().unwrap().push(body["token"].clone());
                answer("204 No Content", &[], "")
            }
            other => panic!("{other}"),
        }
    }
}

/// The questions about identities among what the stub has seen.
pub fn checks(backend: &Backend) -> usize {
    backend.seen().iter().filter(|seen| seen.target == "/revocation/check").count()
}
