//! GET and HEAD requests of HTTP/1.1 without a body. These are most requests, and are served without the
//! overhead of pingora's session.

use std::io;
use std::io::Write as _;

use bytes::{BufMut as _, Bytes};
use http::header::{CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};
use tokio::io::AsyncWriteExt as _;

use super::date::date;
use super::wire::{put_early_hints, put_last_chunk};
pub use super::wire::{put_field, put_status};
use super::{Downstream, ExtraField, Peer, ResponseHead, TlsStream, allows_body};
use crate::drain::Draining;
use crate::syntax::{accepts_trailers, has_connection_close};

/// Body pieces shorter than this are copied into the write buffer; longer ones are written at once, without a
/// copy.
const SMALL_BYTES: usize = 1024;

/// A request without a body, and its response.
pub struct Http1Exchange<'a> {
    stream: &'a mut TlsStream,
    request: Parts,
    draining: &'a Draining,
    /// Whether the connection can be reused for another request.
    persists: bool,
    status: Option<StatusCode>,
    framing: ResponseFraming,
    /// Body bytes written so far.
    sent: usize,
    ended: bool,
    /// Whether the response head was written, but nothing of it has been sent.
    head_is_pending: bool,
    trailers: Option<Box<HeaderMap>>,
}

/// How the client finds the end of the response body (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponseFraming {
    /// The response has no body.
    None,
    /// The number of bytes still to be written.
    Length(u64),
    Chunked,
    /// The body ends when the connection closes.
    Close,
}

impl<'a> Http1Exchange<'a> {
    /// Creates the exchange for a `request` read from `stream`. The connection is reused afterwards unless the
    /// client requested `Connection: close` or the drain has begun when the response is written.
    pub fn new(stream: &'a mut TlsStream, request: Parts, draining: &'a Draining) -> Self {
        let persists = !has_connection_close(&request.headers);
        let (framing, status) = (ResponseFraming::None, None);
        let (sent, ended, head_is_pending, trailers) = (0, false, false, None);
        Self { stream, request, draining, persists, status, framing, sent, ended, head_is_pending, trailers }
    }

    /// Returns whether the response is complete and the connection can be reused.
    pub fn is_reusable(&self) -> bool {
        self.ended && self.persists
    }

    /// Returns whether the response was written completely.
    pub fn is_complete(&self) -> bool {
        self.ended
    }

    /// Returns whether another request has already arrived; requests that arrive later are not served.
    fn has_next_request(&mut self) -> bool {
        self.stream.seal();
        self.stream.has_request()
    }

    fn put_head(&mut self, head: ResponseHead<'_>, added: &[ExtraField<'_>]) {
        let header = head.header();
        self.framing = framing(&self.request.method, header.status, |name| header.headers.get(name));
        // While draining, and after the client closed its sending side, only a request that has already arrived
        // is served.
        if self.framing == ResponseFraming::Close
            || ((self.stream.has_ended() || self.draining.has_begun()) && !self.has_next_request())
        {
            self.persists = false;
        }
        let out = self.stream.pending();
        match head {
            ResponseHead::Serialized(_, wire) => {
                out.reserve(wire.len() + EXTRA_FIELDS_BYTES);
                out.extend_from_slice(wire);
            }
            ResponseHead::Plain(header) => {
                out.reserve(EXTRA_FIELDS_BYTES * 2);
                put_status(out, header.status);
                header.header_to_h1_wire(out);
            }
        }
        for (name, value) in added {
            if let Some(value) = value {
                put_field(out, name.as_str(), value.as_bytes());
            }
        }
        put_field(out, "Date", date().as_bytes());
        put_field(out, "Connection", if self.persists { b"keep-alive" } else { b"close" });
        out.put_slice(b"\r\n");
        self.status = Some(header.status);
        self.head_is_pending = true;
    }

    /// Adds to the number of body bytes.
    ///
    /// # Errors
    /// The body exceeds the declared content length.
    fn count(&mut self, bytes: usize) -> Result<()> {
        if let ResponseFraming::Length(left) = &mut self.framing {
            let rest = left.checked_sub(bytes as u64);
            *left = rest.ok_or_else(|| {
                Error::explain(ErrorType::WriteError, "the body exceeds its declared length").into_in()
            })?;
        }
        self.sent += bytes;
        Ok(())
    }
}

/// Space reserved for the fields added to each response, in bytes.
const EXTRA_FIELDS_BYTES: usize = 384;

/// The framing of the response (RFC 9112, section 6.3).
fn framing<'h>(
    method: &Method,
    status: StatusCode,
    field: impl Fn(HeaderName) -> Option<&'h http::HeaderValue>,
) -> ResponseFraming {
    if !allows_body(method, status) {
        return ResponseFraming::None;
    }
    if field(TRANSFER_ENCODING).is_some() {
        return ResponseFraming::Chunked;
    }
    let length = field(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    length.map_or(ResponseFraming::Close, ResponseFraming::Length)
}

fn write_error(error: io::Error) -> Box<Error> {
    let kind = if error.kind() == io::ErrorKind::TimedOut { ErrorType::WriteTimedout } else { ErrorType::WriteError };
    Error::because(kind, "writing the response failed", error).into_down()
}

impl Downstream for Http1Exchange<'_> {
    fn request(&self) -> &Parts {
        &self.request
    }

    fn peer(&self) -> &Peer {
        self.stream.peer()
    }

    fn has_body(&mut self) -> bool {
        false
    }

    fn is_read(&mut self) -> bool {
        true
    }

    fn close_after(&mut self) {
        self.persists = false;
    }

    fn expect_stream(&mut self) {
        self.stream.received().set_streaming(true);
    }

    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        Ok(None)
    }

    async fn send_continue(&mut self) -> Result<()> {
        Ok(())
    }

    async fn send_early_hints(&mut self, fields: HeaderMap) -> Result<()> {
        put_early_hints(self.stream.pending(), &fields);
        self.stream.flush().await.map_err(write_error)
    }

    async fn closed(&mut self) -> Box<Error> {
        // Reading flushes the buffered head.
        self.head_is_pending = false;
        let error = self.stream.until_closed().await;
        Error::because(ErrorType::ReadError, "the client connection failed", error).into_down()
    }

    async fn write_head(&mut self, head: ResponseHead<'_>, added: &[ExtraField<'_>]) -> Result<()> {
        // Sent together with what follows it, or once the client is read from.
        self.put_head(head, added);
        Ok(())
    }

    fn switch(&mut self, head: &ResponseHeader, added: &[ExtraField<'_>]) -> Option<&mut TlsStream> {
        let out = self.stream.pending();
        put_status(out, head.status);
        head.header_to_h1_wire(out);
        for (name, value) in added {
            if let Some(value) = value {
                put_field(out, name.as_str(), value.as_bytes());
            }
        }
        put_field(out, "Date", date().as_bytes());
        put_field(out, "Connection", b"Upgrade");
        out.put_slice(b"\r\n");
        (self.status, self.persists, self.framing) = (Some(head.status), false, ResponseFraming::None);
        self.stream.end_http();
        Some(self.stream)
    }

    fn retract(&mut self) -> bool {
        if self.head_is_pending {
            self.stream.pending().clear();
            (self.status, self.sent, self.head_is_pending) = (None, 0, false);
            return true;
        }
        false
    }

    async fn write_body(&mut self, data: Bytes) -> Result<()> {
        if data.is_empty() || self.framing == ResponseFraming::None {
            return Ok(());
        }
        self.count(data.len())?;
        let out = self.stream.pending();
        let mut tail: &[u8] = b"";
        if self.framing == ResponseFraming::Chunked {
            // Writing to memory cannot fail.
            let _ = write!(out, "{:X}\r\n", data.len());
            tail = b"\r\n";
        }
        if data.len() < SMALL_BYTES && out.len() < SMALL_BYTES {
            out.extend_from_slice(&data);
            out.extend_from_slice(tail);
            return Ok(());
        }
        self.head_is_pending = false;
        self.stream.write_after_buffer(&data, tail).await.map_err(write_error)
    }

    fn put_trailers(&mut self, trailers: HeaderMap) {
        self.trailers = accepts_trailers(&self.request.headers).then(|| Box::new(trailers));
    }

    async fn finish(&mut self, last: Bytes) -> Result<()> {
        self.write_body(last).await?;
        match self.framing {
            ResponseFraming::Chunked => put_last_chunk(self.stream.pending(), self.trailers.as_deref()),
            ResponseFraming::Length(left) if left > 0 => {
                return Err(
                    Error::explain(ErrorType::WriteError, "the body is shorter than its declared length").into_in()
                );
            }
            _ => {}
        }
        self.head_is_pending = false;
        self.stream.flush().await.map_err(write_error)?;
        self.ended = true;
        Ok(())
    }

    fn status(&self) -> Option<StatusCode> {
        self.status
    }

    fn body_bytes(&self) -> usize {
        self.sent
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    #[test]
    fn response_framing_depends_on_method_status_and_fields() {
        let fields = |field: &str| {
            let mut fields = HeaderMap::new();
            if let Some((name, value)) = field.split_once(": ") {
                fields.insert(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
            }
            fields
        };
        for (method, status, field, expected) in [
            (Method::GET, 200, "content-length: 0", ResponseFraming::Length(0)),
            (Method::GET, 200, "content-length: 18446744073709551615", ResponseFraming::Length(u64::MAX)),
            (Method::GET, 200, "transfer-encoding: chunked", ResponseFraming::Chunked),
            (Method::GET, 200, "", ResponseFraming::Close),
            (Method::GET, 200, "content-length: x", ResponseFraming::Close),
            (Method::GET, 502, "content-length: 3", ResponseFraming::Length(3)),
            (Method::GET, 204, "", ResponseFraming::None),
            (Method::GET, 304, "content-length: 3", ResponseFraming::None),
            (Method::HEAD, 200, "content-length: 3", ResponseFraming::None),
            (Method::HEAD, 200, "transfer-encoding: chunked", ResponseFraming::None),
        ] {
            let fields = fields(field);
            let actual = framing(&method, StatusCode::from_u16(status).unwrap(), |name| fields.get(name));
            assert_eq!(actual, expected, "{method} {status} {field}");
        }
    }
}
