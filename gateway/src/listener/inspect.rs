//! The check of a head before it is parsed: a parser repairs what two programs may read differently.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use bytes::Bytes;
use http::request::Parts;

/// Inspects the head of each HTTP/1 request before a parser reads it.
pub trait InspectHead: Send + Sync + 'static {
    /// Where the head ends that `bytes` begin with, where it does; the first `seen` bytes are
    /// known to hold no end.
    fn end(&self, bytes: &[u8], seen: usize) -> Option<usize>;

    /// The most that a head may have, in bytes.
    fn max_head_bytes(&self) -> usize;

    /// Inspects a whole head, whose first byte arrived at `began`, and returns what follows it.
    ///
    /// # Errors
    /// The response to send before the connection is closed.
    fn inspect(&self, head: &[u8], peer: SocketAddr, began: Instant) -> Result<Inspected, Bytes>;

    /// The response to a head that has not ended within [`InspectHead::max_head_bytes`].
    fn overflow(&self, head: &[u8], peer: SocketAddr, began: Instant) -> Bytes;

    /// The response to a head that passed inspection and that the parser refuses.
    fn unparsed(&self, peer: SocketAddr, began: Instant) -> Bytes;
}

/// A head that passed inspection.
pub enum Inspected {
    /// A request without a body.
    Request(Parts),
    /// It is left to pingora's parser, as all but GET and HEAD of HTTP/1.1 are.
    Head {
        /// The bytes of body that follow it; `None` where it is chunked, so that only the body itself says
        /// where it ends.
        body: Option<u64>,
        /// What the parser is not given of it: the scheme and the authority of its target.
        left_out: Option<Range<usize>>,
    },
}
