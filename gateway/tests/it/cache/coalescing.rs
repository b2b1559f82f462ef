//! Concurrent requests for the same response are coalesced into one backend request (RFC 9111, section 4, last
//! paragraph), and what the waiting requests get if it fails or must not be shared.

use tokio::sync::broadcast;

use super::{Edge, FRESH, assert_answer, page, x_cache};
use crate::support::backend::{Step, answer};
use crate::support::client::Connection;
use crate::support::token::token;
use crate::support::{DAY, get, until};

/// A backend that responds only when the test releases it.
struct Held {
    response: broadcast::Sender<Vec<u8>>,
}

impl Held {
    fn new() -> Self {
        Self { response: broadcast::channel(4).0 }
    }

    fn steps(&self) -> Vec<Step> {
        vec![Step::Follow(self.response.clone())]
    }

    /// Waits until the backend of `edge` has received a request and is waiting for the release.
    async fn until_requested(&self, edge: &Edge) {
        let is_waiting = async || edge.origin.request_count() > 0 && self.response.receiver_count() > 0;
        until("the backend has the request", is_waiting).await;
    }

    /// Sends the response, and closes.
    fn release(&self, steps: Vec<Step>) {
        for step in steps {
            let Step::Write(bytes) = step else { panic!("{step:?}") };
            self.response.send(bytes).unwrap();
        }
        self.response.send(Vec::new()).unwrap();
    }
}

/// A held backend sends one response, and closes.
const CLOSE: (&str, &str) = ("Connection", "close");

async fn until_in_flight(edge: &Edge, count: f64) {
    let series = "gateway_requests_in_flight";
    until("the requests are in flight", async || edge.gateway.metric(series).await == Some(count)).await;
}

/// A held backend and two clients that wait for its response.
async fn two_waiting_clients() -> (Held, Edge, [Connection; 2]) {
    let held = Held::new();
    let edge = Edge::start(held.steps()).await;
    let mut connections = [edge.gateway.connect().await, edge.gateway.connect().await];
    for connection in &mut connections {
        connection.send(get(DAY, "")).await;
    }
    held.until_requested(&edge).await;
    until_in_flight(&edge, 2.0).await;
    (held, edge, connections)
}

#[tokio::test]
async fn concurrent_requests_are_coalesced() {
    const COUNT: u32 = 20;
    let held = Held::new();
    let edge = Edge::start(held.steps()).await;
    let mut connections = Vec::new();
    for _ in 0..COUNT {
        let mut connection = edge.gateway.connect().await;
        connection.send(get(DAY, "")).await;
        connections.push(connection);
    }
    held.until_requested(&edge).await;
    until_in_flight(&edge, COUNT.into()).await;
    held.release(page("body", FRESH, &[CLOSE]));
    for connection in &mut connections {
        let answer = connection.answer("GET").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "body"), "{answer:?}");
    }
    assert_eq!(edge.origin.request_count(), 1);
}

#[tokio::test]
async fn a_failure_is_shared_by_all_waiting_requests() {
    let (held, edge, mut connections) = two_waiting_clients().await;
    held.release(answer("503 Service Unavailable", &[CLOSE], "failed"));
    for connection in &mut connections {
        assert_eq!(connection.answer("GET").await.status, 503);
    }
    assert_eq!(edge.origin.request_count(), 1);
}

#[tokio::test]
async fn a_failure_with_a_cookie_is_not_shared() {
    let (held, edge, mut connections) = two_waiting_clients().await;
    edge.origin.respond_with(|seen| {
        let identity = seen.values("x-auth-identity").join("");
        answer("503 Service Unavailable", &[("Set-Cookie", &identity)], "failed")
    });
    held.release(answer("503 Service Unavailable", &[CLOSE, ("Set-Cookie", "shared")], "failed"));
    for connection in &mut connections {
        let answer = connection.answer("GET").await;
        assert_eq!((answer.status, answer.value("set-cookie")), (503, "user01"));
    }
    assert_eq!(edge.origin.request_count(), 3);
}

/// Each waiting request is then sent with its user's identity. So is the first, which was sent for all without one.
#[tokio::test]
async fn an_uncacheable_response_is_not_shared() {
    for uncacheable in [
        &[("Cache-Control", "private")][..],
        &[("Cache-Control", "no-store")],
        &[("Cache-Control", FRESH), ("Set-Cookie", "a=b")],
        &[],
    ] {
        let held = Held::new();
        let edge = Edge::start(held.steps()).await;
        let mut connections = Vec::new();
        for identity in ["user01", "user02", "user03"] {
            let mut connection = edge.gateway.connect().await;
            let request =
                format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n", token(identity));
            connection.send(request).await;
            connections.push((identity, connection));
            held.until_requested(&edge).await;
        }
        until_in_flight(&edge, 3.0).await;
        edge.origin.respond_with(|seen| answer("200 OK", uncacheable, &seen.values("x-auth-identity").join("")));
        held.release(answer("200 OK", &[uncacheable, &[CLOSE]].concat(), "shared"));
        for (identity, connection) in &mut connections {
            assert_eq!(connection.answer("GET").await.body, *identity, "{uncacheable:?}");
        }
        assert_eq!(edge.origin.request_count(), 4, "{uncacheable:?}");
        let seen = edge.origin.backend.seen();
        assert!(seen[0].values("x-auth-identity").is_empty(), "{uncacheable:?}");
    }
}

#[tokio::test]
async fn after_the_wait_timeout_a_request_is_sent_separately() {
    let held = Held::new();
    let edge = Edge::start_with(held.steps(), &[("CACHE_WAIT_TIMEOUT", "0.1")]).await;
    let mut first = edge.gateway.connect().await;
    first.send(get(DAY, "")).await;
    held.until_requested(&edge).await;
    edge.origin.respond(page("second", FRESH, &[]));
    let second = edge.get("").await;
    assert_eq!((second.body.as_str(), edge.origin.request_count()), ("second", 2), "{second:?}");
    held.release(page("first", FRESH, &[CLOSE]));
    assert_answer(&first.answer("GET").await, 200, "first", "miss");
}

/// Other requests may be waiting for the same response.
#[tokio::test]
async fn a_response_is_stored_though_its_client_has_disconnected() {
    let held = Held::new();
    let edge = Edge::start(held.steps()).await;
    let mut first = edge.gateway.connect().await;
    first.send(get(DAY, "")).await;
    held.until_requested(&edge).await;
    drop(first);
    until_in_flight(&edge, 0.0).await;
    held.release(page("body", FRESH, &[CLOSE]));
    let answer = edge.get("").await;
    assert_eq!((answer.body.as_str(), edge.origin.request_count()), ("body", 1), "{answer:?}");
    assert!(matches!(x_cache(&answer), Some("hit" | "miss")));
    assert_answer(&edge.get("").await, 200, "body", "hit");
}

/// A failure does not affect the next request.
#[tokio::test]
async fn a_backend_that_does_not_respond_is_504() {
    let edge = Edge::start_with(vec![Step::Hang], &[("UPSTREAM_READ_TIMEOUT", "0.2")]).await;
    assert_eq!(edge.get("").await.status, 504);
    edge.origin.respond(page("body", FRESH, &[]));
    assert_answer(&edge.get("").await, 200, "body", "miss");
}
