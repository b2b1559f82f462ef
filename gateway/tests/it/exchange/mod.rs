//! One request and its answer, on each of the ways by which clients come: HTTP/1.1 without a body,
//! every other request of HTTP/1, and HTTP/2. What leaves whole arrives whole, what breaks off is
//! never taken for whole, and nothing goes on for a client that has left.

mod client_disconnect;
mod half_closed;
mod http1;
mod http2;
mod session;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::broadcast;

use crate::support::backend::Step::{Close, Follow, Wait, Write};
use crate::support::backend::{self, Backend, Seen, Step};
use crate::support::client::Answer;
use crate::support::{Gateway, admin, answer_of, request, until, until_unchanged};

/// A route that takes everything that the tests send.
const ROUTES: (&str, &str) = ("ROUTE", "[{name = 'notes', methods = ['GET', 'POST', 'PUT'], path = '/notes/{note}'}]");

/// A `POST` with a good token, these headers and a short body.
fn post(path: &str, headers: &str) -> String {
    format!("{}x=1", request("POST", path, &format!("Content-Length: 3\r\n{headers}")))
}

/// An answer's head, with these lines in it, and what follows it.
fn answer(lines: &str, rest: &str) -> Step {
    Write(format!("HTTP/1.1 200 OK\r\n{lines}\r\n{rest}").into_bytes())
}

/// `pieces` as the chunks of a body (RFC 9112, section 7.1), without the last one, which is empty.
fn chunks(pieces: &[&str]) -> String {
    pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())).collect()
}

/// A text of this length in which no piece is like another.
fn text(length: usize) -> String {
    let mut text: String = (0..=length / 8).map(|place| format!("{place:07}\n")).collect();
    text.truncate(length);
    text
}

/// A backend that gives `body`, which is of over 70,000 bytes, in the framing that a note is called by.
async fn framing_backend(body: &str) -> Backend {
    let body = body.to_owned();
    let script = move |seen: &Seen| {
        let (first, second) = body.split_at(70_000);
        let (chunks, end) = (chunks(&[first, second]), "0\r\n\r\n");
        match seen.target.as_str() {
            "/notes/length" => answer_of(&body),
            "/notes/chunks" => vec![answer(CHUNKED, &format!("{chunks}{end}"))],
            "/notes/late-end" => vec![answer(CHUNKED, &chunks), Wait(LATE), Write(end.into())],
            "/notes/close" => vec![answer("", &body), Close],
            "/notes/none" => vec![Write(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())],
            other => panic!("{other}"),
        }
    };
    Backend::start(script).await
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

/// So that what was said before has been passed on.
const LATE: Duration = Duration::from_millis(100);

/// An answer that may be kept and has a `Date` of the backend's own.
fn dated(_: &Seen) -> Vec<Step> {
    let date = httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(60));
    backend::answer("200 OK", &[("Date", &date), ("Cache-Control", "public, s-maxage=600")], "good")
}

/// Asserts that `Date` stands there once and tells when the answer was sent.
fn assert_is_now(answer: &Answer) {
    let date = httpdate::parse_http_date(answer.value("date")).unwrap();
    let ago = SystemTime::now().duration_since(date).unwrap();
    assert!(ago < Duration::from_secs(10), "{answer:?}");
}

/// Asserts that a client which begins to read late gets all that the backend has said, before it says
/// the rest, by requests that `ask` makes for a path.
async fn assert_part_arrives(ask: impl Fn(&str) -> String) {
    let (rest, _) = broadcast::channel(1);
    let said = rest.clone();
    let sizes: Vec<_> = sizes_about_what_sockets_hold().collect();
    let whole: Arc<str> = text(*sizes.last().unwrap()).into();
    let parts = Arc::clone(&whole);
    let api = Backend::start(move |seen| {
        let size: usize = seen.target.rsplit('/').next().unwrap().parse().unwrap();
        vec![answer(&format!("Content-Length: {}\r\n", size + 4), &parts[..size]), Follow(said.clone())]
    });
    let (api, admin) = (api.await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[ROUTES]);
    let mut waiting = Vec::new();
    for size in sizes {
        let mut connection = gateway.connect().await;
        connection.send(ask(&format!("/notes/{size}"))).await;
        waiting.push((connection, size));
    }
    until("all are asked for", async || api.seen().len() == waiting.len()).await;
    // No client reads until the sockets have taken what they can. For one or two of the sizes the last
    // records are then still in the gateway, which waits for the backend.
    until_unchanged("the sockets are full", || api.written()).await;
    for (connection, size) in &mut waiting {
        connection.read_until("\r\n\r\n").await;
        assert!(connection.read_bytes(*size).await == whole[..*size].as_bytes(), "{size} bytes are not the part");
    }
    rest.send(b"rest".to_vec()).unwrap();
    for (connection, _) in &mut waiting {
        assert_eq!(connection.read_bytes(4).await, b"rest");
    }
}

/// Sizes in bytes, of which the steps are below what TLS takes from us while the socket takes nothing
/// from it (64 KiB), and somewhere within which the sockets are full.
fn sizes_about_what_sockets_hold() -> impl Iterator<Item = usize> {
    // The smallest, the first and the largest buffer of a socket.
    let buffers = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_wmem").unwrap_or_default();
    let largest = buffers.split_whitespace().last().and_then(|bytes| bytes.parse().ok());
    let largest: usize = largest.unwrap_or(4 * 1024 * 1024).min(16 * 1024 * 1024);
    (largest.saturating_sub(384 * 1024)..largest + 128 * 1024).step_by(40 * 1024)
}
