//! Clients that leave before they have all of their answer: the backend is let go, the request ends
//! and is told of once.

use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::{ROUTES, answer, post};
use crate::support::backend::Backend;
use crate::support::backend::Step::Hang;
use crate::support::client::PATIENCE;
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, frame, receive_frame, request_block,
};
use crate::support::token::token;
use crate::support::{Gateway, Log, admin, get, request, until};

/// A gateway whose backend never ends an answer, and for `/notes/silent` does not begin one.
struct Waiting {
    api: Backend,
    _admin: Backend,
    gateway: Gateway,
    log: Log,
    left: usize,
}

impl Waiting {
    async fn start() -> Self {
        let api = Backend::start(|seen| match seen.target.as_str() {
            "/notes/silent" => vec![Hang],
            _ => vec![answer("Content-Length: 10\r\n", "first"), Hang],
        });
        let (api, admin) = (api.await, admin().await);
        let (gateway, log) = Gateway::start_logged(&api, &admin, &[ROUTES]);
        Self { api, _admin: admin, gateway, log, left: 0 }
    }

    /// Waits until the backend has the request of one more client.
    async fn asked(&self) {
        until("the backend is asked", async || self.api.seen().len() == self.left + 1).await;
    }

    /// Asserts that nothing goes on for one more client that has left.
    async fn assert_given_up(&mut self, case: &str, status: Option<u16>) {
        self.left += 1;
        until(case, async || self.api.abandoned() == self.left).await;
        self.assert_told(case, self.left, status).await;
    }

    /// Asserts that no request is under way, and that so many have been told of.
    async fn assert_told(&self, case: &str, requests: usize, status: Option<u16>) {
        until(case, async || self.gateway.metric("gateway_requests_in_flight").await == Some(0.0)).await;
        until(case, async || self.log.lines().len() >= requests).await;
        let lines = self.log.lines();
        assert_eq!(lines.len(), requests, "{case}: {lines:?}");
        let line = &lines[requests - 1];
        assert_eq!(line["reason"], "client", "{case}: {line}");
        // 499 says that there was no response.
        assert_eq!(line["status"], status.unwrap_or(499), "{case}: {line}");
    }
}

#[tokio::test]
async fn a_client_of_http_1_before_and_within_its_answer() {
    let mut waiting = Waiting::start().await;
    for (path, status) in [("/notes/silent", None), ("/notes/slow", Some(200))] {
        for request in [get(path, ""), post(path, "")] {
            let mut connection = waiting.gateway.connect().await;
            connection.send(&request).await;
            waiting.asked().await;
            if status.is_some() {
                connection.read_until("first").await;
            }
            drop(connection);
            waiting.assert_given_up(&request, status).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_http_2_before_and_within_its_answer() {
    let mut waiting = Waiting::start().await;
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
            waiting.asked().await;
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
            waiting.assert_given_up(&case, status).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_within_its_request() {
    let waiting = Waiting::start().await;
    let mut connection = waiting.gateway.connect().await;
    connection.send(format!("{}half", request("POST", "/notes/1", "Content-Length: 8\r\n"))).await;
    let under_way = async || waiting.gateway.metric("gateway_requests_in_flight").await == Some(1.0);
    until("it is under way", under_way).await;
    drop(connection);
    waiting.assert_told("HTTP/1", 1, None).await;

    let mut client = Frames::connect(waiting.gateway.https, &[]).await;
    let fields = request_block("PUT", "/notes/1", &format!("JWT {}", token("user01")));
    client.write_all(&[frame(HEADERS, END_HEADERS, 1, &fields), frame(DATA, 0, 1, b"half")].concat()).await.unwrap();
    client.flush().await.unwrap();
    until("it is under way", under_way).await;
    drop(client);
    waiting.assert_told("HTTP/2", 2, None).await;
    assert!(waiting.api.seen().is_empty(), "no request was whole: {:?}", waiting.api.seen());
}
