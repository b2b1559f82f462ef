//! HTTP/2 to a service (RFC 9113). Requests share connections, each of which a task of its own drives.
//!
//! What the pool holds and limits is a [`Stream`]: the right to have one request in progress on a shared connection. The
//! h2 crate is used directly, since hyper takes a response that the service cancels for a complete one.

mod exchange;
mod upload;

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use http::uri::Scheme;
use tokio::io::{AsyncRead, AsyncWrite};

pub(super) use exchange::{Incoming, Unanswered, exchange};

/// The maximum number of requests in progress on one connection, if the service permits as many.
const MAX_STREAMS: usize = 100;

/// What is received of a response that its client does not read, in bytes: as much as over HTTP/1.1.
const WINDOW_BYTES: u32 = 64 * 1024;

/// The window of a connection: that of each stream, so that slow clients do not block other streams.
const CONNECTION_WINDOW_BYTES: u32 = 100 * WINDOW_BYTES;

/// The maximum size of a response head, in bytes (RFC 9113, section 6.5.2).
const MAX_HEAD_BYTES: u32 = 64 * 1024;

/// What is buffered of the requests of each stream, in bytes.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// A connection on which nothing was received for this long while a request waited gets no further ones, if that request
/// is given up.
const SILENCE: Duration = Duration::from_secs(1);

/// The connections to one address of a service that requests share.
#[derive(Debug)]
pub(super) struct Multiplexer {
    scheme: Scheme,
    open: Mutex<Vec<Weak<Shared>>>,
    /// Held while a connection is opened: the requests that wait share it.
    opening: tokio::sync::Mutex<()>,
}

/// A connection. It is closed when the last of its streams is dropped.
#[derive(Debug)]
struct Shared {
    requests: SendRequest<Bytes>,
    scheme: Scheme,
    streams: AtomicUsize,
    is_retired: AtomicBool,
    is_closed: Arc<AtomicBool>,
    has_read: Arc<AtomicBool>,
    has_responded: AtomicBool,
    /// The epoch of the address when it was opened.
    epoch: u64,
}

/// The right to have one request in progress on a connection.
#[derive(Debug)]
pub(super) struct Stream {
    shared: Arc<Shared>,
    /// When the request was sent that has no response yet.
    sent: Option<Instant>,
    /// Whether the connection was opened for it.
    is_first: bool,
}

impl Multiplexer {
    /// Connections with or without TLS.
    pub(super) fn new(is_tls: bool) -> Self {
        let scheme = if is_tls { Scheme::HTTPS } else { Scheme::HTTP };
        Self { scheme, open: Mutex::default(), opening: tokio::sync::Mutex::default() }
    }

    /// A stream on a connection of the current `epoch` that has room, otherwise on a new one by `connect`. While a
    /// connection is opened, other requests wait for it. `connect` also returns the flag that each read sets.
    ///
    /// # Errors
    /// The service cannot be reached, or does not speak HTTP/2.
    pub(super) async fn stream<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        epoch: impl Fn() -> u64,
        connect: impl Future<Output = io::Result<(Arc<AtomicBool>, S)>>,
    ) -> io::Result<Stream> {
        if let Some(stream) = self.existing(epoch()) {
            return Ok(stream);
        }
        let _opening = self.opening.lock().await;
        let epoch = epoch();
        if let Some(stream) = self.existing(epoch) {
            return Ok(stream);
        }
        let (has_read, socket) = connect.await?;
        let (requests, connection) = handshake(socket).await?;
        let is_closed = Arc::new(AtomicBool::new(false));
        let closed = Arc::clone(&is_closed);
        tokio::spawn(async move {
            // The streams return the error.
            let _ = connection.await;
            closed.store(true, Ordering::Relaxed);
        });
        let shared = Arc::new(Shared {
            requests,
            scheme: self.scheme.clone(),
            streams: AtomicUsize::new(1),
            is_retired: AtomicBool::new(false),
            is_closed,
            has_read,
            has_responded: AtomicBool::new(false),
            epoch,
        });
        self.connections().push(Arc::downgrade(&shared));
        Ok(Stream { shared, sent: None, is_first: true })
    }

    fn existing(&self, epoch: u64) -> Option<Stream> {
        let mut open = self.connections();
        open.retain(|shared| shared.strong_count() > 0);
        open.iter().filter_map(Weak::upgrade).filter(|shared| shared.epoch == epoch).find_map(Shared::stream)
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Shared>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts HTTP/2, and waits for the settings of the service: they limit the streams, and show that it speaks HTTP/2.
///
/// # Errors
/// It does not, or closes the connection.
pub(super) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
) -> io::Result<(SendRequest<Bytes>, Connection<S, Bytes>)> {
    let failed = |error: h2::Error| io::Error::other(format!("HTTP/2: {error}"));
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(MAX_HEAD_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        // No stream before the settings.
        .initial_max_send_streams(0);
    let (requests, mut connection) = builder.handshake(socket).await.map_err(failed)?;
    poll_fn(|cx| match std::pin::Pin::new(&mut connection).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(io::Error::other("HTTP/2: the service closed the connection"))),
        Poll::Ready(Err(error)) => Poll::Ready(Err(failed(error))),
        Poll::Pending if connection.max_concurrent_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    Ok((requests, connection))
}

impl Shared {
    /// A further stream, if there is room.
    fn stream(self: Arc<Self>) -> Option<Stream> {
        let most = self.requests.current_max_send_streams().min(MAX_STREAMS);
        let add = |streams: usize| (streams < most).then_some(streams + 1);
        if self.is_over() || self.streams.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_err() {
            return None;
        }
        Some(Stream { shared: self, sent: None, is_first: false })
    }

    /// Whether it takes no further requests: it is closed, or the service is about to close it (RFC 9113, section 6.8).
    fn is_over(&self) -> bool {
        self.is_retired.load(Ordering::Relaxed)
            || self.is_closed.load(Ordering::Relaxed)
            || matches!(self.requests.clone().poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
    }
}

impl Stream {
    /// Whether its connection takes no further requests.
    pub(super) fn is_over(&self) -> bool {
        self.shared.is_over()
    }

    /// Whether the connection was opened for it.
    pub(super) fn is_first(&self) -> bool {
        self.is_first
    }

    /// Records that the service has responded on the connection.
    pub(super) fn note_response(&self) {
        self.shared.has_responded.store(true, Ordering::Relaxed);
    }

    /// Whether the service has responded on the connection.
    pub(super) fn has_responded(&self) -> bool {
        self.shared.has_responded.load(Ordering::Relaxed)
    }

    /// Whether anything was received on the connection since the last request was sent on it.
    pub(super) fn has_read(&self) -> bool {
        self.shared.has_read.load(Ordering::Relaxed)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let is_silent = !self.has_read() && self.sent.is_some_and(|sent| sent.elapsed() >= SILENCE);
        if is_silent {
            self.shared.is_retired.store(true, Ordering::Relaxed);
        }
        self.shared.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
