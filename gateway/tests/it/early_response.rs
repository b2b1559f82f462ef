//! Responses sent before the request was read completely: they reach a client that is still sending, and the rest of
//! the request is never read as another one (RFC 9112, section 9.6).

use std::time::{Duration, Instant};

use crate::support::client::Connection;
use crate::support::token::token;
use crate::support::{DAY, Gateway, admin, api, get, until};

/// More than the socket buffers hold, and less than the gateway discards before it closes a connection.
const LARGE: usize = 3 * 1024 * 1024;

/// Sends `head` and then `piece` repeatedly, like a client that reads nothing before it has sent everything; then reads
/// the response.
async fn send_all_then_read(connection: &mut Connection, head: &str, piece: &str) -> u16 {
    connection.send(head).await;
    for _ in 0..LARGE / piece.len() {
        // Fails if the connection was reset.
        connection.send(piece).await;
    }
    let status = connection.answer("POST").await.status;
    connection.assert_closed().await;
    status
}

/// Requests with an early response: name, status, head, and what the client continues to send.
fn rows() -> Vec<(&'static str, u16, String, String)> {
    let length = format!("Content-Length: {}\r\n", LARGE * 2);
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
        ("a body with an unsupported method", 405, post(DAY, &length), requests.clone()),
        ("a body for an unknown route", 404, post("/nothing", &length), requests.clone()),
        (
            "a login too large",
            413,
            post("/auth", &format!("Content-Type: application/json\r\n{length}")),
            requests.clone(),
        ),
        ("a login with another content type", 415, post("/auth", &length), requests.clone()),
        ("chunks for an unknown route", 404, post("/nothing", "Transfer-Encoding: chunked\r\n"), chunk.clone()),
        (
            "a login with malformed chunks",
            400,
            post("/auth", "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"),
            requests.clone(),
        ),
        ("an endless target", 414, "GET /".to_owned(), "a".repeat(1000)),
        ("endless fields", 431, format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\n"), "A: b\r\n".repeat(100)),
        ("a malformed head", 400, post(DAY, "A : b\r\n"), requests),
    ]
}

#[tokio::test]
async fn an_early_response_reaches_a_client_that_keeps_sending() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    for (row, status, head, piece) in rows() {
        let mut connection = gateway.connect().await;
        assert_eq!(send_all_then_read(&mut connection, &head, &piece).await, status, "{row}");
    }
    assert!(api.seen().is_empty() && admin.seen().is_empty(), "the rest was read as requests");
}

#[tokio::test]
async fn a_client_that_never_stops_sending_is_disconnected() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    let piece = "x".repeat(64 * 1024);
    connection.send(format!("POST {DAY} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n")).await;
    let mut sent = 0;
    while connection.try_send(&piece).await.is_ok() {
        sent += piece.len();
        assert!(sent < 256 * 1024 * 1024, "the gateway is still reading");
    }
    until("the connection is closed", async || gateway.metric("gateway_connections").await == Some(0.0)).await;
}

#[tokio::test]
async fn a_client_that_neither_sends_nor_closes_is_disconnected() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    connection.send(format!("POST {DAY} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")).await;
    assert_eq!(connection.answer("POST").await.status, 401);
    let answered = Instant::now();
    until("the connection is closed", async || gateway.metric("gateway_connections").await == Some(0.0)).await;
    // Well before any other timeout.
    assert!(answered.elapsed() < Duration::from_secs(9), "{:?}", answered.elapsed());
}
