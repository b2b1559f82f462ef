//! `POST /credentials/verify`: checks a username and a password.

use std::time::{Duration, Instant};

use http::request::Parts;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use super::{App, BUSY_RETRY, HandlerResult, STORE_RETRY, body, roles};
use crate::clock::now;
use crate::model::{PasswordMark, Roles};
use crate::password::{Busy, Outcome, Password};
use crate::record::{Upgrade, Verification, shown};
use crate::respond::{self, Body, HttpError};
use crate::store::{Confirmed, StoreError};

/// The maximum request body, in bytes: both fields at their longest, each byte escaped.
const BODY_LIMIT: usize = 16 * 1024;
/// The longest username that is looked up, in bytes. New names are shorter; stored ones may be longer.
pub(super) const NAME_LIMIT: usize = 1024;
/// How often a check is repeated when the stored value changes meanwhile, for example when two concurrent logins
/// upgrade its hash.
const ATTEMPTS: u32 = 3;
/// Timeout for storing an upgraded hash, for which the login waits.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(1);

const EXPECTED: &str = "an object of exactly username and password, both strings";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    username: String,
    password: String,
}

#[derive(Serialize)]
struct VerifiedUser<'a> {
    username: &'a str,
    /// In seconds since the Unix epoch. Tokens issued before it are revoked.
    password_changed_at: Option<i64>,
    /// A token issued for this login contains it; revocation checks compare it.
    password_mark: &'a PasswordMark,
    /// The scope of a token issued for this login.
    roles: &'a Roles,
}

/// `200` with the username and the time of its last password change if the password is right. Otherwise `401`,
/// identical for a wrong password, an unknown user and a disabled one.
pub(crate) async fn verify(app: &App, parts: &Parts, incoming: Incoming) -> HandlerResult {
    let started = Instant::now();
    let (result, response) = match attempt(app, parts, incoming).await {
        Ok(response) => (Verification::Success, Ok(response)),
        Err((result, error)) => (result, Err(error)),
    };
    app.metrics.verified(result, started.elapsed());
    response
}

async fn attempt(app: &App, parts: &Parts, incoming: Incoming) -> Result<Response<Body>, (Verification, HttpError)> {
    let malformed = |error| (Verification::Malformed, error);
    let timeout = app.settings.body_timeout;
    let credentials: Credentials =
        body::json(&parts.headers, incoming, BODY_LIMIT, timeout, EXPECTED).await.map_err(malformed)?;
    let Credentials { username, password } = credentials;
    if username.len() > NAME_LIMIT {
        return Err(malformed(HttpError::bad_request(format!("a name has at most {NAME_LIMIT} bytes"))));
    }
    let password = Password::new(password).map_err(|error| malformed(HttpError::bad_request(error.to_string())))?;
    // Checked first, so that a flood of logins causes no load on the store.
    app.hasher.check_capacity().map_err(|error| (Verification::Busy, unhashed(error)))?;

    for _ in 0..ATTEMPTS {
        let user = app.store.user(&username).await.map_err(|error| unavailable(app, &error))?;
        let result = match &user {
            None => Verification::UnknownUser,
            Some(user) if user.disabled => Verification::Disabled,
            Some(_) => Verification::WrongPassword,
        };
        let stored = user.filter(|user| !user.disabled).map(|user| user.password);
        let compared = stored.as_ref().map(|stored| stored.expose().to_owned());
        let outcome = app.hasher.verify(password.clone(), compared).await;
        let outcome = outcome.map_err(|error| (Verification::Busy, unhashed(error)))?;
        let (Outcome::Matches { upgrade }, Some(stored)) = (&outcome, stored) else {
            let result = if let Outcome::Unverifiable(why) = outcome {
                let name = shown(&username);
                let username = app.settings.login_names.then_some(name.as_str());
                tracing::warn!(username, reason = %why, "a stored password hash cannot be checked; set a new password");
                Verification::Unverifiable
            } else {
                result
            };
            log_failed_login(app, &username, result);
            return Err((result, HttpError::new(StatusCode::UNAUTHORIZED, "Invalid credentials")));
        };
        // Reached only with the right password, so this does not reveal which names exist. Hashing takes time, in which
        // the password may have been changed.
        let confirmed = app.store.confirm_login(&username, &stored, now()).await;
        let Confirmed::Yes { password_changed_at, password_mark, roles } =
            confirmed.map_err(|error| unavailable(app, &error))?
        else {
            continue;
        };
        if let Some(hash) = upgrade {
            replace(app, &username, stored.expose(), hash).await;
        }
        let roles = roles::effective(&username, roles);
        let verified =
            VerifiedUser { username: &username, password_changed_at, password_mark: &password_mark, roles: &roles };
        return Ok(respond::json(StatusCode::OK, &verified));
    }
    tracing::warn!("a user was changed repeatedly while its password was checked");
    Err((Verification::Unavailable, HttpError::unavailable("the user is being changed", BUSY_RETRY)))
}

/// Logs a failed login. The line has the same form for every reason, so that timing reveals nothing.
fn log_failed_login(app: &App, username: &str, result: Verification) {
    let reason = match result {
        Verification::UnknownUser => "no_user",
        other => other.as_str(),
    };
    let username = shown(username);
    let username = app.settings.login_names.then_some(username.as_str());
    tracing::info!(username, reason, "login failed");
}

/// Even a permanent failure of the store says nothing about the password.
fn unavailable(app: &App, error: &StoreError) -> (Verification, HttpError) {
    app.store_failed(error);
    (Verification::Unavailable, HttpError::unavailable("the store is unavailable", STORE_RETRY))
}

/// A failure to check can be retried: it is never a `401`.
fn unhashed(error: Busy) -> HttpError {
    App::not_hashed(error)
}

/// Replaces the stored form of a password that matched. The login succeeds whatever the result.
async fn replace(app: &App, username: &str, stored: &str, hash: &str) {
    let replaced = tokio::time::timeout(UPGRADE_TIMEOUT, app.store.upgrade_password(username, stored, hash)).await;
    let replaced = replaced.unwrap_or_else(|_| Err(StoreError::Unavailable("no response in time".to_owned())));
    app.metrics.upgraded(match replaced {
        Ok(true) => Upgrade::Done,
        Ok(false) => Upgrade::Superseded,
        Err(error) => {
            tracing::warn!(%error, "a password hash could not be upgraded; the next login of the user retries");
            Upgrade::Failed
        }
    });
}
