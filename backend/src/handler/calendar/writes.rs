//! Bounds the writes that reads of feeds cause.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Writes that are possible at once.
const BURST: u32 = 50;
/// The interval of writes beyond that: 10 per second.
const INTERVAL: Duration = Duration::from_millis(100);
/// The longest that a read waits for its write. It is below the timeouts of the gateway and of calendar services.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The writes of all feeds, by the generic cell rate algorithm. A read whose write would have to wait too long fails:
/// a feed delivers no revision that is not stored, because the next read could not repeat it.
#[derive(Debug, Default)]
pub(super) struct WriteBudget {
    /// The time at which the whole burst is available again.
    full_at: Mutex<Option<Instant>>,
}

impl WriteBudget {
    /// Reserves a write at the time `now`. Returns how long to wait for it.
    ///
    /// # Errors
    /// How long to wait before another attempt, if that is too long.
    pub(super) fn reserve(&self, now: Instant) -> Result<Duration, Duration> {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let next = full_at.map_or(now, |full_at| full_at.max(now)) + INTERVAL;
        let wait = next.saturating_duration_since(now).saturating_sub(INTERVAL * BURST);
        if wait > LONGEST_WAIT {
            return Err(wait);
        }
        *full_at = Some(next);
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_bounded_by_burst_and_rate() {
        let (budget, start) = (WriteBudget::default(), Instant::now());
        let waits = |after: f64| -> Vec<Duration> {
            std::iter::from_fn(|| budget.reserve(start + Duration::from_secs_f64(after)).ok()).take(1000).collect()
        };
        let first = waits(0.0);
        assert_eq!(first.len(), 100, "50 at once, and those of five seconds");
        assert!(first.iter().take(50).all(Duration::is_zero));
        assert_eq!((first[50], first[99]), (INTERVAL, LONGEST_WAIT));
        assert!(waits(0.0).is_empty(), "a refused read reserves nothing");
        assert_eq!(budget.reserve(start), Err(LONGEST_WAIT + INTERVAL));
        assert_eq!(waits(0.35).len(), 3);
        assert_eq!(waits(1000.0).len(), 100);
    }
}
