//! Manages the roles of users.

use http::StatusCode;
use http::request::Parts;
use hyper::body::Incoming;
use serde::Deserialize;

use super::users::no_such_user;
use super::{App, HandlerResult, body};
use crate::model::{Roles, RolesChange, RolesRefused, StoredRoles};
use crate::record::shown;
use crate::respond::{self, HttpError};
use crate::store::RolesChanged;

/// The maximum request body, in bytes: all roles at their longest, added and removed, each byte escaped.
const BODY_LIMIT: usize = 32 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EditRoles {
    #[serde(default)]
    add: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
}

/// `200` with the roles of a user, sorted; `404` where there is no such user, `409` if the stored roles cannot be read.
pub(crate) async fn list(app: &App, name: &str) -> HandlerResult {
    match app.store.roles(name).await.map_err(|error| app.store_failed(&error))? {
        Some(StoredRoles::Valid(roles)) => Ok(respond::json(StatusCode::OK, &roles)),
        Some(StoredRoles::Unreadable) => Err(conflict(RolesRefused::Unreadable)),
        None => Err(no_such_user()),
    }
}

/// `204` when the roles were replaced; `404` where there is no such user.
pub(crate) async fn replace(app: &App, parts: &Parts, incoming: Incoming, name: &str) -> HandlerResult {
    const EXPECTED: &str = "an array of roles, each a string";
    let roles = body::json_array(&parts.headers, incoming, BODY_LIMIT, app.settings.body_timeout, EXPECTED).await?;
    change(app, name, RolesChange::Replace(parse(roles)?)).await
}

/// `204` when roles were added and removed; `404` where there is no such user, `409` if the user would have too many
/// or the stored roles cannot be read.
pub(crate) async fn edit(app: &App, parts: &Parts, incoming: Incoming, name: &str) -> HandlerResult {
    const EXPECTED: &str = "an object of add and remove, arrays of roles, of which one may be missing";
    let EditRoles { add, remove } =
        body::json(&parts.headers, incoming, BODY_LIMIT, app.settings.body_timeout, EXPECTED).await?;
    let (add, remove) = (parse(add)?, parse(remove)?);
    if add.is_empty() && remove.is_empty() {
        return Err(HttpError::bad_request("no role to add or remove"));
    }
    if add.overlaps(&remove) {
        return Err(HttpError::bad_request("a role cannot be both added and removed"));
    }
    change(app, name, RolesChange::Edit { add, remove }).await
}

/// The roles that a user has for gateways: none if the stored ones cannot be read, which is logged.
pub(super) fn effective(username: &str, stored: StoredRoles) -> Roles {
    stored.valid().unwrap_or_else(|| {
        let username = shown(username);
        tracing::warn!(username, "the stored roles of a user cannot be read: the user has none");
        Roles::default()
    })
}

async fn change(app: &App, name: &str, change: RolesChange) -> HandlerResult {
    let (store, username) = (app.store.clone(), name.to_owned());
    let changed = app.change(name, async move { store.change_roles(&username, &change).await }).await?;
    match changed.map_err(|error| app.store_failed(&error))? {
        RolesChanged::Done => Ok(respond::no_content()),
        RolesChanged::NoSuchUser => Err(no_such_user()),
        RolesChanged::Refused(refused) => Err(conflict(refused)),
    }
}

fn parse(roles: Vec<String>) -> Result<Roles, HttpError> {
    Roles::try_from(roles).map_err(|error| HttpError::bad_request(error.to_string()))
}

fn conflict(refused: RolesRefused) -> HttpError {
    HttpError::new(StatusCode::CONFLICT, refused.to_string())
}
