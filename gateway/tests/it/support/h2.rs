//! HTTP/2 clients: one that follows the protocol, and one that sends any fields.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::client::{Answer, PATIENCE, handshake, tls};

/// A connection that follows the protocol. Clones share it.
#[derive(Clone)]
pub struct Http2(SendRequest<Bytes>);

impl Http2 {
    pub async fn open(address: SocketAddr) -> Self {
        Self::over(handshake(address, tls(rustls::ALL_VERSIONS, &["h2"])).await.unwrap()).await
    }

    /// Connects with an initial window of `window` bytes for each stream.
    pub async fn open_with(address: SocketAddr, window: u32) -> Self {
        let stream = handshake(address, tls(rustls::ALL_VERSIONS, &["h2"])).await.unwrap();
        let mut builder = h2::client::Builder::new();
        let (client, connection) = builder.initial_window_size(window).handshake(stream).await.unwrap();
        tokio::spawn(async move { connection.await.err() });
        Self(client)
    }

    /// Uses a stream after its TLS handshake.
    pub async fn over(stream: TlsStream<TcpStream>) -> Self {
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        // Its streams report the errors of the connection.
        tokio::spawn(async move { connection.await.err() });
        Self(client)
    }

    /// Waits until the connection has ended.
    pub async fn ended(&self) {
        while self.0.clone().ready().await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Sends a request and reads its response.
    pub async fn exchange(&self, request: Request<&str>) -> Answer {
        self.try_exchange(request).await.unwrap()
    }

    /// Sends a request and reads its response. Fails if the stream ends first.
    pub async fn try_exchange(&self, request: Request<&str>) -> Result<Answer, h2::Error> {
        timeout(PATIENCE, self.send(request)).await.expect("the response timed out")
    }

    /// Sends the head of a request; `whole` means that it has no body. The caller sends the body and reads the
    /// response.
    pub async fn begin(
        &self,
        request: Request<()>,
        whole: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.0.clone().ready().await?.send_request(request, whole)
    }

    async fn send(&self, request: Request<&str>) -> Result<Answer, h2::Error> {
        let (parts, body) = request.into_parts();
        let body = Bytes::copy_from_slice(body.as_bytes());
        let (answer, mut stream) = self.begin(Request::from_parts(parts, ()), body.is_empty()).await?;
        if !body.is_empty() {
            // This fails if the response has ended the stream already.
            let _ = stream.send_data(body, true);
        }
        read(answer.await?).await
    }
}

/// Reads a response to its end.
pub async fn read(response: Response<h2::RecvStream>) -> Result<Answer, h2::Error> {
    let (answer, body) = read_bytes(response).await?;
    Ok(Answer { body: String::from_utf8(body).unwrap(), ..answer })
}

/// Reads a response whose body may be no text. The body of the answer is empty.
pub async fn read_bytes(response: Response<h2::RecvStream>) -> Result<(Answer, Vec<u8>), h2::Error> {
    let (parts, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    Ok((Answer { status: parts.status.as_u16(), headers, body: String::new() }, body))
}

/// How the gateway reacts to a request that client libraries refuse to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It responded with 400 (RFC 7541, appendix A: entry 12).
    BadRequest,
    /// It responded with another status; this is the first byte of the field block.
    Answered(u8),
    /// It ended the stream or the connection.
    Ended,
}

/// Sends one request with exactly these fields, including the pseudo-header fields, and this body.
pub async fn send_fields(address: SocketAddr, fields: &[(&str, &str)], body: &str) -> Verdict {
    let mut stream = handshake(address, tls(rustls::ALL_VERSIONS, &["h2"])).await.unwrap();
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect();
    let ends = u8::from(body.is_empty());
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(1, 4 | ends, 1, &block));
    if !body.is_empty() {
        bytes.extend(frame(0, 1, 1, body.as_bytes()));
    }
    stream.write_all(&bytes).await.unwrap();
    stream.flush().await.unwrap();
    timeout(PATIENCE, verdict(stream)).await.expect("no verdict")
}

async fn verdict(mut stream: TlsStream<TcpStream>) -> Verdict {
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return Verdict::Ended;
        }
        let mut payload = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
        if stream.read_exact(&mut payload).await.is_err() {
            return Verdict::Ended;
        }
        match head[3] {
            1 if payload[0] == 0x8c => return Verdict::BadRequest,
            1 => return Verdict::Answered(payload[0]),
            3 | 7 => return Verdict::Ended,
            _ => {}
        }
    }
}

/// A frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A string literal without Huffman coding (RFC 7541, section 5.2).
pub fn text(text: &str) -> Vec<u8> {
    let mut encoded = Vec::new();
    match text.len().checked_sub(127) {
        None => encoded.push(u8::try_from(text.len()).unwrap()),
        Some(mut rest) => {
            encoded.push(127);
            while rest >= 128 {
                encoded.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            encoded.push(u8::try_from(rest).unwrap());
        }
    }
    encoded.extend(text.bytes());
    encoded
}
