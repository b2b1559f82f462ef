//! The store while another process may open it.

use std::time::Duration;

use super::embedded::ClosedFile;
use super::{Engine, Store, StoreError};

/// A store that is closed for another process. Operations wait, within their timeout, until this is dropped: then they
/// continue, and open an embedded file again if [`ClosedStore::reopen`] did not. After [`ClosedStore::leave`] they fail.
///
/// Only an embedded store is closed. Several processes can use one MongoDB, so there operations continue.
pub struct ClosedStore(Option<ClosedFile>);

impl Store {
    /// Closes the store for another process when the operations in progress have ended. Snapshots of exports end.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: an operation takes longer than `within`. The store is open then.
    pub async fn close(&self, within: Duration) -> Result<ClosedStore, StoreError> {
        match &self.engine {
            Engine::Embedded(engine) => engine.close(within).await.map(Some).map(ClosedStore),
            Engine::Mongo(_) => Ok(ClosedStore(None)),
        }
    }
}

impl ClosedStore {
    /// Opens the store again, whose operations continue when this value is dropped.
    ///
    /// # Errors
    /// The other process has it open, or the disk failed. Can be repeated.
    pub async fn reopen(&self) -> Result<(), StoreError> {
        match &self.0 {
            Some(file) => file.reopen().await,
            None => Ok(()),
        }
    }

    /// Leaves the store to the other process: operations on the embedded store fail from now on.
    pub fn leave(self) {
        if let Some(file) = &self.0 {
            file.leave();
        }
    }
}
