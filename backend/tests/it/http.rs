//! A client that sends exactly the given bytes, for malformed requests.

use std::collections::BTreeMap;

use holodule_backend::server::Address;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// A stream to a TCP or Unix listener.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A complete response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// By lower-case name; multiple values are joined by commas.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub(crate) async fn connect(address: &Address) -> Box<dyn Stream> {
    match address {
        Address::Tcp(address) => Box::new(TcpStream::connect(address).await.unwrap()),
        Address::Unix(path) => Box::new(UnixStream::connect(path).await.unwrap()),
    }
}

/// Sends one request on a new connection, with `Host: localhost` and the body's length.
pub(crate) async fn send(address: &Address, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    raw(address, &format!("{text}\r\n{body}")).await
}

/// The response to exactly these bytes, read until the service closes the connection.
pub(crate) async fn raw(address: &Address, text: &str) -> Reply {
    let mut stream = connect(address).await;
    // A service that has refused need not read the rest.
    let _ = stream.write_all(text.as_bytes()).await;
    read(&mut stream).await
}

/// Reads until the end of the stream.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Reply {
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes).await;
    assert!(ended.is_ok() || !bytes.is_empty(), "{ended:?}");
    parse(&String::from_utf8(bytes).unwrap())
}

fn parse(text: &str) -> Reply {
    // Skips an interim response to `Expect: 100-continue`.
    let text = text.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response in {text:?}"));
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers = BTreeMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        let joined: &mut String = headers.entry(name.to_ascii_lowercase()).or_default();
        if !joined.is_empty() {
            joined.push_str(", ");
        }
        joined.push_str(value.trim());
    }
    let chunked = headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked");
    let body = if chunked { unchunked(body) } else { body.to_owned() };
    Reply { status, headers, body }
}

/// The content of a chunked body, including the last chunk.
fn unchunked(mut rest: &str) -> String {
    let mut content = String::new();
    loop {
        let (length, after) = rest.split_once("\r\n").expect("a chunk's length");
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return content;
        }
        content.push_str(&after[..length]);
        rest = &after[length + 2..];
    }
}
