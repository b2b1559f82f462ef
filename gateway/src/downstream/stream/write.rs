//! What a client is sent: gathered until it fills a TLS record, bounded by the write timeout, and followed by
//! a close that does not reset the connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::{LINGER_BYTES, Last, PIECE_BYTES, TlsStream};

/// What is gathered before it is encrypted: one TLS record (RFC 8446, section 5.1).
const BUFFER_BYTES: usize = 16 * 1024;

/// How long a closing connection waits for its last bytes to leave.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a client that was answered early may continue to send before its connection is closed.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// What is left to a client that sends although it was told goodbye.
pub(super) struct Linger {
    timeout: Pin<Box<Sleep>>,
    bytes: usize,
}

impl TlsStream {
    /// What is to be written next, before whatever is written after it.
    pub(in crate::downstream) fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Writes what is pending, and `data` and `tail` behind it without a copy of them.
    ///
    /// # Errors
    /// The connection broke, or its client takes nothing.
    pub(in crate::downstream) async fn write_behind(&mut self, data: &[u8], tail: &[u8]) -> io::Result<()> {
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
            || self.arrived.is_some()
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

    pub(super) fn poll_flush_buffered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
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
