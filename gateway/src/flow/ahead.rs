//! Data of a response that has arrived before it is sent.

use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;

use crate::upstream::{ResponseBody, UpstreamError};

/// At most two pieces of a body.
pub(super) struct Ahead {
    pieces: [Option<Bytes>; 2],
    /// Whether they are followed by the end.
    is_whole: bool,
}

impl Ahead {
    /// Takes what has already arrived. A response that broke off within it can still be replaced by an error response.
    ///
    /// # Errors
    /// The body broke off.
    pub(super) async fn read(body: &mut ResponseBody) -> Result<Self, UpstreamError> {
        let mut ahead = Self { pieces: [None, None], is_whole: body.has_ended() };
        for place in &mut ahead.pieces {
            match futures_util::poll!(pin!(body.data())) {
                Poll::Ready(data) => *place = data?,
                Poll::Pending => break,
            }
            ahead.is_whole |= place.is_none() || body.has_ended();
            if ahead.is_whole {
                break;
            }
        }
        Ok(ahead)
    }

    /// The length of the body, if all of it has arrived.
    pub(super) fn whole_length(&self) -> Option<usize> {
        self.is_whole.then(|| self.pieces.iter().flatten().map(Bytes::len).sum())
    }

    /// Removes the first piece.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.pieces.iter_mut().find_map(Option::take)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.iter().all(Option::is_none)
    }

    /// Whether the next piece has arrived, or the end.
    ///
    /// # Errors
    /// The body broke off.
    pub(super) async fn has_more(&mut self, body: &mut ResponseBody) -> Result<bool, UpstreamError> {
        if body.has_ended() || !self.is_empty() {
            return Ok(true);
        }
        match futures_util::poll!(pin!(body.data())) {
            Poll::Ready(data) => {
                self.pieces = [data?, None];
                Ok(true)
            }
            Poll::Pending => Ok(false),
        }
    }
}
