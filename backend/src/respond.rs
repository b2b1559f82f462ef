//! Answers: their bodies, their headers, and the one place where a refusal gets its shape.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use serde::Serialize;

/// The media type of every JSON answer.
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A body: whole, or streamed and then possibly cut short by an error, which ends the connection.
pub type Body = UnsyncBoxBody<Bytes, Cut>;

/// A streamed answer that could not be ended. The client sees the chunked body break off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer was cut short")]
pub struct Cut;

/// Which shape an error has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `{"error":"..."}`, as the clients of the api know it.
    Plain,
    /// `{"error":"<reason phrase>","description":"..."}`, for admins and the gateway.
    Described,
}

/// Why a request was not served. What it says is fit for the client; what only the log
/// may hold has been logged by who refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpError {
    /// The status.
    pub status: StatusCode,
    /// What is wrong, for a person.
    pub description: Cow<'static, str>,
    retry_after: Option<u32>,
    allow: Option<&'static str>,
    close: bool,
}

impl HttpError {
    /// A refusal with a status and what is wrong.
    pub fn new(status: StatusCode, description: impl Into<Cow<'static, str>>) -> Self {
        Self { status, description: description.into(), retry_after: None, allow: None, close: false }
    }

    /// `400`.
    pub fn bad_request(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, description)
    }

    /// `404`.
    pub fn not_found(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, description)
    }

    /// `405`, with the methods that are (RFC 9110, section 15.5.6).
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let refusal = Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("this takes {allow}"));
        Self { allow: Some(allow), ..refusal }
    }

    /// `503`, to be tried again after so many seconds.
    pub fn unavailable(description: impl Into<Cow<'static, str>>, retry_after: u32) -> Self {
        let refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, description);
        Self { retry_after: Some(retry_after), ..refusal }
    }

    /// Ends the connection after the answer: what is still to come on it is not read.
    pub fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    /// The answer, never to be stored by a cache.
    pub fn into_response(self, shape: Shape) -> Response<Body> {
        let phrase = self.status.canonical_reason().unwrap_or("Error");
        let mut response = match shape {
            // The original's own spelling, which its clients may compare.
            Shape::Plain if self.status == StatusCode::NOT_FOUND => json(self.status, &Plain { error: "Not found" }),
            Shape::Plain => json(self.status, &Plain { error: phrase }),
            Shape::Described => json(self.status, &Described { error: phrase, description: self.description.as_ref() }),
        };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[derive(Serialize)]
struct Plain<'a> {
    error: &'a str,
}

#[derive(Serialize)]
struct Described<'a> {
    error: &'a str,
    description: &'a str,
}

/// Compact JSON with a newline at its end, as bytes.
///
/// # Errors
/// A value that JSON cannot express; none of ours is.
pub fn json_bytes(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    Ok(text)
}

/// An answer with a JSON body.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match json_bytes(value) {
        Ok(text) => {
            let mut response = with(status, full(text));
            response.headers_mut().insert(CONTENT_TYPE, JSON);
            response
        }
        Err(_) => with(StatusCode::INTERNAL_SERVER_ERROR, full("{\"error\":\"Internal Server Error\"}\n")),
    }
}

/// `204`.
pub fn no_content() -> Response<Body> {
    with(StatusCode::NO_CONTENT, empty())
}

/// An answer with a body and nothing said of it yet.
pub fn with(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// A body that is known whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn text(response: Response<Body>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn the_two_shapes_of_a_refusal() {
        let refusal = HttpError::not_found("no such user");
        assert_eq!(text(refusal.clone().into_response(Shape::Plain)).await, "{\"error\":\"Not found\"}\n");
        let described = "{\"error\":\"Not Found\",\"description\":\"no such user\"}\n";
        assert_eq!(text(refusal.into_response(Shape::Described)).await, described);
        let plain = HttpError::unavailable("the store does not answer", 5).into_response(Shape::Plain);
        assert_eq!(plain.headers()[RETRY_AFTER], "5");
        assert_eq!(plain.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(text(plain).await, "{\"error\":\"Service Unavailable\"}\n");
    }

    #[test]
    fn a_405_lists_the_allowed_methods() {
        let response = HttpError::method_not_allowed("GET, HEAD").into_response(Shape::Plain);
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
    }
}
