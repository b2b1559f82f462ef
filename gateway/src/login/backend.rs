//! The backend as logins ask it: not at all for a moment after it had no room for one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};

use super::{MAX_ANSWER_BYTES, Refusal};
use crate::upstream::Client;

/// How long no login is asked about once the backend answered one with 503. Where that is because its queue is
/// full, hashing goes on meanwhile: the queue's usual 64 places do not run empty in this time on fewer than a
/// hundred cores. With a queue of none, each refusal may leave hashing idle for as long. But a flood of logins costs
/// the backend and the connections to it next to nothing.
const PAUSE: Duration = Duration::from_millis(10);

/// Where credentials are checked.
pub struct Backend {
    client: Client,
    pause: Pause,
    began: Instant,
}

impl Backend {
    /// The backend behind `client`.
    pub fn new(client: Client) -> Self {
        Self { client, pause: Pause::default(), began: Instant::now() }
    }

    /// What the log says of an unexpected status.
    pub(super) fn unexpected(&self, status: StatusCode) -> Refusal {
        Refusal::Unavailable(self.client.upstream().unexpected(status))
    }

    /// Sends `request`.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`], and [`Refusal::Busy`] where it was not sent.
    pub(super) async fn ask(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Refusal> {
        if self.pause.lasts(self.began.elapsed()) {
            return Err(Refusal::Busy);
        }
        let answer = self.client.send(request, MAX_ANSWER_BYTES).await;
        let answer = answer.map_err(|error| Refusal::Unavailable(error.to_string()))?;
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            self.pause.begin(self.began.elapsed());
        }
        Ok(answer)
    }
}

/// A time in which nothing is asked.
#[derive(Debug, Default)]
struct Pause {
    /// When it ends, in microseconds.
    end: AtomicU64,
}

impl Pause {
    /// Lasts for [`PAUSE`] from `now`.
    fn begin(&self, now: Duration) {
        self.end.store(micros(now.saturating_add(PAUSE)), Ordering::Relaxed);
    }

    fn lasts(&self, now: Duration) -> bool {
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
    fn a_pause_ends_by_itself() {
        let (pause, now) = (Pause::default(), Duration::from_secs(7));
        assert!(!pause.lasts(Duration::ZERO) && !pause.lasts(now));
        pause.begin(now);
        assert!(pause.lasts(now) && pause.lasts(now + PAUSE - Duration::from_micros(1)));
        assert!(!pause.lasts(now + PAUSE));
        pause.begin(now + PAUSE);
        assert!(pause.lasts(now + PAUSE));
    }
}
