//! The stream after a switch to another protocol: bytes without requests.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead as _, AsyncWrite as _};

use super::TlsStream;

impl TlsStream {
    /// Ends HTTP on the connection: what has been read ahead and all that follows is no request.
    pub(in crate::downstream) fn end_http(&mut self) {
        (self.allowance, self.chunks, self.arrived) = (None, None, None);
    }

    /// The data that has arrived and was not consumed; empty at the end of the stream. Unlike a read, this needs no
    /// buffer while it waits.
    pub(crate) fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Ok(&self.ahead));
        }
        if self.has_ended() {
            return Poll::Ready(Ok(&[]));
        }
        if ready!(Pin::new(&mut self.inner).poll_fill_buf(cx))?.is_empty() {
            self.record_end();
            return Poll::Ready(Ok(&[]));
        }
        Pin::new(&mut self.inner).poll_fill_buf(cx)
    }

    /// Discards the first `count` bytes of the received data.
    pub(crate) fn consume_received(&mut self, count: usize) {
        if self.ahead.is_empty() {
            Pin::new(&mut self.inner).consume(count);
        } else {
            self.skip_ahead(count);
        }
    }

    /// Sends `piece`, of which the part that cannot be sent yet is buffered. To be called after
    /// [`TlsStream::poll_sent`] was ready.
    ///
    /// # Errors
    /// The connection failed.
    pub(crate) fn send_piece(&mut self, cx: &mut Context<'_>, mut piece: &[u8]) -> io::Result<()> {
        while self.buffer.is_empty() && !piece.is_empty() {
            match Pin::new(&mut self.inner).poll_write(cx, piece) {
                Poll::Ready(Ok(count)) => piece = piece.get(count..).unwrap_or_default(),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        self.buffer.extend_from_slice(piece);
        Ok(())
    }

    /// Waits until everything has been sent, within the write timeout.
    pub(crate) fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() && !self.inner.get_ref().1.wants_write() {
            return Poll::Ready(Ok(()));
        }
        let sent = self.poll_flush_buffered(cx);
        self.with_write_timeout(cx, sent)
    }

    /// Sends `close_notify` after everything else, within the write timeout.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.poll_close_notify(cx);
        self.with_write_timeout(cx, ended)
    }

    /// Waits for a reset by a client that has closed its sending side.
    pub(crate) fn poll_reset_of_client(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.poll_reset(cx)
    }
}
