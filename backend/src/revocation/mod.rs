//! Who must be asked about again: the feed that tells gateways when what they remember of
//! an identity may be wrong.
//!
//! A gateway asks once for each identity, and from then on that identity is watched here:
//! whatever changes its account, by this process, another one or somebody in the database
//! itself, is told on the feed within half a second. While this works the feed beats, four
//! times a second. Without beats nothing is known, and whoever reads the feed has to act so.
//!
//! Up to [`WATCHED_LIMIT`] identities are watched, some 120 MB of them if every name has
//! its longest 1 KB. One that leaves, for that limit or because nobody has asked about it for
//! [`WATCHED_IDLE`], is told like one that has changed.

mod feed;
mod watch;
mod watched;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use feed::{Feed, Line};
pub use feed::{NoFeed, QUEUE_LIMIT, SUBSCRIBER_LIMIT, Subscription};
use watched::{Seen, Watched};

use crate::hex::{self, NoRandomness};
use crate::model::AccountStatus;
use crate::store::{Store, StoreError};

/// Identities that are watched at most.
pub const WATCHED_LIMIT: usize = 100_000;
/// How long an identity is watched that nobody asks about: longer than any token lives.
pub const WATCHED_IDLE: Duration = Duration::from_secs(2 * 3600);

/// Changes that are told one by one; more of them at once become one reset, so that they
/// fit the subscribers' queues.
const TOLD_ONE_BY_ONE: usize = 256;
/// How often a question is asked anew whose identity has left the table meanwhile.
const ATTEMPTS: u32 = 3;

/// The watched identities and the feed. Clones share them; the watching ends with the last.
#[derive(Clone, Debug)]
pub struct Revocation {
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

/// What the handlers and the watching task share.
#[derive(Debug)]
struct Shared {
    /// Of this process and no other.
    id: String,
    feed: Feed,
    watched: Mutex<Watched>,
    /// When the last look that succeeded began.
    looked: Mutex<Option<Instant>>,
}

/// What is known of the feed, for metrics. Counts are since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Identities that are watched.
    pub watched: usize,
    /// Subscribers.
    pub subscribers: usize,
    /// Identities told.
    pub identities: u64,
    /// Resets told.
    pub resets: u64,
    /// Beats told.
    pub beats: u64,
    /// Subscribers that were cut off because they did not read.
    pub cut_off: u64,
    /// How long ago the last look began that saw all changes before it. `None` before the first.
    pub look_age: Option<Duration>,
}

impl Revocation {
    /// Begins to watch what `store` holds.
    ///
    /// # Errors
    /// [`NoRandomness`]: the feed has no id that no other has.
    pub fn start(store: Store) -> Result<Self, NoRandomness> {
        let id = hex::random_id()?;
        let shared = Arc::new(Shared {
            id: id.clone(),
            feed: Feed::new(&id),
            watched: Mutex::new(Watched::new(WATCHED_LIMIT, WATCHED_IDLE)),
            looked: Mutex::new(None),
        });
        let task = tokio::spawn(watch::run(store, Arc::clone(&shared), id)).abort_handle();
        Ok(Self { running: Arc::new(Running { shared, task }) })
    }

    /// What the feed of this process is known by: 32 hexadecimal digits, which stand in its
    /// first line. No other feed tells what becomes of the identities that are asked about here.
    pub fn feed_id(&self) -> &str {
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
                Seen::Same => return Ok(status),
                Seen::Differs => {
                    // Another gateway may have been told what was seen before.
                    shared.feed.tell(&Line::Identity { identity });
                    return Ok(status);
                }
                Seen::Missing => {}
            }
        }
        Err(StoreError::Unavailable("too many identities are asked about at once".to_owned()))
    }

    /// Tells that `identity` may have changed.
    pub fn changed(&self, identity: &str) {
        let shared = &self.running.shared;
        shared.watched().changed(identity);
        shared.feed.tell(&Line::Identity { identity });
    }

    /// Begins a subscription to the feed.
    ///
    /// # Errors
    /// [`NoFeed`].
    pub fn subscribe(&self) -> Result<Subscription, NoFeed> {
        self.running.shared.feed.subscribe()
    }

    /// Ends the feed for everybody.
    pub fn end(&self) {
        self.running.shared.feed.end();
    }

    /// What is known now.
    pub fn figures(&self) -> Figures {
        let shared = &self.running.shared;
        let told = &shared.feed.told;
        Figures {
            watched: shared.watched().len(),
            subscribers: shared.feed.subscribers_now(),
            identities: told.identities.load(Ordering::Relaxed),
            resets: told.resets.load(Ordering::Relaxed),
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
            self.feed.tell(&Line::Identity { identity: &leaves });
        }
    }

    /// Tells of many at once.
    fn tell_all(&self, identities: &[Arc<str>]) {
        if identities.len() > TOLD_ONE_BY_ONE {
            self.feed.tell(&Line::Reset { reset: true });
            return;
        }
        for identity in identities {
            self.feed.tell(&Line::Identity { identity });
        }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looked(&self) -> MutexGuard<'_, Option<Instant>> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
