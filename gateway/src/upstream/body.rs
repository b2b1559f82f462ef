//! The body of a request to the backend: nothing, what is there already, or what a client is
//! still sending.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::piece::{BrokenOff, Piece};
use super::replay::Replay;

/// Pieces that wait for the connection to the backend: a backend that takes nothing makes the
/// client wait, not the gateway's memory grow.
const WAITING_PIECES: usize = 1;

/// The body of a request to the backend.
#[derive(Debug)]
pub enum Outgoing {
    /// All of it; empty is none.
    Whole(Bytes),
    /// Piece by piece, until its [`Upload`] ends.
    Streamed(mpsc::Receiver<Piece>),
    /// The same, where it may have to be sent once more.
    Replayed(Replay),
}

/// The end of a streamed body into which it is put.
pub type Upload = mpsc::Sender<Piece>;

impl Outgoing {
    /// A body that comes piece by piece. It breaks off where the [`Upload`] is dropped before
    /// [`Piece::End`].
    pub fn streamed() -> (Upload, Self) {
        let (upload, pieces) = mpsc::channel(WAITING_PIECES);
        (upload, Self::Streamed(pieces))
    }
}

impl Outgoing {
    /// The same body once more, in case it has to be sent again.
    pub(super) fn again(&mut self) -> Self {
        if let Self::Streamed(pieces) = self {
            // What is left behind is replaced at once.
            let pieces = std::mem::replace(pieces, mpsc::channel(1).1);
            *self = Self::Replayed(Replay::new(pieces));
        }
        match self {
            Self::Whole(bytes) => Self::Whole(bytes.clone()),
            Self::Replayed(replay) => Self::Replayed(replay.again()),
            Self::Streamed(_) => Self::default(),
        }
    }

    /// Whether a body that was [`again`](Self::again) made of another can be sent from its beginning.
    pub(super) fn can_be_sent(&self) -> bool {
        match self {
            Self::Replayed(replay) => replay.is_whole(),
            Self::Whole(_) | Self::Streamed(_) => true,
        }
    }
}

impl Default for Outgoing {
    fn default() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Streamed(pieces) => Poll::Ready(match ready!(pieces.poll_recv(cx)) {
                Some(Piece::Data(data)) => Some(Ok(Frame::data(data))),
                Some(Piece::End) => None,
                None => Some(Err(BrokenOff)),
            }),
            Self::Replayed(replay) => replay.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Streamed(_) | Self::Replayed(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_whole_one() {
        let (upload, body) = Outgoing::streamed();
        upload.send(Piece::Data(Bytes::from_static(b"a"))).await.unwrap();
        drop(upload);
        assert_eq!(body.collect().await.unwrap_err(), BrokenOff);
    }

    #[tokio::test]
    async fn a_body_ends_where_it_is_said_to_end() {
        let (upload, body) = Outgoing::streamed();
        let send = async {
            for piece in [Piece::Data(Bytes::from_static(b"a")), Piece::Data(Bytes::from_static(b"b")), Piece::End] {
                upload.send(piece).await.unwrap();
            }
        };
        let (body, ()) = tokio::join!(body.collect(), send);
        assert_eq!(body.unwrap().to_bytes(), "ab");
    }

    #[test]
    fn no_body_is_known_to_be_none() {
        assert!(Outgoing::default().is_end_stream());
        assert_eq!(Outgoing::Whole(Bytes::from_static(b"abc")).size_hint().exact(), Some(3));
        assert_eq!(Outgoing::streamed().1.size_hint().exact(), None);
    }
}
