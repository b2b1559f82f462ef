//! The read half: data is read ahead so that a head can be inspected, and then released to the parser up to the
//! end of the request.

use std::io::{self, BufRead as _};
use std::mem::take;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncBufRead as _, AsyncRead, ReadBuf};

use super::{HalfClosed, LINGER_BYTES, PIECE_BYTES, Sending, TlsStream};
use crate::downstream::chunks::Chunks;

impl TlsStream {
    /// Reads more data and returns everything read ahead; unchanged at the end of the stream.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn read_ahead(&mut self) -> io::Result<&[u8]> {
        std::future::poll_fn(|cx| self.poll_read_ahead(cx)).await?;
        Ok(&self.ahead)
    }

    /// Returns the data that was read ahead and not consumed yet.
    pub fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Discards the first `count` bytes read ahead.
    pub fn skip_ahead(&mut self, count: usize) {
        self.ahead.advance(count.min(self.ahead.len()));
        self.shorten_arrived(count);
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
    }

    /// Removes the scheme and authority at `range` from the request target, leaving at least `/` as the path.
    /// Returns how many bytes shorter the head is.
    pub(crate) fn remove_authority(&mut self, range: Range<usize>) -> usize {
        let before = self.ahead.len();
        let rest = self.ahead.split_off(range.end.min(before));
        self.ahead.truncate(range.start);
        if !rest.starts_with(b"/") {
            self.ahead.extend_from_slice(b"/");
        }
        self.ahead.extend_from_slice(&rest);
        self.shorten_arrived(before - self.ahead.len());
        before - self.ahead.len()
    }

    fn shorten_arrived(&mut self, count: usize) {
        self.arrived = self.arrived.map(|arrived| arrived.saturating_sub(count));
    }

    /// Closes the connection after the requests that have already arrived: later ones do not count for
    /// [`TlsStream::has_request`]. Further calls have no effect.
    pub(crate) fn seal(&mut self) {
        if self.arrived.is_none() {
            self.take_decrypted();
            // If nothing has arrived, the current response is the last.
            self.arrived = Some(self.ahead.len()).filter(|&arrived| arrived > 0);
        }
    }

    /// Returns whether the complete head of another request has arrived.
    pub(crate) fn has_request(&self) -> bool {
        let arrived = self.ahead.get(..self.arrived.unwrap_or(usize::MAX)).unwrap_or(&self.ahead);
        // As before any head, one empty line is allowed.
        memmem::find(arrived.strip_prefix(b"\r\n").unwrap_or(arrived), b"\r\n\r\n").is_some()
    }

    /// Moves what TLS has already decrypted, a few records at most, to `ahead`.
    fn take_decrypted(&mut self) {
        let mut reader = self.inner.get_mut().1.reader();
        while let Ok(piece) = reader.fill_buf()
            && !piece.is_empty()
        {
            let count = piece.len();
            self.ahead.extend_from_slice(piece);
            reader.consume(count);
        }
    }

    /// Allows `count` more bytes to be read, including those read ahead; the rest is buffered.
    pub fn allow(&mut self, count: u64) {
        self.allowance = Some(count);
        self.chunks = None;
        self.received.set_streaming(false);
    }

    /// Like [`TlsStream::allow`], followed by a chunked body. Reading fails if that is malformed.
    pub fn allow_chunks(&mut self, count: u64) {
        self.allow(count);
        self.chunks = Some(Chunks::default());
    }

    /// Returns whether the client has closed its sending side, so that no more requests can arrive.
    pub(crate) fn has_ended(&self) -> bool {
        self.sending != Sending::Open
    }

    /// Waits until the client disconnects and returns the error. Meanwhile, up to [`PIECE_BYTES`] are buffered.
    /// Once the buffer is full, or the client has closed its sending side with both close_notify and FIN,
    /// nothing wakes the task: the caller needs a deadline of its own. Everything allowed must have been read
    /// before.
    pub(crate) async fn until_closed(&mut self) -> io::Error {
        let mut buffer = [0];
        let mut buffer = ReadBuf::new(&mut buffer);
        let read = std::future::poll_fn(|cx| Pin::new(&mut *self).poll_read(cx, &mut buffer)).await;
        read.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Extends the allowance by the part of the chunked body that has arrived; `Ready(false)` at the end of the
    /// stream.
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

    /// Reads ahead once; `Ready(false)` at the end of the stream.
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        // Reads from the TLS buffer, so that no buffer is allocated while waiting.
        let piece = ready!(Pin::new(&mut self.inner).poll_fill_buf(cx))?;
        let count = piece.len().min(PIECE_BYTES);
        self.ahead.extend_from_slice(piece.get(..count).unwrap_or_default());
        Pin::new(&mut self.inner).consume(count);
        if count == 0 {
            self.record_end();
        }
        Poll::Ready(Ok(count > 0))
    }

    /// Records the end of the stream: a close_notify, since any other end is an error.
    pub(super) fn record_end(&mut self) {
        if self.sending == Sending::Open {
            self.sending = Sending::Ended { ignored: 0 };
            self.received.has_ended.store(true, Ordering::Relaxed);
        }
    }

    /// Waits for a reset by a client that has sent close_notify. A FIN is the usual end of its sending side,
    /// and TCP does not show whether the client still reads; if it does not, writing fails. After a FIN,
    /// nothing wakes the task: the caller needs a deadline, or writes. While the response may never end, the client
    /// has disconnected.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.received.is_streaming() {
            return Poll::Ready(io::ErrorKind::UnexpectedEof.into());
        }
        while let Sending::Ended { ignored } = self.sending {
            let mut piece = [0; PIECE_BYTES];
            let mut piece = ReadBuf::new(&mut piece);
            if let Err(error) = ready!(Pin::new(&mut *self.inner.get_mut().0).poll_read(cx, &mut piece)) {
                return Poll::Ready(error);
            }
            let ignored = ignored.saturating_add(piece.filled().len());
            if ignored > LINGER_BYTES {
                return Poll::Ready(io::Error::new(io::ErrorKind::InvalidData, "too much data after close_notify"));
            }
            self.sending = if piece.filled().is_empty() { Sending::Finished } else { Sending::Ended { ignored } };
        }
        Poll::Pending
    }

    /// Copies data read ahead into `buf`, up to the allowance.
    fn take_ahead(&mut self, buf: &mut ReadBuf<'_>) {
        let allowed = self.allowance.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let count = self.ahead.len().min(buf.remaining()).min(allowed);
        buf.put_slice(self.ahead.get(..count).unwrap_or_default());
        self.ahead.advance(count);
        self.shorten_arrived(count);
        self.allowance = self.allowance.map(|left| left - count as u64);
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
        if self.allowance == Some(0) && self.chunks.is_none() {
            self.take_decrypted();
            self.received.has_next.store(self.has_request(), Ordering::Relaxed);
        }
    }

    /// Reports the part of `buf` after the first `before` bytes to `activity`, if any. On a flood, the data is
    /// withheld and nothing more is read; the HTTP/2 connection checks for that after each poll.
    fn poll_report(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> Poll<io::Result<()>> {
        let Some(activity) = &self.activity else { return Poll::Ready(Ok(())) };
        if activity.receive(buf.filled().get(before..).unwrap_or_default(), take(&mut self.unreported)) {
            return Poll::Ready(Ok(()));
        }
        buf.set_filled(before);
        Poll::Pending
    }

    /// Ends an HTTP/2 connection whose client has closed its sending side, once all responses have been
    /// written. h2 treats the end of its input as the end of every stream, so it is delayed until then.
    fn poll_half_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(activity) = &self.activity else { return Poll::Ready(Ok(())) };
        if activity.is_busy() {
            self.half_closed = HalfClosed::Busy;
            return Poll::Ready(Err(ready!(self.poll_reset(cx))));
        }
        if self.half_closed == HalfClosed::Flushed {
            return Poll::Ready(Ok(()));
        }
        // h2 writes after it reads, and flushes even if there is nothing to write.
        self.half_closed = HalfClosed::Unflushed;
        Poll::Pending
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Flushes before waiting for input: buffered parts of a response must not wait for the rest. What
        // cannot be sent yet is left to the next write.
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
                    return self.poll_half_closed(cx);
                }
                let before = buf.filled().len();
                ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
                if buf.filled().len() == before && buf.remaining() > 0 {
                    self.record_end();
                    return self.poll_half_closed(cx);
                }
                return self.poll_report(buf, before);
            }
            // The request has been read: further data is the next request, or the end of the stream. If the
            // buffer for the next request is full, nothing wakes the task: the caller has a deadline, as
            // `until_closed` requires.
            Some(0) => {
                while self.ahead.len() < PIECE_BYTES {
                    if !ready!(self.poll_read_ahead(cx))? {
                        return Poll::Ready(Err(ready!(self.poll_reset(cx))));
                    }
                    self.received.has_next.store(self.has_request(), Ordering::Relaxed);
                }
                return Poll::Pending;
            }
            _ => {}
        }
        // At the end of the stream, an empty read reports it.
        if self.ahead.is_empty() {
            ready!(self.poll_read_ahead(cx))?;
        }
        let before = buf.filled().len();
        self.take_ahead(buf);
        self.poll_report(buf, before)
    }
}
