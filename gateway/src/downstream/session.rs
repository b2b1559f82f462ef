//! A request that pingora's HTTP/1 session parses: one with a body, of HTTP/1.0, or of another method than GET
//! and HEAD.
//!
//! pingora's session supports bodies, interim responses and HTTP/1.0, but needs a future of about 70 KB for
//! each request. Requests without a body are therefore served by
//! [`Http1Exchange`](super::http1::Http1Exchange).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::TRANSFER_ENCODING;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use pingora::http::ResponseHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::v1::server::HttpSession;
use pingora::{Error, Result};

use super::stream::Received;
use super::{Downstream, ExtraField, Peer, ResponseHead, TlsStream, client_disconnected};
use crate::drain::Draining;
use crate::syntax::accepts_trailers;

/// One request and its response.
pub struct SessionExchange {
    inner: HttpSession,
    peer: Peer,
    draining: Draining,
    /// Whether the head of the next request has arrived.
    received: Arc<Received>,
    /// Whether the response was written completely.
    is_complete: bool,
}

impl SessionExchange {
    /// Parses the head that `stream` has read ahead. `read_timeout` applies to each read of the body.
    ///
    /// # Errors
    /// Returns the connection if pingora's parser rejects the head.
    pub async fn parse(
        stream: Box<TlsStream>,
        draining: Draining,
        read_timeout: Duration,
    ) -> Result<Self, Option<Box<TlsStream>>> {
        let (peer, received) = (stream.peer().clone(), stream.received());
        let mut inner = HttpSession::new(stream);
        inner.set_read_timeout(Some(read_timeout));
        match inner.read_request().await {
            Ok(Some(_)) => Ok(Self { inner, peer, draining, received, is_complete: false }),
            Ok(None) | Err(_) => Err(into_tls_stream(inner.into_inner())),
        }
    }

    /// Ends the exchange and returns the connection if it can be reused. If the response is incomplete, the
    /// connection is dropped without a clean close, so that the client can detect the truncation.
    pub async fn into_stream(self) -> Option<Box<TlsStream>> {
        if !self.is_complete {
            return None;
        }
        let (stream, _) = self.inner.reuse().await.ok().flatten()?.into_parts();
        into_tls_stream(stream)
    }
}

/// Converts the session's stream back to the [`TlsStream`] it was created from.
fn into_tls_stream(stream: Stream) -> Option<Box<TlsStream>> {
    stream.into_any().downcast().ok()
}

impl Downstream for SessionExchange {
    fn request(&self) -> &Parts {
        self.inner.req_header()
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn has_body(&mut self) -> bool {
        !self.inner.is_body_empty()
    }

    fn is_read(&mut self) -> bool {
        self.inner.is_body_done()
    }

    fn close_after(&mut self) {
        self.inner.set_server_keepalive(None);
    }

    fn expect_stream(&mut self) {
        self.received.set_streaming(true);
    }

    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        self.inner.read_body_bytes().await.map_err(|error| error.into_down())
    }

    async fn send_early_hints(&mut self, fields: HeaderMap) -> Result<()> {
        let mut header = ResponseHeader::build_no_case(StatusCode::EARLY_HINTS, Some(fields.len()))?;
        for (name, value) in &fields {
            header.append_header(name, value)?;
        }
        let keepalive = self.inner.get_keepalive_timeout();
        self.inner.write_response_header(Box::new(header)).await.map_err(|error| error.into_down())?;
        self.inner.set_server_keepalive(keepalive);
        Ok(())
    }

    async fn send_continue(&mut self) -> Result<()> {
        let keepalive = self.inner.get_keepalive_timeout();
        self.inner.write_continue_response().await?;
        // Without this, pingora treats the interim response as one that leaves the body unread, and closes the
        // connection.
        self.inner.set_server_keepalive(keepalive);
        Ok(())
    }

    async fn closed(&mut self) -> Box<Error> {
        match self.inner.read_body_or_idle(true).await {
            Err(error) => error.into_down(),
            Ok(_) => client_disconnected(),
        }
    }

    async fn write_head(&mut self, head: ResponseHead<'_>, added: &[ExtraField<'_>]) -> Result<()> {
        // While draining, and if the client sends no more, only a request that has already arrived is served.
        if (self.draining.has_begun() || self.received.has_ended()) && !self.received.has_next() {
            self.close_after();
        }
        let mut header = head.header().clone();
        for (name, value) in added {
            if let Some(value) = *value {
                header.append_header(name, value.clone())?;
            }
        }
        self.inner.write_response_header(Box::new(header)).await.map_err(|error| error.into_down())
    }

    fn retract(&mut self) -> bool {
        // pingora sends the head at once.
        false
    }

    async fn write_body(&mut self, data: Bytes) -> Result<()> {
        if data.is_empty() {
            // An empty chunk would terminate the body.
            return Ok(());
        }
        self.inner.write_body(&data).await.map(drop).map_err(|error| error.into_down())
    }

    fn put_trailers(&mut self, trailers: HeaderMap) {
        let is_chunked = |head: &ResponseHeader| head.headers.contains_key(TRANSFER_ENCODING);
        if self.inner.response_written().is_some_and(is_chunked) && accepts_trailers(&self.request().headers) {
            self.received.put_trailers(trailers);
        }
    }

    async fn finish(&mut self, last: Bytes) -> Result<()> {
        self.write_body(last).await?;
        self.inner.finish_body().await.map_err(|error| error.into_down())?;
        self.received.take_trailers();
        self.is_complete = true;
        Ok(())
    }

    fn status(&self) -> Option<StatusCode> {
        let written = self.inner.response_written().map(|response| response.status);
        written.filter(|status| !status.is_informational())
    }

    fn body_bytes(&self) -> usize {
        self.inner.body_bytes_sent()
    }
}
