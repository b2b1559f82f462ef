//! What gateways ask to know whether a token that they issued is still good: a check of one
//! identity, the feed that tells when to ask again, and logouts.

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::{Deserialize, Serialize};

use super::{App, BUSY_RETRY, HandlerResult, STORE_RETRY, body};
use crate::clock::now;
use crate::model::{Logout, PasswordMark, TokenId};
use crate::respond::{self, Cut, HttpError};
use crate::store::LoggedOut;

/// The largest request, in bytes: each field at its longest, each byte escaped.
const BODY_LIMIT: usize = 16 * 1024;
/// The longest identity, in bytes: as long as a name that may log in.
const IDENTITY_LIMIT: usize = super::credentials::NAME_LIMIT;
/// How far ahead a token may expire, in seconds: the hour that one lives at most, and what
/// the gateway's clock may be ahead of ours.
const EXPIRY_LIMIT: i64 = 3900;
/// How far a gateway's clock may be behind ours, in seconds: for so long after the end of a token by our clock, it
/// may still be accepted there.
const CLOCK_SKEW: i64 = 60;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckRequest {
    identity: String,
}

#[derive(Serialize)]
struct AccountBody<'a> {
    identity: &'a str,
    active: bool,
    /// Why the account is not active: `no_user` or `disabled`.
    reason: Option<&'static str>,
    password_changed_at: Option<i64>,
    /// The tokens that carry another mark were issued before the password was changed.
    password_mark: Option<&'a PasswordMark>,
    logged_out: &'a [TokenId],
    /// The feed that tells when this no longer holds; there may be other backends.
    feed: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogoutRequest {
    identity: String,
    token: String,
    expires_at: i64,
}

/// `200` with what holds for the tokens of an identity, which is watched from now on. `503`
/// where the store cannot tell.
pub(crate) async fn check(app: &App, parts: &Parts, incoming: Incoming) -> HandlerResult {
    const EXPECTED: &str = "an object of exactly identity, a string";
    let timeout = app.settings.body_timeout;
    let CheckRequest { identity } = body::json(&parts.headers, incoming, BODY_LIMIT, timeout, EXPECTED).await?;
    fit(&identity)?;
    let status = app.feed.check(&app.store, &identity, now()).await.map_err(|error| {
        app.store_failed(&error);
        // Even a store that is broken for good says nothing about the user.
        HttpError::unavailable("the store does not answer", STORE_RETRY)
    })?;
    let inactive = match (status.active, status.disabled) {
        (true, _) => None,
        (false, true) => Some("disabled"),
        (false, false) => Some("no_user"),
    };
    let mut response = respond::json(
        StatusCode::OK,
        &AccountBody {
            identity: &identity,
            active: status.active,
            reason: inactive,
            password_mark: status.password_mark.as_ref(),
            password_changed_at: status.password_changed_at,
            logged_out: &status.logged_out,
            feed: app.feed.id(),
        },
    );
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// `200` with lines without end: see [`crate::feed`]. `503` past so many subscribers.
pub(crate) fn feed(app: &App) -> HandlerResult {
    let lines = app.feed.subscribe().map_err(|error| HttpError::unavailable(error.to_string(), BUSY_RETRY))?;
    let frames = lines.map(|line: Bytes| Ok::<_, Cut>(Frame::data(line)));
    let mut response = respond::with(StatusCode::OK, StreamBody::new(frames).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // It has an end only where there is nothing more to be had on the connection.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

/// `204` once the logout is durable, and it is told; also where the token has expired, which
/// then needs none. `503` where so many tokens of this identity are logged out that one more
/// could not be remembered.
pub(crate) async fn log_out(app: &App, parts: &Parts, incoming: Incoming) -> HandlerResult {
    const EXPECTED: &str = "an object of exactly identity and token, strings, and expires_at, an integer";
    let timeout = app.settings.body_timeout;
    let LogoutRequest { identity, token, expires_at } =
        body::json(&parts.headers, incoming, BODY_LIMIT, timeout, EXPECTED).await?;
    fit(&identity)?;
    let token = TokenId::parse(&token).map_err(|error| HttpError::bad_request(error.to_string()))?;
    let now = now();
    if expires_at > now.saturating_add(EXPIRY_LIMIT) {
        return Err(HttpError::bad_request(format!("expires_at is more than {EXPIRY_LIMIT} seconds ahead")));
    }
    let expires_at = expires_at.saturating_add(CLOCK_SKEW);
    if expires_at <= now {
        return Ok(respond::no_content());
    }
    let store = app.store.clone();
    let logout = Logout { identity: identity.clone(), token, expires_at };
    let logged_out = app.change(&identity, async move { store.log_out(&logout, now).await }).await?;
    match logged_out.map_err(|error| app.store_failed(&error))? {
        LoggedOut::Done => Ok(respond::no_content()),
        LoggedOut::TooMany => {
            Err(HttpError::unavailable("too many tokens of this identity are logged out", STORE_RETRY))
        }
    }
}

fn fit(identity: &str) -> Result<(), HttpError> {
    if identity.is_empty() || identity.len() > IDENTITY_LIMIT {
        return Err(HttpError::bad_request(format!("an identity has 1 to {IDENTITY_LIMIT} bytes")));
    }
    Ok(())
}
