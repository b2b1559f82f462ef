//! A client that takes a kept answer slowly holds its request as long as the backend may take for one,
//! and no longer.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::time::{sleep, timeout};

use super::{FRESH, page};
use crate::support::backend::Backend;
use crate::support::client::PATIENCE;
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, WINDOW_UPDATE, frame, receive_frame, request_block,
};
use crate::support::token::token;
use crate::support::{DAY, Gateway, Log, admin, get, request, until};

/// More than the sockets between hold.
const BODY_BYTES: usize = 32 * 1024 * 1024;

/// The deadline of the whole, and one of each piece that no test outlasts.
const DEADLINES: [(&str, &str); 2] = [("UPSTREAM_REQUEST_TIMEOUT", "4"), ("LISTENER_WRITE_TIMEOUT", "600")];

const DEADLINE: Duration = Duration::from_secs(4);

/// Room for the body, which may be a sixteenth of what is kept.
const ROOM: [(&str, &str); 2] = [("CACHE_MAX_BODY_BYTES", "33554432"), ("CACHE_MAX_BYTES", "536870912")];

/// A gateway that keeps a large answer.
struct Kept {
    gateway: Gateway,
    log: Log,
    api: Backend,
    _admin: Backend,
    began: Instant,
}

impl Kept {
    async fn start() -> Self {
        let steps = page(&"x".repeat(BODY_BYTES), FRESH, &[]);
        let (api, admin) = (Backend::start(move |_| steps.clone()).await, admin().await);
        let settings = [&ROOM[..], &DEADLINES].concat();
        let (gateway, log) = Gateway::start_logged(&api, &admin, &settings);
        let kept = gateway.exchange(request("HEAD", DAY, "")).await;
        assert_eq!((kept.status, kept.value("content-length")), (200, "33554432"));
        Self { gateway, log, api, _admin: admin, began: Instant::now() }
    }

    /// Asserts that the request of one client was given up, at its deadline.
    async fn assert_given_up(&self) {
        until("it is told of", async || self.log.lines().len() == 2).await;
        let took = self.began.elapsed();
        assert!((DEADLINE..PATIENCE / 2).contains(&took), "{took:?}");
        let line = &self.log.lines()[1];
        assert_eq!(line["status"], 200, "{line}");
        assert_eq!((line["reason"].as_str(), line["cache"].as_str()), (Some("client_slow"), Some("hit")), "{line}");
        assert_eq!(self.api.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_client_of_http_1_that_takes_nothing() {
    let kept = Kept::start().await;
    let mut connection = kept.gateway.connect().await;
    connection.send(get(DAY, "")).await;
    kept.assert_given_up().await;
    // It was cut off: what the sockets still held never looks whole.
    assert_eq!(connection.read_to_close_notify().await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

/// Asks for the answer by HTTP/2 without a window at first and with one byte more for each one that
/// comes, where it `takes` any; how many bytes came until the stream was reset.
async fn taken(kept: &Kept, takes: bool) -> usize {
    // SETTINGS_INITIAL_WINDOW_SIZE of 0: the head of an answer may come, and none of its body.
    let mut client = Frames::connect(kept.gateway.https, &[(4, 0)]).await;
    let fields = request_block("GET", DAY, &format!("JWT {}", token("user01")));
    client.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields)).await.unwrap();
    client.flush().await.unwrap();
    let mut taken = 0;
    loop {
        let received = timeout(PATIENCE, receive_frame(&mut client)).await.expect("the stream stays open");
        let received = received.expect("the connection ended");
        match received.kind {
            RST_STREAM => return taken,
            HEADERS | DATA => assert_eq!(received.flags & END_STREAM, 0, "it is not whole"),
            _ => continue,
        }
        if received.kind == DATA {
            taken += received.payload.len();
        }
        if takes {
            sleep(Duration::from_millis(50)).await;
            client.write_all(&frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())).await.unwrap();
            client.flush().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_http_2_without_a_window() {
    let kept = Kept::start().await;
    assert_eq!(taken(&kept, false).await, 0);
    kept.assert_given_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_http_2_that_takes_a_byte_at_a_time() {
    let kept = Kept::start().await;
    let taken = taken(&kept, true).await;
    assert!((1..BODY_BYTES / 2).contains(&taken), "{taken}");
    kept.assert_given_up().await;
}
