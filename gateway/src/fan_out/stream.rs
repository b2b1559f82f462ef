//! The state of one shared stream.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::response;
use tokio::sync::{Notify, watch};

use super::lock;
use super::log::{Cursor, Log};
use super::parser::Event;
use crate::upstream::UpstreamError;

/// The maximum size of a `Last-Event-ID`, in bytes. A listener with a longer one begins with the snapshot: the id is stored
/// until the stream has events, so its size must be bounded for all listeners.
const LAST_ID_LIMIT: usize = 512;

/// A stream and its log, which its listeners share.
#[derive(Debug)]
pub(super) struct Stream {
    shared: Mutex<Shared>,
    /// Notified of each change of `shared` that a listener waits for.
    pub(super) changes: watch::Sender<()>,
    /// Notified when the stream has ended.
    pub(super) ended: Notify,
}

/// The response of the service to the first request.
#[derive(Clone, Debug)]
pub enum FirstResponse {
    /// An event stream, with this head.
    Stream(Arc<response::Parts>),
    /// A response that is not an event stream.
    Other(Arc<OtherResponse>),
    /// No response.
    Failed(UpstreamError),
}

/// A response that is not an event stream.
#[derive(Debug)]
pub struct OtherResponse {
    /// The head.
    pub head: response::Parts,
    /// The body.
    pub body: Bytes,
}

/// What a listener sends next.
pub(super) enum Next {
    /// A block.
    Block(Bytes),
    /// A heartbeat.
    Heartbeat,
    /// Nothing until the stream changes.
    Nothing,
    /// The stream has ended.
    Ended,
    /// The end, since the listener is too slow for the log.
    TooSlow,
}

/// What a stream stores for one listener.
#[derive(Debug)]
pub(super) struct ListenerState {
    /// `None` until the stream has events.
    cursor: Option<Cursor>,
    /// The `Last-Event-ID` of its request, until then.
    last: Option<Bytes>,
    /// The heartbeats that it has seen; `None` before its first block.
    heartbeats: Option<u64>,
}

#[derive(Debug)]
struct Shared {
    first_response: Option<FirstResponse>,
    log: Log,
    /// The last block with the time after which clients reconnect.
    retry: Option<Bytes>,
    /// The number of heartbeats so far.
    heartbeats: u64,
    listeners: usize,
    idle_since: Instant,
    has_ended: bool,
}

impl Default for Stream {
    fn default() -> Self {
        let shared = Shared {
            first_response: None,
            log: Log::default(),
            retry: None,
            heartbeats: 0,
            listeners: 0,
            idle_since: Instant::now(),
            has_ended: false,
        };
        Self { shared: Mutex::new(shared), changes: watch::Sender::new(()), ended: Notify::new() }
    }
}

impl Stream {
    /// Adds a listener, unless the stream has ended.
    pub(super) fn add(&self, last: Option<&[u8]>) -> Option<ListenerState> {
        let mut shared = self.shared();
        if shared.has_ended {
            return None;
        }
        shared.listeners += 1;
        let last = last.filter(|last| last.len() <= LAST_ID_LIMIT).map(Bytes::copy_from_slice);
        Some(ListenerState { cursor: None, last, heartbeats: None })
    }

    /// Removes a listener.
    pub(super) fn remove(&self) {
        let mut shared = self.shared();
        shared.listeners -= 1;
        shared.idle_since = Instant::now();
    }

    /// The response of the service to the first request; `None` until there is one.
    pub(super) fn first_response(&self) -> Option<FirstResponse> {
        self.shared().first_response.clone()
    }

    /// Records the response of the service to the first request.
    pub(super) fn set_first_response(&self, response: FirstResponse) {
        self.shared().first_response = Some(response);
        self.changes.send_replace(());
    }

    /// Returns what the listener with this `state` sends next, and advances it.
    pub(super) fn next(&self, state: &mut ListenerState) -> Next {
        let shared = self.shared();
        if shared.has_ended {
            return Next::Ended;
        }
        let Some(heartbeats) = state.heartbeats else {
            state.heartbeats = Some(shared.heartbeats);
            // Sent at once, because the head of the response is sent with the first bytes of its body.
            return shared.retry.clone().map_or(Next::Heartbeat, Next::Block);
        };
        if state.cursor.is_none() && !shared.log.is_empty() {
            state.cursor = Some(shared.log.start(state.last.take().as_deref()));
        }
        let next = state.cursor.as_mut().map_or(Ok(None), |cursor| shared.log.next(cursor));
        match next {
            Err(_) => Next::TooSlow,
            Ok(Some(block)) => Next::Block(block),
            Ok(None) if heartbeats != shared.heartbeats => {
                state.heartbeats = Some(shared.heartbeats);
                Next::Heartbeat
            }
            Ok(None) => Next::Nothing,
        }
    }

    /// Adds events to the log, which is cleared first if `is_restarted`, and the change of its size to `total`. Without
    /// effect if the stream has ended.
    pub(super) fn publish(&self, events: Vec<Event>, is_restarted: bool, total: &AtomicU64) {
        let mut shared = self.shared();
        if shared.has_ended {
            return;
        }
        let before = shared.log.bytes() as u64;
        if is_restarted {
            shared.log.clear();
        }
        for event in events {
            shared.log.push(event);
        }
        // Before the lock is released, so that `end` subtracts only what was added. In one step, which wraps if the log is
        // smaller now, because the total is compared with its bound at any time.
        total.fetch_add((shared.log.bytes() as u64).wrapping_sub(before), Ordering::Relaxed);
        drop(shared);
        self.changes.send_replace(());
    }

    /// Replaces the time after which clients reconnect.
    pub(super) fn set_retry(&self, block: Bytes) {
        self.shared().retry = Some(block);
    }

    /// Sends a heartbeat to each listener that has received all events.
    pub(super) fn send_heartbeat(&self) {
        self.shared().heartbeats += 1;
        self.changes.send_replace(());
    }

    /// Whether a new snapshot is needed.
    pub(super) fn is_full(&self) -> bool {
        self.shared().log.is_full()
    }

    /// The id of the last event; empty if there is none.
    pub(super) fn last_id(&self) -> Bytes {
        self.shared().log.last_id()
    }

    /// How long the stream has had no listeners; `None` while it has some.
    pub(super) fn idle_time(&self) -> Option<Duration> {
        let shared = self.shared();
        (shared.listeners == 0).then(|| shared.idle_since.elapsed())
    }

    /// The size of the log, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.shared().log.bytes()
    }

    /// Ends the stream, clears its log, and subtracts the size of the log from `total`. With `only_idle`, a stream with
    /// listeners does not end. Returns whether it has ended.
    pub(super) fn end(&self, only_idle: bool, total: &AtomicU64) -> bool {
        let mut shared = self.shared();
        if only_idle && shared.listeners > 0 {
            return false;
        }
        shared.has_ended = true;
        total.fetch_sub(shared.log.bytes() as u64, Ordering::Relaxed);
        shared.log.clear();
        drop(shared);
        self.changes.send_replace(());
        self.ended.notify_one();
        true
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    fn snapshot(bytes: usize) -> Vec<Event> {
        vec![Event {
            id: Bytes::from_static(b"1"),
            is_snapshot: true,
            expires_at: None,
            block: vec![b'a'; bytes].into(),
        }]
    }

    #[test]
    fn the_stored_last_event_id_is_bounded() {
        let stream = Stream::default();
        let stored = |bytes| stream.add(Some(&vec![b'a'; bytes])).unwrap().last.map(|last| last.len());
        assert_eq!((stored(LAST_ID_LIMIT), stored(LAST_ID_LIMIT + 1)), (Some(LAST_ID_LIMIT), None));
    }

    #[test]
    fn the_total_follows_a_log_that_grows_and_shrinks() {
        let (stream, total) = (Stream::default(), AtomicU64::new(7));
        for bytes in [10, 1000, 10] {
            stream.publish(snapshot(bytes), false, &total);
            assert_eq!(total.load(Ordering::Relaxed), 7 + bytes as u64);
        }
        assert!(stream.end(false, &total));
        stream.publish(snapshot(10), false, &total);
        assert_eq!(total.load(Ordering::Relaxed), 7);
    }
}
