//! How long an HTTP/2 connection may stand without a request, how much it may send without one,
//! and how many it may have at once.
//!
//! Which frames come is not looked at here; the library below bounds what each kind may cost.
//! Whatever begins no request is no activity, be it PING, SETTINGS or half a header section, so
//! none of it keeps a connection open for longer than an idle one is kept.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The most that a connection may send while none of its requests is being answered, in bytes.
const MAX_IDLE_BYTES: u64 = 1024 * 1024;

/// The most requests of one connection that are worked on at once: all that may be open
/// (RFC 9113, section 5.1.2), and as many again that the client has reset and that have not
/// ended yet. Over it the newest is refused, which says that it may be sent again (section 8.7).
const MAX_REQUESTS: usize = 200;

/// What a connection does, shared by those who see it.
#[derive(Debug)]
pub(in crate::listener) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Requests that are being answered.
    requests: usize,
    /// When the last one ended, or the connection began.
    quiet_since: Instant,
    /// What was received since then.
    received: u64,
}

impl Activity {
    /// Of a connection that begins now.
    pub(in crate::listener) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { requests: 0, quiet_since: Instant::now(), received: 0 })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is whole, so a thread that panicked left nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that so many bytes were received.
    ///
    /// # Errors
    /// They are too many for a connection without a request.
    pub(in crate::listener) fn receive(&self, bytes: usize) -> io::Result<()> {
        let mut state = self.state();
        if state.requests == 0 {
            state.received = state.received.saturating_add(bytes as u64);
        }
        if state.received > MAX_IDLE_BYTES { Err(io::Error::other("too much without a request")) } else { Ok(()) }
    }

    /// Whether a request is being answered.
    pub(in crate::listener) fn is_busy(&self) -> bool {
        self.state().requests > 0
    }

    /// Whether [`Activity::receive`] has failed.
    pub(in crate::listener) fn is_flooded(&self) -> bool {
        self.state().received > MAX_IDLE_BYTES
    }

    /// Notes that a request begins, which ends with the guard; `None` where there are too many.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Request> {
        let mut state = self.state();
        if state.requests >= MAX_REQUESTS {
            return None;
        }
        state.requests += 1;
        state.received = 0;
        Some(Request(Arc::clone(self)))
    }

    /// Waits until there has been no request for as long as `idle_timeout`.
    pub(super) async fn wait_until_idle(&self, idle_timeout: Duration) {
        while let Some(next) = self.next_look(Instant::now(), idle_timeout) {
            sleep_until(next).await;
        }
    }

    /// When there may at the earliest have been no request for as long as `idle_timeout`; `None`
    /// where that is so.
    fn next_look(&self, now: Instant, idle_timeout: Duration) -> Option<Instant> {
        let state = self.state();
        let since = if state.requests == 0 { state.quiet_since } else { now };
        Some(since + idle_timeout).filter(|next| *next > now)
    }
}

/// A request that is being answered.
pub(super) struct Request(Arc<Activity>);

impl Drop for Request {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests = state.requests.saturating_sub(1);
        state.quiet_since = Instant::now();
        state.received = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_only_while_there_is_no_request() {
        let activity = Activity::new();
        let most = usize::try_from(MAX_IDLE_BYTES).unwrap();
        activity.receive(most).unwrap();
        let request = activity.begin().unwrap();
        activity.receive(most).unwrap();
        activity.receive(most).unwrap();
        drop(request);
        activity.receive(most).unwrap();
        assert!(!activity.is_flooded());
        assert!(activity.receive(1).is_err());
        assert!(activity.is_flooded());
    }

    #[test]
    fn so_many_requests_at_once_and_no_more() {
        let activity = Activity::new();
        let mut requests: Vec<_> = (0..MAX_REQUESTS).map(|_| activity.begin().unwrap()).collect();
        assert!(activity.begin().is_none());
        requests.pop();
        assert!(activity.begin().is_some());
    }

    #[test]
    fn a_request_begins_the_idle_time_anew() {
        let idle_timeout = Duration::from_secs(60);
        let activity = Activity::new();
        let began = activity.state().quiet_since;
        assert_eq!(activity.next_look(began, idle_timeout), Some(began + idle_timeout));
        assert_eq!(activity.next_look(began + idle_timeout, idle_timeout), None);
        let request = activity.begin().unwrap();
        let later = began + idle_timeout * 10;
        assert_eq!(activity.next_look(later, idle_timeout), Some(later + idle_timeout), "it is being answered");
        drop(request);
        let ended = activity.state().quiet_since;
        assert_eq!(activity.next_look(ended + idle_timeout / 2, idle_timeout), Some(ended + idle_timeout));
    }
}
