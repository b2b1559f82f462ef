//! `GET /holodules/stream`: the events of a list, and how a stream is continued.

mod bounds;
mod events;
mod external;

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holodule_backend::model::{Holodule, WallClock};
use holodule_backend::server::Address;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use crate::http::{self, Stream};
use crate::service::Service;

const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than a change takes.
const SILENCE: Duration = Duration::from_millis(1500);
const PATH: &str = "/holodules/stream";
/// A stream of the days of the tests.
const DECEMBER: &str = "/holodules/stream?from=20201201&to=20201231";

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    name: String,
    id: String,
    data: Value,
}

/// A subscriber, which reads the chunks of the response.
struct Events {
    stream: BufReader<Box<dyn Stream>>,
    events: VecDeque<Event>,
    text: String,
}

impl Events {
    async fn open(api: &Address, path: &str, last: Option<&str>) -> Self {
        let last = last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
        let mut stream = BufReader::new(http::connect(api).await);
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{last}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut header = String::new();
        while !header.ends_with("\r\n\r\n") {
            assert!(stream.read_line(&mut header).await.unwrap() > 0, "{header}");
        }
        let header = header.to_ascii_lowercase();
        assert!(header.starts_with("http/1.1 200 "), "{header}");
        for expected in ["content-type: text/event-stream", "cache-control: no-store", "transfer-encoding: chunked"] {
            assert!(header.contains(&format!("\r\n{expected}\r\n")), "{header}");
        }
        Self { stream, events: VecDeque::new(), text: String::new() }
    }

    /// The next event; `None` at the end of the response.
    async fn next(&mut self) -> Option<Event> {
        timeout(PATIENCE, self.read()).await.expect("no event")
    }

    /// The next event, which has this name.
    async fn expect(&mut self, name: &str) -> Event {
        let event = self.next().await.expect("the stream has ended");
        assert_eq!(event.name, name, "{event:?}");
        event
    }

    /// Asserts that nothing happens for a while.
    async fn is_silent(&mut self) {
        let event = timeout(SILENCE, self.read()).await;
        assert!(event.is_err(), "{event:?}");
    }

    /// Cancelled only between chunks, while there are none.
    async fn read(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let mut length = String::new();
            assert!(self.stream.read_line(&mut length).await.unwrap() > 0, "the stream is incomplete");
            let length = usize::from_str_radix(length.trim_end(), 16).unwrap();
            if length == 0 {
                return None;
            }
            let mut chunk = vec![0; length + 2];
            self.stream.read_exact(&mut chunk).await.unwrap();
            self.text.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                self.events.extend(parse(block));
                self.text = rest.to_owned();
            }
        }
    }
}

/// The event of a block, if it has any.
fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = field("data")?;
    let [name, id] = ["event", "id"].map(|name| field(name).unwrap_or_else(|| panic!("no {name} in {block}")));
    Some(Event { name: name.to_owned(), id: id.to_owned(), data: serde_json::from_str(data).unwrap() })
}

/// The identifiers in a snapshot.
fn ids(snapshot: &Event) -> Vec<&str> {
    let entries = snapshot.data["entries"].as_array().unwrap();
    entries.iter().map(|entry| entry["id"].as_str().unwrap()).collect()
}

async fn put(service: &Service, holodule: &Holodule) {
    let path = format!("/holodules/{}", holodule.video_id.as_deref().unwrap());
    let reply = service.admin("PUT", &path, &serde_json::to_string(holodule).unwrap()).await;
    assert!([200, 201].contains(&reply.status), "{reply:?}");
}

async fn delete(service: &Service, id: &str) {
    assert_eq!(service.admin("DELETE", &format!("/holodules/{id}"), "").await.status, 204);
}

fn upsert(id: &str, title: &Holodule) -> Value {
    json!({ "id": id, "title": title.title })
}

/// The identifier and the title of an `upsert`.
fn shown(event: &Event) -> Value {
    json!({ "id": event.data["id"], "title": event.data["holodule"]["title"] })
}

/// The stored time that is `seconds` from now.
fn from_now(seconds: i64) -> WallClock {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    WallClock::at_unix(i64::try_from(now).unwrap() + seconds).unwrap()
}
