//! The feeds of any user, for administrators. No response contains a key.

use http::StatusCode;

use super::super::users::no_such_user;
use super::super::{App, HandlerResult};
use super::manage::CalendarList;
use super::read::no_such_feed;
use crate::model::Calendar;
use crate::respond::{self, HttpError};

/// `200` with the feeds of the user `name`, by their creation; `404` where there is no such user.
pub(crate) async fn list(app: &App, name: &str) -> HandlerResult {
    let calendars = app.calendars_of(name).await?;
    Ok(respond::json(StatusCode::OK, &CalendarList::of(&calendars)))
}

/// `204`: the feed is no longer served. `404` if the user `name` has no such feed.
pub(crate) async fn delete(app: &App, name: &str, id: &str) -> HandlerResult {
    let deleted = app.store.delete_calendar(name, id).await.map_err(|error| app.store_failed(&error))?;
    if deleted { Ok(respond::no_content()) } else { Err(no_such_feed()) }
}

impl App {
    /// The feeds of a user, by their creation.
    ///
    /// # Errors
    /// `404` where there is no such user; `503` or `500` if the store cannot be read.
    pub(in crate::handler) async fn calendars_of(&self, name: &str) -> Result<Vec<Calendar>, HttpError> {
        let failed = |error| self.store_failed(&error);
        self.store.roles(name).await.map_err(failed)?.ok_or_else(no_such_user)?;
        self.store.calendars(name).await.map_err(failed)
    }
}
