//! The body of a request that may have to be sent once more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::piece::{BrokenOff, Piece};

/// The most that is held of a body, in bytes.
const MAX_HELD_BYTES: usize = 64 * 1024;

/// A streamed body of which everything is held that has been sent, so that it can be sent from its
/// beginning again.
#[derive(Debug)]
pub struct Replay {
    source: Arc<Mutex<Source>>,
    /// How much of what is held has been sent by this one.
    sent: usize,
}

#[derive(Debug)]
struct Source {
    pieces: mpsc::Receiver<Piece>,
    held: Vec<u8>,
    /// Whether what has been sent is held, all of it.
    is_whole: bool,
    has_ended: bool,
}

impl Replay {
    pub(super) fn new(pieces: mpsc::Receiver<Piece>) -> Self {
        let source = Source { pieces, held: Vec::new(), is_whole: true, has_ended: false };
        Self { source: Arc::new(Mutex::new(source)), sent: 0 }
    }

    /// The same body once more. As long as it exists, what is sent is held.
    pub(super) fn again(&self) -> Self {
        Self { source: Arc::clone(&self.source), sent: 0 }
    }

    /// Whether it can be sent from its beginning.
    pub(super) fn is_whole(&self) -> bool {
        self.source().is_whole
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let may_repeat = Arc::strong_count(&self.source) > 1;
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = source.held.get(self.sent..).filter(|held| !held.is_empty()) {
            self.sent += held.len();
            return Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(held)))));
        }
        if source.has_ended {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(source.pieces.poll_recv(cx)) {
            Some(Piece::Data(data)) => {
                if may_repeat {
                    source.hold(&data);
                    self.sent = source.held.len();
                } else {
                    source.give_up();
                }
                Some(Ok(Frame::data(data)))
            }
            Some(Piece::End) => {
                source.has_ended = true;
                None
            }
            None => Some(Err(BrokenOff)),
        })
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    fn hold(&mut self, data: &[u8]) {
        if self.is_whole && self.held.len() + data.len() <= MAX_HELD_BYTES {
            self.held.extend_from_slice(data);
        } else {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        self.is_whole = false;
        self.held = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::super::Outgoing;
    use super::*;

    async fn frame(body: &mut Outgoing) -> Option<Bytes> {
        body.frame().await.map(|frame| frame.unwrap().into_data().unwrap())
    }

    fn piece(length: usize) -> Piece {
        Piece::Data(Bytes::from(vec![b'a'; length]))
    }

    #[tokio::test]
    async fn what_was_sent_is_sent_again_and_then_the_rest() {
        let (pieces, receiver) = mpsc::channel(8);
        let first = Replay::new(receiver);
        let again = first.again();
        for text in ["ab", "cd", "ef"] {
            pieces.send(Piece::Data(Bytes::from_static(text.as_bytes()))).await.unwrap();
        }
        pieces.send(Piece::End).await.unwrap();
        let (mut first, mut again) = (Outgoing::Replayed(first), Outgoing::Replayed(again));
        assert_eq!(frame(&mut first).await.unwrap(), "ab");
        assert_eq!(frame(&mut first).await.unwrap(), "cd");
        drop(first);
        assert_eq!(frame(&mut again).await.unwrap(), "abcd");
        assert_eq!(frame(&mut again).await.unwrap(), "ef");
        assert!(frame(&mut again).await.is_none() && frame(&mut again).await.is_none());
    }

    #[tokio::test]
    async fn no_more_is_held_than_may_be_nor_without_need() {
        for (lengths, is_needed, is_whole) in [
            (&[MAX_HELD_BYTES][..], true, true),
            (&[MAX_HELD_BYTES, 0], true, true),
            (&[MAX_HELD_BYTES, 1], true, false),
            (&[MAX_HELD_BYTES + 1, 1], true, false),
            (&[1], false, false),
        ] {
            let (pieces, receiver) = mpsc::channel(8);
            let body = Replay::new(receiver);
            let again = is_needed.then(|| body.again());
            let mut body = Outgoing::Replayed(body);
            for length in lengths {
                pieces.send(piece(*length)).await.unwrap();
                assert_eq!(frame(&mut body).await.unwrap().len(), *length);
            }
            let Outgoing::Replayed(body) = &body else { panic!("{body:?}") };
            assert_eq!(body.is_whole(), is_whole, "{lengths:?}");
            assert!(is_whole || body.source().held.capacity() == 0);
            drop(again);
        }
    }
}
