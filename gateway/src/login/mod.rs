//! `POST /auth`: reads the credentials, asks the backend whether they are right, and makes
//! a token. Only a 200 whose JSON names the same user ever does.

mod backend;

use std::hash::Hash;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};

use crate::limit::{self, Attempt, Ending, Throttle, Throttled};
use crate::token::{self, Keys};
pub use backend::Backend;

/// The largest body that is read, in bytes.
pub const MAX_BODY_BYTES: usize = 4 * 1024;

/// The most that is read of the backend's answer, in bytes. A username fits many times.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// How long a login waits while others of its address or name are under way that could fail.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// How often it asks whether they have ended.
const TURN_INTERVAL: Duration = Duration::from_millis(20);

/// How often the backend is asked about one login whose password has just been changed.
const ATTEMPTS: usize = 3;

/// How far the backend's clock may be ahead of ours, in seconds.
const MAX_SKEW_SECONDS: i64 = 2;

/// Between two looks at the clock.
const TICK: Duration = Duration::from_millis(20);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The body is not declared as JSON.
    #[error("the content type is not application/json")]
    ContentType,
    /// Over [`MAX_BODY_BYTES`].
    #[error("the body is too large")]
    TooLarge,
    /// The body did not come within its deadline.
    #[error("the body did not arrive")]
    Incomplete,
    /// The body is not framed as it must be, or was cut short.
    #[error("the body cannot be read")]
    Broken,
    /// The body cannot be a login. The text is fit for the client.
    #[error("{0}")]
    Malformed(&'static str),
    /// The backend does not take these credentials, or they cannot be right.
    #[error("the credentials are not accepted")]
    Credentials,
    /// Too many failed before this one, which nobody looked at.
    #[error("too many logins failed: {limit}")]
    Throttled {
        /// The limit, as a metric tells it.
        limit: &'static str,
        /// How long until one more may fail.
        wait: Duration,
    },
    /// The backend could not check just now. The text is for the log.
    #[error("the credentials cannot be checked: {0}")]
    Unavailable(String),
    /// The backend had no room for another login a moment ago, and was not asked.
    #[error("the backend checks as many credentials as it can")]
    Busy,
}

impl Refusal {
    /// Every value of [`Refusal::label`], and what a login that went well is called.
    pub const LABELS: [&str; 5] = ["success", "refused", "throttled", "malformed", "unavailable"];

    /// What became of the login, as a metric tells it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Credentials => "refused",
            Self::Throttled { .. } => "throttled",
            Self::Unavailable(_) | Self::Busy => "unavailable",
            Self::ContentType | Self::TooLarge | Self::Incomplete | Self::Broken | Self::Malformed(_) => "malformed",
        }
    }
}

/// What was sent: a name and a password, either of which may be missing.
#[derive(PartialEq, Eq)]
pub struct Credentials {
    username: String,
    password: String,
    /// Whether these two, not empty, and nothing else were sent, and the name is no machine's. What
    /// cannot be right is still checked, so that it takes as long as what is wrong.
    complete: bool,
}

/// Checks the `Content-Type`: `application/json`, with any parameters.
///
/// # Errors
/// [`Refusal::ContentType`].
pub fn check_content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let value = values.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") && values.next().is_none() {
        Ok(())
    } else {
        Err(Refusal::ContentType)
    }
}

/// Reads a body of at most [`MAX_BODY_BYTES`].
///
/// # Errors
/// [`Refusal::Malformed`] where it is no JSON object of strings.
pub fn parse(body: &[u8]) -> Result<Credentials, Refusal> {
    let mut members = token::json_object(body).map_err(Refusal::Malformed)?;
    let mut take = |name: &str| match members.remove(name) {
        Some(Value::String(text)) => Ok(text),
        None | Some(Value::Null) => Ok(String::new()),
        Some(_) => Err(Refusal::Malformed("username and password must be strings")),
    };
    let (username, password) = (take("username")?, take("password")?);
    let may_be_a_user = !username.is_empty() && !username.starts_with(token::STATIC_PREFIX);
    let complete = may_be_a_user && !password.is_empty() && members.is_empty();
    Ok(Credentials { username, password, complete })
}

/// Begins the attempt with `credentials` from `address`, where it may fail. What it waits for
/// is others that are under way; `clock` tells the time as [`limit`] counts it.
///
/// # Errors
/// [`Refusal::Throttled`], and [`Refusal::Unavailable`] where the others do not end.
pub async fn begin<'a>(
    credentials: &Credentials,
    throttle: &'a Throttle,
    address: &(impl Hash + Sync),
    clock: impl Fn() -> Duration,
) -> Result<Attempt<'a>, Refusal> {
    let asked = clock();
    loop {
        let now = clock();
        match throttle.begin(address, &credentials.username, now) {
            Ok(attempt) => return Ok(attempt),
            Err(Throttled::Address(wait)) => return Err(Refusal::Throttled { limit: limit::LOGIN_ADDRESS, wait }),
            Err(Throttled::Name(wait)) => return Err(Refusal::Throttled { limit: limit::LOGIN_NAME, wait }),
            Err(busy @ Throttled::Busy) if now.saturating_sub(asked) >= TURN_TIMEOUT => {
                return Err(Refusal::Unavailable(busy.to_string()));
            }
            Err(Throttled::Busy) => tokio::time::sleep(TURN_INTERVAL).await,
        }
    }
}

/// A login that succeeded.
pub struct Granted {
    /// The token. It is secret.
    pub token: String,
    /// Who logged in.
    pub username: String,
}

/// What the backend returns for credentials that are right.
#[derive(Debug, PartialEq, Eq)]
struct Vouched {
    /// When the password was changed last, in seconds since 1970 by the backend's clock.
    password_changed_at: Option<i64>,
    /// The mark of the password. Older versions of the backend return none.
    password_mark: Option<String>,
}

/// What an attempt that ended with `result` counts as.
pub fn ending(result: &Result<Granted, Refusal>) -> Ending {
    match result {
        Ok(_) => Ending::Succeeded,
        Err(Refusal::Credentials) => Ending::Failed,
        Err(_) => Ending::Unknown,
    }
}

/// Asks the backend, and makes a token whose `jti` is `id` and the mark of the password; `now` is the clock, in
/// seconds since 1970.
///
/// It is issued at the second in which the backend was asked. Where the backend returns no mark, the time alone
/// says which password the token was issued for: whenever the password is changed after the backend has looked at
/// it, that is no earlier second, and ends the token. Where it was changed in that very second, the backend is
/// asked once more in a later one.
///
/// # Errors
/// [`Refusal::Credentials`], [`Refusal::Unavailable`] or [`Refusal::Busy`].
pub async fn login(
    credentials: Credentials,
    backend: &Backend,
    keys: &Keys,
    id: &str,
    request_id: &str,
    now: impl Fn() -> i64,
) -> Result<Granted, Refusal> {
    let Credentials { username, password, complete } = credentials;
    let body = Bytes::from(json!({"username": username, "password": password}).to_string());
    for _ in 0..ATTEMPTS {
        let asked_at = now();
        let request = Request::post("/credentials/verify")
            .header(CONTENT_TYPE, "application/json")
            .header("X-Request-Id", request_id)
            .body(body.clone())
            .map_err(|error| Refusal::Unavailable(error.to_string()))?;
        let answer = backend.ask(request).await?;
        if answer.status() == StatusCode::MISDIRECTED_REQUEST {
            return Err(backend.unexpected(answer.status()));
        }
        let vouched = judge(answer.status(), answer.body(), &username)?;
        if !complete {
            return Err(Refusal::Credentials);
        }
        let jti = match vouched {
            Vouched { password_mark: Some(mark), .. } => token::marked_jti(id, &mark),
            Vouched { password_changed_at: Some(changed), .. } if changed >= asked_at => {
                outwait(changed, &now).await?;
                continue;
            }
            Vouched { .. } => id.to_owned(),
        };
        let token = keys.issue(&username, &jti, asked_at).map_err(|error| Refusal::Unavailable(error.to_string()))?;
        return Ok(Granted { token, username });
    }
    Err(Refusal::Unavailable("the password changes too often".to_owned()))
}

/// Waits until the second in which the password was changed has passed: a token of that second
/// may have been made before the change, and opens nothing.
async fn outwait(changed: i64, now: impl Fn() -> i64) -> Result<(), Refusal> {
    let began = now();
    if changed > began + MAX_SKEW_SECONDS {
        return Err(Refusal::Unavailable("the backend's clock is ahead".to_owned()));
    }
    while now() <= changed {
        tokio::time::sleep(TICK).await;
    }
    Ok(())
}

/// Whether an answer says that `username` gave the right password, and what it says of the password then.
fn judge(status: StatusCode, body: &[u8], username: &str) -> Result<Vouched, Refusal> {
    match status {
        StatusCode::OK => {
            let members = token::json_object(body).unwrap_or_default();
            if members.get("username").and_then(Value::as_str) != Some(username) {
                return Err(Refusal::Unavailable("a 200 that does not name the user".to_owned()));
            }
            let odd = |what| Refusal::Unavailable(format!("a 200 with an odd {what}"));
            let password_changed_at = match members.get("password_changed_at") {
                None | Some(Value::Null) => None,
                Some(second) => Some(second.as_i64().ok_or_else(|| odd("time"))?),
            };
            let password_mark = match members.get("password_mark") {
                None | Some(Value::Null) => None,
                Some(Value::String(mark)) if token::is_password_mark(mark) => Some(mark.clone()),
                Some(_) => return Err(odd("mark")),
            };
            Ok(Vouched { password_changed_at, password_mark })
        }
        // 400 is what it says of a name that could belong to no user.
        StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST => Err(Refusal::Credentials),
        status => Err(Refusal::Unavailable(format!("status {}", status.as_u16()))),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(body: &str) -> Result<(String, String, bool), &'static str> {
        match parse(body.as_bytes()) {
            Ok(Credentials { username, password, complete }) => Ok((username, password, complete)),
            Err(Refusal::Malformed(reason)) => Err(reason),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn exactly_two_strings_are_complete() {
        let good = read(r#" {"username":"user01","password":"p"} "#);
        assert_eq!(good, Ok(("user01".to_owned(), "p".to_owned(), true)));
    }

    #[test]
    fn missing_empty_null_or_extra_fields_cannot_be_right_but_are_no_error() {
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
    fn what_is_no_object_of_strings_is_malformed() {
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

    #[test]
    fn only_a_200_that_names_the_same_user_is_a_yes() {
        let vouched = |password_changed_at| Vouched { password_changed_at, password_mark: None };
        let named = |status: u16, body: &str| judge(StatusCode::from_u16(status).unwrap(), body.as_bytes(), "user01");
        assert_eq!(named(200, r#"{"username":"user01"}"#).unwrap(), vouched(None));
        assert_eq!(named(200, r#"{"username":"user01","password_changed_at":null}"#).unwrap(), vouched(None));
        assert_eq!(named(200, r#"{"username":"user01","password_changed_at":17}"#).unwrap(), vouched(Some(17)));
        let marked = named(200, r#"{"username":"user01","password_mark":"0123456789abcdef"}"#).unwrap();
        assert_eq!(marked.password_mark.as_deref(), Some("0123456789abcdef"));
        for body in [
            "",
            "{}",
            "true",
            r#"{"username":"user02"}"#,
            r#"{"username":["user01"]}"#,
            r#"{"username":"user01","username":"user01"}"#,
            r#"{"username":"user01","password_changed_at":"17"}"#,
            r#"{"username":"user01","password_changed_at":17.5}"#,
            r#"{"username":"user01","password_mark":"0123456789abcde"}"#,
            r#"{"username":"user01","password_mark":17}"#,
        ] {
            assert!(matches!(named(200, body), Err(Refusal::Unavailable(_))), "{body}");
        }
        for status in [201, 204, 302, 403, 404, 429, 500, 503] {
            assert!(matches!(named(status, r#"{"username":"user01"}"#), Err(Refusal::Unavailable(_))), "{status}");
        }
        assert!(matches!(named(401, ""), Err(Refusal::Credentials)));
        assert!(matches!(named(400, ""), Err(Refusal::Credentials)));
    }

    #[tokio::test]
    async fn no_token_is_made_in_the_second_of_a_password_change() {
        let looks = std::cell::Cell::new(0);
        let now = || {
            looks.set(looks.get() + 1);
            if looks.get() > 3 { 1001 } else { 1000 }
        };
        outwait(1000, now).await.unwrap();
        assert_eq!(now(), 1001);
        outwait(999, || 1000).await.unwrap();
        assert!(matches!(outwait(1003, || 1000).await, Err(Refusal::Unavailable(_))));
    }
}
