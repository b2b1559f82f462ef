//! A TLS stream with a write buffer: the head and the body of a response are sent in one TLS record and one
//! system call, and an idle connection holds no buffer.

mod io;
mod read;
mod tunnel;
mod write;

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use http::HeaderMap;
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server;

use crate::downstream::Peer;
use crate::downstream::activity::Activity;
use crate::downstream::chunks::Chunks;
use crate::tls::Identity;
use write::Linger;

/// Maximum size of one read, and of the buffered part of the next request, in bytes.
const PIECE_BYTES: usize = 4 * 1024;

/// Maximum number of bytes read and discarded after the sending side was closed, counted at the TCP level.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// A TLS connection after the handshake.
pub struct TlsStream {
    inner: server::TlsStream<TcpStream>,
    peer: Peer,
    /// Data read ahead of the parser.
    ahead: BytesMut,
    /// Length of `ahead` when [`TlsStream::seal`] was called.
    arrived: Option<usize>,
    /// Bytes that may still be read before the next request or the chunked body begins; `None` if unlimited.
    allowance: Option<u64>,
    /// Finds the end of the chunked body after the allowance, if there is one.
    chunks: Option<Chunks>,
    /// Records what is read if there is no allowance (HTTP/2).
    activity: Option<Arc<Activity>>,
    /// The write buffer, of which `written` bytes have been written.
    buffer: Vec<u8>,
    written: usize,
    write_timeout: Duration,
    /// Runs while a write makes no progress.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Set once close_notify was sent while the client may still be sending.
    linger: Option<Linger>,
    sending: Sending,
    half_closed: HalfClosed,
    /// Bytes written since the last report to `activity`.
    unreported: usize,
    /// [`TlsStream::has_request`], kept up to date for pingora's session.
    received: Arc<Received>,
}

/// Progress of an HTTP/2 connection whose client has closed its sending side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HalfClosed {
    /// Requests are active, or the client is still sending.
    Busy,
    /// The responses are still to be written.
    Unflushed,
    Flushed,
}

/// The state of the client's sending side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Open,
    /// The client sent close_notify: it sends no more requests, but may still read responses (RFC 8446, section
    /// 6.1). `ignored` bytes arrived since.
    Ended {
        ignored: usize,
    },
    /// The client sent a TCP FIN as well.
    Finished,
}

/// What a session that owns the connection shares with it: what was received after the current request, and the
/// trailers of its response.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// [`TlsStream::has_request`].
    has_next: AtomicBool,
    /// [`TlsStream::has_ended`].
    has_ended: AtomicBool,
    /// Whether the current response may never end, so that a client that sends no more has disconnected.
    is_streaming: AtomicBool,
    /// The trailers of the response, which pingora's session cannot send.
    trailers: Mutex<Option<Box<HeaderMap>>>,
}

impl Received {
    /// Has the last chunk, which is written next, carry `trailers`.
    pub(super) fn put_trailers(&self, trailers: HeaderMap) {
        *self.trailers.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(trailers));
    }

    /// The trailers that were not sent yet.
    pub(super) fn take_trailers(&self) -> Option<Box<HeaderMap>> {
        self.trailers.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn has_next(&self) -> bool {
        self.has_next.load(Ordering::Relaxed)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    pub(super) fn is_streaming(&self) -> bool {
        self.is_streaming.load(Ordering::Relaxed)
    }

    pub(super) fn set_streaming(&self, is_streaming: bool) {
        self.is_streaming.store(is_streaming, Ordering::Relaxed);
    }
}

impl TlsStream {
    /// Wraps `inner`, whose handshake with the client at `address` used the certificate `identity`. A write
    /// that makes no progress for `write_timeout` fails.
    pub fn new(
        inner: server::TlsStream<TcpStream>,
        address: SocketAddr,
        identity: Arc<Identity>,
        write_timeout: Duration,
    ) -> Self {
        let tls = match inner.get_ref().1.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
            _ => "other",
        };
        Self {
            inner,
            peer: Peer { address, identity, tls },
            ahead: BytesMut::new(),
            arrived: None,
            allowance: None,
            chunks: None,
            activity: None,
            buffer: Vec::new(),
            written: 0,
            write_timeout,
            stalled: None,
            linger: None,
            sending: Sending::Open,
            half_closed: HalfClosed::Busy,
            unreported: 0,
            received: Arc::default(),
        }
    }

    /// Reports all reads to `activity` from now on; once that reports a flood, nothing more is read.
    pub(crate) fn watch(&mut self, activity: Arc<Activity>) {
        self.activity = Some(activity);
    }

    /// Returns the client's end of the connection.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Returns whether HTTP/2 was negotiated by ALPN (RFC 7301).
    pub fn is_http2(&self) -> bool {
        self.inner.get_ref().1.alpn_protocol() == Some(b"h2")
    }

    /// Returns a copy of [`TlsStream::has_request`] that is updated, for pingora's session.
    pub(super) fn received(&self) -> Arc<Received> {
        Arc::clone(&self.received)
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("fd", &self.inner.get_ref().0.as_raw_fd()).finish_non_exhaustive()
    }
}
