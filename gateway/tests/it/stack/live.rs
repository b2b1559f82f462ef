//! `GET /holodules/stream` through both programs: changes arrive within a second, one stream of the backend serves all
//! listeners of a query, and they continue after a restart of either program.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Stack;
use crate::stream::{Codec, Stream};
use crate::support::client::Connection;
use crate::support::until;

const DECEMBER: &str = "/holodules/stream?from=20201201&to=20201231";
/// What the contract promises.
const AT_MOST: Duration = Duration::from_secs(1);

/// A listener, and what it has received of an incomplete event.
struct Listener {
    stream: Stream,
    received: Vec<u8>,
}

/// The name, the id and the data of an event.
type Event = (String, String, Value);

impl Listener {
    async fn open((stack, token): &(Stack, String), codec: Codec, path: &str) -> Self {
        let address = stack.gateway.address("https").parse().unwrap();
        let stream = Stream::open(codec, address, path, token).await;
        assert_eq!(stream.status, 200, "{}", stream.head);
        Self { stream, received: Vec::new() }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.received.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.received.drain(..end + 2).collect();
                let block = String::from_utf8(block).unwrap();
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
                let (name, id, data) = (field("event: "), field("id: "), field("data: "));
                if !name.is_empty() {
                    return Some((name.to_owned(), id.to_owned(), serde_json::from_str(data).unwrap()));
                }
                continue;
            }
            self.received.extend(self.stream.next_bytes().await?);
        }
    }

    async fn expect(&mut self, name: &str) -> Event {
        let event = self.next().await.expect("the stream has ended");
        assert_eq!(event.0, name, "{event:?}");
        event
    }
}

/// Both programs with the sample, and a token of a login.
fn start() -> (Stack, String) {
    let stack = Stack::embedded();
    stack.load();
    let token = stack.token("user01", "password01");
    (stack, token)
}

/// Stores a holodule through the admin listener.
async fn put(stack: &Stack, video: &str, title: &str) {
    let body = json!({"key": "", "video_id": video, "datetime": "20201209 230000", "title": title}).to_string();
    send(stack, "PUT", video, &body).await;
}

async fn send(stack: &Stack, method: &str, video: &str, body: &str) {
    let admin = stack.backend.address("admin").to_owned();
    let (method, url) = (method.to_owned(), format!("http://{admin}/holodules/{video}"));
    let body = body.to_owned();
    let sent = tokio::task::spawn_blocking(move || {
        let mut command = std::process::Command::new("curl");
        command.args(["--silent", "--fail-with-body", "-X", &method, "-H", "Content-Type: application/json"]);
        super::process::run(command.args(["-d", &body, &url]), "")
    });
    sent.await.unwrap();
}

/// A metric of the backend.
async fn metric(stack: &Stack, series: &str) -> f64 {
    let url = format!("http://{}/metrics", stack.backend.address("admin"));
    let page = tokio::task::spawn_blocking(move || {
        super::process::run(std::process::Command::new("curl").args(["--silent", "--fail", &url]), "")
    });
    let page = page.await.unwrap();
    page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_arrive_within_a_second_and_each_query_has_one_stream() {
    let started = tokio::task::spawn_blocking(start).await.unwrap();
    let queries = [DECEMBER.to_owned(), format!("{DECEMBER}&code=HL0503"), format!("{DECEMBER}&name=x")];
    let mut listeners = Vec::new();
    for query in &queries {
        for number in 0..10 {
            let codec = if number % 2 == 0 { Codec::Http1 } else { Codec::Http2 };
            listeners.push((query, Listener::open(&started, codec, query).await));
        }
    }
    let (stack, _) = started;
    let mut entries = Vec::new();
    for (_, listener) in &mut listeners {
        let (_, _, snapshot) = listener.expect("snapshot").await;
        entries.push(snapshot["entries"].as_array().unwrap().len());
    }
    assert!(entries[0] > entries[10] && entries[10] > entries[20] && entries[20] == 0, "{entries:?}");
    assert_eq!(metric(&stack, "backend_stream_subscribers").await, 3.0);
    assert_eq!(metric(&stack, "backend_stream_queries").await, 3.0);
    let began = Instant::now();
    put(&stack, "video000001", "new").await;
    for (_, listener) in &mut listeners[..10] {
        let (_, _, data) = listener.expect("upsert").await;
        assert_eq!((&data["id"], &data["holodule"]["title"]), (&json!("video000001"), &json!("new")));
    }
    assert!(began.elapsed() < AT_MOST, "{:?}", began.elapsed());
    let began = Instant::now();
    send(&stack, "DELETE", "video000001", "").await;
    for (_, listener) in &mut listeners[..10] {
        assert_eq!(listener.expect("delete").await.2, json!({"id": "video000001"}));
    }
    assert!(began.elapsed() < AT_MOST, "{:?}", began.elapsed());
    // The user is disabled: all streams end, of both protocols.
    let began = Instant::now();
    let stack = tokio::task::spawn_blocking(move || {
        stack.command(&["user", "disable", "user01"], "");
        stack
    });
    let stack = stack.await.unwrap();
    let disabled = Instant::now();
    for (_, listener) in &mut listeners {
        assert_eq!(listener.next().await, None);
    }
    assert!(disabled.elapsed() < AT_MOST, "{:?} after {:?}", disabled.elapsed(), disabled - began);
    drop(stack);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_stay_while_the_backend_restarts_and_continue_at_another_gateway() {
    let started = tokio::task::spawn_blocking(start).await.unwrap();
    let mut listeners = Vec::new();
    for codec in [Codec::Http1, Codec::Http2] {
        let mut listener = Listener::open(&started, codec, DECEMBER).await;
        listener.expect("snapshot").await;
        listeners.push(listener);
    }
    let (stack, token) = started;
    let stack = tokio::task::spawn_blocking(move || {
        let mut stack = stack;
        stack.restart_backend();
        stack
    });
    let stack = stack.await.unwrap();
    until("the gateway has requested the stream again", async || {
        metric(&stack, "backend_stream_subscribers").await == 1.0
    })
    .await;
    put(&stack, "video000001", "new").await;
    let mut last = String::new();
    for listener in &mut listeners {
        // Without a snapshot: nothing has changed while the backend was down.
        let (_, id, data) = listener.expect("upsert").await;
        assert_eq!(data["id"], "video000001");
        last = id;
    }
    let stack = tokio::task::spawn_blocking(move || {
        let mut stack = stack;
        stack.restart_gateway();
        stack
    });
    let stack = stack.await.unwrap();
    // A client that reconnects gets the next change, and not the snapshot again.
    let mut connection = Connection::open(stack.gateway.address("https").parse().unwrap()).await.unwrap();
    let fields = format!("Host: localhost\r\nAuthorization: Bearer {token}\r\nLast-Event-ID: {last}\r\n");
    connection.send(format!("GET {DECEMBER} HTTP/1.1\r\n{fields}\r\n")).await;
    connection.read_until("\r\n\r\n").await;
    until("the stream is open", async || metric(&stack, "backend_stream_subscribers").await == 1.0).await;
    put(&stack, "video000002", "newer").await;
    let received = connection.read_until("newer").await;
    assert!(received.contains("event: upsert") && !received.contains("event: snapshot"), "{received}");
}
