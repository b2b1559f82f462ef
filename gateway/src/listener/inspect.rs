//! Inspection of a head before it is parsed: parsers silently repair input that another program may interpret
//! differently.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use bytes::Bytes;
use http::request::Parts;

/// Inspects the head of each HTTP/1 request before a parser reads it.
pub trait InspectHead: Send + Sync + 'static {
    /// Returns the length of the head at the start of `bytes`; `None` if it is incomplete. The first `seen`
    /// bytes were searched before.
    fn end(&self, bytes: &[u8], seen: usize) -> Option<usize>;

    /// Maximum length of a head, in bytes.
    fn max_head_bytes(&self) -> usize;

    /// Inspects a complete head, whose first byte arrived at `began`.
    ///
    /// # Errors
    /// The response to send before the connection is closed.
    fn inspect(&self, head: &[u8], peer: SocketAddr, began: Instant) -> Result<Inspected, Bytes>;

    /// The response to a head longer than [`InspectHead::max_head_bytes`].
    fn overflow(&self, head: &[u8], peer: SocketAddr, began: Instant) -> Bytes;

    /// The response to a head that passed inspection but was rejected by the parser.
    fn rejected_by_parser(&self, peer: SocketAddr, began: Instant) -> Bytes;
}

/// A head that passed inspection.
pub enum Inspected {
    /// A complete request without a body.
    Request(Parts),
    /// Any other request, to be parsed by pingora: everything but GET and HEAD of HTTP/1.1 without a body.
    Head {
        /// Length of the body in bytes; `None` if it is chunked.
        body: Option<u64>,
        /// Where the scheme and the authority of an absolute target are, to be removed before parsing.
        authority: Option<Range<usize>>,
    },
}
