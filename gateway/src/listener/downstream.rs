//! The client's side of one request: what it asked, and where its answer goes, whatever carries
//! them.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora::{Error, ErrorType, Result};

use super::{ConnectionInfo, Identity};

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

    /// Who is at the other end; `None` where that is no address.
    fn peer(&self) -> Option<SocketAddr>;

    /// The certificate that the client was shown.
    fn identity(&self) -> Option<&Identity>;

    /// The TLS version of the connection, one of [`VERSIONS`](super::VERSIONS).
    fn tls_version(&self) -> Option<&str>;

    /// Whether more of the request follows its head.
    fn has_body(&mut self) -> bool;

    /// Whether all of the request has been read.
    fn is_read(&mut self) -> bool;

    /// Ends the connection with this answer, where that is possible: the next request cannot be
    /// told from what is left of this one.
    fn close_after(&mut self);

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

impl Downstream for ServerSession {
    fn request(&self) -> &Parts {
        self.req_header()
    }

    fn peer(&self) -> Option<SocketAddr> {
        match self.client_addr()? {
            PeerAddr::Inet(peer) => Some(*peer),
            PeerAddr::Unix(_) => None,
        }
    }

    fn identity(&self) -> Option<&Identity> {
        self.digest().and_then(ConnectionInfo::of).map(|info| &*info.identity)
    }

    fn tls_version(&self) -> Option<&str> {
        self.digest()?.ssl_digest.as_ref().map(|tls| &*tls.version)
    }

    fn has_body(&mut self) -> bool {
        !self.is_body_empty()
    }

    fn is_read(&mut self) -> bool {
        self.is_body_done()
    }

    fn close_after(&mut self) {
        self.set_keepalive(None);
    }

    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        self.read_request_body().await.map_err(|error| error.into_down())
    }

    async fn send_continue(&mut self) -> Result<()> {
        let keepalive = self.get_keepalive();
        self.write_continue_response().await?;
        // pingora takes this for an answer that leaves the body unread, and would close.
        self.set_keepalive(keepalive);
        Ok(())
    }

    async fn closed(&mut self) -> Box<Error> {
        match self.read_body_or_idle(true).await {
            Err(error) => error.into_down(),
            Ok(_) => client_left(),
        }
    }

    async fn write_head(&mut self, head: Head<'_>, added: &[Added<'_>]) -> Result<()> {
        // pingora looks only before a request is answered. One that has come already is answered as well.
        let is_last = |info: &ConnectionInfo| *info.drain.borrow() && !info.has_next.load(Ordering::Relaxed);
        if self.digest().and_then(ConnectionInfo::of).is_some_and(is_last) {
            self.close_after();
        }
        let mut header = head.header().clone();
        for (name, value) in added {
            if let Some(value) = *value {
                header.append_header(name, value.clone())?;
            }
        }
        self.write_response_header(Box::new(header)).await.map_err(|error| error.into_down())
    }

    fn retract(&mut self) -> bool {
        // pingora sends a head at once.
        false
    }

    async fn write_body(&mut self, data: Bytes) -> Result<()> {
        self.write_response_body(data, false).await.map_err(|error| error.into_down())
    }

    async fn finish(&mut self, last: Bytes) -> Result<()> {
        self.write_response_body(last, true).await.map_err(|error| error.into_down())?;
        self.finish_body().await.map_err(|error| error.into_down())
    }

    fn status(&self) -> Option<StatusCode> {
        self.response_written().map(|response| response.status)
    }

    fn body_bytes(&self) -> usize {
        self.body_bytes_sent()
    }
}

/// Whether an answer of this status to a request of this method has a body (RFC 9110, section 6.4.1).
pub fn may_have_body(method: &Method, status: StatusCode) -> bool {
    *method != Method::HEAD && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

pub(super) fn client_left() -> Box<Error> {
    Error::explain(ErrorType::ConnectionClosed, "the client left").into_down()
}
