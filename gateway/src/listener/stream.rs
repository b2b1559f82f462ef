//! A TLS connection as pingora wants it, with a write buffer of our own: the head and the
//! body of an answer leave in one TLS record and one system call, and a connection that
//! waits holds no buffer.

use std::fmt;
use std::io::{self, IoSlice};
use std::mem::take;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Buf as _, BytesMut};
use pingora::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server;

use super::chunks::Chunks;
use super::http2::Activity;
use super::{ConnectionInfo, Identity};

/// What is gathered before it is encrypted: one TLS record (RFC 8446, section 5.1).
const BUFFER_BYTES: usize = 16 * 1024;

/// What is read ahead at once, and the most that is kept of the next request.
const PIECE_BYTES: usize = 4 * 1024;

/// How long a closing connection waits for its last bytes to leave.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a client that was answered early may go on sending before its connection is closed,
/// and how much, in bytes as TCP carries them.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// A connection on which the handshake is done.
pub struct TlsStream {
    inner: server::TlsStream<TcpStream>,
    peer: SocketAddr,
    /// What was read ahead, to be read again by whoever reads next.
    ahead: BytesMut,
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
    tls: Arc<SslDigest>,
    identity: Arc<Identity>,
    info: Option<Arc<ProxyDigest>>,
    version: &'static str,
    socket: Arc<SocketDigest>,
    timing: TimingDigest,
    write_timeout: Duration,
    /// Runs while the client takes nothing of what is to be written.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Set once the goodbye has left, while the client may still be sending.
    linger: Option<Linger>,
    sending: Sending,
    last: Last,
    /// What was written since `activity` was last notified of it, in bytes.
    noted: usize,
    /// Whether some of the next request has been read ahead; kept up to date for pingora's session.
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

/// What is left to a client that sends although it was told goodbye.
struct Linger {
    timeout: Pin<Box<Sleep>>,
    bytes: usize,
}

impl TlsStream {
    /// Wraps `inner`, whose handshake took `handshake`, and of which `info` is known. A write
    /// that makes no progress for `write_timeout` fails.
    pub fn new(
        inner: server::TlsStream<TcpStream>,
        peer: SocketAddr,
        info: ConnectionInfo,
        handshake: Duration,
        write_timeout: Duration,
    ) -> Self {
        let (tcp, session) = inner.get_ref();
        let version = match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
            _ => "other",
        };
        let cipher = session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("unknown");
        let socket = SocketDigest::from_raw_fd(tcp.as_raw_fd());
        // The cell is new, so it is empty.
        let _ = socket.peer_addr.set(Some(PeerAddr::Inet(peer)));
        Self {
            tls: Arc::new(SslDigest::new(cipher, version, None, None, Vec::new())),
            identity: Arc::clone(&info.identity),
            has_next: Arc::clone(&info.has_next),
            info: info.into_digest(),
            version,
            socket: Arc::new(socket),
            timing: TimingDigest {
                established_ts: SystemTime::now(),
                establishment_duration: Some(handshake),
                offload_wait_duration: None,
            },
            inner,
            peer,
            ahead: BytesMut::new(),
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
        }
    }

    /// Notes on `activity` whatever is read from now on; nothing more is read where it is too much.
    pub(super) fn watch(&mut self, activity: Arc<Activity>) {
        self.activity = Some(activity);
    }

    /// Who is at the other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Reads some more ahead, and returns all that was; the same as before at the end.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn read_ahead(&mut self) -> io::Result<&[u8]> {
        std::future::poll_fn(|cx| self.poll_read_ahead(cx)).await?;
        Ok(&self.ahead)
    }

    /// What was read ahead and has not been read since.
    pub fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Forgets the first `count` bytes that were read ahead.
    pub fn skip_ahead(&mut self, count: usize) {
        self.ahead.advance(count.min(self.ahead.len()));
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
    }

    /// Leaves out the scheme and the authority, which are at `range`, of a target that was read ahead; its
    /// path is then at least `/`. How many bytes fewer there are.
    pub(super) fn leave_out(&mut self, range: Range<usize>) -> usize {
        let before = self.ahead.len();
        let rest = self.ahead.split_off(range.end.min(before));
        self.ahead.truncate(range.start);
        if !rest.starts_with(b"/") {
            self.ahead.extend_from_slice(b"/");
        }
        self.ahead.extend_from_slice(&rest);
        before - self.ahead.len()
    }

    /// Lets so many bytes be read, those ahead among them; more are kept for later.
    pub fn allow(&mut self, count: u64) {
        self.allowance = Some(count);
        self.chunks = None;
    }

    /// [`TlsStream::allow`], and the chunked body that follows them. Where that breaks its
    /// grammar, reading is an error.
    pub fn allow_chunks(&mut self, count: u64) {
        self.allowance = Some(count);
        self.chunks = Some(Chunks::new());
    }

    /// Allows what has come of a chunked body; `Ready(false)` at the end of the stream.
    fn poll_chunks(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.ahead.is_empty() && !ready!(self.poll_read_ahead(cx))? {
            return Poll::Ready(Ok(false));
        }
        if let Some(chunks) = &mut self.chunks {
            self.allowance = Some(chunks.follow(&self.ahead)? as u64);
            self.chunks.take_if(|chunks| chunks.ended());
        }
        Poll::Ready(Ok(true))
    }

    /// Reads a piece ahead; `Ready(false)` at the end.
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        // Where it was decrypted, so that nothing has to be ready for it while it is waited for.
        let piece = ready!(Pin::new(&mut self.inner).poll_fill_buf(cx))?;
        let count = piece.len().min(PIECE_BYTES);
        self.ahead.extend_from_slice(piece.get(..count).unwrap_or_default());
        Pin::new(&mut self.inner).consume(count);
        if count == 0 {
            self.note_end();
        }
        Poll::Ready(Ok(count > 0))
    }

    /// Notes that TLS has ended: by a close_notify, since any other end is an error.
    fn note_end(&mut self) {
        if self.sending == Sending::Open {
            self.sending = Sending::Ended { ignored: 0 };
        }
    }

    /// Whether the client has ended its sending side, so that no other request can come.
    pub(super) fn has_ended(&self) -> bool {
        self.sending != Sending::Open
    }

    /// Waits for a client to leave that has sent a close_notify: by a reset. A FIN is the usual end of a
    /// sending side that TLS has ended, and TCP does not say whether the client still reads; where it
    /// does not, writing to it fails. Behind a FIN nothing wakes the task: the caller has a deadline, or
    /// writes.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while let Sending::Ended { ignored } = self.sending {
            let mut piece = [0; PIECE_BYTES];
            let mut piece = ReadBuf::new(&mut piece);
            if let Err(error) = ready!(Pin::new(&mut *self.inner.get_mut().0).poll_read(cx, &mut piece)) {
                return Poll::Ready(error);
            }
            let ignored = ignored.saturating_add(piece.filled().len());
            if ignored > LINGER_BYTES {
                return Poll::Ready(io::Error::new(io::ErrorKind::InvalidData, "too much behind a close_notify"));
            }
            self.sending = if piece.filled().is_empty() { Sending::Finished } else { Sending::Ended { ignored } };
        }
        Poll::Pending
    }

    /// Hands out what was read ahead, as far as it may be read.
    fn take_ahead(&mut self, buf: &mut ReadBuf<'_>) {
        let allowed = self.allowance.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let count = self.ahead.len().min(buf.remaining()).min(allowed);
        buf.put_slice(self.ahead.get(..count).unwrap_or_default());
        self.ahead.advance(count);
        self.allowance = self.allowance.map(|left| left - count as u64);
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
    }

    /// Waits until the client leaves, which the error reports; what it sends meanwhile is buffered, up to
    /// [`PIECE_BYTES`]. With more than that buffered, or once the client has ended its sending side by a
    /// close_notify and a FIN, nothing wakes the task: the caller must have a deadline beside this. All
    /// that was allowed has to have been read.
    pub(super) async fn until_closed(&mut self) -> io::Error {
        let mut nothing = [0];
        let mut nothing = ReadBuf::new(&mut nothing);
        let read = std::future::poll_fn(|cx| Pin::new(&mut *self).poll_read(cx, &mut nothing)).await;
        read.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// What is to be written next, before whatever is written after it.
    pub(super) fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Writes what is pending, and `data` and `tail` behind it without a copy of them.
    ///
    /// # Errors
    /// The connection broke, or its client takes nothing.
    pub(super) async fn write_behind(&mut self, data: &[u8], tail: &[u8]) -> io::Result<()> {
        let whole = self.buffer.len() + data.len() + tail.len();
        std::future::poll_fn(|cx| {
            while self.written < whole {
                let slices = rest_of([&self.buffer, data, tail], self.written).map(IoSlice::new);
                let write = Pin::new(&mut self.inner).poll_write_vectored(cx, &slices);
                match ready!(self.bounded(cx, write))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    count => self.written += count,
                }
            }
            Poll::Ready(Ok::<_, io::Error>(()))
        })
        .await?;
        self.buffer = Vec::new();
        self.written = 0;
        Ok(())
    }

    /// The certificate that the client was shown.
    pub(super) fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// The version that was agreed on: `1.2` or `1.3`.
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// Writes what is left, says goodbye and closes, whatever the client may still be sending:
    /// for a connection on which no answer is under way.
    pub async fn close(&mut self) {
        let goodbye = std::future::poll_fn(|cx| self.poll_goodbye(cx));
        // A peer that reads nothing, or is gone, must not hold the connection open.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
    }

    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    /// Whether the client may still be sending: of a request that was not read to its end, one that will
    /// not be answered, or a flood.
    fn may_be_sent_to(&self) -> bool {
        self.activity.as_ref().is_some_and(|activity| activity.is_flooded())
            || !self.ahead.is_empty()
            || self.chunks.is_some()
            || self.allowance.is_some_and(|left| left > 0)
    }

    /// Hears a client out that was told goodbye, within bounds, and takes nothing in: to close on
    /// it at once would reset the connection, and the reset can reach it before it has read the
    /// answer (RFC 9112, section 9.6). What comes is not even decrypted.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let new = || Linger { timeout: Box::pin(sleep(LINGER_TIMEOUT)), bytes: LINGER_BYTES };
        let linger = self.linger.get_or_insert_with(new);
        let mut piece = [0; PIECE_BYTES];
        while linger.timeout.as_mut().poll(cx).is_pending() {
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut *self.inner.get_mut().0).poll_read(cx, &mut piece))?;
            linger.bytes = linger.bytes.saturating_sub(piece.filled().len());
            if piece.filled().is_empty() || linger.bytes == 0 {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Passes on what became of a write, which may wait for its client only so long.
    fn bounded<T>(&mut self, cx: &mut Context<'_>, write: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.stalled = None;
            return write;
        }
        let timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_write_buffered(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.buffer.len() + buf.len() > BUFFER_BYTES {
            ready!(self.poll_drain(cx))?;
            if buf.len() >= BUFFER_BYTES {
                return Pin::new(&mut self.inner).poll_write(cx, buf);
            }
        }
        self.buffer.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush_buffered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// Notes what was read behind the first `before` bytes of `buf`, where that is watched. Where it is
    /// too much, it is not handed out, and nothing more is; who serves the connection looks for that
    /// after each poll.
    fn poll_noted(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> Poll<io::Result<()>> {
        let Some(activity) = &self.activity else { return Poll::Ready(Ok(())) };
        if activity.receive(buf.filled().get(before..).unwrap_or_default(), take(&mut self.noted)) {
            return Poll::Ready(Ok(()));
        }
        buf.set_filled(before);
        Poll::Pending
    }

    /// The end of an HTTP/2 connection whose client sends no more: once all requests have been answered,
    /// and all of that has been written. For h2 an end of what it reads is the end of every stream.
    fn poll_last(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(activity) = &self.activity else { return Poll::Ready(Ok(())) };
        if activity.is_busy() {
            self.last = Last::Busy;
            return Poll::Ready(Err(ready!(self.poll_reset(cx))));
        }
        if self.last == Last::Flushed {
            return Poll::Ready(Ok(()));
        }
        // h2 writes after it has read, and flushes whether or not there was anything to write.
        self.last = Last::Unflushed;
        Poll::Pending
    }

    /// Hands the buffer to TLS, all of it.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.buffer.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => {
                    self.written += count;
                    self.stalled = None;
                }
            }
        }
        // A connection that waits for its next request keeps no memory for it.
        self.buffer = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

/// What is left of `pieces`, which follow each other, behind the first `count` bytes.
fn rest_of<const N: usize>(pieces: [&[u8]; N], mut count: usize) -> [&[u8]; N] {
    pieces.map(|piece| {
        let (_, rest) = piece.split_at(count.min(piece.len()));
        count -= piece.len() - rest.len();
        rest
    })
}

impl AsyncRead for TlsStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Whoever listens has said for now what there is to say: a part of an answer must not
        // wait for the rest. What cannot leave yet is the next write's to wait for.
        if (!self.buffer.is_empty() || self.inner.get_ref().1.wants_write())
            && let Poll::Ready(Err(error)) = self.poll_flush_buffered(cx)
        {
            return Poll::Ready(Err(error));
        }
        if self.allowance == Some(0) && self.chunks.is_some() && !ready!(self.poll_chunks(cx))? {
            return Poll::Ready(Ok(()));
        }
        match self.allowance {
            None if self.ahead.is_empty() => {
                if self.has_ended() {
                    return self.poll_last(cx);
                }
                let before = buf.filled().len();
                ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
                if buf.filled().len() == before && buf.remaining() > 0 {
                    self.note_end();
                    return self.poll_last(cx);
                }
                return self.poll_noted(buf, before);
            }
            // The request has been read: what comes now is the next one, or the end of the client. Where
            // the buffer for the next one is full, no more is read and nothing wakes the task: the caller
            // has a deadline, as `until_closed` requires.
            Some(0) => {
                self.has_next.store(!self.ahead.is_empty(), Ordering::Relaxed);
                while self.ahead.len() < PIECE_BYTES {
                    if !ready!(self.poll_read_ahead(cx))? {
                        return Poll::Ready(Err(ready!(self.poll_reset(cx))));
                    }
                    self.has_next.store(true, Ordering::Relaxed);
                }
                return Poll::Pending;
            }
            _ => {}
        }
        // At the end of the stream there is nothing to hand out, which says so.
        if self.ahead.is_empty() {
            ready!(self.poll_read_ahead(cx))?;
        }
        let before = buf.filled().len();
        self.take_ahead(buf);
        self.poll_noted(buf, before)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let write = self.poll_write_buffered(cx, buf);
        if let Poll::Ready(Ok(count)) = write {
            self.noted = self.noted.saturating_add(count);
        }
        self.bounded(cx, write)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = self.poll_flush_buffered(cx);
        if self.last == Last::Unflushed && matches!(flush, Poll::Ready(Ok(()))) {
            self.last = Last::Flushed;
            // The reader waits for it, in the same task.
            cx.waker().wake_by_ref();
        }
        self.bounded(cx, flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            let goodbye = self.poll_goodbye(cx);
            ready!(self.bounded(cx, goodbye))?;
        }
        if self.may_be_sent_to() { self.poll_linger(cx) } else { Poll::Ready(Ok(())) }
    }
}

#[async_trait]
impl Shutdown for TlsStream {
    async fn shutdown(&mut self) {
        self.close().await;
    }
}

impl UniqueID for TlsStream {
    fn id(&self) -> UniqueIDType {
        self.inner.get_ref().0.as_raw_fd()
    }
}

impl Ssl for TlsStream {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        Some(Arc::clone(&self.tls))
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        match self.inner.get_ref().1.alpn_protocol()? {
            b"h2" => Some(ALPN::H2),
            _ => Some(ALPN::H1),
        }
    }
}

impl GetTimingDigest for TlsStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![Some(self.timing.clone())]
    }
}

impl GetProxyDigest for TlsStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.info.clone()
    }
}

impl GetSocketDigest for TlsStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.socket))
    }
}

impl Peek for TlsStream {}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("id", &self.id()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_pieces_begins_where_writing_has_ended() {
        let pieces: [&[u8]; 4] = [b"head", b"", b"data", b"\r\n"];
        let whole = pieces.concat();
        for count in 0..=whole.len() {
            let rest = rest_of(pieces, count);
            assert_eq!(rest.concat(), &whole[count..]);
            // Each is the end of its own piece.
            assert!(pieces.iter().zip(rest).all(|(piece, rest)| piece.ends_with(rest)), "{rest:?}");
        }
        assert_eq!(rest_of(pieces, whole.len() + 1), [b""; 4]);
    }
}
