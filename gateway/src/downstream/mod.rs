//! The client's side of a request and its response, behind one trait: [`Downstream`]. Three codecs implement it:
//!
//! | codec | serves |
//! |---|---|
//! | [`http1`] | GET and HEAD of HTTP/1.1 without a body, in the task of the connection |
//! | [`http2`] | all of HTTP/2, in the task of the connection |
//! | [`session`] | the rest of HTTP/1, through pingora's session |

#[doc(hidden)] // Public for the fuzz targets.
pub mod chunks;
mod date;
pub mod http1;
pub mod http2;
pub mod session;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};

use crate::tls::Identity;
pub use stream::TlsStream;

/// Answers requests, whichever codec they come through.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, downstream: &mut impl Downstream) -> impl Future<Output = ()> + Send;
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address of the client; behind a proxy that sends the PROXY protocol, the one from its header.
    pub address: SocketAddr,
    /// The certificate that was used in the handshake, or in that of the resumed session.
    pub identity: Arc<Identity>,
    /// The TLS version, one of [`VERSIONS`](crate::tls::VERSIONS).
    pub tls: &'static str,
}

/// The head of an answer.
#[derive(Clone, Copy, Debug)]
pub enum Head<'a> {
    /// Of this answer alone.
    Own(&'a ResponseHeader),
    /// Of an answer that is given many times, with the status line and the fields as HTTP/1.1
    /// writes them, the empty line not among them.
    Kept(&'a ResponseHeader, &'a [u8]),
}

/// A field that stands on one answer, where it has a value.
pub type Added<'a> = (HeaderName, Option<&'a HeaderValue>);

impl<'a> Head<'a> {
    /// The status and the fields.
    pub fn header(self) -> &'a ResponseHeader {
        match self {
            Self::Own(header) | Self::Kept(header, _) => header,
        }
    }
}

/// One request and its answer, of either version.
///
/// The answer is written in one order: its head once, any pieces of its body, its end once. What
/// waits may be dropped while it reads ([`Downstream::read_body`], [`Downstream::closed`]); an answer
/// is not to be gone on with where a write was dropped. The errors are the client's, but for those of a
/// caller that breaks this order or the length that it told.
pub trait Downstream: Send {
    /// The head of the request; its fields until that of the answer was handed over.
    fn request(&self) -> &Parts;

    /// The other end of the connection.
    fn peer(&self) -> &Peer;

    /// Whether more of the request follows its head.
    fn has_body(&mut self) -> bool;

    /// Whether all of the request has been read.
    fn is_read(&mut self) -> bool;

    /// Ends the connection with this answer, where that is possible: the next request cannot be
    /// told from what is left of this one.
    fn close_after(&mut self);

    /// Notes that the body is passed on from now on, to a backend that may take it slowly.
    fn expect_upload(&mut self) {}

    /// The next piece of the body; `None` at its end.
    fn read_body(&mut self) -> impl Future<Output = Result<Option<Bytes>>> + Send;

    /// Tells a client to go on that waits for it before it sends its body (RFC 9110, section 10.1.1).
    fn send_continue(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Waits until the client leaves, which an error tells, of a request that has been read.
    fn closed(&mut self) -> impl Future<Output = Box<Error>> + Send;

    /// Writes the head of the answer, with these fields behind its own.
    fn write_head(&mut self, head: Head<'_>, added: &[Added<'_>]) -> impl Future<Output = Result<()>> + Send;

    /// Takes back the head of an answer of which nothing has been sent, so that another answer can be given. Whether
    /// that could be done.
    fn retract(&mut self) -> bool;

    /// Writes a piece of the answer's body, of which there is none where the request or the
    /// status has it so.
    fn write_body(&mut self, data: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// Ends the answer, with the last piece of its body, which may be empty.
    fn finish(&mut self, last: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// The status of the answer, once its head was handed over.
    fn status(&self) -> Option<StatusCode>;

    /// What was handed over of the answer's body, in bytes.
    fn body_bytes(&self) -> usize;
}

/// Whether an answer of this status to a request of this method has a body (RFC 9110, section 6.4.1).
pub fn may_have_body(method: &Method, status: StatusCode) -> bool {
    *method != Method::HEAD && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn client_left() -> Box<Error> {
    Error::explain(ErrorType::ConnectionClosed, "the client left").into_down()
}
