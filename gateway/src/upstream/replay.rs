//! The body of a request that may be retried.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::chunk::{BodyAborted, BodyChunk};

/// The maximum that is buffered of a body, in bytes.
const MAX_BUFFERED_BYTES: usize = 64 * 1024;

/// A streamed body. What has been sent is buffered, so that it can be sent again from its beginning.
#[derive(Debug)]
pub struct Replay {
    source: Arc<Mutex<Source>>,
    /// How much of the buffer this instance has sent.
    sent: usize,
}

#[derive(Debug)]
struct Source {
    chunks: mpsc::Receiver<BodyChunk>,
    buffered: Vec<u8>,
    /// Whether everything that was sent is buffered.
    is_complete: bool,
    has_ended: bool,
}

impl Replay {
    pub(super) fn new(chunks: mpsc::Receiver<BodyChunk>) -> Self {
        let source = Source { chunks, buffered: Vec::new(), is_complete: true, has_ended: false };
        Self { source: Arc::new(Mutex::new(source)), sent: 0 }
    }

    /// The same body from its beginning. While it exists, what is sent is buffered.
    pub(super) fn restart(&self) -> Self {
        Self { source: Arc::clone(&self.source), sent: 0 }
    }

    /// Whether it can be sent from its beginning.
    pub(super) fn is_complete(&self) -> bool {
        self.source().is_complete
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyAborted>>> {
        let may_replay = Arc::strong_count(&self.source) > 1;
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(buffered) = source.buffered.get(self.sent..).filter(|buffered| !buffered.is_empty()) {
            self.sent += buffered.len();
            return Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(buffered)))));
        }
        if source.has_ended {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(source.chunks.poll_recv(cx)) {
            Some(BodyChunk::Data(data)) => {
                if may_replay {
                    source.buffer(&data);
                    self.sent = source.buffered.len();
                } else {
                    source.discard();
                }
                Some(Ok(Frame::data(data)))
            }
            Some(BodyChunk::End) => {
                source.has_ended = true;
                None
            }
            None => Some(Err(BodyAborted)),
        })
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    fn buffer(&mut self, data: &[u8]) {
        if self.is_complete && self.buffered.len() + data.len() <= MAX_BUFFERED_BYTES {
            self.buffered.extend_from_slice(data);
        } else {
            self.discard();
        }
    }

    fn discard(&mut self) {
        self.is_complete = false;
        self.buffered = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::super::RequestBody;
    use super::*;

    async fn frame(body: &mut RequestBody) -> Option<Bytes> {
        body.frame().await.map(|frame| frame.unwrap().into_data().unwrap())
    }

    fn chunk(length: usize) -> BodyChunk {
        BodyChunk::Data(Bytes::from(vec![b'a'; length]))
    }

    #[tokio::test]
    async fn a_restarted_body_sends_the_buffer_and_then_the_rest() {
        let (chunks, receiver) = mpsc::channel(8);
        let first = Replay::new(receiver);
        let again = first.restart();
        for text in ["ab", "cd", "ef"] {
            chunks.send(BodyChunk::Data(Bytes::from_static(text.as_bytes()))).await.unwrap();
        }
        chunks.send(BodyChunk::End).await.unwrap();
        let (mut first, mut again) = (RequestBody::Replayed(first), RequestBody::Replayed(again));
        assert_eq!(frame(&mut first).await.unwrap(), "ab");
        assert_eq!(frame(&mut first).await.unwrap(), "cd");
        drop(first);
        assert_eq!(frame(&mut again).await.unwrap(), "abcd");
        assert_eq!(frame(&mut again).await.unwrap(), "ef");
        assert!(frame(&mut again).await.is_none() && frame(&mut again).await.is_none());
    }

    #[tokio::test]
    async fn the_buffer_is_bounded_and_used_only_while_a_retry_is_possible() {
        for (lengths, is_needed, is_complete) in [
            (&[MAX_BUFFERED_BYTES][..], true, true),
            (&[MAX_BUFFERED_BYTES, 0], true, true),
            (&[MAX_BUFFERED_BYTES, 1], true, false),
            (&[MAX_BUFFERED_BYTES + 1, 1], true, false),
            (&[1], false, false),
        ] {
            let (chunks, receiver) = mpsc::channel(8);
            let body = Replay::new(receiver);
            let again = is_needed.then(|| body.restart());
            let mut body = RequestBody::Replayed(body);
            for length in lengths {
                chunks.send(chunk(*length)).await.unwrap();
                assert_eq!(frame(&mut body).await.unwrap().len(), *length);
            }
            let RequestBody::Replayed(body) = &body else { panic!("{body:?}") };
            assert_eq!(body.is_complete(), is_complete, "{lengths:?}");
            assert!(is_complete || body.source().buffered.capacity() == 0);
            drop(again);
        }
    }
}
