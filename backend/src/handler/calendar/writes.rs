//! Bounds the writes that reads of feeds cause.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// Reserves a write at the time `now`.
    ///
    /// # Errors
    /// How long to wait before another attempt, if that is too long.
    pub(super) fn reserve(self: &Arc<Self>, now: Instant) -> Result<Reservation, Duration> {
        let mut full_at = self.full_at();
        let next = full_at.map_or(now, |full_at| full_at.max(now)) + INTERVAL;
        let wait = next.saturating_duration_since(now).saturating_sub(INTERVAL * BURST);
        if wait > LONGEST_WAIT {
            return Err(wait);
        }
        *full_at = Some(next);
        Ok(Reservation { budget: Arc::clone(self), wait, is_used: false })
    }

    fn full_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.full_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reserved write. It is available to others again if it is dropped before it is used, as when the client disconnects
/// during the wait.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<WriteBudget>,
    wait: Duration,
    is_used: bool,
}

impl Reservation {
    /// How long to wait before the write, from the time of the reservation.
    pub(super) fn wait(&self) -> Duration {
        self.wait
    }

    /// Records that the write begins.
    pub(super) fn begin(&mut self) {
        self.is_used = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.is_used {
            let mut full_at = self.budget.full_at();
            *full_at = full_at.and_then(|full_at| full_at.checked_sub(INTERVAL));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_bounded_by_burst_and_rate() {
        let (budget, start) = (Arc::new(WriteBudget::default()), Instant::now());
        let write = |now: Instant| {
            budget.reserve(now).map(|mut write| {
                write.begin();
                write.wait()
            })
        };
        let waits = |after: f64| -> Vec<Duration> {
            std::iter::from_fn(|| write(start + Duration::from_secs_f64(after)).ok()).take(1000).collect()
        };
        let first = waits(0.0);
        assert_eq!(first.len(), 100, "50 at once, and those of five seconds");
        assert!(first.iter().take(50).all(Duration::is_zero));
        assert_eq!((first[50], first[99]), (INTERVAL, LONGEST_WAIT));
        assert!(waits(0.0).is_empty(), "a refused read reserves nothing");
        assert_eq!(write(start), Err(LONGEST_WAIT + INTERVAL));
        assert_eq!(waits(0.35).len(), 3);
        assert_eq!(waits(1000.0).len(), 100);
    }

    #[test]
    fn a_write_that_is_not_begun_is_available_to_others() {
        let (budget, now) = (Arc::new(WriteBudget::default()), Instant::now());
        let all = || -> Vec<Reservation> { std::iter::from_fn(|| budget.reserve(now).ok()).take(1000).collect() };
        for _ in 0..3 {
            assert_eq!(all().len(), 100, "those of clients that disconnected are available again");
        }
        let mut writes = all();
        writes.iter_mut().take(60).for_each(Reservation::begin);
        drop(writes);
        assert_eq!(all().len(), 40, "those that began are not");
    }
}
