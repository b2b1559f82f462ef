//! Bounds the writes that reads of feeds cause.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Writes that are possible at once.
const BURST: f64 = 50.0;
/// Writes per second beyond that.
const RATE: f64 = 10.0;

/// A token bucket for all feeds. Without a token, a feed is served as usual, and its state is stored by a later read.
#[derive(Debug)]
pub(super) struct WriteBudget(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Option<Instant>,
}

impl Default for WriteBudget {
    fn default() -> Self {
        Self(Mutex::new(Bucket { tokens: BURST, at: None }))
    }
}

impl WriteBudget {
    /// Takes a token at the time `now`; `false` if there is none.
    pub(super) fn take(&self, now: Instant) -> bool {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = bucket.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        bucket.tokens = (bucket.tokens + elapsed * RATE).min(BURST);
        bucket.at = Some(now);
        let available = bucket.tokens >= 1.0;
        if available {
            bucket.tokens -= 1.0;
        }
        available
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn writes_are_bounded_by_burst_and_rate() {
        let (budget, start) = (WriteBudget::default(), Instant::now());
        let taken = |after: f64| (0..1000).filter(|_| budget.take(start + Duration::from_secs_f64(after))).count();
        assert_eq!(taken(0.0), 50);
        assert_eq!(taken(0.0), 0);
        assert_eq!(taken(0.35), 3);
        assert_eq!(taken(1000.0), 50);
    }
}
