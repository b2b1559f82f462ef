//! The parts of a request body that the client is still sending.

use bytes::Bytes;

/// A part of a body, or its end: without an explicit end, an aborted body would look complete.
#[derive(Debug)]
pub enum BodyChunk {
    /// Data.
    Data(Bytes),
    /// The end of the body.
    End,
}

/// The sender stopped before the end of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request body is incomplete")]
pub struct BodyAborted;
