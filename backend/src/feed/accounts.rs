//! Follows what decides over tokens, and beats while it can.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use tokio::time::{Interval, MissedTickBehavior};

use super::Shared;
use super::line::Event;
use crate::store::{AccountChange, ChangeDetection, Store, StoreError};

/// From one beat to the next, and from one look to the next.
const BEAT: Duration = Duration::from_millis(250);
/// How long ago a look may have begun for a beat to vouch for it.
const FRESH: Duration = Duration::from_millis(500);
/// How often what has expired is removed.
const SWEEP: Duration = Duration::from_secs(60);

/// Watches until it is aborted. `id` is of this process alone.
pub(super) async fn watch(store: &Store, shared: &Shared, id: String) {
    let mut watcher = AccountWatcher { store, shared, id, beat: 0, failing: false };
    tokio::join!(sweep(store, shared), watcher.watch());
}

/// Removes what has expired, without end.
async fn sweep(store: &Store, shared: &Shared) {
    let mut ticks = every(SWEEP);
    loop {
        ticks.tick().await;
        let gone = shared.watched().expire(Instant::now());
        shared.tell_identities(&gone);
        if let Err(error) = store.remove_expired_logouts(now()).await {
            tracing::warn!(%error, "logouts that have expired could not be removed");
        }
    }
}

struct AccountWatcher<'a> {
    store: &'a Store,
    shared: &'a Shared,
    id: String,
    /// How many beats there were.
    beat: u64,
    /// Whether the last attempt to see anything failed.
    failing: bool,
}

impl AccountWatcher<'_> {
    async fn watch(&mut self) {
        let mut ticks = every(BEAT);
        let watching = loop {
            ticks.tick().await;
            match self.store.watching().await {
                Ok(watching) => break watching,
                Err(error) => self.fails(&error),
            }
        };
        if watching == ChangeDetection::Streaming {
            self.follow().await;
        }
        loop {
            ticks.tick().await;
            let started = Instant::now();
            let looked = if watching == ChangeDetection::LocalOnly { Ok(()) } else { self.look().await };
            match looked {
                Ok(()) => self.saw_all_before(started),
                Err(error) => self.fails(&error),
            }
        }
    }

    /// Sees what has become of everybody who is watched, and tells what is new.
    async fn look(&self) -> Result<(), StoreError> {
        let identities = self.shared.watched().identities();
        let sightings = self.store.sightings(&identities, now()).await?;
        let changed = self.shared.watched().saw_many(sightings);
        self.shared.tell_identities(&changed);
        Ok(())
    }

    /// Tells what the store tells, until it refuses to.
    async fn follow(&mut self) {
        let start = Instant::now();
        let mut changes = self.store.changes(&self.id);
        // Its own answer says nothing: it is the echo that counts.
        let mut echoes = std::pin::pin!(echo(self.store, self.id.clone(), start));
        let mut ticks = every(BEAT);
        // Whether somebody has changed who has not been looked for.
        let mut unknown = false;
        loop {
            let change = tokio::select! {
                change = changes.next() => change,
                () = &mut echoes => continue,
                _ = ticks.tick(), if unknown => {
                    match self.look().await {
                        Ok(()) => unknown = false,
                        Err(error) => self.fails(&error),
                    }
                    continue;
                }
            };
            match change {
                Some(Ok(AccountChange::Identity(identity))) => {
                    let watched = self.shared.watched().changed(&identity);
                    if watched {
                        self.shared.subscribers.tell(&Event::Identity { identity: &identity });
                    }
                }
                Some(Ok(AccountChange::Unknown)) => unknown = true,
                Some(Ok(AccountChange::All)) => {
                    self.shared.watched().changed_all();
                    self.shared.subscribers.tell(&Event::Reset { reset: true });
                }
                Some(Ok(AccountChange::Echo(sent))) => {
                    let sent = u64::try_from(sent).ok().and_then(|sent| start.checked_add(Duration::from_millis(sent)));
                    if let Some(sent) = sent.filter(|_| !unknown) {
                        self.saw_all_before(sent);
                    }
                }
                Some(Err(error)) => self.fails(&error),
                None => return,
            }
        }
    }

    /// Beats where what was seen is of no earlier time than a beat vouches for.
    fn saw_all_before(&mut self, time: Instant) {
        *self.shared.looked() = Some(time);
        if time.elapsed() > FRESH {
            return;
        }
        if self.failing {
            tracing::info!("the store can be watched again");
            self.failing = false;
        }
        self.beat += 1;
        self.shared.subscribers.tell(&Event::Beat { beat: self.beat });
    }

    fn fails(&mut self, error: &StoreError) {
        if !self.failing {
            tracing::warn!(%error, "the store cannot be watched: the feed does not beat");
            self.failing = true;
        }
    }
}

/// Writes the milliseconds since `start` to where [`Store::changes`] tells of them, without end.
async fn echo(store: &Store, id: String, start: Instant) {
    let mut ticks = every(BEAT);
    loop {
        ticks.tick().await;
        let sent = i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
        if let Err(error) = store.echo(&id, sent).await {
            tracing::debug!(%error, "an echo could not be written");
        }
    }
}

pub(super) fn every(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Seconds since 1970. A clock before that is as good as one that stands at it.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
