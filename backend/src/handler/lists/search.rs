//! Limits of searches (`q`), for which the store reads every holodule of the days.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::token_bucket::TokenBucket;
use super::super::{App, BUSY_RETRY};
use crate::model::{PageRequest, Selection};
use crate::respond::HttpError;
use crate::store::{Listing, Store, StoreError};

/// The limits of searches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchSettings {
    /// Searches that may run at the same time.
    pub concurrency: u32,
    /// Timeout of a search.
    pub timeout: Duration,
    /// Searches per second of all clients together.
    pub rate: u32,
    /// The burst: searches that are accepted at once after a pause.
    pub burst: u32,
}

/// Enforces the limits for all clients together.
#[derive(Debug)]
pub(super) struct SearchLimits {
    running: Arc<Semaphore>,
    bucket: Mutex<TokenBucket>,
    timeout: Duration,
}

impl SearchLimits {
    pub(super) fn new(settings: &SearchSettings) -> Self {
        let (rate, burst) = (f64::from(settings.rate.max(1)), f64::from(settings.burst.max(1)));
        Self {
            running: Arc::new(Semaphore::new(settings.concurrency as usize)),
            bucket: Mutex::new(TokenBucket::full(rate, burst, Instant::now())),
            timeout: settings.timeout,
        }
    }

    /// Counts a search.
    ///
    /// # Errors
    /// `429` over the rate.
    pub(super) fn count(&self, now: Instant) -> Result<(), HttpError> {
        let taken = self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now);
        taken.map_err(|wait| {
            let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1);
            HttpError::too_many_requests("too many searches", seconds)
        })
    }

    /// Begins a search, which ends with the permit.
    ///
    /// # Errors
    /// `503` if too many are running.
    fn begin(&self) -> Result<OwnedSemaphorePermit, HttpError> {
        Arc::clone(&self.running)
            .try_acquire_owned()
            .map_err(|_| HttpError::unavailable("too many searches are running", BUSY_RETRY))
    }

    /// Awaits `read` as a search.
    ///
    /// # Errors
    /// `503` if too many searches are running, or this one takes too long.
    pub(super) async fn run<T>(&self, read: impl Future<Output = T>) -> Result<T, HttpError> {
        let _running = self.begin()?;
        let too_slow = "the search took too long; fewer days take less time";
        tokio::time::timeout(self.timeout, read).await.map_err(|_| HttpError::unavailable(too_slow, BUSY_RETRY))
    }

    /// Reads a page of a list; with a text, as a search.
    ///
    /// # Errors
    /// Those of [`SearchLimits::run`]. The inner result is that of the store.
    pub(super) async fn read(
        &self,
        store: &Store,
        selection: &Selection,
        page: &PageRequest,
    ) -> Result<Result<Listing, StoreError>, HttpError> {
        let read = store.list(selection, page);
        if selection.text.is_some() { self.run(read).await } else { Ok(read.await) }
    }
}

impl App {
    /// A page of a list for the admin page; with a text, within the limits of searches that run at the same time.
    ///
    /// # Errors
    /// `503` or `500` if the list cannot be read now.
    pub(in crate::handler) async fn list(
        &self,
        selection: &Selection,
        page: &PageRequest,
    ) -> Result<Listing, HttpError> {
        let listing = self.lists.search.read(&self.store, selection, page).await?;
        listing.map_err(|error| self.store_failed(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: SearchSettings =
        SearchSettings { concurrency: 1, timeout: Duration::from_secs(2), rate: 2, burst: 3 };

    #[test]
    fn too_many_at_once_are_refused() {
        let limits = SearchLimits::new(&SETTINGS);
        let running = limits.begin().unwrap();
        assert_eq!(limits.begin().unwrap_err().status, http::StatusCode::SERVICE_UNAVAILABLE);
        drop(running);
        assert!(limits.begin().is_ok());
    }
}
