//! Streams of the changes of lists, as server-sent events.
//!
//! A stream begins with a `snapshot` of its query and continues with its changes: `upsert`, `delete` and `start`. Each
//! distinct [`Query`] has one state and one log, which its subscribers share. It reads the days again that the
//! [feed](crate::feed) publishes as changed, and publishes the difference; so it has the feed's limits.
//!
//! The id of an event identifies the content of the state after it. Another process, or this one after a restart,
//! continues a stream without a snapshot if nothing has changed meanwhile.
//!
//! # Bounds
//! [`QUERIES_LIMIT`] distinct queries, [`SUBSCRIBERS_LIMIT`] subscribers, [`ENTRIES_LIMIT`](read::ENTRIES_LIMIT) entries
//! of a query, [`STATE_LIMIT`] bytes of one query and [`TOTAL_LIMIT`] of all. A query without subscribers ends after
//! [`IDLE_LIMIT`], or when another query needs its place.

mod channel;
mod event;
mod follow;
mod log;
mod pending;
mod permits;
mod query;
mod read;
mod state;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use channel::Channel;
pub(crate) use channel::Subscription;
use pending::PendingDays;
use permits::{Permit, Permits};
pub(crate) use query::{DAYS_LIMIT, DEFAULT_DAYS, Query, Span};
use state::StateId;

use crate::coalesce::Coalescer;
use crate::feed::Feed;
use crate::store::{Store, StoreError};

/// The maximum number of distinct queries.
const QUERIES_LIMIT: usize = 256;
/// The maximum number of subscribers: one for each query of each gateway, with some for gateways that end.
const SUBSCRIBERS_LIMIT: usize = 1024;
/// The maximum size of the entries of a query, in bytes.
const STATE_LIMIT: usize = 16 << 20;
/// The maximum size of the entries of all queries, in bytes.
const TOTAL_LIMIT: usize = 128 << 20;
/// How long a query is followed without subscribers.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// The maximum number of concurrent reads of the store.
const READS_LIMIT: usize = 4;

/// Why there is no stream.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LiveError {
    /// The query has too many entries or bytes.
    #[error("the stream would have more than {entries} entries or {bytes} bytes: narrow the query", entries = read::ENTRIES_LIMIT, bytes = STATE_LIMIT)]
    TooLarge,
    /// A limit is reached.
    #[error("there are too many streams")]
    Full,
    /// The service is stopping.
    #[error("the service is stopping")]
    Ended,
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The streams. They end when this is dropped.
pub(crate) struct Live {
    hub: Arc<Hub>,
    opening: Coalescer<Query, Result<Arc<Channel>, LiveError>>,
    task: AbortHandle,
}

/// Current numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LiveStats {
    /// Distinct queries.
    pub(crate) queries: usize,
    /// Subscribers.
    pub(crate) subscribers: usize,
}

/// The state that all streams share.
struct Hub {
    store: Store,
    channels: Mutex<Channels>,
    queries: Permits,
    subscribers: Permits,
    reads: Semaphore,
}

#[derive(Default)]
struct Channels {
    open: HashMap<Query, Open>,
    /// The days of all queries, also of those that are being opened.
    pending: Vec<Weak<PendingDays>>,
    have_ended: bool,
}

struct Open {
    channel: Arc<Channel>,
    task: AbortHandle,
    _permit: Permit,
}

impl Live {
    /// Follows the days that `feed` publishes, for streams from `store`. In a Tokio runtime.
    pub(crate) fn start(store: Store, feed: Feed) -> Self {
        let hub = Arc::new(Hub {
            store,
            channels: Mutex::default(),
            queries: Permits::new(QUERIES_LIMIT),
            subscribers: Permits::new(SUBSCRIBERS_LIMIT),
            reads: Semaphore::new(READS_LIMIT),
        });
        let weak = Arc::downgrade(&hub);
        let task = tokio::spawn(async move {
            loop {
                let days = feed.changed_days().await;
                let Some(hub) = weak.upgrade() else { return };
                hub.channels().pending.retain(|pending| match pending.upgrade() {
                    Some(pending) => {
                        pending.add(days.clone());
                        true
                    }
                    None => false,
                });
            }
        });
        Self { hub, opening: Coalescer::new(), task: task.abort_handle() }
    }

    /// Subscribes to the stream of `query`. If `last` is the id of an event from which it can continue, without a
    /// snapshot.
    ///
    /// # Errors
    /// [`LiveError`].
    pub(crate) async fn subscribe(&self, query: Query, last: Option<&str>) -> Result<Subscription, LiveError> {
        let last = last.and_then(StateId::parse);
        let permit = self.hub.subscribers.take().ok_or(LiveError::Full)?;
        let mut permit = Some(permit);
        // A channel may end between the lookup and the subscription.
        for _ in 0..2 {
            let open = self.hub.channels().open(&query)?;
            let channel = match open {
                Some(channel) => channel,
                None => self.opening.join(query.clone(), || Hub::open(Arc::clone(&self.hub), query.clone())).await?,
            };
            let Some(taken) = permit.take() else { break };
            match channel.subscribe(last, taken) {
                Ok(subscription) => return Ok(subscription),
                Err(returned) => permit = Some(returned),
            }
        }
        Err(LiveError::Full)
    }

    /// Ends all streams.
    pub(crate) fn end(&self) {
        let mut channels = self.hub.channels();
        channels.have_ended = true;
        for (_, open) in channels.open.drain() {
            open.task.abort();
            open.channel.end();
        }
    }

    /// Allows streams again after [`Live::end`].
    pub(crate) fn resume(&self) {
        self.hub.channels().have_ended = false;
    }

    /// Current numbers.
    pub(crate) fn stats(&self) -> LiveStats {
        LiveStats { queries: self.hub.queries.taken(), subscribers: self.hub.subscribers.taken() }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
        self.end();
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Channels {
    /// The channel of `query`, if it is open.
    fn open(&self, query: &Query) -> Result<Option<Arc<Channel>>, LiveError> {
        if self.have_ended {
            return Err(LiveError::Ended);
        }
        Ok(self.open.get(query).map(|open| Arc::clone(&open.channel)))
    }
}

impl Hub {
    /// Reads the state of `query`, and follows it.
    async fn open(self: Arc<Self>, query: Query) -> Result<Arc<Channel>, LiveError> {
        // Another request may have opened it meanwhile.
        if let Some(channel) = self.channels().open(&query)? {
            return Ok(channel);
        }
        let mut permit = self.queries.take();
        // Another task may take the permit that becomes free.
        while permit.is_none() && self.close_longest_idle() {
            permit = self.queries.take();
        }
        let permit = permit.ok_or(LiveError::Full)?;
        let pending = Arc::new(PendingDays::default());
        self.channels().pending.push(Arc::downgrade(&pending));
        let state = follow::first(&self, &query).await?;
        let channel = Arc::new(Channel::new(state));
        let following = follow::follow(Arc::downgrade(&self), query.clone(), Arc::clone(&channel), pending);
        let mut channels = self.channels();
        if channels.have_ended {
            return Err(LiveError::Ended);
        }
        let task = tokio::spawn(following).abort_handle();
        channels.open.insert(query, Open { channel: Arc::clone(&channel), task, _permit: permit });
        Ok(channel)
    }

    /// Ends the stream of `query`, with `only_idle` if it has no subscribers. Returns whether it has ended.
    fn close(&self, query: &Query, channel: &Channel, only_idle: bool) -> bool {
        let mut channels = self.channels();
        if !channel.end_if(|is_idle| is_idle || !only_idle) {
            return false;
        }
        // Another channel may have replaced it.
        if channels.open.get(query).is_some_and(|open| std::ptr::eq(&*open.channel, channel)) {
            channels.open.remove(query);
        }
        true
    }

    /// Ends the stream that has had no subscribers for longest. Returns whether there was one.
    fn close_longest_idle(&self) -> bool {
        let mut channels = self.channels();
        let idle = channels.open.iter().filter_map(|(query, open)| Some((open.channel.idle()?, query.clone())));
        let mut idle: Vec<_> = idle.collect();
        idle.sort_by_key(|(time, _)| *time);
        for (_, query) in idle.into_iter().rev() {
            let Some(open) = channels.open.get(&query) else { continue };
            // A subscriber may have been added meanwhile.
            if open.channel.end_if(|is_idle| is_idle) {
                open.task.abort();
                channels.open.remove(&query);
                return true;
            }
        }
        false
    }

    /// The size of the entries of all queries, in bytes.
    fn total_bytes(&self) -> usize {
        self.channels().open.values().map(|open| open.channel.read(state::State::bytes)).sum()
    }

    fn channels(&self) -> MutexGuard<'_, Channels> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
