//! Answers that come before the request has been read: they reach a client that is still sending,
//! and what it sends is never read as a request (RFC 9112, section 9.6).

use std::time::{Duration, Instant};

use crate::support::client::Connection;
use crate::support::token::token;
use crate::support::{DAY, Gateway, admin, api, get, until};

/// What the sockets between cannot hold, and the gateway still hears out.
const MUCH: usize = 3 * 1024 * 1024;

/// Sends `head` and then `piece` again and again, as a client does that reads nothing before it
/// has sent everything; then reads the answer.
async fn send_all_then_read(connection: &mut Connection, head: &str, piece: &str) -> u16 {
    connection.send(head).await;
    for _ in 0..MUCH / piece.len() {
        // Fails where the connection has been reset.
        connection.send(piece).await;
    }
    let status = connection.answer("POST").await.status;
    connection.assert_closed().await;
    status
}

/// Requests that are answered at once, and what their client keeps sending.
fn rows() -> Vec<(&'static str, u16, String, String)> {
    let length = format!("Content-Length: {}\r\n", MUCH * 2);
    let post = |path: &str, headers: &str| {
        let token = token("user01");
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT {token}\r\n{headers}\r\n")
    };
    let chunk = format!("{:x}\r\n{}\r\n", 1000, "x".repeat(1000));
    let requests = get(DAY, "");
    vec![
        (
            "a body without a token",
            401,
            format!("POST {DAY} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n"),
            chunk.clone(),
        ),
        ("a body where none is taken", 405, post(DAY, &length), requests.clone()),
        ("a body to no route", 404, post("/nothing", &length), requests.clone()),
        (
            "a login too large",
            413,
            post("/auth", &format!("Content-Type: application/json\r\n{length}")),
            requests.clone(),
        ),
        ("a login of another type", 415, post("/auth", &length), requests.clone()),
        ("chunks to no route", 404, post("/nothing", "Transfer-Encoding: chunked\r\n"), chunk.clone()),
        (
            "a login of odd chunks",
            400,
            post("/auth", "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"),
            requests.clone(),
        ),
        ("a target without end", 414, "GET /".to_owned(), "a".repeat(1000)),
        ("fields without end", 431, format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\n"), "A: b\r\n".repeat(100)),
        ("a malformed head", 400, post(DAY, "A : b\r\n"), requests),
    ]
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_keeps_sending() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    for (row, status, head, piece) in rows() {
        let mut connection = gateway.connect().await;
        assert_eq!(send_all_then_read(&mut connection, &head, &piece).await, status, "{row}");
    }
    assert!(api.seen().is_empty() && admin.seen().is_empty(), "what followed was read as requests");
}

#[tokio::test]
async fn a_client_that_never_stops_sending_is_not_heard_out() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    let piece = "x".repeat(64 * 1024);
    connection.send(format!("POST {DAY} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n")).await;
    let mut sent = 0;
    while connection.try_send(&piece).await.is_ok() {
        sent += piece.len();
        assert!(sent < 256 * 1024 * 1024, "it is still taken");
    }
    until("it is closed", async || gateway.metric("gateway_connections").await == Some(0.0)).await;
}

#[tokio::test]
async fn a_client_that_neither_sends_nor_leaves_is_not_waited_for() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    connection.send(format!("POST {DAY} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")).await;
    assert_eq!(connection.answer("POST").await.status, 401);
    let answered = Instant::now();
    until("it is closed", async || gateway.metric("gateway_connections").await == Some(0.0)).await;
    // Well before any other deadline.
    assert!(answered.elapsed() < Duration::from_secs(9), "{:?}", answered.elapsed());
}
