//! One question to the backend for all who want the same answer (RFC 9111, section 4, the last
//! paragraph), and what becomes of those who wait.

use tokio::sync::broadcast;

use super::{Edge, FRESH, assert_answer, page, x_cache};
use crate::support::backend::{Step, answer};
use crate::support::client::Connection;
use crate::support::token::token;
use crate::support::{DAY, get, until};

/// A backend that answers only once the test says so.
struct Held {
    said: broadcast::Sender<Vec<u8>>,
}

impl Held {
    fn new() -> Self {
        Self { said: broadcast::channel(4).0 }
    }

    fn steps(&self) -> Vec<Step> {
        vec![Step::Follow(self.said.clone())]
    }

    /// Waits until `edge`'s backend was asked and waits itself.
    async fn asked(&self, edge: &Edge) {
        until("the backend is asked", async || edge.origin.asked() > 0 && self.said.receiver_count() > 0).await;
    }

    /// Lets it answer.
    fn release(&self, steps: Vec<Step>) {
        for step in steps {
            let Step::Write(bytes) = step else { panic!("{step:?}") };
            self.said.send(bytes).unwrap();
        }
        self.said.send(Vec::new()).unwrap();
    }
}

/// The connection ends with the answer, which is all that a held backend says.
const LAST: (&str, &str) = ("Connection", "close");

async fn until_in_flight(edge: &Edge, count: f64) {
    let series = "gateway_requests_in_flight";
    until("the requests wait", async || edge.gateway.metric(series).await == Some(count)).await;
}

/// A backend that was asked once, and two clients who wait for what it says.
async fn two_who_wait() -> (Held, Edge, [Connection; 2]) {
    let held = Held::new();
    let edge = Edge::start(held.steps()).await;
    let mut connections = [edge.gateway.connect().await, edge.gateway.connect().await];
    for connection in &mut connections {
        connection.send(get(DAY, "")).await;
    }
    held.asked(&edge).await;
    until_in_flight(&edge, 2.0).await;
    (held, edge, connections)
}

#[tokio::test]
async fn many_who_want_the_same_ask_once() {
    const COUNT: u32 = 20;
    let held = Held::new();
    let edge = Edge::start(held.steps()).await;
    let mut connections = Vec::new();
    for _ in 0..COUNT {
        let mut connection = edge.gateway.connect().await;
        connection.send(get(DAY, "")).await;
        connections.push(connection);
    }
    held.asked(&edge).await;
    until_in_flight(&edge, COUNT.into()).await;
    held.release(page("body", FRESH, &[LAST]));
    for connection in &mut connections {
        let answer = connection.answer("GET").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "body"), "{answer:?}");
    }
    assert_eq!(edge.origin.asked(), 1);
}

#[tokio::test]
async fn a_failure_is_told_to_all_who_wait() {
    let (held, edge, mut connections) = two_who_wait().await;
    held.release(answer("503 Service Unavailable", &[LAST], "failed"));
    for connection in &mut connections {
        assert_eq!(connection.answer("GET").await.status, 503);
    }
    assert_eq!(edge.origin.asked(), 1);
}

#[tokio::test]
async fn a_cookie_of_a_failure_reaches_nobody_else() {
    let (held, edge, mut connections) = two_who_wait().await;
    edge.origin.answers(|seen| {
        let identity = seen.values("x-auth-identity").join("");
        answer("503 Service Unavailable", &[("Set-Cookie", &identity)], "failed")
    });
    held.release(answer("503 Service Unavailable", &[LAST, ("Set-Cookie", "nobody")], "failed"));
    for connection in &mut connections {
        let answer = connection.answer("GET").await;
        assert_eq!((answer.status, answer.value("set-cookie")), (503, "user01"));
    }
    assert_eq!(edge.origin.asked(), 3);
}

/// What is one's own is not another's: each asks for itself, who asked first on behalf of all too.
#[tokio::test]
async fn an_answer_that_may_not_be_kept_is_given_to_nobody_else() {
    for not_kept in [
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
            held.asked(&edge).await;
        }
        until_in_flight(&edge, 3.0).await;
        edge.origin.answers(|seen| answer("200 OK", not_kept, &seen.values("x-auth-identity").join("")));
        held.release(answer("200 OK", &[not_kept, &[LAST]].concat(), "nobody"));
        for (identity, connection) in &mut connections {
            assert_eq!(connection.answer("GET").await.body, *identity, "{not_kept:?}");
        }
        assert_eq!(edge.origin.asked(), 4, "{not_kept:?}");
        let seen = edge.origin.backend.seen();
        assert!(seen[0].values("x-auth-identity").is_empty(), "{not_kept:?}");
    }
}

#[tokio::test]
async fn who_waits_too_long_asks_for_itself() {
    let held = Held::new();
    let edge = Edge::start_with(held.steps(), &[("CACHE_WAIT_TIMEOUT", "0.1")]).await;
    let mut first = edge.gateway.connect().await;
    first.send(get(DAY, "")).await;
    held.asked(&edge).await;
    edge.origin.says(page("second", FRESH, &[]));
    let second = edge.get("").await;
    assert_eq!((second.body.as_str(), edge.origin.asked()), ("second", 2), "{second:?}");
    held.release(page("first", FRESH, &[LAST]));
    assert_answer(&first.answer("GET").await, 200, "first", "miss");
}

/// Whoever asked first may leave: others wait for the same answer.
#[tokio::test]
async fn an_answer_is_kept_though_its_client_has_left() {
    let held = Held::new();
    let edge = Edge::start(held.steps()).await;
    let mut first = edge.gateway.connect().await;
    first.send(get(DAY, "")).await;
    held.asked(&edge).await;
    drop(first);
    until_in_flight(&edge, 0.0).await;
    held.release(page("body", FRESH, &[LAST]));
    let answer = edge.get("").await;
    assert_eq!((answer.body.as_str(), edge.origin.asked()), ("body", 1), "{answer:?}");
    assert!(matches!(x_cache(&answer), Some("hit" | "miss")));
    assert_answer(&edge.get("").await, 200, "body", "hit");
}

/// A backend that says nothing costs whoever asked its deadline, and no more.
#[tokio::test]
async fn an_answer_that_never_comes_is_504() {
    let edge = Edge::start_with(vec![Step::Hang], &[("UPSTREAM_READ_TIMEOUT", "0.2")]).await;
    assert_eq!(edge.get("").await.status, 504);
    edge.origin.says(page("body", FRESH, &[]));
    assert_answer(&edge.get("").await, 200, "body", "miss");
}
