//! Limits per HTTP/2 connection: idle time, bytes received while idle, and concurrent requests.
//!
//! Only requests count as activity. PING, SETTINGS or an incomplete header section do not extend the idle
//! timeout. [`Frames`] limits the rate of such frames.

mod frames;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use frames::Frames;

/// Maximum number of bytes received while no request is active.
const MAX_IDLE_BYTES: u64 = 1024 * 1024;

/// Maximum number of requests handled concurrently per connection: all open streams (RFC 9113, section 5.1.2),
/// and as many that the client has reset but that have not ended yet. Further requests are refused with
/// REFUSED_STREAM, so that clients know a retry is safe (section 8.7).
const MAX_REQUESTS: usize = 200;

/// The activity of one connection, shared by its stream and its requests.
#[derive(Debug)]
pub struct Activity {
    state: Mutex<State>,
    /// Whether a limit was exceeded; never reset.
    is_flooded: AtomicBool,
    /// Number of request bodies being streamed.
    uploads: AtomicU32,
    /// Number of responses that may never end.
    streams: AtomicU32,
}

#[derive(Debug)]
struct State {
    /// Number of active requests.
    requests: usize,
    /// When the last request ended, or the connection was established.
    quiet_since: Instant,
    /// Bytes received since then.
    received: u64,
    frames: Frames,
}

impl Activity {
    /// Creates the state of a new connection.
    pub fn new() -> Arc<Self> {
        let now = Instant::now();
        let state = State { requests: 0, quiet_since: now, received: 0, frames: Frames::new(now.into_std()) };
        let [uploads, streams] = [AtomicU32::new(0), AtomicU32::new(0)];
        Arc::new(Self { state: Mutex::new(state), is_flooded: AtomicBool::new(false), uploads, streams })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each update is atomic under the lock, so the state is consistent after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records received `bytes`, and `written` bytes sent since the last call. Returns whether the client is
    /// within the limits: the number of bytes while idle, and the number of frames without content otherwise.
    #[must_use]
    pub fn receive(&self, bytes: &[u8], written: usize) -> bool {
        let mut state = self.state();
        if state.requests == 0 {
            state.received = state.received.saturating_add(bytes.len() as u64);
        }
        state.frames.write(written);
        let frames_allowed = state.frames.follow(bytes, std::time::Instant::now);
        // While idle, the number of bytes is limited instead.
        let is_allowed = if state.requests > 0 { frames_allowed } else { state.received <= MAX_IDLE_BYTES };
        let is_allowed = is_allowed && !self.is_flooded();
        if !is_allowed {
            self.is_flooded.store(true, Ordering::Relaxed);
        }
        is_allowed
    }

    /// Returns whether a request is active whose response has an end.
    pub fn is_busy(&self) -> bool {
        let streams = usize::try_from(self.streams.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        self.state().requests > streams
    }

    /// Returns whether a limit was exceeded.
    pub fn is_flooded(&self) -> bool {
        self.is_flooded.load(Ordering::Relaxed)
    }

    /// Starts a request, which ends when the guard is dropped; `None` if there are too many.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Request> {
        let mut state = self.state();
        if state.requests >= MAX_REQUESTS {
            return None;
        }
        state.requests += 1;
        state.received = 0;
        Some(Request(Arc::clone(self)))
    }

    /// Starts an upload, which ends when the guard is dropped.
    pub(super) fn begin_upload(self: &Arc<Self>) -> UploadGuard {
        self.uploads.fetch_add(1, Ordering::Relaxed);
        UploadGuard(Arc::clone(self))
    }

    /// Starts a response that may never end. It ends when the guard is dropped, at the latest with its request.
    pub(super) fn begin_stream(self: &Arc<Self>) -> StreamGuard {
        self.streams.fetch_add(1, Ordering::Relaxed);
        StreamGuard(Arc::clone(self))
    }

    /// Returns the number of active uploads.
    pub(super) fn uploads(&self) -> u32 {
        self.uploads.load(Ordering::Relaxed)
    }

    /// Waits until there has been no request for `idle_timeout`.
    pub(super) async fn wait_until_idle(&self, idle_timeout: Duration) {
        while let Some(next) = self.idle_deadline(Instant::now(), idle_timeout) {
            sleep_until(next).await;
        }
    }

    /// The earliest time at which the connection can have been idle for `idle_timeout`; `None` if it already
    /// has.
    fn idle_deadline(&self, now: Instant, idle_timeout: Duration) -> Option<Instant> {
        let state = self.state();
        let since = if state.requests == 0 { state.quiet_since } else { now };
        Some(since + idle_timeout).filter(|next| *next > now)
    }
}

/// Guard of an active upload.
pub(super) struct UploadGuard(Arc<Activity>);

impl Drop for UploadGuard {
    fn drop(&mut self) {
        self.0.uploads.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Guard of a response that may never end.
pub(super) struct StreamGuard(Arc<Activity>);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Guard of an active request.
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
        // DATA frames of the maximum size.
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
        assert!(!activity.receive(&[], 0), "a flood is permanent");
    }

    #[test]
    fn frames_without_content_count_during_a_request() {
        let activity = Activity::new();
        let _request = activity.begin().unwrap();
        assert!(activity.receive(&[0; 24], 0));
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let count = (0..100_000).take_while(|_| activity.receive(&ping, 0)).count();
        // The burst, and the refill during the test.
        assert!((1000..50_000).contains(&count) && activity.is_flooded(), "{count}");
    }

    #[test]
    fn limits_concurrent_requests() {
        let activity = Activity::new();
        let mut requests: Vec<_> = (0..MAX_REQUESTS).map(|_| activity.begin().unwrap()).collect();
        assert!(activity.begin().is_none());
        requests.pop();
        assert!(activity.begin().is_some());
    }

    #[test]
    fn a_request_restarts_the_idle_timeout() {
        let idle_timeout = Duration::from_secs(60);
        let activity = Activity::new();
        let began = activity.state().quiet_since;
        assert_eq!(activity.idle_deadline(began, idle_timeout), Some(began + idle_timeout));
        assert_eq!(activity.idle_deadline(began + idle_timeout, idle_timeout), None);
        let request = activity.begin().unwrap();
        let later = began + idle_timeout * 10;
        assert_eq!(activity.idle_deadline(later, idle_timeout), Some(later + idle_timeout), "a request is active");
        drop(request);
        let ended = activity.state().quiet_since;
        assert_eq!(activity.idle_deadline(ended + idle_timeout / 2, idle_timeout), Some(ended + idle_timeout));
    }
}
