//! The state of one address: its health check, its ejection and its figures.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// When an address is ejected, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// The number of failures in a row; 0 for no ejection. 5 by default.
    pub after: u32,
    /// The length of the first ejection. One that follows soon after another is twice as long. 1 s by default.
    pub time: Duration,
    /// The maximum length. 60 s by default.
    pub max_time: Duration,
    /// Whether a status of 500 or above is a failure. Not by default, since clients may be able to cause it.
    pub on_server_error: bool,
}

impl Default for Ejection {
    fn default() -> Self {
        let (time, max_time) = (Duration::from_secs(1), Duration::from_secs(60));
        Self { after: 5, time, max_time, on_server_error: false }
    }
}

/// The figures of an address, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressFigures {
    /// Requests that were sent to it, retries included.
    pub requests: u64,
    /// Requests and connections that failed.
    pub failures: u64,
    /// How often it was ejected.
    pub ejections: u64,
    /// Whether it is ejected now.
    pub is_ejected: bool,
    /// Requests whose response is not complete.
    pub in_flight: u64,
    /// Connections that were opened.
    pub connections: u64,
    /// The sum of the times that opening them took.
    pub connect_time: Duration,
    /// Requests that wait for a connection.
    pub queued: u64,
}

/// The state of one address.
#[derive(Debug, Default)]
pub(in crate::upstream) struct AddressState {
    /// Whether the last health check failed.
    is_down: AtomicBool,
    /// Whether the last connection was not made in time.
    is_silent: AtomicBool,
    /// Whether a request tries to connect to it although it is down and silent.
    is_tried: AtomicBool,
    /// Failures since the last success.
    failures_in_row: AtomicU32,
    /// The end of the ejection, in milliseconds; 0 for none.
    ejected_until: AtomicU64,
    last_ejection: Mutex<LastEjection>,
    /// Counts the events after which earlier connections must not be reused.
    epoch: AtomicU64,
    requests: AtomicU64,
    ended: AtomicU64,
    failures: AtomicU64,
    ejections: AtomicU64,
    connections: AtomicU64,
    connect_nanos: AtomicU64,
}

#[derive(Debug, Default)]
struct LastEjection {
    length: Duration,
    end: Duration,
    /// Whether a connection failed.
    is_connect: bool,
}

impl AddressState {
    /// Whether requests may be sent to it at `now`: the last health check did not fail, and it is not ejected.
    pub(super) fn is_healthy(&self, now: Duration) -> bool {
        !self.is_down.load(Ordering::Relaxed) && !self.is_ejected(now)
    }

    fn is_ejected(&self, now: Duration) -> bool {
        u128::from(self.ejected_until.load(Ordering::Relaxed)) > now.as_millis()
    }

    pub(super) fn connected(&self, duration: Duration) {
        self.is_silent.store(false, Ordering::Relaxed);
        self.connections.fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.connect_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Records that a connection was not made in time.
    pub(super) fn silent(&self) {
        self.is_silent.store(true, Ordering::Relaxed);
    }

    /// Whether connecting to it would take as long as it has before, and another request is waiting for that already.
    pub(super) fn is_hopeless(&self) -> bool {
        self.needs_claim() && self.is_tried.load(Ordering::Relaxed)
    }

    /// Whether only one request at a time may try it: it is down and does not even refuse connections.
    fn needs_claim(&self) -> bool {
        self.is_down.load(Ordering::Relaxed) && self.is_silent.load(Ordering::Relaxed)
    }

    /// Claims it for a request, as far as that is needed: whether it has to be released, or `None` if another request has
    /// it.
    pub(super) fn claim(&self) -> Option<bool> {
        if !self.needs_claim() {
            return Some(false);
        }
        if self.is_tried.swap(true, Ordering::Relaxed) { None } else { Some(true) }
    }

    /// Releases a claim.
    pub(super) fn release(&self) {
        self.is_tried.store(false, Ordering::Relaxed);
    }

    pub(super) fn succeeded(&self) {
        // Most successes follow another.
        if self.failures_in_row.load(Ordering::Relaxed) != 0 {
            self.failures_in_row.store(0, Ordering::Relaxed);
        }
    }

    /// Counts a failure; whether there were `limit` in a row. They count until a success, so that the first failure
    /// after an ejection leads to the next.
    pub(super) fn failed(&self, limit: u32) -> bool {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let before = self.failures_in_row.fetch_add(1, Ordering::Relaxed);
        limit > 0 && before.saturating_add(1) >= limit
    }

    /// Ejects it, unless it is ejected already.
    pub(super) fn eject(&self, now: Duration, ejection: &Ejection, is_connect: bool) {
        let mut last = self.last_ejection.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_ejected(now) {
            return;
        }
        let is_soon = last.length > Duration::ZERO && now < last.end + last.length;
        let length = if is_soon { (last.length * 2).min(ejection.max_time) } else { ejection.time };
        *last = LastEjection { length, end: now + length, is_connect };
        let until = u64::try_from((now + length).as_millis()).unwrap_or(u64::MAX);
        self.ejected_until.store(until, Ordering::Relaxed);
        self.ejections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn checked(&self, is_up: bool, is_request: bool) {
        self.is_down.store(!is_up, Ordering::Relaxed);
        if !is_up {
            self.forget_connections();
            return;
        }
        let last = self.last_ejection.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ejected_until.load(Ordering::Relaxed) != 0 && (is_request || last.is_connect) {
            self.ejected_until.store(0, Ordering::Relaxed);
            self.failures_in_row.store(0, Ordering::Relaxed);
        }
    }

    /// Makes every connection that is open now unfit for another request.
    pub(in crate::upstream) fn forget_connections(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Connections of an earlier epoch are not reused.
    pub(in crate::upstream) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Counts a request that is sent to it, until [`end`](Self::end).
    pub(in crate::upstream) fn begin(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the end of a request.
    pub(in crate::upstream) fn end(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of requests between their begin and end.
    pub(super) fn in_flight(&self) -> u64 {
        // In this order, so that it is never too low.
        let ended = self.ended.load(Ordering::Acquire);
        self.requests.load(Ordering::Acquire).saturating_sub(ended)
    }

    pub(super) fn figures(&self, now: Duration) -> AddressFigures {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AddressFigures {
            in_flight: self.in_flight(),
            requests: get(&self.requests),
            failures: get(&self.failures),
            ejections: get(&self.ejections),
            is_ejected: self.is_ejected(now),
            connections: get(&self.connections),
            connect_time: Duration::from_nanos(get(&self.connect_nanos)),
            queued: 0,
        }
    }
}
