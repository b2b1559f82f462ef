//! Operations on calendar feeds.

use super::{CalendarCreated, DisabledUser, Engine, Store, StoreError, engine};
use crate::model::{Calendar, Delivered, DeliveredRevision, KeyHash};

impl Store {
    /// Stores a calendar feed of a user who can log in. Its `owner_id` is set to the `id` of that user.
    ///
    /// # Errors
    /// If it is unknown whether it was stored.
    pub async fn create_calendar(&self, calendar: Calendar) -> Result<CalendarCreated, StoreError> {
        engine!(self.create_calendar(calendar))
    }

    /// The calendar feeds of a user, in the order of their creation. None if there is no such user.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn calendars(&self, owner: &str) -> Result<Vec<Calendar>, StoreError> {
        engine!(self.calendars(owner))
    }

    /// Deletes a calendar feed of a user; `false` if that user has no such feed.
    ///
    /// # Errors
    /// If it is unknown whether it was deleted.
    pub async fn delete_calendar(&self, owner: &str, id: &str) -> Result<bool, StoreError> {
        engine!(self.delete_calendar(owner, id))
    }

    /// The calendar feed with this key, if its owner can log in, and its delivered events.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn calendar(&self, key: &KeyHash) -> Result<Option<(Calendar, DeliveredRevision)>, StoreError> {
        engine!(self.calendar(key))
    }

    /// Deletes the feeds of all users who are disabled, and returns their number. Disabling a user through the backend
    /// does so at once: this is for users who were disabled directly in MongoDB. Nothing but this process changes the
    /// embedded store.
    ///
    /// # Errors
    /// If it is unknown whether all were deleted.
    pub async fn end_calendars_of_disabled(&self) -> Result<u64, StoreError> {
        match &self.engine {
            Engine::Mongo(engine) => engine.end_calendars_of_disabled().await,
            Engine::Embedded(_) => Ok(0),
        }
    }

    /// Deletes the feeds of a user that were stored before the user was disabled, by the server's time, for
    /// [`AccountChange::Disabled`](super::AccountChange::Disabled). None if the disabled document is not the user,
    /// because another one has the name and a lower `_id`. Returns their number.
    ///
    /// # Errors
    /// If it is unknown whether they were deleted.
    pub async fn end_calendars(&self, disabled: &DisabledUser) -> Result<u64, StoreError> {
        match &self.engine {
            Engine::Mongo(engine) => engine.end_calendars(disabled).await,
            Engine::Embedded(_) => Ok(0),
        }
    }

    /// Stores the delivered events of a calendar feed, if `revision` is still the number of the last write. `false` if
    /// it is not, or if there is no such feed.
    ///
    /// # Errors
    /// If it is unknown whether it was stored.
    pub async fn store_delivered(&self, id: &str, revision: i64, delivered: Delivered) -> Result<bool, StoreError> {
        engine!(self.store_delivered(id, revision, delivered))
    }
}
