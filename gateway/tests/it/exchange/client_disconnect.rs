//! Clients that disconnect before the end of the response: the backend connection is closed, and the request is logged
//! once.

use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::{Via, answer, post};
use crate::support::backend::Backend;
use crate::support::backend::Step::Hang;
use crate::support::client::PATIENCE;
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, frame, receive_frame, request_block,
};
use crate::support::token::token;
use crate::support::{Gateway, Log, admin, get, request, until};

/// A gateway whose backend never completes a response, and for `/notes/silent` does not begin one.
struct Waiting {
    api: Backend,
    _admin: Backend,
    gateway: Gateway,
    log: Log,
    disconnected: usize,
}

impl Waiting {
    async fn start(via: Via) -> Self {
        let api = Backend::start(|seen| match seen.target.as_str() {
            "/notes/silent" => vec![Hang],
            _ => vec![answer("Content-Length: 10\r\n", "first"), Hang],
        });
        let (api, admin) = (api.await, admin().await);
        let (gateway, log) = via.start_logged(&api, &admin);
        Self { api, _admin: admin, gateway, log, disconnected: 0 }
    }

    /// Waits until the backend has the request of another client.
    async fn until_requested(&self) {
        until("the backend has the request", async || self.api.seen().len() == self.disconnected + 1).await;
    }

    /// Asserts that the request of another client that has disconnected is cancelled and logged.
    async fn assert_cancelled(&mut self, case: &str, status: Option<u16>) {
        self.disconnected += 1;
        until(case, async || self.api.abandoned() == self.disconnected).await;
        self.assert_logged(case, self.disconnected, status).await;
    }

    /// Asserts that no request is in flight, that `requests` are logged, and the outcome of the last.
    async fn assert_logged(&self, case: &str, requests: usize, status: Option<u16>) {
        until(case, async || self.gateway.metric("gateway_requests_in_flight").await == Some(0.0)).await;
        until(case, async || self.log.lines().len() >= requests).await;
        let lines = self.log.lines();
        assert_eq!(lines.len(), requests, "{case}: {lines:?}");
        let line = &lines[requests - 1];
        assert_eq!(line["reason"], "client", "{case}: {line}");
        // 499 is logged if there was no response.
        assert_eq!(line["status"], status.unwrap_or(499), "{case}: {line}");
    }
}

#[tokio::test]
async fn a_disconnect_before_or_during_an_http_1_response_cancels_the_request() {
    for via in Via::BOTH {
        a_disconnect_before_or_during_an_http_1_response_cancels_the_request_via(via).await;
    }
}

async fn a_disconnect_before_or_during_an_http_1_response_cancels_the_request_via(via: Via) {
    let mut waiting = Waiting::start(via).await;
    for (path, status) in [("/notes/silent", None), ("/notes/slow", Some(200))] {
        for request in [get(path, ""), post(path, "")] {
            let mut connection = waiting.gateway.connect().await;
            connection.send(&request).await;
            waiting.until_requested().await;
            if status.is_some() {
                connection.read_until("first").await;
            }
            drop(connection);
            waiting.assert_cancelled(&request, status).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnect_before_or_during_an_http_2_response_cancels_the_request() {
    for via in Via::BOTH {
        a_disconnect_before_or_during_an_http_2_response_cancels_the_request_via(via).await;
    }
}

async fn a_disconnect_before_or_during_an_http_2_response_cancels_the_request_via(via: Via) {
    let mut waiting = Waiting::start(via).await;
    let authorization = format!("JWT {}", token("user01"));
    for (path, status) in [("/notes/silent", None), ("/notes/slow", Some(200))] {
        for (method, resets) in [("GET", true), ("GET", false), ("PUT", true), ("PUT", false)] {
            let case = format!("{method} {path}, reset: {resets}");
            let mut client = Frames::connect(waiting.gateway.https, &[]).await;
            let fields = request_block(method, path, &authorization);
            let mut sent = match method {
                "PUT" => [frame(HEADERS, END_HEADERS, 1, &fields), frame(DATA, END_STREAM, 1, b"x=1")].concat(),
                _ => frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields),
            };
            client.write_all(&sent).await.unwrap();
            client.flush().await.unwrap();
            waiting.until_requested().await;
            let awaited = if status.is_some() { DATA } else { HEADERS };
            while status.is_some() {
                let received = timeout(PATIENCE, receive_frame(&mut client)).await.unwrap().unwrap();
                assert_ne!(received.kind, RST_STREAM, "{case}");
                if received.kind == awaited {
                    assert_eq!(received.payload, b"first", "{case}");
                    break;
                }
            }
            if resets {
                // CANCEL (RFC 9113, section 7).
                sent = frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
                client.write_all(&sent).await.unwrap();
                client.flush().await.unwrap();
            } else {
                client.get_mut().0.set_zero_linger().unwrap();
                drop(client);
            }
            waiting.assert_cancelled(&case, status).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnect_during_the_request_cancels_it() {
    for via in Via::BOTH {
        a_disconnect_during_the_request_cancels_it_via(via).await;
    }
}

async fn a_disconnect_during_the_request_cancels_it_via(via: Via) {
    let waiting = Waiting::start(via).await;
    let mut connection = waiting.gateway.connect().await;
    connection.send(format!("{}half", request("POST", "/notes/1", "Content-Length: 8\r\n"))).await;
    let in_flight = async || waiting.gateway.metric("gateway_requests_in_flight").await == Some(1.0);
    until("the request is in flight", in_flight).await;
    drop(connection);
    waiting.assert_logged("HTTP/1", 1, None).await;

    let mut client = Frames::connect(waiting.gateway.https, &[]).await;
    let fields = request_block("PUT", "/notes/1", &format!("JWT {}", token("user01")));
    client.write_all(&[frame(HEADERS, END_HEADERS, 1, &fields), frame(DATA, 0, 1, b"half")].concat()).await.unwrap();
    client.flush().await.unwrap();
    until("the request is in flight", in_flight).await;
    drop(client);
    waiting.assert_logged("HTTP/2", 2, None).await;
    assert!(waiting.api.seen().is_empty(), "no request was complete: {:?}", waiting.api.seen());
}
