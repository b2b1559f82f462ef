//! Shared event streams: all requests for the same target receive the events of one response of the service.
//!
//! A stream is parsed as server-sent events (the HTML standard, section 9.2). Its log begins with the last event named
//! `snapshot`, which must contain the complete current state, and continues with the events after it. A new listener
//! receives the whole log. A listener whose `Last-Event-ID` is in the log receives the events after it. If events are
//! removed from the log before a listener has received them, it continues with the snapshot, or ends if the log has none.
//! Listeners share the bytes of the events.
//!
//! When the log is full, the stream is requested again without `Last-Event-ID`, so that the service sends a new snapshot.
//! If the snapshot has the id of the last event, listeners that have received that event skip the snapshot. When the
//! service ends the response or fails, the stream is requested again with the last id, and the listeners wait.
//!
//! # Bounds
//! [`Settings`] bounds the number of streams, those of them that one client has opened, and their size.
//! [`EVENT_LIMIT`](parser::EVENT_LIMIT) bounds an event. A stream without listeners is closed after
//! [`IDLE_LIMIT`](reader::IDLE_LIMIT).

mod listener;
mod log;
mod parser;
mod reader;
mod stream;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use listener::Listener;
pub use reader::{LAST_EVENT_ID, Source};
use stream::Stream;
pub use stream::{FirstResponse, OtherResponse};

use crate::client::Prefix;

/// What [`Settings::max_streams`] is divided by for the number that one client can have opened. The service follows a
/// query for longer than a stream lasts here, so that a client that opens others all the time occupies several times as
/// many there.
const SHARE: usize = 8;

/// The bounds of all streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The maximum number of streams. 64 by default.
    pub max_streams: usize,
    /// The maximum size of all logs, in bytes. 128 MiB by default.
    pub max_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_streams: 64, max_bytes: 128 << 20 }
    }
}

/// The identity of a stream: requests with equal keys share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The host of the request.
    pub host: String,
    /// The route, as in the keys of the cache (`Route::cached_as`).
    pub route: Arc<str>,
    /// The path and the query parameters that the route declares.
    pub target: String,
}

/// The client whose request has opened a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opener {
    /// An identity.
    Identity(String),
    /// The address of a client without an identity, on a public route.
    Client(Prefix),
}

/// A limit of [`Settings`] is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are too many shared streams")]
pub struct Full;

/// The shared streams. Clones share them.
#[derive(Clone)]
pub struct FanOut {
    hub: Arc<Hub>,
}

/// Numbers for metrics. The last three are counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FanOutStats {
    /// Streams that are open or being opened.
    pub streams: usize,
    /// Their listeners.
    pub listeners: usize,
    /// The size of their logs, in bytes.
    pub bytes: u64,
    /// Events received from services.
    pub events: u64,
    /// Requests to services.
    pub requests: u64,
    /// Listeners that were ended because they were too slow.
    pub slow: u64,
}

/// An open stream.
struct OpenStream {
    stream: Arc<Stream>,
    opener: Opener,
}

struct Hub {
    settings: Mutex<Settings>,
    streams: Mutex<HashMap<Key, OpenStream>>,
    listeners: AtomicUsize,
    bytes: AtomicU64,
    events: AtomicU64,
    requests: AtomicU64,
    slow: AtomicU64,
}

impl Default for FanOut {
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

impl FanOut {
    /// Creates the table of streams, without any.
    pub fn new(settings: Settings) -> Self {
        let hub = Hub {
            settings: Mutex::new(settings),
            streams: Mutex::default(),
            listeners: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            events: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            slow: AtomicU64::new(0),
        };
        Self { hub: Arc::new(hub) }
    }

    /// Returns the same streams with other bounds, which apply to new streams and new events.
    pub fn with_settings(&self, settings: Settings) -> Self {
        *lock(&self.hub.settings) = settings;
        self.clone()
    }

    /// Adds a listener to the stream of `key`, which is requested from `source` if it is not open. `last` is the
    /// `Last-Event-ID` of the listener's request. While a stream is open, it counts for the client that has opened it.
    /// Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// [`Full`].
    pub fn listen(
        &self,
        key: Key,
        opener: impl FnOnce() -> Opener,
        last: Option<&[u8]>,
        source: impl FnOnce() -> Source,
    ) -> Result<Listener, Full> {
        let settings = *lock(&self.hub.settings);
        let mut streams = self.hub.streams();
        if let Some(listener) = streams.get(&key).and_then(|open| Listener::new(&self.hub, &open.stream, last)) {
            return Ok(listener);
        }
        let is_known = streams.contains_key(&key);
        if (streams.len() >= settings.max_streams && !is_known) || self.hub.bytes() >= settings.max_bytes {
            return Err(Full);
        }
        let opener = opener();
        let own = streams.iter().filter(|(other, open)| **other != key && open.opener == opener).count();
        if own >= settings.max_streams.div_ceil(SHARE) {
            return Err(Full);
        }
        let stream = Arc::new(Stream::default());
        // A new stream has not ended.
        let listener = Listener::new(&self.hub, &stream, last).ok_or(Full)?;
        streams.insert(key.clone(), OpenStream { stream: Arc::clone(&stream), opener });
        drop(streams);
        tokio::spawn(reader::run(Arc::clone(&self.hub), key, stream, source()));
        Ok(listener)
    }

    /// Numbers for metrics.
    pub fn stats(&self) -> FanOutStats {
        let Hub { listeners, events, requests, slow, .. } = &*self.hub;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FanOutStats {
            streams: self.hub.streams().len(),
            listeners: listeners.load(Ordering::Relaxed),
            bytes: self.hub.bytes(),
            events: count(events),
            requests: count(requests),
            slow: count(slow),
        }
    }
}

impl Hub {
    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Updates the total size for a log that had `before` bytes and has `after`. Returns whether the total is within its
    /// bound.
    fn update_bytes(&self, before: usize, after: usize) -> bool {
        let (before, after) = (before as u64, after as u64);
        self.bytes.fetch_add(after, Ordering::Relaxed);
        self.bytes.fetch_sub(before, Ordering::Relaxed);
        self.bytes() <= lock(&self.settings).max_bytes
    }

    /// Ends `stream` and removes it. With `only_idle`, a stream with listeners does not end. Returns whether it has ended.
    fn close(&self, key: &Key, stream: &Arc<Stream>, only_idle: bool) -> bool {
        let mut streams = self.streams();
        let Some(bytes) = stream.end(only_idle) else { return false };
        if streams.get(key).is_some_and(|current| Arc::ptr_eq(&current.stream, stream)) {
            streams.remove(key);
        }
        self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        true
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<Key, OpenStream>> {
        lock(&self.streams)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
