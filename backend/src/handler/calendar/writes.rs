//! Bounds the writes that reads of feeds cause.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::super::token_bucket::TokenBucket;

/// Writes that are possible at once.
const BURST: f64 = 50.0;
/// Writes per second beyond that.
const RATE: f64 = 10.0;

/// A token bucket for all feeds. Without a token, a feed is served as usual, and its state is stored by a later read.
#[derive(Debug)]
pub(super) struct WriteBudget(Mutex<TokenBucket>);

impl Default for WriteBudget {
    fn default() -> Self {
        Self(Mutex::new(TokenBucket::full(RATE, BURST, Instant::now())))
    }
}

impl WriteBudget {
    /// Takes a token at the time `now`; `false` if there is none.
    pub(super) fn take(&self, now: Instant) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(now).is_ok()
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
