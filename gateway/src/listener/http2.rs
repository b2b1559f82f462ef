//! One HTTP/2 connection: how long it may stand without a request, how much it may send
//! without one, and how many it may have at once.
//!
//! Which frames come is not looked at here; the library below bounds what each kind may cost.
//! Whatever begins no request is no activity, be it PING, SETTINGS or half a header section, so
//! none of it keeps a connection open for longer than an idle one is kept.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use h2::Reason;
use http::Method;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::server::ShutdownWatch;
use tokio::time::{Instant, sleep_until};

use super::{App, Observe};

/// The most that a connection may send while none of its requests is being answered, in bytes.
const MAX_IDLE_BYTES: u64 = 1024 * 1024;

/// The most requests of one connection that are worked on at once: all that may be open
/// (RFC 9113, section 5.1.2), and as many again that the client has reset and that have not
/// ended yet. Over it the newest is refused, which says that it may be sent again (section 8.7).
const MAX_REQUESTS: usize = 200;

/// The decoded header section that is let in, so that what is too large gets an answer of ours.
const HEADER_LIST_BYTES: u32 = 64 * 1024;

/// The most streams that a client may have reset before we took them up, of which each costs
/// work for nothing (CVE-2023-44487). Over it the connection ends.
const MAX_PENDING_RESETS: usize = 20;

/// The most streams that a client may have made us reset by breaking the protocol, which ends
/// them for us but not for the backend (CVE-2025-8671). Over it the connection ends; no library
/// that is in use breaks it at all.
const MAX_PROVOKED_RESETS: usize = 32;

/// What one stream may have waiting to be sent, in bytes, whatever window its client grants.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// The protocol's parameters, for requests whose header section, target and all, may have
/// `header_bytes` in `header_fields` as we count them. From pingora's bounds of the streams at
/// once (100) and of the decoded header section (64 KiB, or what is needed where that is more).
pub fn http2_options(header_bytes: usize, header_fields: usize) -> H2Options {
    // RFC 9113, section 6.5.2: each field counts for 32 bytes more than its name and value.
    let needed = header_bytes.saturating_add(header_fields.saturating_mul(32));
    let mut options = default_h2_options();
    options
        .max_header_list_size(u32::try_from(needed).unwrap_or(u32::MAX).max(HEADER_LIST_BYTES))
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(Some(MAX_PROVOKED_RESETS))
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    options
}

/// What a connection does, shared by those who see it.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

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
    pub(super) fn new() -> Arc<Self> {
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
    pub(super) fn receive(&self, bytes: usize) -> io::Result<()> {
        let mut state = self.state();
        if state.requests == 0 {
            state.received = state.received.saturating_add(bytes as u64);
        }
        if state.received > MAX_IDLE_BYTES { Err(io::Error::other("too much without a request")) } else { Ok(()) }
    }

    /// Whether [`Activity::receive`] has failed.
    pub(super) fn is_flooded(&self) -> bool {
        self.state().received > MAX_IDLE_BYTES
    }

    /// Notes that a request begins, which ends with the guard; `None` where there are too many.
    fn begin(self: &Arc<Self>) -> Option<Request> {
        let mut state = self.state();
        if state.requests >= MAX_REQUESTS {
            return None;
        }
        state.requests += 1;
        state.received = 0;
        Some(Request(Arc::clone(self)))
    }

    /// Waits until there has been no request for as long as `patience`.
    pub(super) async fn wait_until_idle(&self, patience: Duration) {
        while let Some(next) = self.next_look(Instant::now(), patience) {
            sleep_until(next).await;
        }
    }

    /// When there may at the earliest have been no request for as long as `patience`; `None`
    /// where that is so.
    fn next_look(&self, now: Instant, patience: Duration) -> Option<Instant> {
        let state = self.state();
        let since = if state.requests == 0 { state.quiet_since } else { now };
        Some(since + patience).filter(|next| *next > now)
    }
}

/// A request that is being answered.
struct Request(Arc<Activity>);

impl Drop for Request {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests = state.requests.saturating_sub(1);
        state.quiet_since = Instant::now();
        state.received = 0;
    }
}

/// An application, with the activity of one connection noted.
pub(super) struct Watched<A> {
    pub(super) app: Arc<A>,
    pub(super) activity: Arc<Activity>,
    pub(super) observer: Arc<dyn Observe>,
    /// For each piece of an answer that waits for the client's window.
    pub(super) write_timeout: Duration,
}

#[async_trait]
impl<A: App> HttpServerApp for Watched<A> {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let Some(_request) = self.activity.begin() else {
            self.observer.stream_refused();
            if let ServerSession::H2(stream) = &mut session {
                stream.shutdown_with_reason(Reason::REFUSED_STREAM);
            }
            return None;
        };
        session.set_write_timeout(Some(self.write_timeout));
        let is_read = matches!(session.req_header().method, Method::GET | Method::HEAD);
        if is_read && session.is_body_empty() {
            self.app.answer(&mut session).await;
            return None;
        }
        self.app.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.app.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.app.server_options()
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
    fn a_request_begins_the_patience_anew() {
        let patience = Duration::from_secs(60);
        let activity = Activity::new();
        let began = activity.state().quiet_since;
        assert_eq!(activity.next_look(began, patience), Some(began + patience));
        assert_eq!(activity.next_look(began + patience, patience), None);
        let request = activity.begin().unwrap();
        let later = began + patience * 10;
        assert_eq!(activity.next_look(later, patience), Some(later + patience), "it is being answered");
        drop(request);
        let ended = activity.state().quiet_since;
        assert_eq!(activity.next_look(ended + patience / 2, patience), Some(ended + patience));
    }
}
