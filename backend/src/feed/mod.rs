//! The feed: notifies gateways when the account of an identity or the response for a day may have changed.
//!
//! # Identities
//! When a gateway has checked an identity, the identity is watched from then on. Any change to its account, by this
//! process, another process or directly in the database, is published within half a second. While this works, the feed
//! sends a beat four times per second. Without beats, changes may be missed: the age of the last beat limits how long a
//! subscriber may rely on cached results.
//!
//! At most [`WATCHED_LIMIT`] identities are watched (about 120 MB if each name has the maximum of 1 KB). An identity
//! that is evicted by this limit, or that was not checked for [`WATCHED_IDLE`], is published as changed.
//!
//! # Days
//! A day is published immediately after a change by this process, and within half a second after an external change. If
//! MongoDB has change streams, all changes to the collection are detected; on a standalone server only those by other
//! backend processes, not direct writes to the database. More than [`DAYS_LIMIT`](crate::model::DAYS_LIMIT) days at
//! once are published as all days. So are changes whose days are unknown: after a time without access to the store, and
//! if a change stream reports a deletion or a new `datetime` without the previous document. Beats do not cover days: if
//! a change to a day is missed, a gateway serves the cached response for the rest of its freshness lifetime.
//!
//! # Lists
//! Any change of a day can change any list. Days that are published together are followed by one purge of [`LISTS`],
//! which represents the responses of all lists; a gateway that does not know this path ignores it. A change of
//! streamers counts as a change of all days.

mod accounts;
mod calendars;
mod changes;
mod days;
mod detection;
mod event;
mod subscribers;
mod watched;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use changes::PublishedDays;
use event::{Event, LISTS};
use subscribers::Subscribers;
pub use subscribers::{QUEUE_LIMIT, SUBSCRIBER_LIMIT, SubscribeError, Subscription};
use watched::{Observation, WatchedAccounts};

use crate::hex::{self, NoRandomness};
use crate::model::{AccountStatus, Days};
use crate::store::{Store, StoreError};

/// The maximum number of watched identities.
pub const WATCHED_LIMIT: usize = 100_000;
/// How long an unchecked identity is watched: longer than the lifetime of any token.
pub const WATCHED_IDLE: Duration = Duration::from_secs(2 * 3600);

/// More identities than this at once are published as one reset, to fit the subscribers' queues.
const RESET_THRESHOLD: usize = 256;
/// How often a check is repeated when its identity is evicted meanwhile.
const ATTEMPTS: u32 = 3;

/// The watched identities and the subscribers. Clones share them; watching stops when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Feed {
    running: Arc<Running>,
}

#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// State shared by the handlers and the watching tasks.
#[derive(Debug)]
struct Shared {
    /// Unique to this process.
    id: String,
    subscribers: Subscribers,
    watched: Mutex<WatchedAccounts>,
    /// When the last successful poll began.
    last_poll: Mutex<Option<Instant>>,
    /// The published days, for [`Feed::changed_days`].
    published_days: PublishedDays,
}

/// Statistics for metrics. Counts are since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct FeedStats {
    /// Watched identities.
    pub watched: usize,
    /// Current subscribers.
    pub subscribers: usize,
    /// Identity events published.
    pub identities: u64,
    /// Resets published.
    pub resets: u64,
    /// Purges of paths published: of days, and of all lists.
    pub purges: u64,
    /// Purges of all paths published.
    pub purges_of_all: u64,
    /// Beats published.
    pub beats: u64,
    /// Subscribers that were disconnected because they did not read.
    pub cut_off: u64,
    /// Time since the start of the last poll that succeeded. `None` before the first.
    pub poll_age: Option<Duration>,
}

impl Feed {
    /// Starts to watch `store`.
    ///
    /// # Errors
    /// [`NoRandomness`]: no unique id can be generated.
    pub fn start(store: Store) -> Result<Self, NoRandomness> {
        let id = hex::random_id()?;
        let shared = Arc::new(Shared {
            id: id.clone(),
            subscribers: Subscribers::new(&id),
            watched: Mutex::new(WatchedAccounts::new(WATCHED_LIMIT, WATCHED_IDLE)),
            last_poll: Mutex::new(None),
            published_days: PublishedDays::default(),
        });
        let watched = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            tokio::join!(accounts::watch(&store, &watched, id), days::watch(&store, &watched));
        });
        let task = task.abort_handle();
        Ok(Self { running: Arc::new(Running { shared, task }) })
    }

    /// The id of this process's feed: 32 hexadecimal digits, also in its first line. Other feeds do not cover the
    /// identities that are checked here.
    pub fn id(&self) -> &str {
        &self.running.shared.id
    }

    /// The account status of `identity`, which is watched from now on. `now` is in seconds since the Unix epoch.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn check(&self, store: &Store, identity: &str, now: i64) -> Result<AccountStatus, StoreError> {
        let shared = &self.running.shared;
        for _ in 0..ATTEMPTS {
            shared.watch(identity);
            let (status, fingerprint) = store.account(identity, now).await?;
            // Bound to a variable so that the lock is released before publishing.
            let seen = shared.watched().observe(identity, fingerprint);
            match seen {
                Observation::Unchanged => return Ok(status),
                Observation::Changed => {
                    // Another gateway may have cached the previous status.
                    shared.subscribers.publish(&Event::Identity { identity });
                    return Ok(status);
                }
                Observation::Evicted => {}
            }
        }
        Err(StoreError::Unavailable("too many identities are checked at once".to_owned()))
    }

    /// Publishes that `identity` may have changed.
    pub fn account_changed(&self, identity: &str) {
        let shared = &self.running.shared;
        shared.watched().invalidate(identity);
        shared.subscribers.publish(&Event::Identity { identity });
    }

    /// Publishes that any identity and any day may have changed.
    pub fn reset(&self) {
        let shared = &self.running.shared;
        shared.watched().invalidate_all();
        shared.subscribers.publish(&Event::Reset { reset: true });
        shared.publish_days(&Days::All);
    }

    /// The days that were published since the last call; waits if there are none. For a single caller, which reads the
    /// store after this returns.
    pub async fn changed_days(&self) -> Days {
        self.running.shared.published_days.take().await
    }

    /// Subscribes to the feed.
    ///
    /// # Errors
    /// [`SubscribeError`].
    pub fn subscribe(&self) -> Result<Subscription, SubscribeError> {
        self.running.shared.subscribers.subscribe()
    }

    /// Ends all subscriptions.
    pub fn end(&self) {
        self.running.shared.subscribers.end();
    }

    /// Accepts subscribers again after [`Feed::end`].
    pub fn resume(&self) {
        self.running.shared.subscribers.resume();
    }

    /// Current statistics.
    pub fn stats(&self) -> FeedStats {
        let shared = &self.running.shared;
        let counts = &shared.subscribers.counts;
        FeedStats {
            watched: shared.watched().len(),
            subscribers: shared.subscribers.count(),
            identities: counts.identities.load(Ordering::Relaxed),
            resets: counts.resets.load(Ordering::Relaxed),
            purges: counts.purges.load(Ordering::Relaxed),
            purges_of_all: counts.purges_of_all.load(Ordering::Relaxed),
            beats: counts.beats.load(Ordering::Relaxed),
            cut_off: counts.cut_off.load(Ordering::Relaxed),
            poll_age: shared.last_poll().map(|at| at.elapsed()),
        }
    }
}

impl Shared {
    fn watch(&self, identity: &str) {
        let evicted = self.watched().watch(identity, Instant::now());
        if let Some(evicted) = evicted {
            self.subscribers.publish(&Event::Identity { identity: &evicted });
        }
    }

    /// Publishes many identities at once.
    fn publish_identities(&self, identities: &[Arc<str>]) {
        if identities.len() > RESET_THRESHOLD {
            self.subscribers.publish(&Event::Reset { reset: true });
            return;
        }
        for identity in identities {
            self.subscribers.publish(&Event::Identity { identity });
        }
    }

    /// Publishes days that have changed together, and once that the lists have.
    fn publish_days(&self, days: &Days) {
        self.published_days.add(days);
        match days {
            Days::Named(days) => {
                for day in days {
                    self.subscribers.publish(&Event::Purge { purge: &event::path(*day) });
                }
                if !days.is_empty() {
                    self.subscribers.publish(&Event::Purge { purge: LISTS });
                }
            }
            Days::All => self.subscribers.publish(&Event::PurgeAll { purge_all: true }),
        }
    }

    fn watched(&self) -> MutexGuard<'_, WatchedAccounts> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_poll(&self) -> MutexGuard<'_, Option<Instant>> {
        self.last_poll.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
