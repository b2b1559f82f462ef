//! The body of a request over HTTP/2. The task of the request sends it, as far as the service permits.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use hyper::body::Body as _;

use crate::upstream::RequestBody;

/// A body that is being sent. If it is dropped before its end, its stream is reset.
#[derive(Debug)]
pub(super) struct Sending {
    stream: SendStream<Bytes>,
    body: RequestBody,
    pending: Bytes,
}

impl Sending {
    pub(super) fn new(stream: SendStream<Bytes>, body: RequestBody) -> Self {
        Self { stream, body, pending: Bytes::new() }
    }

    /// Sends what it can. Ready when all was sent, when the service takes no more, or after the stream of an incomplete
    /// body was reset.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.pending.is_empty() {
                match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Pending => return self.stream.poll_reset(cx).map(|_| ()),
                    Poll::Ready(Some(Ok(frame))) => self.pending = frame.into_data().unwrap_or_default(),
                    Poll::Ready(None) => {
                        // An error means that the stream has ended.
                        let _ = self.stream.send_data(Bytes::new(), true);
                        return Poll::Ready(());
                    }
                    Poll::Ready(Some(Err(_))) => {
                        self.stream.send_reset(Reason::CANCEL);
                        return Poll::Ready(());
                    }
                }
                continue;
            }
            self.stream.reserve_capacity(self.pending.len());
            if self.stream.capacity() == 0 && !matches!(ready!(self.stream.poll_capacity(cx)), Some(Ok(_))) {
                return Poll::Ready(());
            }
            let now = self.pending.split_to(self.stream.capacity().min(self.pending.len()));
            if !now.is_empty() && self.stream.send_data(now, false).is_err() {
                return Poll::Ready(());
            }
        }
    }
}
