//! What a client sends: read ahead so that a head can be inspected, then released to the parser as far as
//! the request goes.

use std::io::{self, BufRead as _};
use std::mem::take;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncBufRead as _, AsyncRead, ReadBuf};

use super::{LINGER_BYTES, Last, PIECE_BYTES, Sending, TlsStream};
use crate::downstream::chunks::Chunks;

impl TlsStream {
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
        self.shorten_arrived(count);
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
    }

    /// Leaves out the scheme and the authority, which are at `range`, of a target that was read ahead; its
    /// path is then at least `/`. How many bytes fewer there are.
    pub(crate) fn leave_out(&mut self, range: Range<usize>) -> usize {
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

    /// Ends the connection with the requests that have arrived: those that are read later no longer count for
    /// [`TlsStream::has_request`]. The second call changes nothing.
    pub(crate) fn seal(&mut self) {
        if self.arrived.is_none() {
            self.take_decrypted();
            // Where nothing has arrived, the answer under way is the last.
            self.arrived = Some(self.ahead.len()).filter(|&arrived| arrived > 0);
        }
    }

    /// Whether the head of another request has arrived, all of it.
    pub(crate) fn has_request(&self) -> bool {
        let arrived = self.ahead.get(..self.arrived.unwrap_or(usize::MAX)).unwrap_or(&self.ahead);
        // As for any head, an empty line may come before it.
        memmem::find(arrived.strip_prefix(b"\r\n").unwrap_or(arrived), b"\r\n\r\n").is_some()
    }

    /// Takes what TLS has decrypted of the next requests. These are a few records at most.
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

    /// Lets so many bytes be read, those ahead among them; more are kept for later.
    pub fn allow(&mut self, count: u64) {
        self.allowance = Some(count);
        self.chunks = None;
    }

    /// [`TlsStream::allow`], and the chunked body that follows them. Where that breaks its
    /// grammar, reading is an error.
    pub fn allow_chunks(&mut self, count: u64) {
        self.allowance = Some(count);
        self.chunks = Some(Chunks::default());
    }

    /// Whether the client has ended its sending side, so that no other request can come.
    pub(crate) fn has_ended(&self) -> bool {
        self.sending != Sending::Open
    }

    /// Waits until the client leaves, which the error reports; what it sends meanwhile is buffered, up to
    /// [`PIECE_BYTES`]. With more than that buffered, or once the client has ended its sending side by a
    /// close_notify and a FIN, nothing wakes the task: the caller must have a deadline beside this. All
    /// that was allowed has to have been read.
    pub(crate) async fn until_closed(&mut self) -> io::Error {
        let mut nothing = [0];
        let mut nothing = ReadBuf::new(&mut nothing);
        let read = std::future::poll_fn(|cx| Pin::new(&mut *self).poll_read(cx, &mut nothing)).await;
        read.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())
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
        self.shorten_arrived(count);
        self.allowance = self.allowance.map(|left| left - count as u64);
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
        if self.allowance == Some(0) && self.chunks.is_none() {
            self.take_decrypted();
            self.has_next.store(self.has_request(), Ordering::Relaxed);
        }
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
                while self.ahead.len() < PIECE_BYTES {
                    if !ready!(self.poll_read_ahead(cx))? {
                        return Poll::Ready(Err(ready!(self.poll_reset(cx))));
                    }
                    self.has_next.store(self.has_request(), Ordering::Relaxed);
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
