//! An HTTP/2 connection: the frames that a client sends after its preface. Whatever they are, the gateway writes
//! well-formed frames, respects the client's windows, responds only to requests, and ends.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use holodule_gateway::downstream::http2::{Activity, Http2, http2_options};
use holodule_gateway::downstream::{Downstream, Handler, Peer, ResponseHead};
use holodule_gateway::drain::drain;
use holodule_gateway::tls::{Identity, Purpose};
use http::StatusCode;
use pingora::http::ResponseHeader;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep, timeout};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// How long the client stays after it has sent everything. The clock is paused, so that this takes no time.
const PATIENCE: Duration = Duration::from_secs(600);

/// The size of the largest response.
const LARGE_BYTES: usize = 150_000;

/// Checks a connection on which `data` follows the preface, in one piece and in many.
pub fn check(data: &[u8]) {
    for piece in [usize::MAX, 11] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (output, handler) = runtime.block_on(serve(data, piece));
        check_output(&Sent::of(data), &frames(&output).collect::<Vec<_>>(), &handler);
    }
}

/// Returns what the gateway has written, and its handler.
async fn serve(data: &[u8], piece: usize) -> (Vec<u8>, Recorder) {
    let (activity, handler, output) = (Activity::new(), Recorder::default(), Arc::default());
    let stream = ClientStream {
        input: [PREFACE, data].concat(),
        read: 0,
        piece,
        has_paused: false,
        leaves: Box::pin(sleep(PATIENCE)),
        activity: Arc::clone(&activity),
        output: Arc::clone(&output),
        reported: 0,
    };
    let (_stop, draining) = drain(Duration::ZERO);
    let options = http2_options(16 * 1024, 100);
    let http2 = Http2 {
        handler: &handler,
        options: &options,
        activity: &activity,
        on_refused: &|| {},
        write_timeout: Duration::from_secs(30),
        keepalive_timeout: Duration::from_secs(60),
        draining,
    };
    let peer = Peer { address: "192.0.2.1:4711".parse().unwrap(), identity: identity(), tls: "1.3" };
    timeout(2 * PATIENCE, http2.serve_on(stream, peer)).await.expect("the connection ends");
    let output = std::mem::take(&mut *output.lock().unwrap());
    (output, handler)
}

/// The client's bytes, and the end of the connection after [`PATIENCE`].
struct ClientStream {
    input: Vec<u8>,
    read: usize,
    /// The maximum number of bytes of a read.
    piece: usize,
    /// Whether a read has been pending since the last piece.
    has_paused: bool,
    leaves: Pin<Box<Sleep>>,
    activity: Arc<Activity>,
    output: Arc<Mutex<Vec<u8>>>,
    /// How much of the output was reported to `activity`.
    reported: usize,
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read == self.input.len() {
            ready!(self.leaves.as_mut().poll(cx));
            return Poll::Ready(Ok(()));
        }
        self.has_paused = !self.has_paused;
        if self.has_paused {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let count = buf.remaining().min(self.piece).min(self.input.len() - self.read);
        let end = self.read + count;
        let written = self.output.lock().unwrap().len();
        let reported = std::mem::replace(&mut self.reported, written);
        if !self.activity.receive(&self.input[self.read..end], written - reported) {
            return Poll::Pending;
        }
        buf.put_slice(&self.input[self.read..end]);
        self.read = end;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.output.lock().unwrap().extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Responds as the gateway can. The first letter of the path selects how, and is the first byte of the body.
#[derive(Default)]
struct Recorder {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

impl Handler for Recorder {
    async fn handle(&self, downstream: &mut impl Downstream) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        // The exchange is dropped after an error, as in the gateway.
        let _ = respond(downstream).await;
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}

async fn respond(downstream: &mut impl Downstream) -> pingora::Result<()> {
    let path = downstream.request().uri.path().to_owned();
    let header = ResponseHeader::build(StatusCode::OK, None)?;
    match path.as_bytes().get(1) {
        // Echoes the body of the request piece by piece.
        Some(b'e') => {
            downstream.send_continue().await?;
            downstream.write_head(ResponseHead::Plain(&header), &[]).await?;
            downstream.write_body(Bytes::from_static(b"e")).await?;
            while let Some(piece) = downstream.read_body().await? {
                downstream.write_body(piece).await?;
            }
            downstream.finish(Bytes::new()).await
        }
        // Exceeds the default window, and does not read the body of the request.
        Some(b'l') => {
            downstream.write_head(ResponseHead::Plain(&header), &[]).await?;
            downstream.finish(Bytes::from(vec![b'l'; LARGE_BYTES])).await
        }
        // Retracts a head, and sends one without a body.
        Some(b'r') => {
            downstream.write_head(ResponseHead::Plain(&header), &[]).await?;
            assert!(downstream.retract(), "it has not been sent");
            downstream
                .write_head(ResponseHead::Plain(&ResponseHeader::build(StatusCode::NO_CONTENT, None)?), &[])
                .await?;
            downstream.finish(Bytes::new()).await
        }
        // Waits until the client closes the stream.
        Some(b'w') => {
            while downstream.read_body().await?.is_some() {}
            // A reset may have followed the end of the body.
            assert!(downstream.is_read() || downstream.read_body().await.is_err());
            Err(downstream.closed().await)
        }
        // A truncated response.
        Some(b'b') => {
            downstream.write_head(ResponseHead::Plain(&header), &[]).await?;
            downstream.write_body(Bytes::from_static(b"b")).await
        }
        _ => {
            while downstream.read_body().await?.is_some() {}
            downstream.write_head(ResponseHead::Plain(&header), &[]).await?;
            downstream.finish(Bytes::from_static(b"o")).await
        }
    }
}

/// A self-signed certificate.
fn identity() -> Arc<Identity> {
    static IDENTITY: OnceLock<Arc<Identity>> = OnceLock::new();
    let made = IDENTITY.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Arc::new(Identity::read(&certificate, &key, Purpose::Server).unwrap())
    });
    Arc::clone(made)
}

/// A frame (RFC 9113, section 4.1).
#[derive(Debug)]
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
    /// Whether the payload is complete.
    is_whole: bool,
}

fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let (&[high, middle, low, kind, flags, a, b, c, d], rest) = bytes.split_first_chunk::<9>()?;
        let length = usize::try_from(u32::from_be_bytes([0, high, middle, low])).unwrap();
        let (payload, after) = rest.split_at(length.min(rest.len()));
        bytes = after;
        let stream = u32::from_be_bytes([a & 0x7f, b, c, d]);
        Some(Frame { kind, flags, stream, payload, is_whole: payload.len() == length })
    })
}

fn number(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes) & 0x7fff_ffff)
}

/// The limits that the client has set with its frames, and the bodies that it has sent.
struct Sent {
    /// The granted windows of the streams, in bytes. Stream 0 is the connection.
    windows: HashMap<u32, u64>,
    initial_window: u64,
    max_frame_bytes: usize,
    highest_stream: u32,
    bodies: HashMap<u32, Vec<u8>>,
}

impl Sent {
    fn of(data: &[u8]) -> Self {
        let (windows, bodies) = (HashMap::from([(0, 65_535)]), HashMap::new());
        let mut sent = Self { windows, initial_window: 65_535, max_frame_bytes: 16_384, highest_stream: 0, bodies };
        for frame in frames(data) {
            match frame.kind {
                WINDOW_UPDATE => *sent.windows.entry(frame.stream).or_default() += u64::from(number(frame.payload)),
                HEADERS => sent.highest_stream = sent.highest_stream.max(frame.stream),
                DATA => sent.bodies.entry(frame.stream).or_default().extend_from_slice(content(&frame)),
                SETTINGS => {
                    for setting in frame.payload.chunks_exact(6) {
                        let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
                        match setting[1] {
                            4 => sent.initial_window = sent.initial_window.max(value.into()),
                            5 => sent.max_frame_bytes = sent.max_frame_bytes.max(value as usize),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        sent
    }
}

/// The payload of a DATA frame without its padding.
fn content<'a>(frame: &Frame<'a>) -> &'a [u8] {
    if frame.flags & PADDED == 0 {
        return frame.payload;
    }
    let Some((&padding, rest)) = frame.payload.split_first() else { return &[] };
    rest.get(..rest.len().saturating_sub(padding.into())).unwrap_or_default()
}

/// What the gateway has written on a stream.
#[derive(Default)]
struct Answer {
    has_head: bool,
    has_ended: bool,
    body: Vec<u8>,
}

fn check_output(sent: &Sent, written: &[Frame<'_>], handler: &Recorder) {
    let mut answers: HashMap<u32, Answer> = HashMap::new();
    let (mut open_block, mut total, mut last_stream) = (None, 0_u64, u32::MAX);
    for (index, frame) in written.iter().enumerate() {
        let Frame { kind, flags, stream, payload, is_whole } = *frame;
        assert!(is_whole && payload.len() <= sent.max_frame_bytes, "{frame:?}");
        assert!(index > 0 || (kind == SETTINGS && flags == 0), "{frame:?}");
        assert_eq!(open_block.is_some(), kind == CONTINUATION, "{frame:?}");
        let answer = answers.entry(stream).or_default();
        match kind {
            HEADERS | CONTINUATION => {
                assert!(stream % 2 == 1 && stream <= sent.highest_stream && !answer.has_ended, "{frame:?}");
                assert!(kind == HEADERS || open_block == Some(stream), "{frame:?}");
                open_block = (flags & END_HEADERS == 0).then_some(stream);
                answer.has_head = true;
                answer.has_ended = kind == HEADERS && flags & END_STREAM != 0;
            }
            DATA => {
                assert!(answer.has_head && !answer.has_ended && flags & PADDED == 0, "{frame:?}");
                answer.body.extend_from_slice(payload);
                answer.has_ended = flags & END_STREAM != 0;
                total += payload.len() as u64;
                let window = sent.initial_window + sent.windows.get(&stream).copied().unwrap_or_default();
                assert!(answer.body.len() as u64 <= window && total <= sent.windows[&0], "{frame:?}");
            }
            RST_STREAM => {
                assert!(stream != 0 && payload.len() == 4, "{frame:?}");
                answer.has_ended = true;
            }
            SETTINGS => assert!(stream == 0 && payload.len() % 6 == 0, "{frame:?}"),
            PING => assert!(stream == 0 && payload.len() == 8 && flags & 1 == 1, "{frame:?}"),
            GOAWAY => {
                assert!(stream == 0 && number(payload) <= last_stream, "{frame:?}");
                last_stream = number(payload);
            }
            WINDOW_UPDATE => assert!(payload.len() == 4 && number(payload) > 0, "{frame:?}"),
            _ => panic!("{frame:?}"),
        }
    }
    let (begun, ended) = (handler.begun.load(Ordering::Relaxed), handler.ended.load(Ordering::Relaxed));
    assert_eq!(begun, ended, "every handler returns");
    let answered = answers.values().filter(|answer| answer.has_head).count();
    assert!(answered <= begun, "{answered} responses to {begun} requests");
    for (stream, answer) in &answers {
        check_body(&answer.body, sent.bodies.get(stream).map(Vec::as_slice).unwrap_or_default());
    }
}

/// A body is that of the handler, or its beginning.
fn check_body(body: &[u8], request: &[u8]) {
    match body.split_first() {
        None => {}
        Some((b'e', echo)) => assert!(request.starts_with(echo), "{echo:?}"),
        Some((b'l', rest)) => assert!(rest.len() < LARGE_BYTES && rest.iter().all(|&byte| byte == b'l')),
        Some((first, rest)) => assert!(matches!(first, b'b' | b'o') && rest.is_empty(), "{body:?}"),
    }
}
