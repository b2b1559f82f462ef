//! What a body that a client is still sending consists of.

use bytes::Bytes;

/// A piece of a body, or that the last has been sent: without it a body that broke off would
/// look whole.
#[derive(Debug)]
pub enum BodyChunk {
    /// Some of it.
    Data(Bytes),
    /// There is no more.
    End,
}

/// Whoever sent the body has stopped before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request's body broke off")]
pub struct BodyAborted;
