//! The state of one shared stream.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::response;
use tokio::sync::watch;

use super::lock;
use super::log::{Cursor, Log};
use super::parser::Event;
use crate::upstream::UpstreamError;

/// What listeners of a stream share.
#[derive(Debug)]
pub(super) struct Stream {
    shared: Mutex<Shared>,
    /// Changes with everything that a listener waits for.
    pub(super) changes: watch::Sender<()>,
}

/// The response of the service to the first request.
#[derive(Clone, Debug)]
pub enum Opened {
    /// The head of an event stream.
    Stream(Arc<response::Parts>),
    /// Another response.
    Refused(Arc<Refusal>),
    /// There is none.
    Failed(UpstreamError),
}

/// A response that is not an event stream.
#[derive(Debug)]
pub struct Refusal {
    /// The head.
    pub head: response::Parts,
    /// The body.
    pub body: Bytes,
}

/// What a listener gets next.
pub(super) enum Next {
    /// A block.
    Block(Bytes),
    /// Nothing has happened for a while.
    Beat,
    /// Nothing yet.
    Nothing,
    /// The stream has ended.
    Ended,
    /// The stream has ended for this listener, which is too slow.
    TooSlow,
}

/// A listener's place in a stream.
#[derive(Debug)]
pub(super) struct Place {
    /// `None` until the stream has events.
    cursor: Option<Cursor>,
    /// The id of its last event, until then.
    last: Option<Bytes>,
    /// The beats that it has seen; `None` before its first block.
    beats: Option<u64>,
}

#[derive(Debug)]
struct Shared {
    opened: Option<Opened>,
    log: Log,
    /// The last block with the time after which clients reconnect.
    retry: Option<Bytes>,
    /// Increases when nothing has happened for a while.
    beats: u64,
    listeners: usize,
    idle_since: Instant,
    has_ended: bool,
}

impl Default for Stream {
    fn default() -> Self {
        let shared = Shared {
            opened: None,
            log: Log::default(),
            retry: None,
            beats: 0,
            listeners: 0,
            idle_since: Instant::now(),
            has_ended: false,
        };
        Self { shared: Mutex::new(shared), changes: watch::Sender::new(()) }
    }
}

impl Stream {
    /// Adds a listener, unless the stream has ended.
    pub(super) fn add(&self, last: Option<&[u8]>) -> Option<Place> {
        let mut shared = self.shared();
        if shared.has_ended {
            return None;
        }
        shared.listeners += 1;
        Some(Place { cursor: None, last: last.map(Bytes::copy_from_slice), beats: None })
    }

    /// Removes a listener.
    pub(super) fn remove(&self) {
        let mut shared = self.shared();
        shared.listeners -= 1;
        shared.idle_since = Instant::now();
    }

    /// The response of the service to the first request; `None` until there is one.
    pub(super) fn opened(&self) -> Option<Opened> {
        self.shared().opened.clone()
    }

    /// Records the response of the service to the first request.
    pub(super) fn open(&self, opened: Opened) {
        self.shared().opened = Some(opened);
        self.changes.send_replace(());
    }

    /// The next block of a listener.
    pub(super) fn next(&self, place: &mut Place) -> Next {
        let shared = self.shared();
        if shared.has_ended {
            return Next::Ended;
        }
        let Some(beats) = place.beats else {
            place.beats = Some(shared.beats);
            // Something is sent at once, so that the client has the head of the response.
            return shared.retry.clone().map_or(Next::Beat, Next::Block);
        };
        if place.cursor.is_none() && !shared.log.is_empty() {
            place.cursor = Some(shared.log.start(place.last.take().as_deref()));
        }
        let next = place.cursor.as_mut().map_or(Ok(None), |cursor| shared.log.next(cursor));
        match next {
            Err(_) => Next::TooSlow,
            Ok(Some(block)) => Next::Block(block),
            Ok(None) if beats != shared.beats => {
                place.beats = Some(shared.beats);
                Next::Beat
            }
            Ok(None) => Next::Nothing,
        }
    }

    /// Publishes events, which replace those before if `is_restarted`. Returns the size of the log before and after.
    pub(super) fn publish(&self, events: Vec<Event>, is_restarted: bool) -> (usize, usize) {
        let mut shared = self.shared();
        let before = shared.log.bytes();
        if is_restarted {
            shared.log.clear();
        }
        for event in events {
            shared.log.push(event);
        }
        let after = shared.log.bytes();
        drop(shared);
        self.changes.send_replace(());
        (before, after)
    }

    /// Replaces the time after which clients reconnect.
    pub(super) fn set_retry(&self, block: Bytes) {
        self.shared().retry = Some(block);
    }

    /// Lets every listener that gets no event send a comment.
    pub(super) fn beat(&self) {
        self.shared().beats += 1;
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

    /// How long it has had no listeners; `None` while it has some.
    pub(super) fn idle(&self) -> Option<Duration> {
        let shared = self.shared();
        (shared.listeners == 0).then(|| shared.idle_since.elapsed())
    }

    /// Ends the stream, with `only_idle` if it has no listeners, and returns the size of its log. `None` if it does not
    /// end.
    pub(super) fn end(&self, only_idle: bool) -> Option<usize> {
        let mut shared = self.shared();
        if only_idle && shared.listeners > 0 {
            return None;
        }
        shared.has_ended = true;
        let bytes = shared.log.bytes();
        shared.log.clear();
        drop(shared);
        self.changes.send_replace(());
        Some(bytes)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}
