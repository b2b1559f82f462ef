//! The body of a request to the backend: empty, complete, or streamed while the client sends it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::chunk::{BodyAborted, BodyChunk};
use super::replay::Replay;

/// Chunks that wait for the connection to the backend: if the backend reads nothing, the client waits, and the
/// gateway's memory does not grow.
const QUEUED_CHUNKS: usize = 1;

/// The body of a request to the backend.
#[derive(Debug)]
pub enum RequestBody {
    /// All of it; if it is empty, there is no body.
    Whole(Bytes),
    /// Chunk by chunk, until its [`Upload`] ends.
    Streamed(mpsc::Receiver<BodyChunk>),
    /// The same, buffered for a retry.
    Replayed(Replay),
}

/// The sender of a streamed body.
pub type Upload = mpsc::Sender<BodyChunk>;

impl RequestBody {
    /// A streamed body. It is incomplete if the [`Upload`] is dropped before [`BodyChunk::End`].
    pub fn streamed() -> (Upload, Self) {
        let (upload, chunks) = mpsc::channel(QUEUED_CHUNKS);
        (upload, Self::Streamed(chunks))
    }
}

impl RequestBody {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    /// The same body for a retry.
    pub(super) fn replay(&mut self) -> Self {
        if let Self::Streamed(chunks) = self {
            // The placeholder is replaced below.
            let chunks = std::mem::replace(chunks, mpsc::channel(1).1);
            *self = Self::Replayed(Replay::new(chunks));
        }
        match self {
            Self::Whole(bytes) => Self::Whole(bytes.clone()),
            Self::Replayed(replay) => Self::Replayed(replay.restart()),
            Self::Streamed(_) => Self::default(),
        }
    }

    /// Whether a body that [`replay`](Self::replay) returned can be sent from its beginning.
    pub(super) fn can_replay(&self) -> bool {
        match self {
            Self::Replayed(replay) => replay.is_complete(),
            Self::Whole(_) | Self::Streamed(_) => true,
        }
    }
}

impl Default for RequestBody {
    fn default() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyAborted;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyAborted>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Streamed(chunks) => Poll::Ready(match ready!(chunks.poll_recv(cx)) {
                Some(BodyChunk::Data(data)) => Some(Ok(Frame::data(data))),
                Some(BodyChunk::End) => None,
                None => Some(Err(BodyAborted)),
            }),
            Self::Replayed(replay) => replay.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
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
    async fn an_aborted_body_is_an_error() {
        let (upload, body) = RequestBody::streamed();
        upload.send(BodyChunk::Data(Bytes::from_static(b"a"))).await.unwrap();
        drop(upload);
        assert_eq!(body.collect().await.unwrap_err(), BodyAborted);
    }

    #[tokio::test]
    async fn a_body_ends_at_the_end_chunk() {
        let (upload, body) = RequestBody::streamed();
        let send = async {
            for piece in
                [BodyChunk::Data(Bytes::from_static(b"a")), BodyChunk::Data(Bytes::from_static(b"b")), BodyChunk::End]
            {
                upload.send(piece).await.unwrap();
            }
        };
        let (body, ()) = tokio::join!(body.collect(), send);
        assert_eq!(body.unwrap().to_bytes(), "ab");
    }

    #[test]
    fn an_empty_body_has_ended() {
        assert!(RequestBody::default().is_end_stream());
        assert_eq!(RequestBody::Whole(Bytes::from_static(b"abc")).size_hint().exact(), Some(3));
        assert_eq!(RequestBody::streamed().1.size_hint().exact(), None);
    }
}
