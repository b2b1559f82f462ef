//! The write half: data is buffered until it fills a TLS record, each write has a timeout, and closing avoids a
//! TCP reset.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::{HalfClosed, LINGER_BYTES, PIECE_BYTES, TlsStream};
use crate::downstream::wire::put_last_chunk;

/// Size of the write buffer: one TLS record (RFC 8446, section 5.1).
const BUFFER_BYTES: usize = 16 * 1024;

/// How long closing a connection may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a client may continue to send after an early response, before the connection is closed.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// The end of a chunked body, as pingora's session writes it.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Limits for a client that continues to send after close_notify.
pub(super) struct Linger {
    timeout: Pin<Box<Sleep>>,
    bytes: usize,
}

impl TlsStream {
    /// The write buffer.
    pub(in crate::downstream) fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Writes the buffer, followed by `data` and `tail`, without copying them.
    ///
    /// # Errors
    /// The connection failed, or the client did not read within the timeout.
    pub(in crate::downstream) async fn write_after_buffer(&mut self, data: &[u8], tail: &[u8]) -> io::Result<()> {
        let whole = self.buffer.len() + data.len() + tail.len();
        std::future::poll_fn(|cx| {
            while self.written < whole {
                let slices = remaining([&self.buffer, data, tail], self.written).map(IoSlice::new);
                let write = Pin::new(&mut self.inner).poll_write_vectored(cx, &slices);
                match ready!(self.with_write_timeout(cx, write))? {
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

    /// Flushes, sends close_notify and closes at once, even if the client is still sending. For connections
    /// without an active response.
    pub async fn close(&mut self) {
        let close_notify = std::future::poll_fn(|cx| self.poll_close_notify(cx));
        // A client that does not read must not hold the connection open.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, close_notify).await;
    }

    pub(super) fn poll_close_notify(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    /// Returns whether the client may still be sending: the rest of a request, a request that will not be
    /// served, or a flood.
    fn may_still_receive(&self) -> bool {
        self.activity.as_ref().is_some_and(|activity| activity.is_flooded())
            || !self.ahead.is_empty()
            || self.arrived.is_some()
            || self.chunks.is_some()
            || self.allowance.is_some_and(|left| left > 0)
    }

    /// Reads and discards, within limits, what the client sends after close_notify. Closing at once would reset
    /// the connection, and the reset can overtake the response (RFC 9112, section 9.6). The data is not
    /// decrypted.
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

    /// Applies the write timeout to the result of a write.
    pub(super) fn with_write_timeout<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
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

    pub(super) fn poll_flush_buffered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// Writes the whole buffer to TLS.
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
        // An idle connection holds no buffer.
        self.buffer = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

/// Skips the first `count` bytes of the concatenated `pieces`.
fn remaining<const N: usize>(pieces: [&[u8]; N], mut count: usize) -> [&[u8]; N] {
    pieces.map(|piece| {
        let (_, rest) = piece.split_at(count.min(piece.len()));
        count -= piece.len() - rest.len();
        rest
    })
}

impl AsyncWrite for TlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf == LAST_CHUNK
            && let Some(trailers) = self.received.take_trailers()
        {
            put_last_chunk(&mut self.buffer, Some(&trailers));
            return Poll::Ready(Ok(buf.len()));
        }
        let write = self.poll_write_buffered(cx, buf);
        if let Poll::Ready(Ok(count)) = write {
            self.unreported = self.unreported.saturating_add(count);
        }
        self.with_write_timeout(cx, write)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = self.poll_flush_buffered(cx);
        if self.half_closed == HalfClosed::Unflushed && matches!(flush, Poll::Ready(Ok(()))) {
            self.half_closed = HalfClosed::Flushed;
            // Wakes the reader, which waits for this in the same task.
            cx.waker().wake_by_ref();
        }
        self.with_write_timeout(cx, flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            let close_notify = self.poll_close_notify(cx);
            ready!(self.with_write_timeout(cx, close_notify))?;
        }
        if self.may_still_receive() { self.poll_linger(cx) } else { Poll::Ready(Ok(())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_skips_what_was_written() {
        let pieces: [&[u8]; 4] = [b"head", b"", b"data", b"\r\n"];
        let whole = pieces.concat();
        for count in 0..=whole.len() {
            let rest = remaining(pieces, count);
            assert_eq!(rest.concat(), &whole[count..]);
            // Each result is the end of its own piece.
            assert!(pieces.iter().zip(rest).all(|(piece, rest)| piece.ends_with(rest)), "{rest:?}");
        }
        assert_eq!(remaining(pieces, whole.len() + 1), [b""; 4]);
    }
}
