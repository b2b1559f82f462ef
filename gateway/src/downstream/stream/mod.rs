//! A TLS connection with a write buffer of our own: the head and the body of a response leave in one TLS
//! record and one system call, and an idle connection holds no buffer.

mod io;
mod read;
mod write;

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server;

use crate::downstream::Peer;
use crate::downstream::chunks::Chunks;
use crate::downstream::http2::Activity;
use crate::tls::Identity;
use write::Linger;

/// What is read ahead at once, and the most of the next request that is buffered.
const PIECE_BYTES: usize = 4 * 1024;

/// How much a client may send after its connection was closed for writing, in bytes as TCP carries them.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// A connection on which the handshake is done.
pub struct TlsStream {
    inner: server::TlsStream<TcpStream>,
    peer: Peer,
    /// What was read ahead, and is still to be parsed.
    ahead: BytesMut,
    /// How much of `ahead` had arrived when [`TlsStream::seal`] was called.
    arrived: Option<usize>,
    /// How many bytes may be read before whatever comes belongs to the next request, or to
    /// the chunked body; `None` is no bound.
    allowance: Option<u64>,
    /// Follows the body that comes behind the allowance, where only it tells where it ends.
    chunks: Option<Chunks>,
    /// Notes all that is read, where there is no allowance for it.
    activity: Option<Arc<Activity>>,
    /// What is to be written next; `written` bytes of it have been.
    buffer: Vec<u8>,
    written: usize,
    write_timeout: Duration,
    /// Runs while the client takes nothing of what is to be written.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Set once a close_notify has been sent, while the client may still be sending.
    linger: Option<Linger>,
    sending: Sending,
    last: Last,
    /// What was written since `activity` was last notified of it, in bytes.
    noted: usize,
    /// [`TlsStream::has_request`], kept up to date for pingora's session.
    has_next: Arc<AtomicBool>,
}

/// What is still to be done for an HTTP/2 client that sends no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// To answer its requests, or there is no such client.
    Busy,
    /// To write the answers.
    Unflushed,
    Flushed,
}

/// The sending side of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Open,
    /// The client has sent a close_notify: it sends no more, and may still be waiting for answers (RFC
    /// 8446, section 6.1). So many bytes have come since, which mean nothing.
    Ended {
        ignored: usize,
    },
    /// And the FIN of TCP after it.
    Finished,
}

impl TlsStream {
    /// Wraps `inner`, which was handshaken with the client at `address` and the certificate `identity`. A write
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
            last: Last::Busy,
            noted: 0,
            has_next: Arc::default(),
        }
    }

    /// Reports everything that is read from now on to `activity`; nothing more is read once that is too much.
    pub(crate) fn watch(&mut self, activity: Arc<Activity>) {
        self.activity = Some(activity);
    }

    /// The other end of the connection.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether the client chose HTTP/2 by ALPN (RFC 7301).
    pub fn is_http2(&self) -> bool {
        self.inner.get_ref().1.alpn_protocol() == Some(b"h2")
    }

    /// [`TlsStream::has_request`], kept up to date for pingora's session.
    pub(super) fn has_next(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.has_next)
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("fd", &self.inner.get_ref().0.as_raw_fd()).finish_non_exhaustive()
    }
}
