//! One request and its response through each codec: HTTP/1.1 without a request body, all other HTTP/1 requests, and
//! HTTP/2. Complete messages arrive complete, truncated ones are recognisable, and a disconnect of the client cancels
//! its request.

mod client_disconnect;
pub mod half_closed;
mod http1;
mod http2;
mod session;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::broadcast;

use crate::support::backend::Step::{Close, Follow, Write};
use crate::support::backend::{self, Backend, Seen, Step};
use crate::support::client::Answer;
use crate::support::{Gateway, Log, admin, answer_of, request, until, until_unchanged};

/// A route for all requests of these tests.
const ROUTES: (&str, &str) = ("ROUTE", "[{name = 'notes', methods = ['GET', 'POST', 'PUT'], path = '/notes/{note}'}]");

/// The route by which a request reaches the backend.
#[derive(Clone, Copy, Debug)]
enum Via {
    /// A segment of the path, to the api listener: [`ROUTES`].
    Segment,
    /// A tail of the path, to a service.
    Tail,
}

impl Via {
    const BOTH: [Self; 2] = [Self::Segment, Self::Tail];

    /// The settings for this route to `backend`.
    fn settings(self, backend: &Backend) -> Vec<(&'static str, String)> {
        let tail =
            "[{name = 'notes', methods = ['GET', 'POST', 'PUT'], path = '/{*note}', query = '*', service = 'notes'}]";
        match self {
            Self::Segment => vec![(ROUTES.0, ROUTES.1.to_owned())],
            Self::Tail => vec![
                ("ROUTE", tail.to_owned()),
                ("SERVICE", format!("[{{name = 'notes', addresses = ['{}']}}]", backend.address)),
            ],
        }
    }

    fn start(self, backend: &Backend, admin: &Backend) -> Gateway {
        Gateway::start_with(backend, admin, &borrowed(&self.settings(backend)))
    }

    fn start_logged(self, backend: &Backend, admin: &Backend) -> (Gateway, Log) {
        Gateway::start_logged(backend, admin, &borrowed(&self.settings(backend)))
    }
}

fn borrowed<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// A `POST` with a valid token, these headers and a short body.
fn post(path: &str, headers: &str) -> String {
    format!("{}x=1", request("POST", path, &format!("Content-Length: 3\r\n{headers}")))
}

/// The head of a `200` response with these header lines, and the bytes that follow it.
fn answer(lines: &str, rest: &str) -> Step {
    Write(format!("HTTP/1.1 200 OK\r\n{lines}\r\n{rest}").into_bytes())
}

/// `pieces` as chunks (RFC 9112, section 7.1), without the last chunk.
fn chunks(pieces: &[&str]) -> String {
    pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())).collect()
}

/// A text of this length that does not repeat.
fn text(length: usize) -> String {
    let mut text: String = (0..=length / 8).map(|place| format!("{place:07}\n")).collect();
    text.truncate(length);
    text
}

/// A backend that responds with `body`, of over 70,000 bytes, in the framing that the path names.
async fn framing_backend(body: &str) -> Backend {
    let body = body.to_owned();
    let script = move |seen: &Seen| {
        let (first, second) = body.split_at(70_000);
        let (chunks, end) = (chunks(&[first, second]), "0\r\n\r\n");
        match seen.target.as_str() {
            "/notes/length" => answer_of(&body),
            "/notes/chunks" => vec![answer(CHUNKED, &format!("{chunks}{end}"))],
            "/notes/close" => vec![answer("", &body), Close],
            "/notes/none" => vec![Write(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())],
            other => panic!("{other}"),
        }
    };
    Backend::start(script).await
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

/// A cacheable response with a `Date` in the past.
fn dated(_: &Seen) -> Vec<Step> {
    let date = httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(60));
    backend::answer("200 OK", &[("Date", &date), ("Cache-Control", "public, s-maxage=600")], "good")
}

/// Asserts that there is one `Date` with the current time.
fn assert_is_now(answer: &Answer) {
    let date = httpdate::parse_http_date(answer.value("date")).unwrap();
    let ago = SystemTime::now().duration_since(date).unwrap();
    assert!(ago < Duration::from_secs(10), "{answer:?}");
}

/// Asserts that a client that reads late gets all that the backend has sent before the backend sends the rest.
/// `request` returns the request for a path.
async fn assert_part_arrives(request: impl Fn(&str) -> String) {
    for via in Via::BOTH {
        assert_part_arrives_via(via, &request).await;
    }
}

async fn assert_part_arrives_via(via: Via, request: impl Fn(&str) -> String) {
    let (rest, _) = broadcast::channel(1);
    let channel = rest.clone();
    let sizes: Vec<_> = sizes_around_socket_buffers().collect();
    let whole: Arc<str> = text(*sizes.last().unwrap()).into();
    let parts = Arc::clone(&whole);
    let api = Backend::start(move |seen| {
        let size: usize = seen.target.rsplit('/').next().unwrap().parse().unwrap();
        vec![answer(&format!("Content-Length: {}\r\n", size + 4), &parts[..size]), Follow(channel.clone())]
    });
    let (api, admin) = (api.await, admin().await);
    let gateway = via.start(&api, &admin);
    let mut waiting = Vec::new();
    for size in sizes {
        let mut connection = gateway.connect().await;
        connection.send(request(&format!("/notes/{size}"))).await;
        waiting.push((connection, size));
    }
    until("the backend has all requests", async || api.seen().len() == waiting.len()).await;
    // No client reads until the socket buffers are full. For one or two of the sizes, the last records are then still
    // in the gateway, which is waiting for the backend.
    until_unchanged("the sockets are full", || api.written()).await;
    for (connection, size) in &mut waiting {
        connection.read_until("\r\n\r\n").await;
        assert!(connection.read_bytes(*size).await == whole[..*size].as_bytes(), "{size} bytes differ");
    }
    rest.send(b"rest".to_vec()).unwrap();
    for (connection, _) in &mut waiting {
        assert_eq!(connection.read_bytes(4).await, b"rest");
    }
}

/// Sizes in bytes around that at which the socket buffers are full. The step is smaller than the buffer of TLS for a
/// socket that is full (64 KiB).
fn sizes_around_socket_buffers() -> impl Iterator<Item = usize> {
    // The minimum, the default and the maximum size of a send buffer.
    let buffers = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_wmem").unwrap_or_default();
    let largest = buffers.split_whitespace().last().and_then(|bytes| bytes.parse().ok());
    let largest: usize = largest.unwrap_or(4 * 1024 * 1024).min(16 * 1024 * 1024);
    (largest.saturating_sub(384 * 1024)..largest + 128 * 1024).step_by(40 * 1024)
}
