//! The users and their calendar feeds.

use http::request::Parts;

use super::super::{App, HandlerResult};
use super::request::respond_from_store;
use crate::page::{self, SHOWN_USERS};
use crate::respond::HttpError;

/// `200` with the users.
pub(crate) async fn users(app: &App, parts: &Parts) -> HandlerResult {
    respond_from_store(app, parts, &[], async |_, view| {
        let mut users = app.store.users().await.map_err(|error| app.store_failed(&error))?;
        let total = users.len();
        users.truncate(SHOWN_USERS);
        Ok(page::users(&view, &users, total))
    })
    .await
}

/// `200` with the calendar feeds of `user`; `404` if there is no such user.
pub(crate) async fn calendars(app: &App, parts: &Parts) -> HandlerResult {
    respond_from_store(app, parts, &["user"], async |parameters, view| {
        let user = parameters.first("user").ok_or_else(|| HttpError::bad_request("the query has no user"))?;
        let calendars = app.calendars_of(user).await?;
        Ok(page::calendars(&view, user, &calendars))
    })
    .await
}
