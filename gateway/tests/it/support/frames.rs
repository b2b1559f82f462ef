//! An HTTP/2 client that sends any frames in any order.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::client::{PATIENCE, handshake, tls};
use super::h2::text;

/// Frame types (RFC 9113, section 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flags of HEADERS. DATA has only the first.
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// The error code for a client that causes excessive load (RFC 9113, section 7).
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// A received frame.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The 32-bit number at this offset of the payload.
    fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// A frame as it is sent (RFC 9113, section 4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field block of literals without indexing (RFC 7541, section 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// The field block of a request with this `Authorization`.
pub fn request_block(method: &str, path: &str, authorization: &str) -> Vec<u8> {
    block(&[
        (":method", method),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
        ("authorization", authorization),
    ])
}

/// A connection. A task reads all frames, so that the gateway never waits for the client.
pub struct Frames {
    out: WriteHalf<TlsStream<TcpStream>>,
    received: JoinHandle<Vec<Frame>>,
}

impl Frames {
    /// Connects and sends these settings.
    pub async fn open(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let (received, out) = tokio::io::split(Self::connect(address, settings).await);
        Self { out, received: tokio::spawn(receive(received)) }
    }

    /// Connects and sends the preface with these settings. The caller reads from the stream.
    pub async fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> TlsStream<TcpStream> {
        let mut stream = handshake(address, tls(rustls::ALL_VERSIONS, &["h2"])).await.unwrap();
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [name.to_be_bytes().as_slice(), &value.to_be_bytes()].concat())
            .collect();
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &payload)].concat();
        stream.write_all(&preface).await.unwrap();
        stream.flush().await.unwrap();
        stream
    }

    /// Sends bytes. Returns `false` if the gateway has closed the connection.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        let sending = async { self.out.write_all(bytes).await.is_ok() && self.out.flush().await.is_ok() };
        timeout(PATIENCE, sending).await.expect("sending timed out")
    }

    /// Sends `piece(0)`, `piece(1)`, ... until the gateway closes the connection or `most` pieces are sent.
    /// Returns the number of bytes sent.
    pub async fn flood(&mut self, most: u32, piece: impl Fn(u32) -> Vec<u8>) -> usize {
        let mut sent = 0;
        for index in 0..most {
            let piece = piece(index);
            if self.received.is_finished() || !self.send(&piece).await {
                break;
            }
            sent += piece.len();
        }
        sent
    }

    /// Waits for the end of the connection and returns the received frames.
    pub async fn ended(self) -> Received {
        let Self { out, received } = self;
        let frames = timeout(PATIENCE, received).await.expect("the connection stays open").unwrap();
        drop(out);
        Received(frames)
    }
}

/// All received frames of a connection.
pub struct Received(pub Vec<Frame>);

impl Received {
    /// The error code of the last GOAWAY.
    pub fn goaway_code(&self) -> Option<u32> {
        self.0.iter().rfind(|frame| frame.kind == GOAWAY).map(|frame| frame.number(4))
    }

    /// The last processed stream according to the last GOAWAY.
    pub fn last_stream(&self) -> Option<u32> {
        self.0.iter().rfind(|frame| frame.kind == GOAWAY).map(|frame| frame.number(0))
    }

    /// The number of received frames of this type.
    pub fn count(&self, kind: u8) -> usize {
        self.0.iter().filter(|frame| frame.kind == kind).count()
    }
}

async fn receive(mut stream: ReadHalf<TlsStream<TcpStream>>) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(frame) = receive_frame(&mut stream).await {
        frames.push(frame);
    }
    frames
}

/// The next frame; `None` if the connection ends first.
pub async fn receive_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.ok()?;
    Some(Frame { kind: head[3], flags: head[4], payload })
}
