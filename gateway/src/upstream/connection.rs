//! One connection to a backend, and how it is opened.
//!
//! The task of the request drives it: a separate task would have to be woken for each request, and wake the request's
//! task in turn, often on another thread.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::address::UpstreamPeer;
use super::interim::{InterimReader, ReceivedLinks};
use super::slots::{ConnectionSlot, Occupant};
use super::{RequestBody, Upstream, http2};

/// The maximum size of a response head, and of a read of a body, in bytes.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// The maximum number of fields of a response: hyper's default. With any other value, hyper allocates both of its
/// field tables on the heap for each response: 570 instructions for 256 fields, which is 0.7 % of a proxied request.
pub(super) const MAX_FIELDS: usize = 100;

/// A connection. It does nothing unless it is polled, and is closed when dropped. Over HTTP/2, it is one stream of a shared
/// connection.
#[derive(Debug)]
pub(super) struct Connection {
    protocol: Protocol,
    has_responded: bool,
    /// Whether anything was read since the last request was sent.
    has_read: Arc<AtomicBool>,
    /// The links of early hints for the current request.
    pub(super) early_links: Arc<ReceivedLinks>,
    slot: ConnectionSlot<Self>,
}

/// hyper's error, with the request if nothing of it was sent.
type Refused = TrySendError<Request<RequestBody>>;

/// The protocol on a connection.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a connection is boxed, and most are HTTP/1.1")]
enum Protocol {
    Http1 {
        requests: http1::SendRequest<RequestBody>,
        driver: http1::Connection<TokioIo<MonitoredSocket>, RequestBody>,
    },
    /// The right to send one request at a time on a connection that others share.
    Http2(http2::Stream),
}

/// The remains of a connection that was closed.
#[derive(Debug)]
pub(super) struct ClosedConnection {
    /// Its slot, for another connection.
    pub(super) slot: ConnectionSlot<Connection>,
    /// Whether any byte was received after the last request was passed to it.
    pub(super) has_read: bool,
}

impl Connection {
    /// Opens a connection to the configured address at `place`, which occupies `slot` while it is open.
    ///
    /// # Errors
    /// The address cannot be reached.
    pub(super) async fn open(
        upstream: &Upstream,
        place: usize,
        slot: ConnectionSlot<Self>,
        connect_timeout: Duration,
    ) -> io::Result<Box<Self>> {
        let connecting = async { connect(upstream, place, connect_timeout).await.map(MonitoredSocket::new) };
        if let Some(multiplexers) = &upstream.multiplexers {
            let connecting = async { connecting.await.map(|socket| (Arc::clone(&socket.has_read), socket)) };
            let multiplexer = multiplexers.get(place).ok_or_else(not_configured)?;
            let stream = multiplexer.stream(|| upstream.balancer.epoch(place), connecting).await?;
            let (protocol, has_read, early_links) = (Protocol::Http2(stream), Arc::default(), Arc::default());
            return Ok(Box::new(Self { protocol, has_responded: false, has_read, early_links, slot }));
        }
        let socket = connecting.await?;
        let (has_read, early_links) = (Arc::clone(&socket.has_read), Arc::clone(socket.interim.received()));
        let mut builder = http1::Builder::new();
        // A proxy removes these spaces (RFC 9112, section 5.1).
        builder.max_buf_size(BUFFER_BYTES).allow_spaces_after_header_name_in_responses(true);
        let handshake = builder.handshake(TokioIo::new(socket)).await;
        let (requests, driver) = handshake.map_err(io::Error::other)?;
        let protocol = Protocol::Http1 { requests, driver };
        Ok(Box::new(Self { protocol, has_responded: false, has_read, early_links, slot }))
    }

    /// Queues a request, which is sent when the connection is polled. Over HTTP/2, it is returned.
    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<impl Future<Output = Result<Response<Incoming>, Refused>> + use<>, Box<Request<RequestBody>>> {
        let Protocol::Http1 { requests, .. } = &mut self.protocol else { return Err(Box::new(request)) };
        self.has_read.store(false, Ordering::Relaxed);
        self.early_links.clear();
        Ok(requests.try_send_request(request))
    }

    /// The right to send a request over HTTP/2.
    pub(super) fn stream(&mut self) -> Option<&mut http2::Stream> {
        match &mut self.protocol {
            Protocol::Http2(stream) => Some(stream),
            Protocol::Http1 { .. } => None,
        }
    }

    /// Closes the connection.
    pub(super) fn close(self: Box<Self>) -> ClosedConnection {
        let Self { protocol, has_read, slot, .. } = *self;
        let is_multiplexed_and_read = matches!(&protocol, Protocol::Http2(stream) if stream.has_read());
        drop(protocol);
        ClosedConnection { slot, has_read: is_multiplexed_and_read || has_read.load(Ordering::Relaxed) }
    }

    /// Whether the request and the response are complete and another request may follow, as of the last poll after the
    /// head of the response was received.
    pub(super) fn is_ready(&self) -> bool {
        matches!(&self.protocol, Protocol::Http1 { requests, .. } if requests.is_ready())
    }

    /// Records that the backend has responded on it.
    pub(super) fn note_response(&mut self) {
        self.has_responded = true;
        if let Protocol::Http2(stream) = &self.protocol {
            stream.note_response();
        }
    }

    /// Whether the backend has responded on it before.
    pub(super) fn has_responded(&self) -> bool {
        self.has_responded || matches!(&self.protocol, Protocol::Http2(stream) if stream.has_responded())
    }

    /// Whether it was opened, and is not a further stream of one that was open.
    pub(super) fn is_new(&self) -> bool {
        !matches!(&self.protocol, Protocol::Http2(stream) if !stream.is_first())
    }

    /// The socket after the backend has switched protocols on it, what it has sent already, and the slot. `None` over
    /// HTTP/2, which has no 101.
    pub(super) fn into_socket(self: Box<Self>) -> Option<(Socket, Bytes, ConnectionSlot<Self>)> {
        let Self { protocol: Protocol::Http1 { driver, .. }, slot, .. } = *self else { return None };
        let http1::Parts { io, read_buf, .. } = driver.into_parts();
        Some((io.into_inner().socket, read_buf, slot))
    }
}

impl Occupant for Connection {
    // The task that polled last is woken.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.protocol {
            // The response or its body returns the error.
            Protocol::Http1 { driver, .. } => Pin::new(driver).poll(cx).map(|_| ()),
            // Another task drives it.
            Protocol::Http2(stream) if stream.is_over() => Poll::Ready(()),
            Protocol::Http2(_) => Poll::Pending,
        }
    }

    fn into_slot(self: Box<Self>) -> ConnectionSlot<Self> {
        self.close().slot
    }
}

/// A socket that records whether anything was read from it, finds early hints in that, and remains readable after
/// writing fails.
///
/// A backend may respond before it has read the whole request, and close the connection. Its response is then in the
/// receive buffer although writing fails, and hyper ends a connection at the first error of either direction. So data
/// that cannot be written is discarded, and reading decides: it returns the response (RFC 9112, section 9.5), the end
/// of the stream or an error.
#[derive(Debug)]
pub(super) struct MonitoredSocket {
    socket: Socket,
    has_read: Arc<AtomicBool>,
    interim: InterimReader,
    /// Writing has failed because the backend closed the connection.
    is_write_closed: bool,
}

impl MonitoredSocket {
    fn new(socket: Socket) -> Self {
        Self { socket, has_read: Arc::default(), interim: InterimReader::default(), is_write_closed: false }
    }

    /// The result of a write, or `instead` if the backend closed the connection.
    fn written<T>(&mut self, written: Poll<io::Result<T>>, instead: T) -> Poll<io::Result<T>> {
        match written {
            Poll::Ready(Err(error)) if is_closed_by_peer(&error) => {
                self.is_write_closed = true;
                Poll::Ready(Ok(instead))
            }
            written => written,
        }
    }
}

fn is_closed_by_peer(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// A TCP or Unix socket, with or without TLS.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Boxed, since its state is large.
    Tls(Box<TlsStream<Self>>),
    #[cfg(test)]
    Memory(super::memory::Wire),
}

/// The time of the next of several `attempts` that are left, within `time`. A quarter at least: a tenth of a second may
/// be too short for TLS with a distant service, and then no attempt of many would succeed.
pub(super) fn share_of(time: Duration, attempts: usize) -> Duration {
    time / u32::try_from(attempts).unwrap_or(u32::MAX).clamp(1, 4)
}

/// Connects to what the configured address at `place` was resolved to. A name may have several addresses, of which the
/// backend uses one: the first that is reachable is used, and each gets its share of the time.
///
/// # Errors
/// None can be reached.
pub(super) async fn connect(upstream: &Upstream, place: usize, within: Duration) -> io::Result<Socket> {
    let peers = upstream.peers_of(place).map_err(io::Error::other)?;
    let each = share_of(within, peers.len());
    let mut failed = io::Error::from(io::ErrorKind::TimedOut);
    for (order, peer) in peers.iter().enumerate() {
        match timeout(each, open(upstream, place, peer)).await {
            Ok(Ok(socket)) => {
                if order > 0 {
                    upstream.prefer(peer);
                }
                return Ok(socket);
            }
            Ok(Err(error)) => failed = error,
            Err(_) => failed = io::Error::from(io::ErrorKind::TimedOut),
        }
    }
    Err(failed)
}

/// Connects to `peer`, which is of the configured address at `place`, with TLS if the backend has it.
async fn open(upstream: &Upstream, place: usize, peer: &UpstreamPeer) -> io::Result<Socket> {
    let socket = Socket::open(peer).await?;
    match (&upstream.tls, upstream.addresses.get(place)) {
        (Some(tls), Some((address, _))) => Box::pin(tls.connect(address, socket)).await,
        (Some(_), None) => Err(not_configured()),
        (None, _) => Ok(socket),
    }
}

fn not_configured() -> io::Error {
    io::Error::other("an address that is not configured")
}

impl Socket {
    async fn open(peer: &UpstreamPeer) -> io::Result<Self> {
        Ok(match peer {
            UpstreamPeer::Inet(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Self::Tcp(stream)
            }
            UpstreamPeer::Unix(path) => Self::Unix(UnixStream::connect(path).await?),
            #[cfg(test)]
            UpstreamPeer::Memory(network) => Self::Memory(network.connect().await?),
        })
    }
}

/// Calls the method on the socket of either kind.
macro_rules! either {
    ($socket:ident . $method:ident ( $($argument:expr),* )) => {
        match $socket {
            Socket::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Socket::Unix(stream) => Pin::new(stream).$method($($argument),*),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
            #[cfg(test)]
            Socket::Memory(wire) => Pin::new(&mut wire.stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        either!(socket.poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let socket = self.get_mut();
        either!(socket.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        either!(socket.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        either!(socket.poll_shutdown(cx))
    }
}

impl AsyncRead for MonitoredSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { socket, has_read, interim, .. } = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(socket).poll_read(cx, buf);
        if let Some(read) = buf.filled().get(before..).filter(|read| !read.is_empty()) {
            let is_first = !has_read.load(Ordering::Relaxed);
            if is_first {
                has_read.store(true, Ordering::Relaxed);
            }
            interim.read(read, is_first);
        }
        polled
    }
}

impl AsyncWrite for MonitoredSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_write_closed {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = Pin::new(&mut this.socket).poll_write(cx, buf);
        this.written(written, buf.len())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.socket).poll_flush(cx);
        this.written(flushed, ())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Address, Settings};

    #[test]
    fn each_of_many_attempts_has_time_for_a_handshake() {
        let second = Duration::from_secs(1);
        for (attempts, milliseconds) in [(0, 1000), (1, 1000), (2, 500), (3, 333), (4, 250), (5, 250), (64, 250)] {
            assert_eq!(share_of(second, attempts).as_millis(), milliseconds, "{attempts}");
        }
    }

    /// A backend at two addresses, of which only the second listens.
    #[tokio::test]
    async fn an_unreachable_address_is_skipped_and_tried_last_afterwards() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let second = Duration::from_secs(1);
        let settings = Settings {
            connect_timeout: second,
            read_timeout: second,
            request_timeout: second,
            idle_timeout: Duration::ZERO,
            max_connections: 2,
        };
        let upstream = Upstream::new("api", Address::Inet(address), settings);
        let (good, bad) = (UpstreamPeer::Inet(address), UpstreamPeer::Unix("/nowhere/at/all".into()));
        upstream.replace(0, vec![bad.clone(), good.clone()]);
        assert!(matches!(connect(&upstream, 0, second).await.unwrap(), Socket::Tcp(_)));
        assert_eq!(upstream.peers().unwrap(), [(0, good), (0, bad.clone())]);
        upstream.replace(0, vec![bad]);
        assert_eq!(connect(&upstream, 0, second).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
