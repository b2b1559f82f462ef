//! The client for credential checks. After a 503 it sends nothing for a short time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};

use super::{LoginError, MAX_RESPONSE_BYTES};
use crate::upstream::UpstreamClient;

/// How long credential checks are refused locally after the backend answered one with 503, so that a flood of logins
/// costs the backend and its connections next to nothing. If its queue was full, hashing continues meanwhile: the
/// default queue of 64 does not run empty in this time on fewer than a hundred cores. Without a queue, hashing may be
/// idle for this time after each 503.
const PAUSE: Duration = Duration::from_millis(10);

/// Checks credentials at the backend.
pub struct Backend {
    client: UpstreamClient,
    pause: Pause,
    started: Instant,
}

impl Backend {
    /// Sends requests through `client`.
    pub fn new(client: UpstreamClient) -> Self {
        Self { client, pause: Pause::default(), started: Instant::now() }
    }

    /// The error for an unexpected status.
    pub(super) fn unexpected(&self, status: StatusCode) -> LoginError {
        LoginError::Unavailable(self.client.upstream().unexpected(status))
    }

    /// Sends `request`.
    ///
    /// # Errors
    /// [`LoginError::Unavailable`], or [`LoginError::Busy`] if the request was not sent.
    pub(super) async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, LoginError> {
        if self.pause.is_active(self.started.elapsed()) {
            return Err(LoginError::Busy);
        }
        let response = self.client.send(request, MAX_RESPONSE_BYTES).await;
        let response = response.map_err(|error| LoginError::Unavailable(error.to_string()))?;
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            self.pause.start(self.started.elapsed());
        }
        Ok(response)
    }
}

/// A period in which no request is sent.
#[derive(Debug, Default)]
struct Pause {
    /// The end, in microseconds since the creation of [`Backend`].
    end: AtomicU64,
}

impl Pause {
    /// Starts a pause of [`PAUSE`] at `now`.
    fn start(&self, now: Duration) {
        self.end.store(micros(now.saturating_add(PAUSE)), Ordering::Relaxed);
    }

    fn is_active(&self, now: Duration) -> bool {
        micros(now) < self.end.load(Ordering::Relaxed)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_after_its_duration() {
        let (pause, now) = (Pause::default(), Duration::from_secs(7));
        assert!(!pause.is_active(Duration::ZERO) && !pause.is_active(now));
        pause.start(now);
        assert!(pause.is_active(now) && pause.is_active(now + PAUSE - Duration::from_micros(1)));
        assert!(!pause.is_active(now + PAUSE));
        pause.start(now + PAUSE);
        assert!(pause.is_active(now + PAUSE));
    }
}
