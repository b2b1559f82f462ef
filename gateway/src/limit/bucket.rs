//! A token bucket, stored as the time at which it will be full: the generic cell rate algorithm (ITU-T I.371,
//! annex A).

use super::table::State;

/// The rate and the burst of a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Sustained requests per second: 1 to 1,000,000.
    pub rate: u32,
    /// Burst of requests from a full bucket: 1 to 1,000,000.
    pub burst: u32,
}

impl Quota {
    /// Nanoseconds per request. It is rounded down, so a rate that does not divide a second is accurate to a
    /// thousandth.
    fn interval(self) -> u64 {
        1_000_000_000 / u64::from(self.rate.max(1))
    }

    /// Nanoseconds in which an empty bucket fills.
    pub(super) fn refill(self) -> u64 {
        // At most 10^6 times 10^9, so this cannot overflow.
        u64::from(self.burst.max(1)) * self.interval()
    }
}

/// One bucket. Times are in nanoseconds since any fixed moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Bucket {
    full_at: u64,
}

impl Bucket {
    /// Spends one request at `now`.
    ///
    /// # Errors
    /// Nanoseconds until the next request is accepted. A refused request costs nothing.
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

impl Bucket {
    /// Returns a token that was spent.
    pub(super) fn refund(&mut self, quota: Quota) {
        self.full_at = self.full_at.saturating_sub(quota.interval());
    }

    /// Replaces `before` by `after` at `now`: as many requests are spent as before, or all.
    pub(super) fn change_quota(&mut self, before: Quota, after: Quota, now: u64) {
        let left = u128::from(self.full_at.saturating_sub(now));
        let left = left * u128::from(after.interval()) / u128::from(before.interval());
        self.full_at = now.saturating_add(u64::try_from(left).unwrap_or(u64::MAX).min(after.refill()));
    }
}

impl State for Bucket {
    fn weight(&self, now: u64) -> u64 {
        self.full_at.saturating_sub(now)
    }

    fn merge(&mut self, other: &Self) {
        self.full_at = self.full_at.max(other.full_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const QUOTA: Quota = Quota { rate: 500, burst: 2000 };

    /// The number of `attempts` at `now` that are accepted.
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
    fn the_wait_is_exact_and_not_extended_by_refused_requests() {
        let mut bucket = Bucket::default();
        take(&mut bucket, QUOTA, 7, 2000);
        for _ in 0..100 {
            assert_eq!(bucket.take(QUOTA, 7), Err(2_000_000));
        }
        assert_eq!(bucket.take(QUOTA, 7 + 1_999_999), Err(1));
        assert_eq!(bucket.take(QUOTA, 7 + 2_000_000), Ok(()));
    }

    #[test]
    fn extreme_quotas_do_not_overflow() {
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
    fn a_new_quota_neither_refills_nor_empties_a_bucket() {
        let mut bucket = Bucket::default();
        take(&mut bucket, QUOTA, SECOND, 1500);
        for (quota, left) in [
            (Quota { rate: 5, burst: 2000 }, 500),
            (Quota { rate: 1000, burst: 1600 }, 100),
            (Quota { rate: 1000, burst: 1000 }, 0),
        ] {
            let mut changed = bucket.clone();
            changed.change_quota(QUOTA, quota, SECOND);
            assert_eq!(take(&mut changed, quota, SECOND, 5000), left, "{quota:?}");
            assert_eq!(take(&mut changed, quota, 2 * SECOND, 5000), quota.rate.min(quota.burst), "{quota:?}");
        }
    }

    #[test]
    fn a_clock_that_steps_back_does_not_refill() {
        let mut bucket = Bucket::default();
        take(&mut bucket, QUOTA, 10 * SECOND, 2000);
        assert_eq!(bucket.take(QUOTA, 9 * SECOND), Err(SECOND + 2_000_000));
    }
}
