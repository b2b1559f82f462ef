//! Reads of schedules, the later form of holodules.

use super::{Engine, Store, StoreError, engine};
use crate::model::{Schedule, ScheduleQuery};

impl Store {
    /// The schedules that `query` selects, the latest start first, at most
    /// [`SCHEDULES_LIMIT`](crate::model::SCHEDULES_LIMIT). Those with the same start have an order of the store's own
    /// that does not change.
    ///
    /// They are the holodules, and on MongoDB the documents of the collection `schedules` too. If a document of
    /// `schedules` with a readable start has the video of a holodule, it replaces the holodule, whatever `query`
    /// selects. Documents that cannot be read or have no readable start are left out, and replace nothing.
    ///
    /// With a keyword, every document of the days and codes is read until the limit is reached; the operation timeout
    /// ends that.
    ///
    /// # Errors
    /// If the store cannot be read within the operation timeout.
    pub async fn schedules(&self, query: &ScheduleQuery) -> Result<Vec<Schedule>, StoreError> {
        engine!(self.schedules(query))
    }

    /// The schedule with this [`Schedule::id`], or `None`.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn schedule(&self, id: &str) -> Result<Option<Schedule>, StoreError> {
        engine!(self.schedule(id))
    }
}
