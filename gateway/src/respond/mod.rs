//! The answers that the gateway makes itself: the one place where a stage's refusal becomes
//! a status, headers and a body. The client's text stands here; the log's with the errors.

mod refusal;
mod send;

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL,
    CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
};
use http::{Method, StatusCode};
use serde::Serialize;

use crate::authenticate;
use crate::cors;
use crate::limit::Exceeded;
use crate::token::TokenError;
pub use send::{Marks, send};

/// What `Retry-After` says where nothing better is known, in seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// The quota and the seconds in which all of it comes back.
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What is left of the quota, and the seconds until there is more.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// An answer, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers, without [`Marks`].
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body: JSON and a newline, or nothing.
    pub body: Bytes,
    /// Whether the connection ends with it, since what follows cannot be trusted.
    pub close: bool,
}

/// `{"error": ...}`
#[derive(Serialize)]
struct Plain<'a> {
    error: &'a str,
}

/// The original's shape of an error.
#[derive(Serialize)]
struct Described<'a> {
    status_code: u16,
    error: &'a str,
    description: &'a str,
}

#[derive(Serialize)]
struct Granted<'a> {
    access_token: &'a str,
}

impl Answer {
    fn new(status: StatusCode, body: &impl Serialize) -> Self {
        // These bodies are strings and numbers: they always serialise.
        let mut body = serde_json::to_vec(body).unwrap_or_default();
        body.push(b'\n');
        let headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        Self { status, headers, body: body.into(), close: false }
    }

    fn no_content(headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        Self { status: StatusCode::NO_CONTENT, headers, body: Bytes::new(), close: false }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    fn described(status: StatusCode, error: &str, description: &str) -> Self {
        Self::new(status, &Described { status_code: status.as_u16(), error, description })
    }

    /// `{"error":"<reason phrase>"}`
    pub fn plain(status: StatusCode) -> Self {
        Self::new(status, &Plain { error: status.canonical_reason().unwrap_or("Error") })
    }

    /// A token.
    pub fn granted(token: &str) -> Self {
        Self::new(StatusCode::OK, &Granted { access_token: token })
    }

    /// Another method than POST on a route that has no other.
    pub fn only_post() -> Self {
        Self::plain(StatusCode::METHOD_NOT_ALLOWED).with(ALLOW, HeaderValue::from_static("POST"))
    }

    /// The token is ended.
    pub fn logged_out() -> Self {
        Self::no_content(vec![(CACHE_CONTROL, HeaderValue::from_static("no-store"))])
    }

    /// The token of nobody: its user is gone, disabled or has a new password, or it was logged
    /// out. They are not told apart.
    pub fn revoked() -> Self {
        authenticate::AuthenticationError::Token(TokenError::NoIdentity).into()
    }

    /// A body where none is taken. What follows might be read as a request.
    pub fn unwanted_body() -> Self {
        Self { close: true, ..Self::plain(StatusCode::BAD_REQUEST) }
    }

    /// What a browser of a listed origin asked before it sends a request (the Fetch standard,
    /// section 3.3.3): these methods may be sent.
    pub fn preflight(methods: &[&Method]) -> Self {
        let methods = methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(", ");
        // Methods are tokens, which may stand in a header.
        let methods = HeaderValue::try_from(methods).unwrap_or(HeaderValue::from_static("GET"));
        Self::no_content(vec![
            (ACCESS_CONTROL_ALLOW_METHODS, methods),
            (ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(cors::ALLOWED_HEADERS)),
            (ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(cors::MAX_AGE)),
        ])
    }

    /// A host that is none of ours (RFC 9110, section 15.5.20).
    pub fn misdirected() -> Self {
        Self::plain(StatusCode::MISDIRECTED_REQUEST)
    }

    /// Over the limit of this name, on the login route or another (RFC 6585, section 4).
    ///
    /// Draft-ietf-httpapi-ratelimit-headers-10 would let every answer tell what is left. Only
    /// this one does: who stays below the limit needs no pacing, those behind one address
    /// would learn how much the others ask, and an answer from memory would have to be made
    /// anew for each request.
    pub fn limited(limit: &'static str, exceeded: Exceeded, on_login: bool) -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        let answer = if on_login {
            Self::described(status, "Too Many Requests", "Too many requests")
        } else {
            Self::plain(status)
        };
        let Exceeded { quota, wait } = exceeded;
        let wait = whole_seconds(wait);
        let policy = format!("\"{limit}\";q={};w={}", quota.burst, whole_seconds(quota.window()));
        answer
            .with(RETRY_AFTER, HeaderValue::from(wait))
            .with(RATE_LIMIT_POLICY, HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("")))
            .with(
                RATE_LIMIT,
                HeaderValue::from_str(&format!("\"{limit}\";r=0;t={wait}")).unwrap_or(HeaderValue::from_static("")),
            )
    }

    /// The backend did not answer: 502, 503 or 504.
    pub fn upstream(status: StatusCode) -> Self {
        let answer = Self::plain(status);
        if status == StatusCode::SERVICE_UNAVAILABLE { answer.with(RETRY_AFTER, RETRY_AFTER_SECONDS) } else { answer }
    }
}

/// Seconds as headers tell them: whole, and never too few (RFC 9110, section 10.2.3).
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
