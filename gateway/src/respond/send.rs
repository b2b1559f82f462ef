//! How an answer leaves: what stands on each of them, and what becomes of its connection.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CONTENT_LENGTH, HeaderName, HeaderValue,
    STRICT_TRANSPORT_SECURITY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};
use tokio::time::timeout;

use super::Answer;
use crate::cors::{self, Sharing};
use crate::listener::{Added, Downstream, Head, put_field, put_status};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

static NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
static ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
static EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static(cors::EXPOSED_HEADERS);

/// What is read of a body that nobody wants, so that its stream ends well.
const REST_BYTES: usize = 64 * 1024;

/// How long a client may take over an answer of our own, which is small: one that takes a byte at a
/// time would hold the request for as long as it likes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long it is waited for.
const REST_TIMEOUT: Duration = Duration::from_secs(1);

/// What stands on every answer, the backend's too.
#[derive(Clone, Copy, Debug)]
pub struct Marks<'a> {
    /// What logs call the request.
    pub request_id: &'a HeaderValue,
    /// What `Strict-Transport-Security` says, if anything.
    pub hsts: Option<&'a HeaderValue>,
    /// What it says of origins.
    pub sharing: &'a Sharing,
}

impl<'a> Marks<'a> {
    /// The fields, of which [`for_client`](crate::upstream::for_client) has left none to the backend but `Vary`,
    /// that may be said twice.
    pub fn fields(&self) -> [Added<'a>; 6] {
        let origin = match self.sharing {
            Sharing::Allowed(origin) => Some(origin),
            Sharing::Refused | Sharing::Off => None,
        };
        let exposed = origin.map(|_| &EXPOSED_HEADERS);
        let vary = (*self.sharing != Sharing::Off).then_some(&ORIGIN);
        [
            (X_REQUEST_ID, Some(self.request_id)),
            (X_CONTENT_TYPE_OPTIONS, Some(&NOSNIFF)),
            (STRICT_TRANSPORT_SECURITY, self.hsts),
            (ACCESS_CONTROL_ALLOW_ORIGIN, origin),
            (ACCESS_CONTROL_EXPOSE_HEADERS, exposed),
            (VARY, vary),
        ]
    }
}

/// Sends `answer`, and notes whether the connection may be used again.
///
/// # Errors
/// The client is gone.
pub async fn send(downstream: &mut impl Downstream, answer: Answer, marks: &Marks<'_>) -> Result<()> {
    let mut header = ResponseHeader::build_no_case(answer.status, Some(answer.headers.len() + 1))?;
    for (name, value) in answer.headers {
        header.append_header(name, value)?;
    }
    // RFC 9110, section 8.6: a 204 has none.
    if answer.status != StatusCode::NO_CONTENT {
        header.insert_header(CONTENT_LENGTH, answer.body.len())?;
    }
    let request = downstream.request();
    let (without_body, version) = (request.method == Method::HEAD, request.version);
    // What is left of a request's body must never be read as the next request.
    if answer.close || !downstream.is_read() {
        downstream.close_after();
    }
    let sending = async {
        downstream.write_head(Head::Own(&header), &marks.fields()).await?;
        downstream.finish(if without_body { Bytes::new() } else { answer.body }).await
    };
    let too_slow =
        |_| Error::explain(ErrorType::WriteTimedout, "the client did not take the answer in time").into_down();
    timeout(ANSWER_TIMEOUT, sending).await.map_err(too_slow)??;
    // A stream of HTTP/2 that is left with a body unread is reset, and there are clients that
    // take the reset for a failure although the answer stands (RFC 9113, section 8.1).
    if version == Version::HTTP_2 {
        // What does not come in time is reset after all.
        let _ = timeout(REST_TIMEOUT, read_away(downstream)).await;
    }
    Ok(())
}

/// Reads what is left of a request's body, where that is not much.
async fn read_away(downstream: &mut impl Downstream) -> Result<()> {
    let mut left = REST_BYTES;
    while let Some(part) = downstream.read_body().await? {
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
        let mut out = Vec::new();
        put_status(&mut out, self.status);
        let own = self.headers.iter().map(|(name, value)| (name.clone(), Some(value)));
        for (name, value) in own.chain(marks.fields()) {
            if let Some(value) = value {
                put_field(&mut out, name.as_str(), value.as_bytes());
            }
        }
        put_field(&mut out, "Content-Length", self.body.len().to_string().as_bytes());
        put_field(&mut out, "Connection", b"close");
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        out.into()
    }
}
