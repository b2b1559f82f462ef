//! Watches for changes to the holodules of days, by this process and by others.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::Notify;

use super::Shared;
use super::detection::{detect, every};
use crate::model::Days;
use crate::store::{ChangeDetection, Store, StoreError};

/// The interval of polls.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// The minimum interval between publications of streamed changes. A bulk write can change thousands of documents at
/// once.
const BATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Runs until it is aborted.
pub(super) async fn watch(store: &Store, shared: &Shared) {
    let unpublished = UnpublishedDays::default();
    let mut watcher = DayWatcher { store, shared, unpublished: &unpublished, failing: false };
    tokio::join!(publish_local_changes(store, shared, &unpublished), watcher.watch());
}

/// Publishes the changes of this process, forever.
async fn publish_local_changes(store: &Store, shared: &Shared, unpublished: &UnpublishedDays) {
    loop {
        let days = store.changed_days().await;
        shared.publish_days(&days);
        unpublished.days().extend(days);
        unpublished.some.notify_one();
    }
}

/// Changes of this process that are not recorded for other processes yet.
#[derive(Default)]
struct UnpublishedDays {
    days: Mutex<Days>,
    some: Notify,
}

impl UnpublishedDays {
    fn days(&self) -> MutexGuard<'_, Days> {
        self.days.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches for changes by other processes.
struct DayWatcher<'a> {
    store: &'a Store,
    shared: &'a Shared,
    unpublished: &'a UnpublishedDays,
    /// Whether the last attempt failed.
    failing: bool,
}

impl DayWatcher<'_> {
    async fn watch(&mut self) {
        let mut ticks = every(POLL_INTERVAL);
        let detection = detect(self.store, &mut ticks, |error| self.log_failure(error)).await;
        if detection == ChangeDetection::LocalOnly {
            return;
        }
        if detection == ChangeDetection::Streaming {
            self.follow().await;
        }
        let mut seen = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.unpublished.some.notified() => {}
            }
            match self.poll(&mut seen).await {
                Ok(()) => self.log_recovery(),
                Err(error) => self.log_failure(&error),
            }
        }
    }

    /// Records the changes of this process for others, and publishes what others recorded. `seen` is the number after
    /// the last record that was published.
    async fn poll(&self, seen: &mut Option<i64>) -> Result<(), StoreError> {
        let local = mem::take(&mut *self.unpublished.days());
        if !local.is_empty() {
            match self.store.record_days(&local).await {
                // Published already, unless records of others come before them.
                Ok(noted) if *seen == Some(noted.start) => *seen = Some(noted.end),
                Ok(_) => {}
                Err(error) => {
                    self.unpublished.days().extend(local);
                    return Err(error);
                }
            }
        }
        let (number, days) = self.store.recorded_days(*seen).await?;
        *seen = Some(number);
        self.shared.publish_days(&days);
        Ok(())
    }

    /// Publishes the changes that the store streams, until it stops streaming.
    async fn follow(&mut self) {
        let mut changes = self.store.day_changes();
        let mut batch = Days::default();
        let mut ticks = every(BATCH_INTERVAL);
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some(Ok(days)) => {
                        batch.extend(days);
                        self.log_recovery();
                    }
                    Some(Err(error)) => self.log_failure(&error),
                    None => break,
                },
                _ = ticks.tick(), if !batch.is_empty() => self.shared.publish_days(&mem::take(&mut batch)),
            }
        }
        self.shared.publish_days(&batch);
    }

    fn log_recovery(&mut self) {
        if mem::take(&mut self.failing) {
            tracing::info!("changes to days are watched again");
        }
    }

    fn log_failure(&mut self, error: &StoreError) {
        if !mem::replace(&mut self.failing, true) {
            tracing::warn!(%error, "external changes to days cannot be watched");
        }
    }
}
