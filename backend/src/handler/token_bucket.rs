//! A token bucket. The time is an argument.

use std::time::{Duration, Instant};

/// A token bucket, full at first.
#[derive(Debug)]
pub(super) struct TokenBucket {
    tokens: f64,
    updated: Instant,
    rate: f64,
    burst: f64,
}

impl TokenBucket {
    /// A full bucket at the time `now`: `burst` tokens, and `rate` new ones per second, greater than 0.
    pub(super) fn full(rate: f64, burst: f64, now: Instant) -> Self {
        Self { tokens: burst, updated: now, rate, burst }
    }

    /// Takes a token at the time `now`.
    ///
    /// # Errors
    /// The time until there is one.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let elapsed = now.saturating_duration_since(self.updated).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.rate).min(self.burst);
        self.updated = self.updated.max(now);
        if self.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.tokens) / self.rate));
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_limited_to_a_burst_and_a_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(2.0, 3.0, start);
        for _ in 0..3 {
            assert_eq!(bucket.take(start), Ok(()));
        }
        assert_eq!(bucket.take(start), Err(Duration::from_millis(500)));
        assert_eq!(bucket.take(start + Duration::from_millis(500)), Ok(()));
        assert!(bucket.take(start + Duration::from_millis(600)).is_err());
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..10).filter(|_| bucket.take(later).is_ok()).count(), 3, "no more than the burst");
        assert!(bucket.take(start).is_err(), "an earlier time adds nothing");
    }
}
