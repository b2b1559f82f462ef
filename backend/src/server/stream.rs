//! A stream with deadlines that hyper lacks: for a header once its first byte is received, and for the progress of
//! writes.
//!
//! [`Activity`] is shared with the connection's task, which knows whether a request is in flight.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A request header is being received, or expected on a new connection.
    Header { since: Instant },
    /// A request is in flight.
    InUse,
    /// Between requests.
    Idle { since: Instant },
}

/// The state of a connection, shared by its stream and its task.
#[derive(Debug)]
pub(super) struct Activity {
    phase: Mutex<Phase>,
    /// Whether the last write is pending.
    is_blocked: AtomicBool,
}

impl Activity {
    /// That of a new connection.
    pub(super) fn new() -> Arc<Self> {
        Self::in_phase(Phase::Header { since: Instant::now() })
    }

    /// That of a connection between requests.
    pub(super) fn idle() -> Arc<Self> {
        Self::in_phase(Phase::Idle { since: Instant::now() })
    }

    fn in_phase(phase: Phase) -> Arc<Self> {
        Arc::new(Self { phase: Mutex::new(phase), is_blocked: AtomicBool::new(false) })
    }

    /// Whether no request is in flight and nothing waits to be written.
    pub(super) fn is_quiet(&self) -> bool {
        !matches!(*self.phase(), Phase::InUse) && !self.is_blocked.load(Ordering::Relaxed)
    }

    /// Marks a request as in flight until the guard is dropped.
    pub(super) fn begin_request(self: &Arc<Self>) -> InUse {
        *self.phase() = Phase::InUse;
        InUse(Arc::clone(self))
    }

    /// When the connection will have been idle for `timeout`, as of now.
    pub(super) fn idle_deadline(&self, timeout: Duration) -> Instant {
        match *self.phase() {
            Phase::Idle { since } => since + timeout,
            Phase::InUse | Phase::Header { .. } => Instant::now() + timeout,
        }
    }

    /// Whether it has been idle for `timeout`.
    pub(super) fn is_idle(&self, timeout: Duration) -> bool {
        matches!(*self.phase(), Phase::Idle { since } if since.elapsed() >= timeout)
    }

    fn received(&self) {
        let mut phase = self.phase();
        if matches!(*phase, Phase::Idle { .. }) {
            *phase = Phase::Header { since: Instant::now() };
        }
    }

    fn header_since(&self) -> Option<Instant> {
        match *self.phase() {
            Phase::Header { since } => Some(since),
            Phase::InUse | Phase::Idle { .. } => None,
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Marks a request as in flight until it is dropped.
#[derive(Debug)]
pub(super) struct InUse(Arc<Activity>);

impl Drop for InUse {
    fn drop(&mut self) {
        *self.0.phase() = Phase::Idle { since: Instant::now() };
    }
}

/// A stream with deadlines for headers and writes.
#[derive(Debug)]
pub(super) struct TrackedStream<S> {
    stream: S,
    /// Read before the stream: what another reader of it has buffered.
    buffered: Bytes,
    activity: Arc<Activity>,
    header_timeout: Duration,
    write_timeout: Duration,
    header: Option<Pin<Box<Sleep>>>,
    write: Option<Pin<Box<Sleep>>>,
}

impl<S> TrackedStream<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>, header_timeout: Duration, write_timeout: Duration) -> Self {
        let buffered = Bytes::new();
        Self { stream, buffered, activity, header_timeout, write_timeout, header: None, write: None }
    }

    /// The same stream, with these bytes before the others.
    pub(super) fn with_buffered(self, buffered: Bytes) -> Self {
        Self { buffered, ..self }
    }

    /// The stream, and the bytes before it that were not read.
    pub(super) fn into_parts(self) -> (S, Bytes) {
        (self.stream, self.buffered)
    }

    /// Returns `progress`, or an error if the write has been pending for `write_timeout`.
    fn watch_write<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            if self.write.take().is_some() {
                self.activity.is_blocked.store(false, Ordering::Relaxed);
            }
            return progress;
        }
        self.activity.is_blocked.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + self.write_timeout;
        let timer = self.write.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read the response")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TrackedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.buffered.is_empty() && buffer.remaining() > 0 {
            let length = self.buffered.len().min(buffer.remaining());
            buffer.put_slice(&self.buffered.split_to(length));
            self.activity.received();
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_ready() {
            if buffer.filled().len() > before {
                self.activity.received();
            }
            return read;
        }
        let Some(since) = self.activity.header_since() else {
            self.header = None;
            return Poll::Pending;
        };
        let deadline = since + self.header_timeout;
        let timer = self.header.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the request header was not received in time")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TrackedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch_write(cx, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch_write(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn a_stalled_header_times_out_and_a_request_in_flight_does_not() {
        let (mut client, server) = duplex(64);
        let activity = Activity::new();
        let mut server = TrackedStream::new(server, Arc::clone(&activity), SHORT, LONG);
        client.write_all(b"GET / HT").await.unwrap();
        let mut buffer = [0; 64];
        assert_eq!(server.read(&mut buffer).await.unwrap(), 8);
        let busy = activity.begin_request();
        assert!(tokio::time::timeout(SHORT * 3, server.read(&mut buffer)).await.is_err(), "no deadline while busy");
        drop(busy);
        assert!(tokio::time::timeout(SHORT * 3, server.read(&mut buffer)).await.is_err(), "nor while idle");
        client.write_all(b"G").await.unwrap();
        assert_eq!(server.read(&mut buffer).await.unwrap(), 1);
        assert_eq!(server.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_times_out() {
        let (_client, server) = duplex(16);
        let mut server = TrackedStream::new(server, Activity::new(), LONG, SHORT);
        let error = server.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_reads_slowly_does_not_time_out() {
        let (mut client, server) = duplex(16);
        let mut server = TrackedStream::new(server, Activity::new(), LONG, SHORT * 4);
        let reader = tokio::spawn(async move {
            let mut taken = [0; 16];
            for _ in 0..8 {
                tokio::time::sleep(SHORT).await;
                client.read_exact(&mut taken).await.unwrap();
            }
        });
        server.write_all(&[0; 128]).await.unwrap();
        reader.await.unwrap();
    }

    #[tokio::test]
    async fn what_was_buffered_is_read_first_and_begins_a_header() {
        let (mut client, server) = duplex(64);
        client.write_all(b"/ HTTP/1.1").await.unwrap();
        let activity = Activity::idle();
        let server = TrackedStream::new(server, Arc::clone(&activity), SHORT, LONG);
        let mut server = server.with_buffered(Bytes::from_static(b"GET "));
        let mut start = [0; 2];
        server.read_exact(&mut start).await.unwrap();
        assert!(activity.header_since().is_some());
        let (stream, buffered) = server.into_parts();
        assert_eq!(buffered, "T ");
        let mut server = TrackedStream::new(stream, activity, SHORT, LONG).with_buffered(buffered);
        let mut rest = [0; 12];
        server.read_exact(&mut rest).await.unwrap();
        assert_eq!((&start, &rest), (b"GE", b"T / HTTP/1.1"));
    }

    #[tokio::test]
    async fn a_connection_is_quiet_without_a_request_and_without_a_pending_write() {
        let (mut client, server) = duplex(16);
        let activity = Activity::new();
        let mut server = TrackedStream::new(server, Arc::clone(&activity), LONG, LONG);
        assert!(activity.is_quiet());
        let busy = activity.begin_request();
        assert!(!activity.is_quiet());
        drop(busy);
        let mut writing = Box::pin(server.write_all(&[0; 32]));
        assert!(futures_util::poll!(writing.as_mut()).is_pending());
        assert!(!activity.is_quiet());
        client.read_exact(&mut [0; 16]).await.unwrap();
        writing.await.unwrap();
        assert!(activity.is_quiet());
    }

    #[tokio::test]
    async fn idle_time_starts_at_the_last_response() {
        let activity = Activity::new();
        assert!(!activity.is_idle(Duration::ZERO), "a new connection must send a header");
        drop(activity.begin_request());
        assert!(activity.is_idle(Duration::ZERO));
        assert!(activity.idle_deadline(LONG) <= Instant::now() + LONG);
    }
}
