//! Closing the file for another process, and opening it again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit};
use tokio::time::timeout;

use super::{Embedded, READERS, store_error};
use crate::store::StoreError;

/// The closed file. Operations wait, within their timeout, until this is dropped.
pub(in crate::store) struct ClosedFile {
    engine: Embedded,
    _permits: [OwnedSemaphorePermit; 2],
}

impl Embedded {
    /// Closes the file when the operations in progress have ended; those that follow wait.
    ///
    /// # Errors
    /// An operation takes longer than `within`. The file is open then, and operations continue.
    pub(in crate::store) async fn close(&self, within: Duration) -> Result<ClosedFile, StoreError> {
        // All permits: nothing is in progress, and nothing starts.
        let permits = async {
            let writer = Arc::clone(&self.writer).acquire_owned().await?;
            let readers = Arc::clone(&self.readers).acquire_many_owned(READERS).await?;
            Ok::<_, AcquireError>([writer, readers])
        };
        let permits = match timeout(within, permits).await {
            Ok(Ok(permits)) => permits,
            Ok(Err(_)) => return Err(StoreError::Unavailable("the embedded store is closed".to_owned())),
            Err(_) => return Err(StoreError::Unavailable("an operation is still in progress".to_owned())),
        };
        let file = Arc::clone(&self.file);
        let closed = ClosedFile { engine: self.clone(), _permits: permits };
        let closing = tokio::task::spawn_blocking(move || file.close());
        closing.await.map_err(|_| StoreError::Failed("the embedded engine panicked while closing".to_owned()))?;
        Ok(closed)
    }
}

impl ClosedFile {
    pub(in crate::store) async fn reopen(&self) -> Result<(), StoreError> {
        let file = Arc::clone(&self.engine.file);
        let opening = tokio::task::spawn_blocking(move || file.reopen().map_err(|error| store_error(&error)));
        opening.await.map_err(|_| StoreError::Failed("the embedded engine panicked at a damaged page".to_owned()))?
    }

    pub(in crate::store) fn leave(&self) {
        // Operations that wait for a permit, and later ones, fail.
        self.engine.writer.close();
        self.engine.readers.close();
    }
}
