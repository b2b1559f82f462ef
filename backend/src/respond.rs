//! Responses: bodies, headers, and the one place that turns an error into a response.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use serde::Serialize;
use utoipa::ToSchema;

/// The media type of JSON responses.
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The media type of a [`Problem`] (RFC 9457, section 3).
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
/// Fetch standard, "Cross-Origin-Resource-Policy header".
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// A response body, complete or streamed. An error in a stream ends the connection.
pub type Body = UnsyncBoxBody<Bytes, Cut>;

/// A streamed response failed. The client sees that the chunked body is incomplete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response was cut short")]
pub struct Cut;

/// The JSON form of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `{"error":"<reason phrase>"}`, for clients of the api listener.
    Plain,
    /// `{"error":"<reason phrase>","description":"..."}`, for administrators and the gateway.
    Described,
    /// A [`Problem`], for clients of the api listener's later routes.
    Problem,
}

/// An error as `application/problem+json` (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem<'a> {
    /// Always `about:blank`: the status is the type of the problem (RFC 9457, section 4.2.1).
    pub r#type: &'static str,
    /// The reason phrase of the status.
    pub title: &'a str,
    /// The status.
    pub status: u16,
    /// A description of the error, for people.
    pub detail: &'a str,
    /// The name of the wrong parameter, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<&'a str>,
    /// The known values of the parameter, or the known parameters if its name is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<&'a [String]>,
}

/// An error in a parameter of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ParameterError {
    name: Cow<'static, str>,
    known: Option<Vec<String>>,
}

/// An error response. Its description is safe to send to the client; details for the log have been logged where the
/// error occurred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpError {
    /// The status.
    pub status: StatusCode,
    /// A description for people.
    pub description: Cow<'static, str>,
    retry_after: Option<u32>,
    allow: Option<&'static [Method]>,
    close: bool,
    parameter: Option<Box<ParameterError>>,
}

impl HttpError {
    /// An error with a status and a description.
    pub fn new(status: StatusCode, description: impl Into<Cow<'static, str>>) -> Self {
        Self { status, description: description.into(), retry_after: None, allow: None, close: false, parameter: None }
    }

    /// `400`.
    pub fn bad_request(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, description)
    }

    /// `400` because of the parameter `name`, with its `known` values if the list is closed.
    pub fn bad_parameter(
        name: impl Into<Cow<'static, str>>,
        description: impl Into<Cow<'static, str>>,
        known: Option<Vec<String>>,
    ) -> Self {
        let parameter = ParameterError { name: name.into(), known };
        Self { parameter: Some(Box::new(parameter)), ..Self::bad_request(description) }
    }

    /// The name of the wrong parameter, if it is because of one.
    pub fn parameter(&self) -> Option<&str> {
        self.parameter.as_ref().map(|parameter| parameter.name.as_ref())
    }

    /// `404`.
    pub fn not_found(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, description)
    }

    /// `405` with `Allow` (RFC 9110, section 15.5.6).
    pub fn method_not_allowed(allow: &'static [Method]) -> Self {
        let error = Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("allowed methods: {}", list(allow)));
        Self { allow: Some(allow), ..error }
    }

    /// `503` with `Retry-After`, in seconds.
    pub fn unavailable(description: impl Into<Cow<'static, str>>, retry_after: u32) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, description);
        Self { retry_after: Some(retry_after), ..error }
    }

    /// `429` with `Retry-After`, in seconds.
    pub fn too_many_requests(description: impl Into<Cow<'static, str>>, retry_after: u32) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, description);
        Self { retry_after: Some(retry_after), ..error }
    }

    /// Closes the connection after the response, because the rest of the request is not read.
    pub fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    /// The response, which caches must not store.
    pub fn into_response(self, shape: Shape) -> Response<Body> {
        let phrase = self.status.canonical_reason().unwrap_or("Error");
        let mut response = match shape {
            // The original's spelling; existing clients may compare it.
            Shape::Plain if self.status == StatusCode::NOT_FOUND => json(self.status, &Plain { error: "Not found" }),
            Shape::Plain => json(self.status, &Plain { error: phrase }),
            Shape::Described => json(self.status, &Described { error: phrase, description: self.description.as_ref() }),
            Shape::Problem => self.problem(phrase),
        };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::try_from(list(allow)).ok()) {
            headers.insert(ALLOW, allow);
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn problem(&self, title: &str) -> Response<Body> {
        let parameter = self.parameter.as_ref();
        let problem = Problem {
            r#type: "about:blank",
            title,
            status: self.status.as_u16(),
            detail: self.description.as_ref(),
            parameter: parameter.map(|parameter| parameter.name.as_ref()),
            known: parameter.and_then(|parameter| parameter.known.as_deref()),
        };
        let mut response = json(self.status, &problem);
        response.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
        response
    }
}

fn list(methods: &[Method]) -> String {
    methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
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

/// Compact JSON with a trailing newline.
///
/// # Errors
/// If `value` cannot be expressed in JSON; no response type here has such a value.
pub fn json_bytes(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    Ok(text)
}

/// A response with a JSON body.
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

/// Forbids caches to store a response (`Cache-Control: no-store`).
pub fn no_store<B>(mut response: Response<B>) -> Response<B> {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Forbids browsers to use a response of the admin listener in a page of another origin, to guess its media type and,
/// unless it has a `Cache-Control`, to store it.
pub fn protect(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// A response without headers.
pub fn with(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// A complete body.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An empty body.
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
    async fn an_error_has_two_shapes() {
        let error = HttpError::not_found("no such user");
        assert_eq!(text(error.clone().into_response(Shape::Plain)).await, "{\"error\":\"Not found\"}\n");
        let described = "{\"error\":\"Not Found\",\"description\":\"no such user\"}\n";
        assert_eq!(text(error.into_response(Shape::Described)).await, described);
        let plain = HttpError::unavailable("the store is unavailable", 5).into_response(Shape::Plain);
        assert_eq!(plain.headers()[RETRY_AFTER], "5");
        assert_eq!(plain.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(text(plain).await, "{\"error\":\"Service Unavailable\"}\n");
    }

    #[tokio::test]
    async fn a_problem_has_the_members_of_rfc_9457_and_two_more() {
        let error = HttpError::bad_parameter("sort", "sort is unknown", Some(vec!["a".to_owned(), "b".to_owned()]));
        let response = error.clone().into_response(Shape::Problem);
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        let expected = concat!(
            r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"sort is unknown","#,
            r#""parameter":"sort","known":["a","b"]}"#,
            "\n"
        );
        assert_eq!(text(response).await, expected);
        assert_eq!(text(error.into_response(Shape::Plain)).await, "{\"error\":\"Bad Request\"}\n");
        let busy = HttpError::too_many_requests("too many searches", 2).into_response(Shape::Problem);
        assert_eq!(busy.headers()[RETRY_AFTER], "2");
        let expected =
            r#"{"type":"about:blank","title":"Too Many Requests","status":429,"detail":"too many searches"}"#;
        assert_eq!(text(busy).await, format!("{expected}\n"));
    }

    #[test]
    fn a_405_lists_the_allowed_methods() {
        let response = HttpError::method_not_allowed(&[Method::GET, Method::HEAD]).into_response(Shape::Plain);
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
    }
}
