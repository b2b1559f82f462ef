//! Shared event streams: one request to the service for all listeners of a target.

mod continued;
mod ended;
mod refused;
mod shared;

use std::sync::{Arc, Mutex};

use tokio::sync::broadcast;

use crate::stream::{Codec, Stream, head};
use crate::support::backend::{Backend, Seen, Step, Subscription, answer};
use crate::support::token::token;
use crate::support::{Gateway, admin, until};

/// `/news` is a shared stream, with a parameter and with tickets.
pub const ROUTES: (&str, &str) = (
    "ROUTE",
    "[{ name = 'news', methods = ['GET'], path = '/news', query = ['about'], shared = true, fan_out = true, \
        tickets = true, request_headers = { set = { X-Own = 'gateway' } } }]",
);

/// The codecs of requests without a body.
pub const CODECS: [Codec; 2] = [Codec::Http1, Codec::Http2];

/// A service with one stream for each target. Its content is the number of its events.
pub struct Service {
    pub backend: Backend,
    pub admin: Backend,
    chunks: broadcast::Sender<Vec<u8>>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    events: Vec<String>,
    /// Answers instead of the stream, the next one last.
    refusals: Vec<Vec<Step>>,
}

impl Service {
    pub async fn start() -> Self {
        let chunks = broadcast::channel(4096).0;
        let state = Arc::new(Mutex::new(State::default()));
        let (sender, own) = (chunks.clone(), Arc::clone(&state));
        let backend = Backend::start(move |seen: &Seen| {
            let mut state = own.lock().unwrap();
            if let Some(refusal) = state.refusals.pop() {
                return refusal;
            }
            if !seen.target.starts_with("/news") {
                return answer("404 Not Found", &[], "");
            }
            let last = seen.values("last-event-id").first().and_then(|last| last.parse::<usize>().ok());
            let missed = match last.and_then(|last| state.events.get(last..)) {
                Some(missed) => missed.concat(),
                None => snapshot(state.events.len()),
            };
            let begin = chunk(&format!("retry: 7\n\n:hello\n\n{missed}"));
            vec![Step::Write(head("text/event-stream")), Step::Write(begin), follow(&sender)]
        });
        Self { backend: backend.await, admin: admin().await, chunks, state }
    }

    /// A gateway in front of it with [`ROUTES`] and these settings.
    pub fn gateway(&self, settings: &[(&str, &str)]) -> Gateway {
        Gateway::start_with(&self.backend, &self.admin, &[&[ROUTES], settings].concat())
    }

    /// Adds an event to all streams, and returns its block.
    pub fn add(&self) -> String {
        let mut state = self.state.lock().unwrap();
        let number = state.events.len() + 1;
        let block = format!("event: upsert\nid: {number}\ndata: {number}\n\n");
        state.events.push(block.clone());
        // Fails if there is no stream.
        let _ = self.chunks.send(chunk(&block));
        block
    }

    /// Forgets its events, so that no id is known.
    pub fn forget(&self) {
        self.state.lock().unwrap().events.clear();
    }

    /// Answers the next request with these steps.
    pub fn refuse(&self, steps: Vec<Step>) {
        self.state.lock().unwrap().refusals.push(steps);
    }

    /// Ends every open stream, and closes its connection.
    pub fn end(&self) {
        let _ = self.chunks.send(b"0\r\n\r\n".to_vec());
        let _ = self.chunks.send(Vec::new());
    }

    /// Waits until it has received `count` requests, and this many streams are open.
    pub async fn until_requested(&self, count: usize, open: usize) {
        let is_so = async || self.backend.seen().len() == count && self.chunks.receiver_count() == open;
        until("the streams are requested", is_so).await;
    }
}

/// Sends every event from now on.
fn follow(chunks: &broadcast::Sender<Vec<u8>>) -> Step {
    Step::FollowFrom(Subscription(chunks.subscribe()))
}

/// The snapshot after `number` events.
pub fn snapshot(number: usize) -> String {
    format!("event: snapshot\nid: {number}\ndata: all {number}\n\n")
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

/// Opens a stream of `user01` and reads its beginning.
pub async fn open(codec: Codec, gateway: &Gateway, path: &str) -> Stream {
    open_as("user01", codec, gateway, path).await
}

/// The same for another user.
pub async fn open_as(user: &str, codec: Codec, gateway: &Gateway, path: &str) -> Stream {
    let mut stream = Stream::open(codec, gateway.https, path, &token(user)).await;
    assert_eq!(stream.status, 200, "{}", stream.head);
    assert!(stream.head.contains("content-type: text/event-stream"), "{}", stream.head);
    begins(&mut stream).await;
    stream
}

/// A listener over each codec, after the first snapshot.
pub async fn listeners(gateway: &Gateway) -> [Stream; 2] {
    let mut streams = [open(Codec::Http1, gateway, "/news").await, open(Codec::Http2, gateway, "/news").await];
    get(&mut streams, &[snapshot(0)]).await;
    streams
}

/// Reads what is sent before the events.
pub async fn begins(stream: &mut Stream) {
    // The first listener may be earlier than the service.
    assert!([":\n\n", "retry: 7\n\n"].contains(&stream.next().await.unwrap().as_str()));
}

/// Asserts that the next events of each stream are these blocks.
pub async fn get(streams: &mut [Stream], blocks: &[String]) {
    for stream in streams {
        for block in blocks {
            assert_eq!(stream.next().await.as_ref(), Some(block));
        }
    }
}
