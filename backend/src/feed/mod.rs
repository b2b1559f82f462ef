//! What must be asked for again: the feed that tells gateways when what they remember of an
//! identity, or of a day's answer, may be wrong.
//!
//! # Identities
//! A gateway asks once for each identity, and from then on that identity is watched here:
//! whatever changes its account, by this process, another one or somebody in the database
//! itself, is told on the feed within half a second. While this works the feed beats, four
//! times a second. Without beats nothing is known, and whoever reads the feed has to act so.
//!
//! Up to [`WATCHED_LIMIT`] identities are watched, some 120 MB of them if every name has
//! its longest 1 KB. One that leaves, for that limit or because nobody has asked about it for
//! [`WATCHED_IDLE`], is told like one that has changed.
//!
//! # Days
//! A day whose answer this process may have changed is told at once. What other hands change is
//! told within half a second: where MongoDB has change streams, whatever they change in the
//! collection; on a standalone server only what other processes of ours do, and what somebody
//! writes into the database itself is not heard of. More than
//! [`DAYS_LIMIT`](crate::model::DAYS_LIMIT) days at once are told as all of them. So they are
//! where nobody can name them: after a time in which the store could not be followed, and where
//! a stream tells of a removal or of another `datetime`, for it does not tell what was there.
//! The beats do not vouch for days: a gateway keeps an answer for the seconds that it is fresh.

mod accounts;
mod days;
mod line;
mod subscribers;
mod watched;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use line::Event;
use subscribers::Subscribers;
pub use subscribers::{QUEUE_LIMIT, SUBSCRIBER_LIMIT, SubscribeError, Subscription};
use watched::{Observation, WatchedAccounts};

use crate::hex::{self, NoRandomness};
use crate::model::{AccountStatus, Days};
use crate::store::{Store, StoreError};

/// Identities that are watched at most.
pub const WATCHED_LIMIT: usize = 100_000;
/// How long an identity is watched that nobody asks about: longer than any token lives.
pub const WATCHED_IDLE: Duration = Duration::from_secs(2 * 3600);

/// Identities that are told one by one; more of them at once become one reset, so that they
/// fit the subscribers' queues.
const TOLD_ONE_BY_ONE: usize = 256;
/// How often a question is asked anew whose identity has left the table meanwhile.
const ATTEMPTS: u32 = 3;

/// The watched identities and the subscribers. Clones share them; the watching ends with the last.
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

/// What the handlers and the watching tasks share.
#[derive(Debug)]
struct Shared {
    /// Of this process and no other.
    id: String,
    subscribers: Subscribers,
    watched: Mutex<WatchedAccounts>,
    /// When the last look that succeeded began.
    looked: Mutex<Option<Instant>>,
}

/// What is known of the feed, for metrics. Counts are since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct FeedStats {
    /// Identities that are watched.
    pub watched: usize,
    /// Subscribers.
    pub subscribers: usize,
    /// Identities told.
    pub identities: u64,
    /// Resets told.
    pub resets: u64,
    /// Days told.
    pub purges: u64,
    /// How often it was told that any day may have changed.
    pub purges_of_all: u64,
    /// Beats told.
    pub beats: u64,
    /// Subscribers that were cut off because they did not read.
    pub cut_off: u64,
    /// How long ago the last look began that saw all changes before it. `None` before the first.
    pub look_age: Option<Duration>,
}

impl Feed {
    /// Begins to watch what `store` holds.
    ///
    /// # Errors
    /// [`NoRandomness`]: the feed has no id that no other has.
    pub fn start(store: Store) -> Result<Self, NoRandomness> {
        let id = hex::random_id()?;
        let shared = Arc::new(Shared {
            id: id.clone(),
            subscribers: Subscribers::new(&id),
            watched: Mutex::new(WatchedAccounts::new(WATCHED_LIMIT, WATCHED_IDLE)),
            looked: Mutex::new(None),
        });
        let watching = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            tokio::join!(accounts::watch(&store, &watching, id), days::watch(&store, &watching));
        });
        let task = task.abort_handle();
        Ok(Self { running: Arc::new(Running { shared, task }) })
    }

    /// What the feed of this process is known by: 32 hexadecimal digits, which stand in its
    /// first line. No other feed tells what becomes of the identities that are asked about here.
    pub fn id(&self) -> &str {
        &self.running.shared.id
    }

    /// What holds for the tokens of `identity`, which is watched from this moment. `now` is in
    /// seconds since the Unix epoch.
    ///
    /// # Errors
    /// Where the store cannot tell.
    pub async fn check(&self, store: &Store, identity: &str, now: i64) -> Result<AccountStatus, StoreError> {
        let shared = &self.running.shared;
        for _ in 0..ATTEMPTS {
            shared.ask(identity);
            let (status, sighting) = store.account(identity, now).await?;
            // Bound first: the lock must not be held while the feed is told.
            let seen = shared.watched().saw(identity, sighting);
            match seen {
                Observation::Same => return Ok(status),
                Observation::Differs => {
                    // Another gateway may have been told what was seen before.
                    shared.subscribers.tell(&Event::Identity { identity });
                    return Ok(status);
                }
                Observation::Missing => {}
            }
        }
        Err(StoreError::Unavailable("too many identities are asked about at once".to_owned()))
    }

    /// Tells that `identity` may have changed.
    pub fn account_changed(&self, identity: &str) {
        let shared = &self.running.shared;
        shared.watched().changed(identity);
        shared.subscribers.tell(&Event::Identity { identity });
    }

    /// Reports that anything may have changed, of every identity and every day.
    pub fn reset(&self) {
        let shared = &self.running.shared;
        shared.watched().changed_all();
        shared.subscribers.tell(&Event::Reset { reset: true });
        shared.subscribers.tell(&Event::PurgeAll { purge_all: true });
    }

    /// Begins a subscription to the feed.
    ///
    /// # Errors
    /// [`SubscribeError`].
    pub fn subscribe(&self) -> Result<Subscription, SubscribeError> {
        self.running.shared.subscribers.subscribe()
    }

    /// Ends the feed for everybody.
    pub fn end(&self) {
        self.running.shared.subscribers.end();
    }

    /// What is known now.
    pub fn figures(&self) -> FeedStats {
        let shared = &self.running.shared;
        let told = &shared.subscribers.told;
        FeedStats {
            watched: shared.watched().len(),
            subscribers: shared.subscribers.count(),
            identities: told.identities.load(Ordering::Relaxed),
            resets: told.resets.load(Ordering::Relaxed),
            purges: told.purges.load(Ordering::Relaxed),
            purges_of_all: told.purges_of_all.load(Ordering::Relaxed),
            beats: told.beats.load(Ordering::Relaxed),
            cut_off: told.cut_off.load(Ordering::Relaxed),
            look_age: shared.looked().map(|at| at.elapsed()),
        }
    }
}

impl Shared {
    fn ask(&self, identity: &str) {
        let leaves = self.watched().ask(identity, Instant::now());
        if let Some(leaves) = leaves {
            self.subscribers.tell(&Event::Identity { identity: &leaves });
        }
    }

    /// Tells of many identities at once.
    fn tell_identities(&self, identities: &[Arc<str>]) {
        if identities.len() > TOLD_ONE_BY_ONE {
            self.subscribers.tell(&Event::Reset { reset: true });
            return;
        }
        for identity in identities {
            self.subscribers.tell(&Event::Identity { identity });
        }
    }

    /// Tells of days, of none where there are none.
    fn tell_days(&self, days: &Days) {
        match days {
            Days::Named(days) => {
                for day in days {
                    self.subscribers.tell(&Event::Purge { purge: &line::path(*day) });
                }
            }
            Days::All => self.subscribers.tell(&Event::PurgeAll { purge_all: true }),
        }
    }

    fn watched(&self) -> MutexGuard<'_, WatchedAccounts> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looked(&self) -> MutexGuard<'_, Option<Instant>> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
