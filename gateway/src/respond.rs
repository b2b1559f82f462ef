//! The answers that the gateway makes itself: the one place where a stage's refusal becomes
//! a status, headers and a body. The client's text stands here; the log's with the errors.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue,
    RETRY_AFTER, STRICT_TRANSPORT_SECURITY, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, StatusCode};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;
use serde::Serialize;
use tokio::time::timeout;

use crate::authenticate;
use crate::cors::{self, Sharing};
use crate::framing;
use crate::limit::Exceeded;
use crate::login;
use crate::route::NoMatch;
use crate::token::Refused;

/// What `Retry-After` says where nothing better is known, in seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// The quota and the seconds in which all of it comes back.
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What is left of the quota, and the seconds until there is more.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// What is read of a body that nobody wants, so that its stream ends well.
const REST_BYTES: usize = 64 * 1024;

/// How long it is waited for.
const REST_TIMEOUT: Duration = Duration::from_secs(1);

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
        let headers = vec![(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
        Self { status: StatusCode::NO_CONTENT, headers, body: Bytes::new(), close: false }
    }

    /// The token of nobody: its user is gone, disabled or has a new password, or it was logged
    /// out. They are not told apart.
    pub fn revoked() -> Self {
        authenticate::Refusal::Token(Refused::NoIdentity).into()
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
        let headers = vec![
            (ACCESS_CONTROL_ALLOW_METHODS, methods),
            (ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(cors::ALLOWED_HEADERS)),
            (ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(cors::MAX_AGE)),
        ];
        Self { status: StatusCode::NO_CONTENT, headers, body: Bytes::new(), close: false }
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

impl From<framing::Refusal> for Answer {
    fn from(refusal: framing::Refusal) -> Self {
        let status = match refusal {
            framing::Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
            framing::Refusal::TargetTooLong => StatusCode::URI_TOO_LONG,
            framing::Refusal::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        };
        Self { close: true, ..Self::plain(status) }
    }
}

impl From<NoMatch> for Answer {
    fn from(no_match: NoMatch) -> Self {
        match no_match {
            // The original's own spelling.
            NoMatch::Path => Self::new(StatusCode::NOT_FOUND, &Plain { error: "Not found" }),
            NoMatch::Method { allow } => {
                let allow = HeaderValue::from_str(&allow).unwrap_or(HeaderValue::from_static(""));
                Self::plain(StatusCode::METHOD_NOT_ALLOWED).with(ALLOW, allow)
            }
        }
    }
}

impl From<authenticate::Refusal> for Answer {
    fn from(refusal: authenticate::Refusal) -> Self {
        use authenticate::Refusal;
        let (error, description) = match refusal {
            Refusal::Absent => ("Authorization Required", "Request does not contain an access token".to_owned()),
            Refusal::UnsupportedScheme => ("Invalid JWT header", "Unsupported authorization type".to_owned()),
            Refusal::TokenMissing => ("Invalid JWT header", "Token missing".to_owned()),
            Refusal::TokenContainsSpaces => ("Invalid JWT header", "Token contains spaces".to_owned()),
            Refusal::Token(Refused::NoIdentity) => ("Invalid JWT", "User does not exist".to_owned()),
            Refusal::Token(refused) => ("Invalid token", describe(refused)),
        };
        // RFC 6750, section 3.1: only where a token was sent and refused.
        let bearer = match refusal {
            Refusal::Token(_) => r#"Bearer realm="Login Required", error="invalid_token""#,
            _ => r#"Bearer realm="Login Required""#,
        };
        Self::described(StatusCode::UNAUTHORIZED, error, &description)
            .with(WWW_AUTHENTICATE, HeaderValue::from_static(r#"JWT realm="Login Required""#))
            .with(WWW_AUTHENTICATE, HeaderValue::from_static(bearer))
    }
}

/// The words of the original, letter for letter.
fn describe(refused: Refused) -> String {
    match refused {
        Refused::TooLong => "Token is too long".to_owned(),
        Refused::NotEnoughSegments => "Not enough segments".to_owned(),
        Refused::HeaderEncoding => "Invalid header padding".to_owned(),
        Refused::HeaderJson(reason) => format!("Invalid header string: {reason}"),
        Refused::PayloadEncoding => "Invalid payload padding".to_owned(),
        Refused::SignatureEncoding => "Invalid crypto padding".to_owned(),
        Refused::Algorithm => "The specified alg value is not allowed".to_owned(),
        Refused::Signature => "Signature verification failed".to_owned(),
        Refused::PayloadJson(reason) => format!("Invalid payload string: {reason}"),
        Refused::Missing(claim) => format!("Token is missing the \"{claim}\" claim"),
        Refused::NotAnInteger(claim) => {
            use crate::token::Claim;
            let name = match claim {
                Claim::ExpirationTime => "Expiration Time",
                Claim::IssuedAt => "Issued At",
                Claim::NotBefore => "Not Before",
            };
            format!("{name} claim ({claim}) must be an integer.")
        }
        Refused::IssuedInTheFuture => "Issued At claim (iat) cannot be in the future.".to_owned(),
        Refused::NotYetValid => "The token is not yet valid (nbf)".to_owned(),
        Refused::Expired => "Signature has expired".to_owned(),
        Refused::NoIdentity => "User does not exist".to_owned(),
    }
}

impl From<&login::Refusal> for Answer {
    fn from(refusal: &login::Refusal) -> Self {
        use login::Refusal;
        match refusal {
            Refusal::ContentType => Self::described(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Unsupported Media Type",
                "The Content-Type must be application/json",
            ),
            Refusal::TooLarge => Self {
                close: true,
                ..Self::described(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large", "The body is over 4096 bytes")
            },
            Refusal::Incomplete => Self { close: true, ..Self::plain(StatusCode::REQUEST_TIMEOUT) },
            Refusal::Broken => Self { close: true, ..Self::plain(StatusCode::BAD_REQUEST) },
            Refusal::Malformed(reason) => Self::described(StatusCode::BAD_REQUEST, "Bad Request", reason),
            // A 401 whose body says "Bad Request": the original's words.
            Refusal::Credentials => Self::described(StatusCode::UNAUTHORIZED, "Bad Request", "Invalid credentials")
                .with(WWW_AUTHENTICATE, HeaderValue::from_static(r#"JWT realm="Login Required""#))
                .with(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="Login Required""#)),
            // Alike for an address and a name: what is told is to wait.
            Refusal::Throttled { wait, .. } => {
                Self::described(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests", "Too many failed logins")
                    .with(RETRY_AFTER, HeaderValue::from(whole_seconds(*wait)))
            }
            Refusal::Unavailable(_) => Self::upstream(StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

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
    let mut header = ResponseHeader::build(answer.status, Some(answer.headers.len() + 5))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Claim;

    fn body(answer: &Answer) -> &str {
        std::str::from_utf8(&answer.body).unwrap()
    }

    #[test]
    fn refusals_of_tokens_have_the_originals_words() {
        let answer = Answer::from(authenticate::Refusal::Token(Refused::Missing(Claim::ExpirationTime)));
        let expected = "{\"status_code\":401,\"error\":\"Invalid token\",\"description\":\"Token is missing the \\\"exp\\\" claim\"}\n";
        assert_eq!(body(&answer), expected);
        let answer = Answer::from(authenticate::Refusal::Token(Refused::NoIdentity));
        assert_eq!(
            body(&answer),
            "{\"status_code\":401,\"error\":\"Invalid JWT\",\"description\":\"User does not exist\"}\n"
        );
    }

    #[test]
    fn every_401_offers_both_schemes() {
        let absent = Answer::from(authenticate::Refusal::Absent);
        let refused = Answer::from(authenticate::Refusal::Token(Refused::Expired));
        let offers = |answer: &Answer| -> Vec<String> {
            let offers = answer.headers.iter().filter(|(name, _)| name == WWW_AUTHENTICATE);
            offers.map(|(_, value)| value.to_str().unwrap().to_owned()).collect()
        };
        let jwt = r#"JWT realm="Login Required""#;
        assert_eq!(offers(&absent), [jwt, r#"Bearer realm="Login Required""#]);
        assert_eq!(offers(&refused), [jwt, r#"Bearer realm="Login Required", error="invalid_token""#]);
    }

    #[test]
    fn malformed_requests_end_the_connection() {
        let answer = Answer::from(framing::Refusal::Malformed("x"));
        assert_eq!(
            (answer.status, answer.close, body(&answer)),
            (StatusCode::BAD_REQUEST, true, "{\"error\":\"Bad Request\"}\n")
        );
    }

    #[test]
    fn a_missing_route_is_told_in_the_originals_spelling() {
        assert_eq!(body(&Answer::from(NoMatch::Path)), "{\"error\":\"Not found\"}\n");
    }
}
