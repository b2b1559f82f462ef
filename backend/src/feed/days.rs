//! Follows what changes a day's answer: our own writes, and those of other hands as the store
//! tells of them.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::Notify;

use super::Shared;
use super::accounts::every;
use crate::model::Days;
use crate::store::{ChangeDetection, Store, StoreError};

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(250);
/// How long what a stream tells is gathered after it was last passed on: somebody may write
/// thousands of documents at once.
const GATHER: Duration = Duration::from_millis(100);

/// Watches until it is aborted.
pub(super) async fn watch(store: &Store, shared: &Shared) {
    let unnoted = UnpublishedDays::default();
    let mut watcher = DayWatcher { store, shared, unnoted: &unnoted, failing: false };
    tokio::join!(tell_own(store, shared, &unnoted), watcher.watch());
}

/// Tells what writes of our own may have changed, without end.
async fn tell_own(store: &Store, shared: &Shared, unnoted: &UnpublishedDays) {
    loop {
        let days = store.changed_days().await;
        shared.tell_days(&days);
        unnoted.days().extend(days);
        unnoted.some.notify_one();
    }
}

/// What we have changed and other processes have not been let know of yet.
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

/// Follows other hands.
struct DayWatcher<'a> {
    store: &'a Store,
    shared: &'a Shared,
    unnoted: &'a UnpublishedDays,
    /// Whether the last attempt to see anything failed.
    failing: bool,
}

impl DayWatcher<'_> {
    async fn watch(&mut self) {
        let mut ticks = every(LOOK);
        let watching = loop {
            ticks.tick().await;
            match self.store.watching().await {
                Ok(watching) => break watching,
                Err(error) => self.fails(&error),
            }
        };
        if watching == ChangeDetection::LocalOnly {
            return;
        }
        if watching == ChangeDetection::Streaming {
            self.follow().await;
        }
        let mut seen = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.unnoted.some.notified() => {}
            }
            match self.look(&mut seen).await {
                Ok(()) => self.succeeds(),
                Err(error) => self.fails(&error),
            }
        }
    }

    /// Notes what we have changed for the other processes, and tells what they have noted.
    /// `seen` is up to where the notes have been told.
    async fn look(&self, seen: &mut Option<i64>) -> Result<(), StoreError> {
        let own = mem::take(&mut *self.unnoted.days());
        if !own.is_empty() {
            match self.store.note_days(&own).await {
                // EventCounts already, unless there are others before them.
                Ok(noted) if *seen == Some(noted.start) => *seen = Some(noted.end),
                Ok(_) => {}
                Err(error) => {
                    self.unnoted.days().extend(own);
                    return Err(error);
                }
            }
        }
        let (number, days) = self.store.noted_days(*seen).await?;
        *seen = Some(number);
        self.shared.tell_days(&days);
        Ok(())
    }

    /// Tells what the store tells, until it refuses to.
    async fn follow(&mut self) {
        let mut changes = self.store.day_changes();
        let mut gathered = Days::default();
        let mut ticks = every(GATHER);
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some(Ok(days)) => {
                        gathered.extend(days);
                        self.succeeds();
                    }
                    Some(Err(error)) => self.fails(&error),
                    None => break,
                },
                _ = ticks.tick(), if !gathered.is_empty() => self.shared.tell_days(&mem::take(&mut gathered)),
            }
        }
        self.shared.tell_days(&gathered);
    }

    fn succeeds(&mut self) {
        if mem::take(&mut self.failing) {
            tracing::info!("changes of days can be followed again");
        }
    }

    fn fails(&mut self, error: &StoreError) {
        if !mem::replace(&mut self.failing, true) {
            tracing::warn!(%error, "changes of days by other hands cannot be followed");
        }
    }
}
