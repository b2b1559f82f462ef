//! A GET or HEAD of HTTP/1.1 that has no body, and its answer: what most requests are, without the
//! machinery that the others need.

use std::io;
use std::io::Write as _;

use bytes::{BufMut as _, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, StatusCode};
use pingora::{Error, ErrorType, Result};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

use super::date::date;
use super::{Added, Downstream, Head, Peer, TlsStream, may_have_body};

/// Shorter pieces of a body are copied behind what is pending; longer ones leave at once and as
/// they are.
const SMALL_BYTES: usize = 1024;

/// A request without a body, and its answer.
pub struct Http1Exchange<'a> {
    stream: &'a mut TlsStream,
    request: Parts,
    drain: &'a watch::Receiver<bool>,
    /// Whether another request may follow on the connection.
    persists: bool,
    status: Option<StatusCode>,
    framing: Framing,
    /// What was written of the body.
    sent: usize,
    ended: bool,
    /// Whether nothing of the answer has left yet, though its head was handed over.
    head_is_pending: bool,
}

/// How the body of the answer is told from what follows it (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// There is none.
    None,
    /// So many bytes are still to come.
    Length(u64),
    Chunked,
    /// It ends with the connection.
    Close,
}

impl<'a> Http1Exchange<'a> {
    /// The exchange of a `request` that was read from `stream`, after which the connection goes on
    /// unless the client wants it closed or a `drain` has begun by the time of the answer.
    pub fn new(stream: &'a mut TlsStream, request: Parts, drain: &'a watch::Receiver<bool>) -> Self {
        let persists = !wants_close(&request);
        let (framing, status) = (Framing::None, None);
        Self { stream, request, drain, persists, status, framing, sent: 0, ended: false, head_is_pending: false }
    }

    /// Whether the next request may be read: this one was answered, to the end.
    pub fn is_reusable(&self) -> bool {
        self.ended && self.persists
    }

    /// Whether an answer was written to its end.
    pub fn is_answered(&self) -> bool {
        self.ended
    }

    /// Whether another request has arrived, where none that arrives later is answered.
    fn has_next(&mut self) -> bool {
        self.stream.seal();
        self.stream.has_request()
    }

    fn put_head(&mut self, head: Head<'_>, added: &[Added<'_>]) {
        let header = head.header();
        self.framing = framing(&self.request.method, header.status, |name| header.headers.get(name));
        // While draining, and from a client that sends no more, only a request that has already arrived is answered.
        if self.framing == Framing::Close || ((self.stream.has_ended() || *self.drain.borrow()) && !self.has_next()) {
            self.persists = false;
        }
        let out = self.stream.pending();
        match head {
            Head::Kept(_, wire) => {
                out.reserve(wire.len() + ADDED_BYTES);
                out.extend_from_slice(wire);
            }
            Head::Own(header) => {
                out.reserve(ADDED_BYTES * 2);
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

    /// Counts a piece of the body, as far as there is room for it.
    ///
    /// # Errors
    /// It is more than the head has told.
    fn count(&mut self, bytes: usize) -> Result<()> {
        if let Framing::Length(left) = &mut self.framing {
            let rest = left.checked_sub(bytes as u64);
            *left =
                rest.ok_or_else(|| Error::explain(ErrorType::WriteError, "a longer body than was told").into_in())?;
        }
        self.sent += bytes;
        Ok(())
    }
}

/// What is made room for behind the fields of an answer's own, in bytes.
const ADDED_BYTES: usize = 384;

/// The status line of HTTP/1.1.
pub fn put_status(out: &mut Vec<u8>, status: StatusCode) {
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
}

/// A field as HTTP/1.1 writes it.
pub fn put_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// Whether the client wants the connection closed behind the answer (RFC 9112, section 9.6).
fn wants_close(request: &Parts) -> bool {
    let mut options =
        request.headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|&b| b == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// RFC 9112, section 6.3.
fn framing<'h>(
    method: &Method,
    status: StatusCode,
    field: impl Fn(HeaderName) -> Option<&'h http::HeaderValue>,
) -> Framing {
    if !may_have_body(method, status) {
        return Framing::None;
    }
    if field(TRANSFER_ENCODING).is_some() {
        return Framing::Chunked;
    }
    let length = field(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    length.map_or(Framing::Close, Framing::Length)
}

fn unwritten(error: io::Error) -> Box<Error> {
    let kind = if error.kind() == io::ErrorKind::TimedOut { ErrorType::WriteTimedout } else { ErrorType::WriteError };
    Error::because(kind, "an answer could not be written", error).into_down()
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

    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        Ok(None)
    }

    async fn send_continue(&mut self) -> Result<()> {
        Ok(())
    }

    async fn closed(&mut self) -> Box<Error> {
        // What is pending is sent before the client is read.
        self.head_is_pending = false;
        let error = self.stream.until_closed().await;
        Error::because(ErrorType::ReadError, "the connection broke", error).into_down()
    }

    async fn write_head(&mut self, head: Head<'_>, added: &[Added<'_>]) -> Result<()> {
        // It leaves with what follows it, or when the client is listened to.
        self.put_head(head, added);
        Ok(())
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
        if data.is_empty() || self.framing == Framing::None {
            return Ok(());
        }
        self.count(data.len())?;
        let out = self.stream.pending();
        let mut tail: &[u8] = b"";
        if self.framing == Framing::Chunked {
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
        self.stream.write_behind(&data, tail).await.map_err(unwritten)
    }

    async fn finish(&mut self, last: Bytes) -> Result<()> {
        self.write_body(last).await?;
        match self.framing {
            Framing::Chunked => self.stream.pending().extend_from_slice(b"0\r\n\r\n"),
            Framing::Length(left) if left > 0 => {
                return Err(Error::explain(ErrorType::WriteError, "a shorter body than was told").into_in());
            }
            _ => {}
        }
        self.head_is_pending = false;
        self.stream.flush().await.map_err(unwritten)?;
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
    use http::{HeaderMap, HeaderValue, Request};

    use super::*;

    #[test]
    fn an_answers_framing_follows_from_the_request_and_its_head() {
        let fields = |field: &str| {
            let mut fields = HeaderMap::new();
            if let Some((name, value)) = field.split_once(": ") {
                fields.insert(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
            }
            fields
        };
        for (method, status, field, expected) in [
            (Method::GET, 200, "content-length: 0", Framing::Length(0)),
            (Method::GET, 200, "content-length: 18446744073709551615", Framing::Length(u64::MAX)),
            (Method::GET, 200, "transfer-encoding: chunked", Framing::Chunked),
            (Method::GET, 200, "", Framing::Close),
            (Method::GET, 200, "content-length: x", Framing::Close),
            (Method::GET, 502, "content-length: 3", Framing::Length(3)),
            (Method::GET, 204, "", Framing::None),
            (Method::GET, 304, "content-length: 3", Framing::None),
            (Method::HEAD, 200, "content-length: 3", Framing::None),
            (Method::HEAD, 200, "transfer-encoding: chunked", Framing::None),
        ] {
            let fields = fields(field);
            let told = framing(&method, StatusCode::from_u16(status).unwrap(), |name| fields.get(name));
            assert_eq!(told, expected, "{method} {status} {field}");
        }
    }

    #[test]
    fn close_is_heard_wherever_it_stands() {
        let hears = |values: &[&str]| {
            let request = values.iter().fold(Request::builder(), |request, value| request.header(CONNECTION, *value));
            wants_close(&request.body(()).unwrap().into_parts().0)
        };
        for values in [&["close"][..], &["CLOSE"], &["keep-alive, close"], &[" x ,\tClose ,"], &["keep-alive", "close"]]
        {
            assert!(hears(values), "{values:?}");
        }
        for values in [&[][..], &["keep-alive"], &["closed"], &["x-close"], &["close;x=1"], &["clo", "se"], &[","]] {
            assert!(!hears(values), "{values:?}");
        }
    }
}
