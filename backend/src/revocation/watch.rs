//! The task that follows the store, and beats while it can.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::time::MissedTickBehavior;

use super::Shared;
use super::feed::Line;
use crate::store::{Store, StoreError, Watching};

/// From one beat to the next, and from one look to the next.
const BEAT: Duration = Duration::from_millis(250);
/// How long ago a look may have begun for a beat to vouch for it.
const FRESH: Duration = Duration::from_millis(500);
/// How often what has expired is removed.
const SWEEP: Duration = Duration::from_secs(60);

/// Watches until it is aborted.
pub(super) async fn run(store: Store, shared: Arc<Shared>) {
    let mut watcher = Watcher { store, shared, beat: 0, failing: false };
    let mut ticks = tokio::time::interval(BEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut swept = Instant::now();
    let mut watching = None;
    loop {
        ticks.tick().await;
        if swept.elapsed() >= SWEEP {
            swept = Instant::now();
            watcher.sweep().await;
        }
        let started = Instant::now();
        let looked = watcher.look(&mut watching).await;
        watcher.looked(started, looked);
    }
}

struct Watcher {
    store: Store,
    shared: Arc<Shared>,
    /// How many beats there were.
    beat: u64,
    /// Whether the last look failed.
    failing: bool,
}

impl Watcher {
    /// Sees what has changed until now, and tells it.
    async fn look(&self, watching: &mut Option<Watching>) -> Result<(), StoreError> {
        let how = match *watching {
            Some(how) => how,
            None => *watching.insert(self.store.watching().await?),
        };
        match how {
            Watching::OwnAlone => Ok(()),
            Watching::Looking => {
                let identities = self.shared.watched().identities();
                let sightings = self.store.sightings(&identities, now()).await?;
                let changed = self.shared.watched().saw_many(sightings);
                self.shared.tell_all(&changed);
                Ok(())
            }
        }
    }

    /// Beats where the look that began at `started` vouches for it.
    fn looked(&mut self, started: Instant, looked: Result<(), StoreError>) {
        match looked {
            Ok(()) => {
                *self.shared.looked() = Some(started);
                if self.failing {
                    tracing::info!("the store can be watched again");
                    self.failing = false;
                }
                if started.elapsed() <= FRESH {
                    self.beat += 1;
                    self.shared.feed.tell(&Line::Beat { beat: self.beat });
                }
            }
            Err(error) => {
                if !self.failing {
                    tracing::warn!(%error, "the store cannot be watched: the feed does not beat");
                    self.failing = true;
                }
            }
        }
    }

    async fn sweep(&self) {
        let gone = self.shared.watched().expire(Instant::now());
        self.shared.tell_all(&gone);
        if let Err(error) = self.store.remove_expired_logouts(now()).await {
            tracing::warn!(%error, "logouts that have expired could not be removed");
        }
    }
}

/// Seconds since 1970. A clock before that is as good as one that stands at it.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
