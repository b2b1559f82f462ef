//! Endless responses, over each codec: flushed at once, without a deadline for the whole, and ended with the authority
//! of their principal or with a drain.

mod authority;
mod cached;
mod deadline;
mod end;
mod flush;
mod slow_reader;

use std::net::SocketAddr;

use h2::RecvStream;
use tokio::sync::broadcast;
use tokio::time::timeout;

use crate::support::backend::{Backend, Seen, Step, answer};
use crate::support::client::{Connection, PATIENCE};
use crate::support::h2::Http2;
use crate::support::until;

/// The routes of these tests: `/events` is an event stream, `/tail` has `stream = true`.
pub const ROUTES: (&str, &str) = (
    "ROUTE",
    "[{ name = 'events', methods = ['GET', 'POST'], path = '/events' }, \
      { name = 'tail', methods = ['GET', 'POST'], path = '/tail', stream = true }, \
      { name = 'text', methods = ['GET', 'POST'], path = '/text' }]",
);

/// Which codec of the gateway serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    Http1,
    /// pingora's session, which serves requests with a body.
    Session,
    Http2,
}

pub const CODECS: [Codec; 3] = [Codec::Http1, Codec::Session, Codec::Http2];

/// A service whose responses follow what the test sends.
pub struct Service {
    pub backend: Backend,
    chunks: broadcast::Sender<Vec<u8>>,
}

impl Service {
    pub async fn start() -> Self {
        let chunks = broadcast::channel(1024).0;
        let sender = chunks.clone();
        let backend = Backend::start(move |seen: &Seen| {
            let media_type = match seen.target.as_str() {
                "/events" => "text/event-stream",
                "/tail" => "application/x-ndjson",
                "/text" => "text/plain",
                _ => return answer("404 Not Found", &[], ""),
            };
            vec![Step::Write(head(media_type)), Step::Follow(sender.clone())]
        });
        Self { backend: backend.await, chunks }
    }

    /// Sends a piece of `text` on every open stream.
    pub fn send(&self, text: &str) {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        // Fails if there is none.
        let _ = self.chunks.send(chunk.into_bytes());
    }

    /// Ends every open stream, and closes its connection.
    pub fn end(&self) {
        let _ = self.chunks.send(b"0\r\n\r\n".to_vec());
        let _ = self.chunks.send(Vec::new());
    }

    /// Waits until `count` streams are open.
    pub async fn until_open(&self, count: usize) {
        until("the streams are open", async || self.open() == count).await;
    }

    /// The number of streams that the service has open.
    pub fn open(&self) -> usize {
        self.chunks.receiver_count()
    }
}

/// The head of a chunked response.
pub fn head(media_type: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes()
}

/// A response that the client reads piece by piece.
pub struct Stream {
    pub status: u16,
    /// The head as text, with names in lower case.
    pub head: String,
    body: Body,
}

enum Body {
    Http1(Box<Connection>),
    Http2(RecvStream, Http2),
}

impl Stream {
    /// Sends a request with `token`, and reads the head of its response.
    pub async fn open(codec: Codec, address: SocketAddr, path: &str, token: &str) -> Self {
        timeout(PATIENCE, Self::begin(codec, address, path, token, None)).await.expect("no response")
    }

    /// The same with `last` as the `Last-Event-ID`.
    pub async fn open_after(codec: Codec, address: SocketAddr, path: &str, token: &str, last: &str) -> Self {
        timeout(PATIENCE, Self::begin(codec, address, path, token, Some(last))).await.expect("no response")
    }

    async fn begin(codec: Codec, address: SocketAddr, path: &str, token: &str, last: Option<&str>) -> Self {
        let after = last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
        let fields = format!("Host: localhost\r\nAuthorization: Bearer {token}\r\n{after}");
        let request = match codec {
            Codec::Http1 => format!("GET {path} HTTP/1.1\r\n{fields}\r\n"),
            Codec::Session => format!("POST {path} HTTP/1.1\r\n{fields}Content-Length: 3\r\n\r\nx=1"),
            Codec::Http2 => return Self::send_over(Http2::open(address).await, path, token, last).await,
        };
        Self::send(address, request).await
    }

    /// Sends a GET of `target` without a token over HTTP/1.1.
    pub async fn open_bare(address: SocketAddr, target: &str) -> Self {
        Self::send(address, format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
    }

    async fn send(address: SocketAddr, request: String) -> Self {
        let mut connection = Connection::open(address).await.unwrap();
        connection.send(request).await;
        let head = connection.read_until("\r\n\r\n").await.to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, body: Body::Http1(Box::new(connection)) }
    }

    /// Sends a request on an HTTP/2 connection.
    pub async fn over(client: Http2, path: &str, token: &str) -> Self {
        Self::send_over(client, path, token, None).await
    }

    async fn send_over(client: Http2, path: &str, token: &str, last: Option<&str>) -> Self {
        let mut request = http::Request::get(format!("https://localhost{path}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.header("authorization", format!("Bearer {token}")).body(()).unwrap();
        let (response, _) = client.begin(request, true).await.unwrap();
        let (parts, body) = response.await.unwrap().into_parts();
        let fields = parts.headers.iter().map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap()));
        Self { status: parts.status.as_u16(), head: fields.collect(), body: Body::Http2(body, client) }
    }

    /// The next piece; `None` at the end of a complete response.
    pub async fn next(&mut self) -> Option<String> {
        timeout(PATIENCE, self.read()).await.expect("no more data").unwrap_or_else(|| panic!("the stream was cut"))
    }

    /// Waits until the response ends without being complete.
    pub async fn cut(&mut self) {
        let is_cut = async {
            while self.read().await?.is_some() {}
            Some(())
        };
        assert_eq!(timeout(PATIENCE, is_cut).await.expect("not ended"), None, "the response is complete");
    }

    /// The next piece, which may begin or end within a character; `None` at the end of a complete response.
    pub async fn next_bytes(&mut self) -> Option<Vec<u8>> {
        timeout(PATIENCE, self.read_bytes())
            .await
            .expect("no more data")
            .unwrap_or_else(|| panic!("the stream was cut"))
    }

    async fn read(&mut self) -> Option<Option<String>> {
        Some(self.read_bytes().await?.map(|data| String::from_utf8(data).unwrap()))
    }

    /// The next piece, or `Some(None)` at the end of the response; `None` if it breaks off.
    async fn read_bytes(&mut self) -> Option<Option<Vec<u8>>> {
        match &mut self.body {
            Body::Http1(connection) => {
                let size = connection.try_read_until("\r\n").await.ok()?;
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                let chunk = connection.try_read_bytes(size + 2).await.ok()?;
                Some((size > 0).then(|| chunk[..size].to_vec()))
            }
            Body::Http2(body, _) => match body.data().await {
                None => Some(None),
                // The frame that ends the stream.
                Some(Ok(data)) if data.is_empty() => Some(None),
                Some(data) => {
                    let data = data.ok()?;
                    body.flow_control().release_capacity(data.len()).unwrap();
                    Some(Some(data.to_vec()))
                }
            },
        }
    }

    /// Reads until a piece ends with `text`.
    pub async fn until(&mut self, text: &str) {
        let mut all = String::new();
        while !all.ends_with(text) {
            all += &self.next().await.expect("the stream has ended");
        }
    }

    /// Asserts that the connection is closed in order after the end of the response.
    pub async fn assert_closed(self) {
        match self.body {
            Body::Http1(mut connection) => {
                assert_eq!(connection.read_to_close_notify().await.unwrap(), b"", "bytes after the last chunk");
            }
            Body::Http2(_, client) => {
                timeout(PATIENCE, client.ended()).await.expect("the connection is open");
            }
        }
    }
}

/// A moment in seconds since 1970, as in a configuration.
pub fn rfc_3339(second: i64) -> String {
    let moment = time::OffsetDateTime::from_unix_timestamp(second).unwrap();
    let (date, (hour, minute, second)) = (moment.date(), moment.to_hms());
    format!("{date}T{hour:02}:{minute:02}:{second:02}Z")
}
