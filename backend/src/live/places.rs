//! A bounded number of places.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places, of which each is taken until it is dropped.
#[derive(Clone, Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    count: usize,
}

/// A taken place.
#[derive(Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "is released when it is dropped")] OwnedSemaphorePermit);

impl Places {
    pub(super) fn new(count: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), count }
    }

    /// Takes a place; `None` if all are taken.
    pub(super) fn take(&self) -> Option<Place> {
        Arc::clone(&self.free).try_acquire_owned().ok().map(Place)
    }

    /// The number of taken places.
    pub(super) fn taken(&self) -> usize {
        self.count.saturating_sub(self.free.available_permits())
    }
}
