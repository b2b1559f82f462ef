//! `POST /auth`: parses the credentials, sends them to the backend for verification, and issues a token. A token is
//! issued only if the backend responds with 200 and the JSON names the same user.

mod backend;
mod response;

use std::hash::Hash;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};

use crate::limit::{self, Attempt, Ending, Throttle, Throttled};
use crate::token::{self, Keys};
pub use backend::Backend;
use response::{VerifiedPassword, verify_response};

/// The maximum size of the request body, in bytes.
pub const MAX_BODY_BYTES: usize = 4 * 1024;

/// The maximum size of the backend's response, in bytes.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// How long a login waits for concurrent logins of its address or name, while their failures could exhaust the limit.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// The interval at which it checks whether they have ended.
const QUEUE_INTERVAL: Duration = Duration::from_millis(20);

/// The maximum number of checks of one login while its password is being changed.
const ATTEMPTS: usize = 3;

/// How far the backend's clock may be ahead of the gateway's, in seconds.
const MAX_SKEW_SECONDS: i64 = 2;

/// The interval between two readings of the clock.
const TICK: Duration = Duration::from_millis(20);

/// Why no token was issued.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The content type is not JSON.
    #[error("the content type is not application/json")]
    ContentType,
    /// The body exceeds [`MAX_BODY_BYTES`].
    #[error("the body is too large")]
    TooLarge,
    /// The body did not arrive within its deadline.
    #[error("the body did not arrive")]
    Incomplete,
    /// The framing of the body is invalid, or the body was truncated.
    #[error("the body cannot be read")]
    Broken,
    /// The body is not a login. The text is sent to the client.
    #[error("{0}")]
    Malformed(&'static str),
    /// The backend rejects these credentials, or they cannot be valid.
    #[error("the credentials are not accepted")]
    Credentials,
    /// Too many logins failed before; this one was not checked.
    #[error("too many logins failed: {limit}")]
    Throttled {
        /// The name of the limit, a metric label.
        limit: &'static str,
        /// The time until the next login is accepted.
        wait: Duration,
    },
    /// The backend could not check the credentials. The text is for the log.
    #[error("the credentials cannot be checked: {0}")]
    Unavailable(String),
    /// The backend was overloaded a moment ago, and no request was sent.
    #[error("the backend checks as many credentials as it can")]
    Busy,
}

impl LoginError {
    /// Every value of [`LoginError::label`], and the label of a successful login.
    pub const LABELS: [&str; 5] = ["success", "refused", "throttled", "malformed", "unavailable"];

    /// The metric label of the result.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Credentials => "refused",
            Self::Throttled { .. } => "throttled",
            Self::Unavailable(_) | Self::Busy => "unavailable",
            Self::ContentType | Self::TooLarge | Self::Incomplete | Self::Broken | Self::Malformed(_) => "malformed",
        }
    }
}

/// The name and the password sent, either of which may be missing.
#[derive(PartialEq, Eq)]
pub struct Credentials {
    username: String,
    password: String,
    /// Whether exactly these two were sent, neither is empty, and the name is not that of a static token. Other
    /// credentials cannot be valid, but are checked as well, so that they take as long as wrong ones.
    complete: bool,
}

/// Checks the `Content-Type`: `application/json`, with any parameters.
///
/// # Errors
/// [`LoginError::ContentType`].
pub fn check_content_type(headers: &HeaderMap) -> Result<(), LoginError> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let value = values.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") && values.next().is_none() {
        Ok(())
    } else {
        Err(LoginError::ContentType)
    }
}

/// Parses a body of at most [`MAX_BODY_BYTES`].
///
/// # Errors
/// [`LoginError::Malformed`] if it is not a JSON object of strings.
pub fn parse(body: &[u8]) -> Result<Credentials, LoginError> {
    let mut members = token::json_object(body).map_err(LoginError::Malformed)?;
    let mut take = |name: &str| match members.remove(name) {
        Some(Value::String(text)) => Ok(text),
        None | Some(Value::Null) => Ok(String::new()),
        Some(_) => Err(LoginError::Malformed("username and password must be strings")),
    };
    let (username, password) = (take("username")?, take("password")?);
    let can_be_a_user = !username.is_empty() && !username.starts_with(token::STATIC_PREFIX);
    let complete = can_be_a_user && !password.is_empty() && members.is_empty();
    Ok(Credentials { username, password, complete })
}

/// Starts the attempt with `credentials` from `address` if the limits allow another failure. Waits for concurrent
/// attempts if their failures would exhaust a limit. `clock` returns the time as [`limit`] counts it.
///
/// # Errors
/// [`LoginError::Throttled`], or [`LoginError::Unavailable`] if the concurrent attempts do not end in time.
pub async fn begin<'a>(
    credentials: &Credentials,
    throttle: &'a Throttle,
    address: &(impl Hash + Sync),
    clock: impl Fn() -> Duration,
) -> Result<Attempt<'a>, LoginError> {
    let started = clock();
    loop {
        let now = clock();
        match throttle.begin(address, &credentials.username, now) {
            Ok(attempt) => return Ok(attempt),
            Err(Throttled::Address(wait)) => return Err(LoginError::Throttled { limit: limit::LOGIN_ADDRESS, wait }),
            Err(Throttled::Name(wait)) => return Err(LoginError::Throttled { limit: limit::LOGIN_NAME, wait }),
            Err(busy @ Throttled::Busy) if now.saturating_sub(started) >= QUEUE_TIMEOUT => {
                return Err(LoginError::Unavailable(busy.to_string()));
            }
            Err(Throttled::Busy) => tokio::time::sleep(QUEUE_INTERVAL).await,
        }
    }
}

/// A successful login.
pub struct Login {
    /// The token, a secret.
    pub token: String,
    /// The name of the user.
    pub username: String,
}

/// How the limits count an attempt with this `result`.
pub fn ending(result: &Result<Login, LoginError>) -> Ending {
    match result {
        Ok(_) => Ending::Succeeded,
        Err(LoginError::Credentials) => Ending::Failed,
        Err(_) => Ending::Unknown,
    }
}

/// Has the backend verify `credentials`, and issues a token whose `jti` is `id` and the mark of the password. `now` is
/// the clock, in seconds since 1970.
///
/// The `iat` of the token is the second in which the request was sent. If the backend returns no mark, this time alone
/// identifies the password: a later change has the same second or a later one, and revokes the token. If the password
/// was changed in that second already, the request is repeated in a later one.
///
/// # Errors
/// [`LoginError::Credentials`], [`LoginError::Unavailable`] or [`LoginError::Busy`].
pub async fn login(
    credentials: Credentials,
    backend: &Backend,
    keys: &Keys,
    id: &str,
    request_id: &str,
    now: impl Fn() -> i64,
) -> Result<Login, LoginError> {
    let Credentials { username, password, complete } = credentials;
    let body = Bytes::from(json!({"username": username, "password": password}).to_string());
    for _ in 0..ATTEMPTS {
        let issued_at = now();
        let request = Request::post("/credentials/verify")
            .header(CONTENT_TYPE, "application/json")
            .header("X-Request-Id", request_id)
            .body(body.clone())
            .map_err(|error| LoginError::Unavailable(error.to_string()))?;
        let response = backend.send(request).await?;
        if response.status() == StatusCode::MISDIRECTED_REQUEST {
            return Err(backend.unexpected(response.status()));
        }
        let verified = verify_response(response.status(), response.body(), &username)?;
        if !complete {
            return Err(LoginError::Credentials);
        }
        let VerifiedPassword { password_changed_at, password_mark, roles } = verified;
        let jti = match (password_mark, password_changed_at) {
            (Some(mark), _) => token::marked_jti(id, &mark),
            (None, Some(changed)) if changed >= issued_at => {
                wait_past(changed, &now).await?;
                continue;
            }
            (None, _) => id.to_owned(),
        };
        let token = keys.issue_scoped(&username, &jti, &roles, issued_at);
        let token = token.map_err(|error| LoginError::Unavailable(error.to_string()))?;
        return Ok(Login { token, username });
    }
    Err(LoginError::Unavailable("the password changes too often".to_owned()))
}

/// Waits until the second of the password change has passed. A token of that second is treated as revoked, since it
/// may have been issued before the change.
async fn wait_past(changed: i64, now: impl Fn() -> i64) -> Result<(), LoginError> {
    let started = now();
    if changed > started + MAX_SKEW_SECONDS {
        return Err(LoginError::Unavailable("the backend's clock is ahead".to_owned()));
    }
    while now() <= changed {
        tokio::time::sleep(TICK).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(body: &str) -> Result<(String, String, bool), &'static str> {
        match parse(body.as_bytes()) {
            Ok(Credentials { username, password, complete }) => Ok((username, password, complete)),
            Err(LoginError::Malformed(reason)) => Err(reason),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn exactly_two_strings_are_complete() {
        let good = read(r#" {"username":"user01","password":"p"} "#);
        assert_eq!(good, Ok(("user01".to_owned(), "p".to_owned(), true)));
    }

    #[test]
    fn missing_empty_null_or_extra_fields_are_incomplete_but_no_error() {
        for body in [
            "{}",
            r#"{"username":"a"}"#,
            r#"{"username":"a","password":""}"#,
            r#"{"username":null,"password":"b"}"#,
            r#"{"username":"a","password":"b","c":1}"#,
            r#"{"username":"static:a","password":"b"}"#,
            r#"{"username":"static:","password":"b"}"#,
        ] {
            assert!(!read(body).unwrap().2, "{body}");
        }
    }

    #[test]
    fn anything_but_an_object_of_strings_is_malformed() {
        for body in [
            "",
            "x",
            "[]",
            "1",
            "null",
            "\"a\"",
            r#"{"username":"a""#,
            r#"{"username":{"$ne":null},"password":"b"}"#,
            r#"{"username":["a"],"password":"b"}"#,
            r#"{"username":1,"password":"b"}"#,
            r#"{"username":"a","username":"a","password":"b"}"#,
            r#"{"username":true,"password":"b"}"#,
        ] {
            assert!(read(body).is_err(), "{body}");
        }
        assert!(parse(b"{\"username\":\"\xff\",\"password\":\"b\"}").is_err());
    }

    #[test]
    fn the_content_type_may_have_parameters() {
        let check = |values: &[&'static str]| {
            let headers = values.iter().map(|value| (CONTENT_TYPE, HeaderValue::from_static(value))).collect();
            check_content_type(&headers).is_ok()
        };
        assert!(check(&["application/json"]) && check(&["Application/JSON; charset=utf-8; x=y"]));
        assert!(!check(&[]) && !check(&["text/plain"]) && !check(&["application/jsonx"]) && !check(&[""]));
        assert!(!check(&["application/json", "application/json"]));
    }

    #[tokio::test]
    async fn no_token_is_issued_in_the_second_of_a_password_change() {
        let readings = std::cell::Cell::new(0);
        let now = || {
            readings.set(readings.get() + 1);
            if readings.get() > 3 { 1001 } else { 1000 }
        };
        wait_past(1000, now).await.unwrap();
        assert_eq!(now(), 1001);
        wait_past(999, || 1000).await.unwrap();
        assert!(matches!(wait_past(1003, || 1000).await, Err(LoginError::Unavailable(_))));
    }
}
