//! Revocation for gateways: a check of one identity, the feed that reports changes, and logouts.

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::{Deserialize, Serialize};

use super::{App, BUSY_RETRY, HandlerResult, STORE_RETRY, body, roles};
use crate::clock::now;
use crate::model::{Logout, PasswordMark, Roles, TokenId};
use crate::respond::{self, Cut, HttpError};
use crate::store::LoggedOut;

/// The maximum request body, in bytes: each field at its longest, each byte escaped.
const BODY_LIMIT: usize = 16 * 1024;
/// The longest identity, in bytes: that of a name that can log in.
const IDENTITY_LIMIT: usize = super::credentials::NAME_LIMIT;
/// How far in the future a token may expire, in seconds: the longest `token.max_lifetime` of a gateway, one day, and clock
/// skew.
const EXPIRY_LIMIT: i64 = 86_400 + 300;
/// How far a gateway's clock may be behind, in seconds. A logout is stored this long after the token's expiry, because
/// the gateway may still accept the token.
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
    /// Why the account is inactive: `no_user` or `disabled`.
    reason: Option<&'static str>,
    password_changed_at: Option<i64>,
    /// Tokens with another mark were issued before the last password change.
    password_mark: Option<&'a PasswordMark>,
    logged_out: &'a [TokenId],
    /// They take the place of those in tokens.
    roles: &'a Roles,
    /// The id of the feed that reports changes to this. Each backend process has its own.
    feed: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogoutRequest {
    identity: String,
    token: String,
    expires_at: i64,
}

/// `200` with the account status of an identity, which is watched from now on. `503` if the store cannot be read.
pub(crate) async fn check(app: &App, parts: &Parts, incoming: Incoming) -> HandlerResult {
    const EXPECTED: &str = "an object of exactly identity, a string";
    let timeout = app.settings.body_timeout;
    let CheckRequest { identity } = body::json(&parts.headers, incoming, BODY_LIMIT, timeout, EXPECTED).await?;
    check_identity(&identity)?;
    let status = app.feed.check(&app.store, &identity, now()).await.map_err(|error| {
        app.store_failed(&error);
        // Even a permanent failure of the store says nothing about the user.
        HttpError::unavailable("the store is unavailable", STORE_RETRY)
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
            roles: &roles::effective(&identity, status.roles),
            feed: app.feed.id(),
        },
    );
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// `200` with an endless stream of events, see [`crate::feed`]. `503` when there are too many subscribers.
pub(crate) fn feed(app: &App) -> HandlerResult {
    let lines = app.feed.subscribe().map_err(|error| HttpError::unavailable(error.to_string(), BUSY_RETRY))?;
    let frames = lines.map(|line: Bytes| Ok::<_, Cut>(Frame::data(line)));
    let mut response = respond::with(StatusCode::OK, StreamBody::new(frames).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The stream ends only when the service stops.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

/// `204` when the logout is durable and published, or the token has expired. `503` if too many tokens of this identity
/// are logged out.
pub(crate) async fn log_out(app: &App, parts: &Parts, incoming: Incoming) -> HandlerResult {
    const EXPECTED: &str = "an object of exactly identity and token, strings, and expires_at, an integer";
    let timeout = app.settings.body_timeout;
    let LogoutRequest { identity, token, expires_at } =
        body::json(&parts.headers, incoming, BODY_LIMIT, timeout, EXPECTED).await?;
    check_identity(&identity)?;
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

fn check_identity(identity: &str) -> Result<(), HttpError> {
    if identity.is_empty() || identity.len() > IDENTITY_LIMIT {
        return Err(HttpError::bad_request(format!("an identity has 1 to {IDENTITY_LIMIT} bytes")));
    }
    Ok(())
}
