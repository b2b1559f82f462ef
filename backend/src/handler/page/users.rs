//! The users.

use http::request::Parts;

use super::super::{App, HandlerResult};
use super::request::respond_from_store;
use crate::page::{self, SHOWN_USERS};

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
