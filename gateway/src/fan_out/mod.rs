//! Shared event streams: all requests for the same target receive the events of one response of the service.
//!
//! A stream is parsed as server-sent events (the HTML standard, section 9.2). Its log begins with the last event named
//! `snapshot`, which must contain the complete current state, and continues with the events after it. A new listener
//! receives the whole log. A listener whose `Last-Event-ID` is in the log receives the events after it. If events are
//! removed from the log before a listener has received them, it continues with the snapshot, or ends if the log has
//! none. Listeners share the bytes of the events. An event with the field `max-age: N` is sent for N seconds: later, a
//! listener receives only its id.
//!
//! When the log is full, the stream is requested again without `Last-Event-ID`, so that the service sends a new
//! snapshot. If the snapshot has the id of the last event, listeners that have received that event skip the snapshot.
//! When the service ends the response or fails, the stream is requested again with the last id, and the listeners wait.
//!
//! # Bounds
//! [`Settings`] bounds the number of streams, their size, and the number of listeners. One identity, or on a public
//! route one client address, can have opened an eighth of the streams. If all streams together exceed their size, the
//! identity or address with the most bytes loses its largest stream, repeatedly if necessary. One client address can
//! have a quarter of the listeners. [`EVENT_LIMIT`](parser::EVENT_LIMIT) bounds an event. A stream without listeners is
//! closed after [`IDLE_LIMIT`](reader::IDLE_LIMIT), or when another one needs its place.

mod listener;
mod listeners;
mod log;
mod parser;
mod reader;
mod stream;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use listener::Counted;
pub use listener::Listener;
use listeners::Listeners;
pub use reader::{LAST_EVENT_ID, Source};
use stream::Stream;
pub use stream::{FirstResponse, OtherResponse};

use crate::client::Prefix;

/// What [`Settings::max_streams`] is divided by for the number that one opener can have opened.
const OPENERS: usize = 8;

/// The bounds of all streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The maximum number of streams. 256 by default.
    pub max_streams: usize,
    /// The maximum size of all logs, in bytes. 128 MiB by default.
    pub max_bytes: u64,
    /// The maximum number of listeners. 40,000 by default.
    pub max_listeners: usize,
    /// How long listeners wait for a service that fails, before they are ended. 30 s by default.
    pub reconnect_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_streams: 256,
            max_bytes: 128 << 20,
            max_listeners: 40_000,
            reconnect_timeout: Duration::from_secs(30),
        }
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Opener {
    /// An identity.
    Identity(String),
    /// The address of a client without an identity, on a public route.
    Client(Prefix),
}

/// A request for a stream.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The stream.
    pub key: Key,
    /// The address of the client.
    pub client: Prefix,
    /// The identity of the client; `None` on a public route.
    pub identity: Option<&'a str>,
    /// The `Last-Event-ID` field.
    pub last_event_id: Option<&'a [u8]>,
}

/// A limit of [`Settings`] is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are too many shared streams or listeners")]
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
    listeners: Mutex<Listeners>,
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
            listeners: Mutex::default(),
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

    /// Adds a listener to the requested stream, which is requested from `source` if it is not open. While a stream is
    /// open, it counts for the client that has opened it. Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// [`Full`].
    pub fn listen(&self, request: Request<'_>, source: Source) -> Result<Listener, Full> {
        let Request { key, client, identity, last_event_id } = request;
        let settings = *lock(&self.hub.settings);
        let counted = Counted::new(&self.hub, client, settings.max_listeners)?;
        let mut streams = self.hub.streams();
        if let Some(open) = streams.get(&key)
            && let Some(state) = open.stream.add(last_event_id)
        {
            return Ok(Listener::new(&open.stream, state, counted));
        }
        // It has ended and may not be removed yet.
        streams.remove(&key);
        let opener = identity.map_or(Opener::Client(client), |identity| Opener::Identity(identity.to_owned()));
        let own = streams.values().filter(|open| open.opener == opener).count();
        let has_room = (own < settings.max_streams.div_ceil(OPENERS)
            || self.hub.close_longest_idle(&mut streams, |open| open.opener == opener))
            && (streams.len() < settings.max_streams || self.hub.close_longest_idle(&mut streams, |_| true));
        if !has_room {
            return Err(Full);
        }
        let stream = Arc::new(Stream::default());
        // A new stream has not ended.
        let state = stream.add(last_event_id).ok_or(Full)?;
        let listener = Listener::new(&stream, state, counted);
        streams.insert(key.clone(), OpenStream { stream: Arc::clone(&stream), opener });
        drop(streams);
        tokio::spawn(reader::run(Arc::clone(&self.hub), key, stream, source));
        Ok(listener)
    }

    /// Numbers for metrics.
    pub fn stats(&self) -> FanOutStats {
        let Hub { listeners, events, requests, slow, .. } = &*self.hub;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FanOutStats {
            streams: self.hub.streams().len(),
            listeners: lock(listeners).total(),
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

    /// Closes streams until all logs are within their bound: each time the largest one of the opener with the most
    /// bytes.
    fn enforce_max_bytes(&self) {
        let max_bytes = lock(&self.settings).max_bytes;
        if self.bytes() <= max_bytes {
            return;
        }
        let mut streams = self.streams();
        while self.bytes() > max_bytes {
            let sizes = streams.iter().map(|(key, open)| (key, &open.opener, open.stream.bytes()));
            let Some(key) = largest(sizes).cloned() else { return };
            let Some(open) = streams.remove(&key) else { return };
            open.stream.end(false, &self.bytes);
            tracing::warn!(route = &*key.route, "shared streams exceed their size: one is closed");
        }
    }

    /// Closes the stream that has had no listeners for longest, of those for which `is_candidate` returns true. Returns
    /// whether there was one.
    fn close_longest_idle(
        &self,
        streams: &mut HashMap<Key, OpenStream>,
        is_candidate: impl Fn(&OpenStream) -> bool,
    ) -> bool {
        let candidates = streams.iter().filter(|(_, open)| is_candidate(open));
        let idle = candidates.filter_map(|(key, open)| Some((open.stream.idle_time()?, key)));
        let Some(key) = idle.max_by_key(|(time, _)| *time).map(|(_, key)| key.clone()) else { return false };
        // Listeners are added under the lock of `streams` only.
        streams.remove(&key).is_some_and(|open| open.stream.end(true, &self.bytes))
    }

    /// Ends `stream` and removes it. With `only_idle`, a stream with listeners does not end. Returns whether it has
    /// ended.
    fn close(&self, key: &Key, stream: &Arc<Stream>, only_idle: bool) -> bool {
        let mut streams = self.streams();
        if !stream.end(only_idle, &self.bytes) {
            return false;
        }
        if streams.get(key).is_some_and(|current| Arc::ptr_eq(&current.stream, stream)) {
            streams.remove(key);
        }
        true
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<Key, OpenStream>> {
        lock(&self.streams)
    }
}

/// The largest stream of the opener whose streams have the most bytes together.
fn largest<'a, K>(sizes: impl Iterator<Item = (K, &'a Opener, usize)>) -> Option<K> {
    let mut openers: HashMap<&Opener, (usize, usize, K)> = HashMap::new();
    for (key, opener, bytes) in sizes {
        match openers.entry(opener) {
            Entry::Vacant(entry) => {
                entry.insert((bytes, bytes, key));
            }
            Entry::Occupied(mut entry) => {
                let (total, most, largest) = entry.get_mut();
                *total += bytes;
                if bytes > *most {
                    (*most, *largest) = (bytes, key);
                }
            }
        }
    }
    openers.into_values().max_by_key(|(total, ..)| *total).map(|(.., key)| key)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_stream_of_the_opener_with_the_most_bytes_is_closed() {
        let identity = |name: &str| Opener::Identity(name.to_owned());
        let (one, other, client) = (identity("a"), identity("b"), Opener::Client(Prefix::V6(1)));
        let sizes = [("a1", &one, 60), ("b1", &other, 30), ("b2", &other, 40), ("b3", &other, 1), ("c1", &client, 50)];
        assert_eq!(largest(sizes.into_iter()), Some("b2"));
        let left = sizes.into_iter().filter(|(key, ..)| *key != "b2");
        assert_eq!(largest(left), Some("a1"));
        assert_eq!(largest(sizes[..0].iter().copied()), None);
    }
}
