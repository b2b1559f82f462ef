//! How long an HTTP/2 connection may stand without a request, how much it may send without one,
//! and how many it may have at once.
//!
//! Whatever begins no request is no activity, be it PING, SETTINGS or half a header section, so
//! none of it keeps a connection open for longer than an idle one is kept. How many such frames may
//! come beside requests is the matter of [`Frames`].

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::frames::Frames;

/// The most that a connection may send while none of its requests is being answered, in bytes.
const MAX_IDLE_BYTES: u64 = 1024 * 1024;

/// The most requests of one connection that are worked on at once: all that may be open
/// (RFC 9113, section 5.1.2), and as many again that the client has reset and that have not
/// ended yet. Over it the newest is refused, which says that it may be sent again (section 8.7).
const MAX_REQUESTS: usize = 200;

/// What a connection does, shared by those who see it.
#[derive(Debug)]
pub struct Activity {
    state: Mutex<State>,
    /// Whether it was too much; set once.
    is_flooded: AtomicBool,
    /// Requests whose bodies are being passed on.
    uploads: AtomicU32,
}

#[derive(Debug)]
struct State {
    /// Requests that are being answered.
    requests: usize,
    /// When the last one ended, or the connection began.
    quiet_since: Instant,
    /// What was received since then.
    received: u64,
    frames: Frames,
}

impl Activity {
    /// Of a connection that begins now.
    pub fn new() -> Arc<Self> {
        let now = Instant::now();
        let state = State { requests: 0, quiet_since: now, received: 0, frames: Frames::new(now.into_std()) };
        Arc::new(Self { state: Mutex::new(state), is_flooded: AtomicBool::new(false), uploads: AtomicU32::new(0) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is whole, so a thread that panicked left nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that these bytes were received, after so many were written. Whether they are no more than
    /// a client may send: without a request, and of frames without content.
    #[must_use]
    pub fn receive(&self, bytes: &[u8], written: usize) -> bool {
        let mut state = self.state();
        if state.requests == 0 {
            state.received = state.received.saturating_add(bytes.len() as u64);
        }
        state.frames.write(written);
        let has_few_frames = state.frames.follow(bytes, std::time::Instant::now);
        // Without a request, the bytes are the bound.
        let is_within = if state.requests > 0 { has_few_frames } else { state.received <= MAX_IDLE_BYTES };
        let is_within = is_within && !self.is_flooded();
        if !is_within {
            self.is_flooded.store(true, Ordering::Relaxed);
        }
        is_within
    }

    /// Whether a request is being answered.
    pub fn is_busy(&self) -> bool {
        self.state().requests > 0
    }

    /// Whether more than that was received.
    pub fn is_flooded(&self) -> bool {
        self.is_flooded.load(Ordering::Relaxed)
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

    /// Notes that the body of a request is passed on, until the guard is dropped.
    pub(super) fn begin_upload(self: &Arc<Self>) -> Upload {
        self.uploads.fetch_add(1, Ordering::Relaxed);
        Upload(Arc::clone(self))
    }

    /// How many bodies are being passed on.
    pub(super) fn uploads(&self) -> u32 {
        self.uploads.load(Ordering::Relaxed)
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

/// A body that is being passed on.
pub(super) struct Upload(Arc<Activity>);

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.uploads.fetch_sub(1, Ordering::Relaxed);
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
        // Content, in the largest frames.
        let mut frame = vec![0xff; usize::try_from(MAX_IDLE_BYTES).unwrap()];
        frame[..24].fill(0);
        frame[24..28].copy_from_slice(&[0xff, 0xff, 0xff, 0]);
        let most = vec![0xff; frame.len()];
        assert!(activity.receive(&frame, 0));
        let request = activity.begin().unwrap();
        assert!(activity.receive(&most, 0) && activity.receive(&most, 0));
        drop(request);
        assert!(activity.receive(&most, 0));
        assert!(!activity.is_flooded());
        assert!(!activity.receive(&[0xff], 0));
        assert!(activity.is_flooded());
        let _request = activity.begin().unwrap();
        assert!(!activity.receive(&[], 0), "it stays so");
    }

    #[test]
    fn frames_without_content_count_beside_a_request_too() {
        let activity = Activity::new();
        let _request = activity.begin().unwrap();
        assert!(activity.receive(&[0; 24], 0));
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let count = (0..100_000).take_while(|_| activity.receive(&ping, 0)).count();
        // Those that may come at once, and what time has added.
        assert!((1000..50_000).contains(&count) && activity.is_flooded(), "{count}");
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
