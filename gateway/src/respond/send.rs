//! Sending a response: the headers common to all responses, and whether the connection is reused.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CONTENT_LENGTH,
    HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};
use tokio::time::timeout;

use super::LocalResponse;
use super::grpc::is_grpc;
use crate::cors::Sharing;
use crate::downstream::http1::{put_field, put_status};
use crate::downstream::{Downstream, ExtraField, ResponseHead};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

static NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
static ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
static TRUE: HeaderValue = HeaderValue::from_static("true");

/// How much of an unread request body is drained, in bytes.
const MAX_DRAIN_BYTES: usize = 64 * 1024;

/// The deadline for sending a whole response. They are small; without a deadline a client could hold the request by
/// reading a byte at a time.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// The deadline for draining a request body.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Headers on every response, including the backend's.
#[derive(Clone, Copy, Debug)]
pub struct CommonHeaders<'a> {
    /// The ID of the request, as in the logs.
    pub request_id: &'a HeaderValue,
    /// The value of `Strict-Transport-Security`, if sent.
    pub hsts: Option<&'a HeaderValue>,
    /// The result of the CORS check.
    pub sharing: &'a Sharing,
}

impl<'a> CommonHeaders<'a> {
    /// The fields. [`for_client`](crate::upstream::for_client) removes all of them from the backend's response but
    /// `Vary`, which may appear twice.
    pub fn fields(&self) -> [ExtraField<'a>; 7] {
        let credentials = self.sharing.allows_credentials().then_some(&TRUE);
        let vary = (*self.sharing != Sharing::Off).then_some(&ORIGIN);
        [
            (X_REQUEST_ID, Some(self.request_id)),
            (X_CONTENT_TYPE_OPTIONS, Some(&NOSNIFF)),
            (STRICT_TRANSPORT_SECURITY, self.hsts),
            (ACCESS_CONTROL_ALLOW_ORIGIN, self.sharing.origin()),
            (ACCESS_CONTROL_ALLOW_CREDENTIALS, credentials),
            (ACCESS_CONTROL_EXPOSE_HEADERS, self.sharing.exposed_headers()),
            (VARY, vary),
        ]
    }
}

/// Sends `response`, and has the connection closed if it cannot be reused. A gRPC call receives a refusal as its
/// `grpc-status`.
///
/// # Errors
/// The client has disconnected, or did not read the response in time.
pub async fn send(
    downstream: &mut impl Downstream,
    response: LocalResponse,
    common_headers: &CommonHeaders<'_>,
) -> Result<()> {
    let is_refusal = response.status.is_client_error() || response.status.is_server_error();
    let is_grpc = is_refusal && is_grpc(downstream.request());
    let response = if is_grpc { response.into_grpc() } else { response };
    let mut header = ResponseHeader::build_no_case(response.status, Some(response.headers.len() + 1))?;
    for (name, value) in response.headers {
        header.append_header(name, value)?;
    }
    // RFC 9110, section 8.6: a 204 must not have one. In gRPC, the end of the header marks the end.
    if response.status != StatusCode::NO_CONTENT && !is_grpc {
        header.insert_header(CONTENT_LENGTH, response.body.len())?;
    }
    let request = downstream.request();
    let (without_body, version) = (request.method == Method::HEAD, request.version);
    // The rest of a request body must never be read as the next request.
    if response.close || !downstream.is_read() {
        downstream.close_after();
    }
    let sending = async {
        downstream.write_head(ResponseHead::Plain(&header), &common_headers.fields()).await?;
        downstream.finish(if without_body { Bytes::new() } else { response.body }).await
    };
    let timed_out =
        |_| Error::explain(ErrorType::WriteTimedout, "the client did not read the response in time").into_down();
    timeout(RESPONSE_TIMEOUT, sending).await.map_err(timed_out)??;
    // An HTTP/2 stream with an unread body is reset, and some clients treat the reset as a failure even though the
    // response is complete (RFC 9113, section 8.1).
    if version == Version::HTTP_2 {
        // After the deadline the stream is reset.
        let _ = timeout(DRAIN_TIMEOUT, drain_body(downstream)).await;
    }
    Ok(())
}

/// Reads the rest of a request body, up to [`MAX_DRAIN_BYTES`].
async fn drain_body(downstream: &mut impl Downstream) -> Result<()> {
    let mut left = MAX_DRAIN_BYTES;
    while let Some(part) = downstream.read_body().await? {
        match left.checked_sub(part.len()) {
            Some(rest) => left = rest,
            None => break,
        }
    }
    Ok(())
}

impl LocalResponse {
    /// The response as HTTP/1.1 bytes, for a request that was refused before parsing. The connection must be closed
    /// after it.
    pub fn into_http1(self, common_headers: &CommonHeaders<'_>) -> Bytes {
        let mut out = Vec::new();
        put_status(&mut out, self.status);
        let own = self.headers.iter().map(|(name, value)| (name.clone(), Some(value)));
        for (name, value) in own.chain(common_headers.fields()) {
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

#[cfg(test)]
mod tests {
    use std::future::pending;

    use http::request::Parts;
    use http::{HeaderMap, Request};
    use pingora::ErrorSource;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::downstream::Peer;

    /// Longer than any deadline here.
    const FOREVER: Duration = Duration::from_secs(3600);

    /// A client that reads a byte at a time, and may never send the body of its request.
    struct Slow {
        request: Parts,
        each_byte: Duration,
        sends_body: bool,
    }

    impl Slow {
        fn new(version: Version, each_byte: Duration) -> Self {
            let (request, ()) = Request::post("/auth").version(version).body(()).unwrap().into_parts();
            Self { request, each_byte, sends_body: true }
        }

        /// Sends it a response of 100 bytes. Returns the duration and the result.
        async fn respond(&mut self) -> (Duration, Result<()>) {
            let (headers, body) = (Vec::new(), Bytes::from_static(&[b'a'; 100]));
            let response = LocalResponse { status: StatusCode::UNAUTHORIZED, headers, body, close: false };
            let common_headers =
                CommonHeaders { request_id: &HeaderValue::from_static("0"), hsts: None, sharing: &Sharing::Off };
            let started = Instant::now();
            let sent = send(self, response, &common_headers).await;
            (started.elapsed(), sent)
        }
    }

    impl Downstream for Slow {
        fn request(&self) -> &Parts {
            &self.request
        }

        fn peer(&self) -> &Peer {
            unreachable!("a response does not depend on the peer")
        }

        fn retract(&mut self) -> bool {
            false
        }

        fn has_body(&mut self) -> bool {
            true
        }

        fn is_read(&mut self) -> bool {
            false
        }

        fn close_after(&mut self) {}

        async fn read_body(&mut self) -> Result<Option<Bytes>> {
            if self.sends_body { Ok(None) } else { pending().await }
        }

        async fn send_continue(&mut self) -> Result<()> {
            Ok(())
        }

        async fn send_early_hints(&mut self, _: HeaderMap) -> Result<()> {
            Ok(())
        }

        fn put_trailers(&mut self, _: HeaderMap) {}

        async fn closed(&mut self) -> Box<Error> {
            pending().await
        }

        async fn write_head(&mut self, _: ResponseHead<'_>, _: &[ExtraField<'_>]) -> Result<()> {
            Ok(())
        }

        async fn write_body(&mut self, data: Bytes) -> Result<()> {
            for _ in data {
                sleep(self.each_byte).await;
            }
            Ok(())
        }

        async fn finish(&mut self, last: Bytes) -> Result<()> {
            self.write_body(last).await
        }

        fn status(&self) -> Option<StatusCode> {
            None
        }

        fn body_bytes(&self) -> usize {
            0
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_must_be_read_before_its_deadline() {
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            let (elapsed, sent) = Slow::new(version, RESPONSE_TIMEOUT / 200).respond().await;
            sent.unwrap();
            assert!((RESPONSE_TIMEOUT / 2..RESPONSE_TIMEOUT).contains(&elapsed), "{version:?}: {elapsed:?}");
            // A client that is too slow as a whole, and one that reads nothing.
            for each_byte in [RESPONSE_TIMEOUT / 50, FOREVER] {
                let (elapsed, sent) = Slow::new(version, each_byte).respond().await;
                let error = sent.unwrap_err();
                assert_eq!((error.etype(), error.esource()), (&ErrorType::WriteTimedout, &ErrorSource::Downstream));
                assert!((RESPONSE_TIMEOUT..RESPONSE_TIMEOUT * 2).contains(&elapsed), "{version:?}: {elapsed:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_http_2_request_body_is_drained_until_its_deadline() {
        for (version, expected) in [(Version::HTTP_11, Duration::ZERO), (Version::HTTP_2, DRAIN_TIMEOUT)] {
            let mut client = Slow { sends_body: false, ..Slow::new(version, Duration::ZERO) };
            let (elapsed, sent) = client.respond().await;
            sent.unwrap();
            assert!((expected..expected + DRAIN_TIMEOUT).contains(&elapsed), "{version:?}: {elapsed:?}");
        }
    }
}
