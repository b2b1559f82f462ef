//! A bounded number of streams or subscribers.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Permits, each of which is taken until it is dropped.
#[derive(Clone, Debug)]
pub(super) struct Permits {
    free: Arc<Semaphore>,
    count: usize,
}

/// A taken permit.
#[derive(Debug)]
pub(super) struct Permit(#[expect(dead_code, reason = "is released when it is dropped")] OwnedSemaphorePermit);

impl Permits {
    pub(super) fn new(count: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), count }
    }

    /// Takes a permit; `None` if all are taken.
    pub(super) fn take(&self) -> Option<Permit> {
        Arc::clone(&self.free).try_acquire_owned().ok().map(Permit)
    }

    /// The number of taken permits.
    pub(super) fn taken(&self) -> usize {
        self.count.saturating_sub(self.free.available_permits())
    }
}
