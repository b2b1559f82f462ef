//! How an answer leaves: what stands on each of them, and what becomes of its connection.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY,
    VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, StatusCode};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;
use tokio::time::timeout;

use super::Answer;
use crate::cors::{self, Sharing};

/// What is read of a body that nobody wants, so that its stream ends well.
const REST_BYTES: usize = 64 * 1024;

/// How long it is waited for.
const REST_TIMEOUT: Duration = Duration::from_secs(1);

/// What stands on every answer, the backend's too.
#[derive(Clone, Copy, Debug)]
pub struct Marks<'a> {
    /// What logs call the request.
    pub request_id: &'a str,
    /// `max-age` of `Strict-Transport-Security` in seconds; 0 sends none.
    pub hsts_max_age: u64,
    /// What it says of origins.
    pub sharing: &'a Sharing,
}

impl Marks<'_> {
    fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        // Our own ids are hexadecimal.
        let id = HeaderValue::try_from(self.request_id).ok().map(|id| (HeaderName::from_static("x-request-id"), id));
        let nosniff = (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let hsts = Some(self.hsts_max_age).filter(|&seconds| seconds > 0);
        let hsts = hsts.and_then(|seconds| HeaderValue::try_from(format!("max-age={seconds}")).ok());
        let origin = match self.sharing {
            Sharing::Allowed(origin) => Some(origin.clone()),
            Sharing::Refused | Sharing::Off => None,
        };
        let exposed = origin.is_some().then(|| HeaderValue::from_static(cors::EXPOSED_HEADERS));
        let vary = (*self.sharing != Sharing::Off).then(|| HeaderValue::from_static("Origin"));
        id.into_iter()
            .chain([nosniff])
            .chain(hsts.map(|hsts| (STRICT_TRANSPORT_SECURITY, hsts)))
            .chain(origin.map(|origin| (ACCESS_CONTROL_ALLOW_ORIGIN, origin)))
            .chain(exposed.map(|exposed| (ACCESS_CONTROL_EXPOSE_HEADERS, exposed)))
            .chain(vary.map(|vary| (VARY, vary)))
    }
}

/// Sets [`Marks`] on an answer, beside whatever else it varies by.
///
/// # Errors
/// None that these values could cause.
pub fn mark(header: &mut ResponseHeader, marks: &Marks<'_>) -> Result<()> {
    header.remove_header(&STRICT_TRANSPORT_SECURITY);
    for (name, value) in marks.headers() {
        if name == VARY {
            header.append_header(name, value)?;
        } else {
            header.insert_header(name, value)?;
        }
    }
    Ok(())
}

/// Sends `answer`, and notes on the session whether the connection may be used again.
///
/// # Errors
/// The client is gone.
pub async fn send(session: &mut Session, answer: Answer, marks: &Marks<'_>) -> Result<()> {
    let mut header = ResponseHeader::build_no_case(answer.status, Some(answer.headers.len() + 5))?;
    for (name, value) in answer.headers {
        header.append_header(name, value)?;
    }
    // RFC 9110, section 8.6: a 204 has none.
    if answer.status != StatusCode::NO_CONTENT {
        header.insert_header("Content-Length", answer.body.len())?;
    }
    mark(&mut header, marks)?;
    let without_body = session.req_header().method == Method::HEAD;
    let downstream = session.as_downstream_mut();
    // What is left of a request's body must never be read as the next request.
    if answer.close || !downstream.is_body_done() {
        downstream.set_keepalive(None);
    }
    downstream.write_response_header(Box::new(header)).await?;
    let body = if without_body { Bytes::new() } else { answer.body };
    downstream.write_response_body(body, true).await?;
    downstream.finish_body().await?;
    // A stream of HTTP/2 that is left with a body unread is reset, and there are clients that
    // take the reset for a failure although the answer stands (RFC 9113, section 8.1).
    if downstream.as_http2().is_some() {
        // What does not come in time is reset after all.
        let _ = timeout(REST_TIMEOUT, read_away(downstream)).await;
    }
    Ok(())
}

/// Reads what is left of a request's body, where that is not much.
async fn read_away(downstream: &mut ServerSession) -> Result<()> {
    let mut left = REST_BYTES;
    while let Some(part) = downstream.read_request_body().await? {
        match left.checked_sub(part.len()) {
            Some(rest) => left = rest,
            None => break,
        }
    }
    Ok(())
}

impl Answer {
    /// The answer as HTTP/1.1 sends it, for a request that no parser has seen. The
    /// connection ends with it.
    pub fn into_http1(self, marks: &Marks<'_>) -> Bytes {
        let mut out = BytesMut::new();
        let reason = self.status.canonical_reason().unwrap_or_default();
        // Writing to a buffer in memory cannot fail.
        let _ = write!(out, "HTTP/1.1 {} {reason}\r\n", self.status.as_u16());
        for (name, value) in self.headers.into_iter().chain(marks.headers()) {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        let _ = write!(out, "content-length: {}\r\nconnection: close\r\n\r\n", self.body.len());
        out.extend_from_slice(&self.body);
        out.freeze()
    }
}
