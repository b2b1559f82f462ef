//! Shared event streams: one response of the service for all requests of the same target.
//!
//! A stream is parsed by the format of server-sent events (the HTML standard, section 9.2). Its log begins with the last
//! event named `snapshot`, which must contain everything that the service has to say, and continues with the events after
//! it. A new listener gets the whole log, one with a `Last-Event-ID` in the log what follows it. A listener that is too
//! slow for the log continues at the next snapshot; without one it is ended. Listeners share the bytes of the events.
//!
//! When the log is full, the stream is requested again without `Last-Event-ID`, which returns a new snapshot. If its id is
//! that of the last event, listeners that have that event do not get it. When the service ends the response or fails, the
//! stream is requested again with the last id, and the listeners wait.
//!
//! # Bounds
//! [`Settings`] bounds the number of streams, also of those that one client has opened, and their size; [`EVENT_LIMIT`](parser::EVENT_LIMIT) bounds an event. A
//! stream without listeners is closed after [`LINGER`](feed::LINGER).

mod feed;
mod listener;
mod log;
mod parser;
mod stream;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use feed::{LAST_EVENT_ID, Source};
pub use listener::Listener;
use stream::Stream;
pub use stream::{Opened, Refusal};

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

/// What makes a stream the same for two requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The requested host.
    pub host: String,
    /// The part of the route's name in keys of the cache.
    pub route: Arc<str>,
    /// The path and the declared query.
    pub target: String,
}

/// Who has opened a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opener {
    /// An identity.
    Identity(String),
    /// A client without one, on a public route.
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

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FanOutFigures {
    /// Streams that are open or being opened.
    pub streams: usize,
    /// Their listeners.
    pub listeners: usize,
    /// The size of their logs, in bytes.
    pub bytes: u64,
    /// Events received from services since the start.
    pub events: u64,
    /// Requests to services since the start.
    pub requests: u64,
    /// Listeners that were ended since the start because they were too slow.
    pub slow: u64,
}

/// An open stream.
struct Open {
    stream: Arc<Stream>,
    opener: Opener,
}

struct Hub {
    settings: Mutex<Settings>,
    streams: Mutex<HashMap<Key, Open>>,
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
    /// Without streams.
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

    /// The same streams, with other bounds for new ones.
    pub fn with_settings(&self, settings: Settings) -> Self {
        *lock(&self.hub.settings) = settings;
        self.clone()
    }

    /// Listens to the stream of `key`, which is requested from `source` if it is not open. Must be called in a Tokio
    /// runtime. `last` is the `Last-Event-ID` of the request. A stream counts for the client that has opened it, as long
    /// as it is open.
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
        streams.insert(key.clone(), Open { stream: Arc::clone(&stream), opener });
        drop(streams);
        tokio::spawn(feed::run(Arc::clone(&self.hub), key, stream, source()));
        Ok(listener)
    }

    /// Numbers for metrics.
    pub fn figures(&self) -> FanOutFigures {
        let Hub { listeners, events, requests, slow, .. } = &*self.hub;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FanOutFigures {
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

    /// Counts that a log has grown from `before` to `after` bytes. Returns whether all logs are within their bound.
    fn resized(&self, before: usize, after: usize) -> bool {
        let (before, after) = (before as u64, after as u64);
        self.bytes.fetch_add(after, Ordering::Relaxed);
        self.bytes.fetch_sub(before, Ordering::Relaxed);
        self.bytes() <= lock(&self.settings).max_bytes
    }

    /// Ends `stream`, with `only_idle` if it has no listeners. Returns whether it has ended.
    fn close(&self, key: &Key, stream: &Arc<Stream>, only_idle: bool) -> bool {
        let mut streams = self.streams();
        let Some(bytes) = stream.end(only_idle) else { return false };
        if streams.get(key).is_some_and(|current| Arc::ptr_eq(&current.stream, stream)) {
            streams.remove(key);
        }
        self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        true
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<Key, Open>> {
        lock(&self.streams)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
