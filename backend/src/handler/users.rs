//! Manages users. No response contains a password hash.

use http::StatusCode;
use http::request::Parts;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use super::{App, HandlerResult, body};
use crate::clock::now;
use crate::model::{NewUser, PasswordForm, Roles, StoredPassword, UserSummary, Username};
use crate::password::Password;
use crate::respond::{self, HttpError};
use crate::store::{StoreError, UserChange};

/// The maximum request body, in bytes: both fields at their longest, each byte escaped.
const BODY_LIMIT: usize = 16 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateUser {
    username: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetPassword {
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetDisabled {
    disabled: bool,
}

#[derive(Serialize)]
struct UserList {
    users: Vec<ListedUser>,
}

/// A user in the list. `password` is only the form in which the password is stored.
#[derive(Serialize)]
struct ListedUser {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    username: String,
    disabled: bool,
    password: Option<PasswordForm>,
    /// Null if the stored roles cannot be read.
    roles: Option<Roles>,
}

impl From<UserSummary> for ListedUser {
    fn from(user: UserSummary) -> Self {
        let UserSummary { id, username, disabled, form, roles } = user;
        Self { id, username, disabled, password: form, roles: roles.valid() }
    }
}

#[derive(Serialize)]
struct CreatedUser<'a> {
    username: &'a str,
}

/// `200` with all users, sorted by name.
pub(crate) async fn list(app: &App) -> HandlerResult {
    let users = app.store.users().await.map_err(|error| app.store_failed(&error))?;
    Ok(respond::json(StatusCode::OK, &UserList { users: users.into_iter().map(ListedUser::from).collect() }))
}

/// `201`; `409` if the name is taken, `400` if name or password is invalid.
pub(crate) async fn create(app: &App, parts: &Parts, incoming: Incoming) -> HandlerResult {
    const EXPECTED: &str = "an object of exactly username and password, both strings";
    let creation: CreateUser =
        body::json(&parts.headers, incoming, BODY_LIMIT, app.settings.body_timeout, EXPECTED).await?;
    let username = Username::parse(&creation.username).map_err(|error| HttpError::bad_request(error.to_string()))?;
    let hash = app.hasher.hash(check_password(creation.password)?).await.map_err(App::not_hashed)?;
    let user = NewUser { username: username.clone(), hash: StoredPassword::new(hash), created_at: now() };
    let store = app.store.clone();
    let created = app.change(username.as_str(), async move { store.create_user(user).await }).await?;
    if !created.map_err(|error| app.store_failed(&error))? {
        return Err(HttpError::new(StatusCode::CONFLICT, "the name is taken"));
    }
    Ok(respond::json(StatusCode::CREATED, &CreatedUser { username: username.as_str() }))
}

/// `204`; `404` where there is no such user.
pub(crate) async fn change_password(app: &App, parts: &Parts, incoming: Incoming, name: &str) -> HandlerResult {
    const EXPECTED: &str = "an object of exactly password, a string";
    let SetPassword { password } =
        body::json(&parts.headers, incoming, BODY_LIMIT, app.settings.body_timeout, EXPECTED).await?;
    let password = check_password(password)?;
    let hash = app.hasher.hash(password).await.map_err(App::not_hashed)?;
    let (store, username) = (app.store.clone(), name.to_owned());
    changed(app, name, async move { store.change_password(&username, &hash, now()).await }).await
}

/// `204`; `404` where there is no such user.
pub(crate) async fn set_disabled(app: &App, parts: &Parts, incoming: Incoming, name: &str) -> HandlerResult {
    const EXPECTED: &str = "an object of exactly disabled, true or false";
    let SetDisabled { disabled } =
        body::json(&parts.headers, incoming, BODY_LIMIT, app.settings.body_timeout, EXPECTED).await?;
    let (store, username) = (app.store.clone(), name.to_owned());
    changed(app, name, async move { store.set_disabled(&username, disabled, now()).await }).await
}

/// `204`; `404` where there is no such user.
pub(crate) async fn delete(app: &App, name: &str) -> HandlerResult {
    let (store, username) = (app.store.clone(), name.to_owned());
    changed(app, name, async move { store.delete_user(&username, now()).await }).await
}

async fn changed(
    app: &App,
    name: &str,
    change: impl Future<Output = Result<UserChange, StoreError>> + Send + 'static,
) -> HandlerResult {
    match app.change(name, change).await?.map_err(|error| app.store_failed(&error))? {
        UserChange::Done => Ok(respond::no_content()),
        UserChange::NoSuchUser => Err(no_such_user()),
    }
}

pub(super) fn no_such_user() -> HttpError {
    HttpError::not_found("no such user")
}

/// Checks a new password: not empty, within the limit.
fn check_password(password: String) -> Result<Password, HttpError> {
    let password = Password::new(password).map_err(|error| HttpError::bad_request(error.to_string()))?;
    if password.is_empty() {
        return Err(HttpError::bad_request("a password must not be empty"));
    }
    Ok(password)
}
