//! Operations on streamers.

use super::{Engine, Store, StoreError, StreamersStored, engine};
use crate::model::{Streamer, Streamers};

impl Store {
    /// All streamers. Documents without a valid code are left out.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn streamers(&self) -> Result<Streamers, StoreError> {
        engine!(self.streamers())
    }

    /// Stores streamers by code: a new one, or the fields that are present in place of the stored ones. The `id` is
    /// ignored; a new streamer gets one from the engine. A change counts as one of all days, since lists have the group.
    ///
    /// # Errors
    /// If one could not be written, or it is unknown whether it was; the call can be repeated.
    pub async fn store_streamers(&self, streamers: Vec<Streamer>) -> Result<StreamersStored, StoreError> {
        engine!(self.store_streamers(streamers))
    }
}
