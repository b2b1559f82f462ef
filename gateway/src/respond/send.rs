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
use crate::downstream::http1::{put_field, put_status};
use crate::downstream::{Downstream, ExtraField, ResponseHead};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

static NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
static ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
static EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static(cors::EXPOSED_HEADERS);

/// What is read of a body that nobody wants, so that its stream ends well.
const REST_BYTES: usize = 64 * 1024;

/// How long a client may take over an answer of our own, which is small: one that takes a byte at a
/// time would hold the request for as long as it likes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the rest of a body that nobody wants is waited for.
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
    pub fn fields(&self) -> [ExtraField<'a>; 6] {
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
        downstream.write_head(ResponseHead::Plain(&header), &marks.fields()).await?;
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

#[cfg(test)]
mod tests {
    use std::future::pending;

    use http::Request;
    use http::request::Parts;
    use pingora::ErrorSource;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::downstream::Peer;

    /// Further than any deadline here.
    const AGES: Duration = Duration::from_secs(3600);

    /// A client that takes a byte of an answer at a time, and may never send the body of its request.
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

        /// Sends it an answer of 100 bytes; how long that took and what became of it.
        async fn answer(&mut self) -> (Duration, Result<()>) {
            let (headers, body) = (Vec::new(), Bytes::from_static(&[b'a'; 100]));
            let answer = Answer { status: StatusCode::UNAUTHORIZED, headers, body, close: false };
            let marks = Marks { request_id: &HeaderValue::from_static("0"), hsts: None, sharing: &Sharing::Off };
            let began = Instant::now();
            let sent = send(self, answer, &marks).await;
            (began.elapsed(), sent)
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
    async fn an_answer_is_to_be_taken_whole_within_its_time() {
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            let (took, sent) = Slow::new(version, ANSWER_TIMEOUT / 200).answer().await;
            sent.unwrap();
            assert!((ANSWER_TIMEOUT / 2..ANSWER_TIMEOUT).contains(&took), "{version:?}: {took:?}");
            // Each byte well within it, and none at all.
            for each_byte in [ANSWER_TIMEOUT / 50, AGES] {
                let (took, sent) = Slow::new(version, each_byte).answer().await;
                let error = sent.unwrap_err();
                assert_eq!((error.etype(), error.esource()), (&ErrorType::WriteTimedout, &ErrorSource::Downstream));
                assert!((ANSWER_TIMEOUT..ANSWER_TIMEOUT * 2).contains(&took), "{version:?}: {took:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_request_of_http_2_is_waited_for_but_not_long() {
        for (version, expected) in [(Version::HTTP_11, Duration::ZERO), (Version::HTTP_2, REST_TIMEOUT)] {
            let mut client = Slow { sends_body: false, ..Slow::new(version, Duration::ZERO) };
            let (took, sent) = client.answer().await;
            sent.unwrap();
            assert!((expected..expected + REST_TIMEOUT).contains(&took), "{version:?}: {took:?}");
        }
    }
}
