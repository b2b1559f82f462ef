//! A client that reads a cached response slowly is cut off at the deadline of a request.

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

/// More than the buffers of the sockets hold.
const BODY_BYTES: usize = 32 * 1024 * 1024;

/// The deadline of a request, and a deadline of each write that no test reaches.
const DEADLINES: [(&str, &str); 2] = [("UPSTREAM_REQUEST_TIMEOUT", "4"), ("LISTENER_WRITE_TIMEOUT", "600")];

const DEADLINE: Duration = Duration::from_secs(4);

/// Room for the body, which may have at most a sixteenth of the cache's size.
const CACHE_SIZES: [(&str, &str); 2] = [("CACHE_MAX_BODY_BYTES", "33554432"), ("CACHE_MAX_BYTES", "536870912")];

/// A gateway that has cached a large response.
struct Filled {
    gateway: Gateway,
    log: Log,
    api: Backend,
    _admin: Backend,
    began: Instant,
}

impl Filled {
    async fn start() -> Self {
        let steps = page(&"x".repeat(BODY_BYTES), FRESH, &[]);
        let (api, admin) = (Backend::start(move |_| steps.clone()).await, admin().await);
        let settings = [&CACHE_SIZES[..], &DEADLINES].concat();
        let (gateway, log) = Gateway::start_logged(&api, &admin, &settings);
        let head = gateway.exchange(request("HEAD", DAY, "")).await;
        assert_eq!((head.status, head.value("content-length")), (200, "33554432"));
        Self { gateway, log, api, _admin: admin, began: Instant::now() }
    }

    /// Asserts that one request was served from the cache, and aborted at its deadline.
    async fn assert_aborted(&self) {
        until("the request is logged", async || self.log.lines().len() == 2).await;
        let elapsed = self.began.elapsed();
        assert!((DEADLINE..PATIENCE / 2).contains(&elapsed), "{elapsed:?}");
        let line = &self.log.lines()[1];
        assert_eq!(line["status"], 200, "{line}");
        assert_eq!((line["reason"].as_str(), line["cache"].as_str()), (Some("client_slow"), Some("hit")), "{line}");
        assert_eq!(self.api.seen().len(), 1);
    }
}

#[tokio::test]
async fn an_http_1_client_that_reads_nothing_is_cut_off() {
    let edge = Filled::start().await;
    let mut connection = edge.gateway.connect().await;
    connection.send(get(DAY, "")).await;
    edge.assert_aborted().await;
    // Without close_notify, the client does not take a truncated response for a whole one.
    assert_eq!(connection.read_to_close_notify().await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

/// Requests the response over HTTP/2 with a window of 0, and grants another byte after each frame if
/// `grants_window`. Returns the number of bytes of the body received until the stream is reset.
async fn bytes_received(edge: &Filled, grants_window: bool) -> usize {
    // SETTINGS_INITIAL_WINDOW_SIZE of 0 allows the head of a response and none of its body.
    let mut client = Frames::connect(edge.gateway.https, &[(4, 0)]).await;
    let fields = request_block("GET", DAY, &format!("JWT {}", token("user01")));
    client.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields)).await.unwrap();
    client.flush().await.unwrap();
    let mut count = 0;
    loop {
        let received = timeout(PATIENCE, receive_frame(&mut client)).await.expect("the stream stays open");
        let received = received.expect("the connection ended");
        match received.kind {
            RST_STREAM => return count,
            HEADERS | DATA => assert_eq!(received.flags & END_STREAM, 0, "the response is complete"),
            _ => continue,
        }
        if received.kind == DATA {
            count += received.payload.len();
        }
        if grants_window {
            // The pace of a slow client.
            sleep(Duration::from_millis(50)).await;
            client.write_all(&frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())).await.unwrap();
            client.flush().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_2_client_without_a_window_is_cut_off() {
    let edge = Filled::start().await;
    assert_eq!(bytes_received(&edge, false).await, 0);
    edge.assert_aborted().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_2_client_that_grants_a_byte_at_a_time_is_cut_off() {
    let edge = Filled::start().await;
    let count = bytes_received(&edge, true).await;
    assert!((1..BODY_BYTES / 2).contains(&count), "{count}");
    edge.assert_aborted().await;
}
