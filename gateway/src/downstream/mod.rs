//! The client's side of a request and its response, behind the trait [`Downstream`]. Three codecs implement it:
//!
//! | codec | serves |
//! |---|---|
//! | [`http1`] | GET and HEAD of HTTP/1.1 without a body, in the task of the connection |
//! | [`http2`] | all of HTTP/2, in the task of the connection |
//! | [`session`] | the rest of HTTP/1, through pingora's session |

mod activity;
#[doc(hidden)] // Public for the fuzz targets.
pub mod chunks;
mod date;
pub mod http1;
pub mod http2;
pub mod session;
mod stream;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};

use crate::tls::Identity;
pub use stream::TlsStream;

/// Handles the requests of all codecs.
pub trait Handler: Send + Sync + 'static {
    /// Handles one request and writes its response.
    fn handle(&self, downstream: &mut impl Downstream) -> impl Future<Output = ()> + Send;
}

/// The client's end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client address; with the PROXY protocol, the source address from its header.
    pub address: SocketAddr,
    /// The certificate selected in the handshake, or in the handshake of the resumed session.
    pub identity: Arc<Identity>,
    /// The TLS version, one of [`VERSIONS`](crate::tls::VERSIONS).
    pub tls: &'static str,
}

/// The head of a response.
#[derive(Clone, Copy, Debug)]
pub enum ResponseHead<'a> {
    /// A head to be serialised for this response only.
    Plain(&'a ResponseHeader),
    /// The head of a cached response, with its status line and fields already serialised for HTTP/1.1, without
    /// the final empty line.
    Serialized(&'a ResponseHeader, &'a [u8]),
}

/// A field to be added to one response, if it has a value.
pub type ExtraField<'a> = (HeaderName, Option<&'a HeaderValue>);

impl<'a> ResponseHead<'a> {
    /// Returns the status and the fields.
    pub fn header(self) -> &'a ResponseHeader {
        match self {
            Self::Plain(header) | Self::Serialized(header, _) => header,
        }
    }
}

/// One request and its response, for any HTTP version.
///
/// The response is written in this order: the head once, any number of body pieces, the end once. Reads
/// ([`Downstream::read_body`], [`Downstream::closed`]) are cancel-safe. Writes are not: after a dropped write,
/// the response must not be continued. Errors are attributed to the client, except when the caller violates
/// this order or the declared content length.
pub trait Downstream: Send {
    /// The head of the request. Its fields may be gone once the response head was written.
    fn request(&self) -> &Parts;

    /// The client's end of the connection.
    fn peer(&self) -> &Peer;

    /// Returns whether the request has a body.
    fn has_body(&mut self) -> bool;

    /// Returns whether the whole request has been read.
    fn is_read(&mut self) -> bool;

    /// Closes the connection after this response if the protocol allows that: the unread rest of this request
    /// cannot be separated from the next one.
    fn close_after(&mut self);

    /// Announces that the request body will be streamed to a backend, which may read it slowly.
    fn expect_upload(&mut self) {}

    /// Announces a response that may never end: a client that closes its sending side has then disconnected.
    fn expect_stream(&mut self) {}

    /// Reads the next piece of the request body; `None` at its end.
    fn read_body(&mut self) -> impl Future<Output = Result<Option<Bytes>>> + Send;

    /// Sends `100 Continue` (RFC 9110, section 10.1.1).
    fn send_continue(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Sends `103 Early Hints` with these fields (RFC 8297). Not to a client of HTTP/1.0, nor after the head of the
    /// response.
    fn send_early_hints(&mut self, fields: HeaderMap) -> impl Future<Output = Result<()>> + Send;

    /// Waits until the client disconnects and returns the error. The request must have been read.
    fn closed(&mut self) -> impl Future<Output = Box<Error>> + Send;

    /// Writes the head of the response, followed by the fields in `added`.
    fn write_head(
        &mut self,
        head: ResponseHead<'_>,
        added: &[ExtraField<'_>],
    ) -> impl Future<Output = Result<()>> + Send;

    /// Discards the response head if nothing of it was sent yet, so that another response can be written.
    /// Returns whether that was possible.
    fn retract(&mut self) -> bool;

    /// Writes a piece of the response body. Ignored if the method or the status allows no body.
    fn write_body(&mut self, data: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// Sets the trailers of the response, which [`finish`](Self::finish) sends if it has a body and the client accepts
    /// them: over HTTP/1.1 it must have sent `TE: trailers` (RFC 9110, section 6.5.1), and the body must be chunked.
    fn put_trailers(&mut self, trailers: HeaderMap);

    /// Ends the response with the last piece of its body, which may be empty.
    fn finish(&mut self, last: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// Buffers the head of a 101, followed by the fields in `added`, and returns the connection. It is no longer HTTP and
    /// ends with this exchange. `None` if the protocol has no such response.
    fn switch(&mut self, _head: &ResponseHeader, _added: &[ExtraField<'_>]) -> Option<&mut TlsStream> {
        None
    }

    /// The status of the response, once its head was written.
    fn status(&self) -> Option<StatusCode>;

    /// The length of the response body written so far, in bytes.
    fn body_bytes(&self) -> usize;
}

/// Returns whether a response with this status to this method has a body (RFC 9110, section 6.4.1).
pub fn allows_body(method: &Method, status: StatusCode) -> bool {
    *method != Method::HEAD && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn client_disconnected() -> Box<Error> {
    Error::explain(ErrorType::ConnectionClosed, "the client disconnected").into_down()
}
