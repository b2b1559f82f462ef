//! A token bucket, kept as one number: the time at which it will be full again. It is the
//! generic cell rate algorithm (ITU-T I.371, annex A) in a token bucket's words.

use super::table::State;

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Requests a second in the long run: 1 to 1,000,000.
    pub rate: u32,
    /// Requests at once, out of a full bucket: 1 to 1,000,000.
    pub burst: u32,
}

impl Quota {
    /// Nanoseconds in which one token comes. Whole ones, so a rate that does not divide a
    /// second is met to a thousandth.
    fn interval(self) -> u64 {
        1_000_000_000 / u64::from(self.rate.max(1))
    }

    /// Nanoseconds in which an empty bucket fills.
    pub(super) fn refill(self) -> u64 {
        // At most 10^6 times 10^9.
        u64::from(self.burst.max(1)) * self.interval()
    }
}

/// One bucket. Times are nanoseconds since any fixed moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Bucket {
    full_at: u64,
}

impl Bucket {
    /// Takes a token at `now`.
    ///
    /// # Errors
    /// Nanoseconds until there is one; taking in vain costs nothing.
    pub(super) fn take(&mut self, quota: Quota, now: u64) -> Result<(), u64> {
        let missing = self.full_at.saturating_sub(now).saturating_add(quota.interval());
        match missing.checked_sub(quota.refill()) {
            Some(wait) if wait > 0 => Err(wait),
            _ => {
                self.full_at = now.saturating_add(missing);
                Ok(())
            }
        }
    }
}

impl State for Bucket {
    fn weight(&self, now: u64) -> u64 {
        self.full_at.saturating_sub(now)
    }

    fn join(&mut self, other: &Self) {
        self.full_at = self.full_at.max(other.full_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const QUOTA: Quota = Quota { rate: 500, burst: 2000 };

    /// How many of `attempts` at `now` are let through.
    fn take(bucket: &mut Bucket, quota: Quota, now: u64, attempts: u32) -> u32 {
        (0..attempts).map(|_| u32::from(bucket.take(quota, now).is_ok())).sum()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = Bucket::default();
        assert_eq!(take(&mut bucket, QUOTA, 0, 5000), 2000);
        assert_eq!(take(&mut bucket, QUOTA, SECOND, 5000), 500);
        assert_eq!(take(&mut bucket, QUOTA, 2 * SECOND, 5000), 500);
        assert_eq!(take(&mut bucket, QUOTA, 60 * SECOND, 5000), 2000, "no more than a full bucket");
    }

    #[test]
    fn the_wait_is_exact_and_refused_attempts_do_not_prolong_it() {
        let mut bucket = Bucket::default();
        take(&mut bucket, QUOTA, 7, 2000);
        for _ in 0..100 {
            assert_eq!(bucket.take(QUOTA, 7), Err(2_000_000));
        }
        assert_eq!(bucket.take(QUOTA, 7 + 1_999_999), Err(1));
        assert_eq!(bucket.take(QUOTA, 7 + 2_000_000), Ok(()));
    }

    #[test]
    fn the_ends_of_the_ranges_do_not_overflow() {
        for (rate, burst) in [(1, 1), (1, 1_000_000), (1_000_000, 1), (1_000_000, 1_000_000)] {
            let quota = Quota { rate, burst };
            for now in [0, SECOND, u64::MAX - 1, u64::MAX] {
                let mut bucket = Bucket::default();
                assert_eq!(bucket.take(quota, now), Ok(()));
                let again = bucket.take(quota, now);
                assert!(again.is_ok() == (burst > 1 || now == u64::MAX), "{quota:?} at {now}: {again:?}");
            }
        }
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_away() {
        let mut bucket = Bucket::default();
        take(&mut bucket, QUOTA, 10 * SECOND, 2000);
        assert_eq!(bucket.take(QUOTA, 9 * SECOND), Err(SECOND + 2_000_000));
    }
}
