//! The streamers.

use super::Mongo;
use crate::model::{Streamer, Streamers};
use crate::store::{StoreError, StreamersStored};

impl Mongo {
    pub(in crate::store) async fn streamers(&self) -> Result<Streamers, StoreError> {
        Err(StoreError::Failed("not built yet".to_owned()))
    }

    pub(in crate::store) async fn store_streamers(
        &self,
        _streamers: Vec<Streamer>,
    ) -> Result<StreamersStored, StoreError> {
        Err(StoreError::Failed("not built yet".to_owned()))
    }
}
