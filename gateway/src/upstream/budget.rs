//! How many requests are retried on another address: a service that fails must not get twice the load.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// The number of requests for one retry: a fifth of the requests may be retried.
const REQUESTS_PER_RETRY: u64 = 5;

/// The number of retries in each second that need no requests.
const MIN_PER_SECOND: u64 = 10;

/// The retries that can be saved up.
const MAX_SAVED: u64 = 1000;

/// The budget of one upstream, in requests.
#[derive(Debug, Default)]
pub(super) struct RetryBudget {
    /// Since the last retry.
    requests: AtomicU64,
    /// What is left, and as of when; `None` before the first retry.
    left: Mutex<(u64, Option<Instant>)>,
}

impl RetryBudget {
    /// Counts a request.
    pub(super) fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one retry at `now`; `false` if none is left.
    pub(super) fn take(&self, now: Instant) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (saved, since) = *left;
        let elapsed = since
            .map_or(1000, |since| u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX));
        let earned = elapsed.saturating_mul(MIN_PER_SECOND * REQUESTS_PER_RETRY) / 1000;
        let requests = self.requests.swap(0, Ordering::Relaxed);
        let saved = saved.saturating_add(requests).saturating_add(earned).min(MAX_SAVED * REQUESTS_PER_RETRY);
        // Less than one unit is not lost: the time counts from the last one that was earned.
        let since = if earned > 0 { Some(now) } else { since };
        let rest = saved.checked_sub(REQUESTS_PER_RETRY);
        *left = (rest.unwrap_or(saved), since);
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn taken(budget: &RetryBudget, now: Instant) -> usize {
        (0..100_000).take_while(|_| budget.take(now)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_fifth_of_the_requests_and_ten_in_each_second_may_be_retried() {
        let (budget, start) = (RetryBudget::default(), Instant::now());
        assert_eq!(taken(&budget, start), 10);
        assert_eq!(taken(&budget, start + Duration::from_millis(500)), 5);
        (0..500).for_each(|_| budget.count());
        assert_eq!(taken(&budget, start + Duration::from_millis(500)), 100);
        (0..100_000).for_each(|_| budget.count());
        assert_eq!(taken(&budget, start + Duration::from_millis(500)), 1000);
        assert_eq!(taken(&budget, start + Duration::from_secs(3600)), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn frequent_attempts_do_not_lose_time() {
        let (budget, start) = (RetryBudget::default(), Instant::now());
        taken(&budget, start);
        let retries = (1..=1000).filter(|millisecond| budget.take(start + Duration::from_millis(*millisecond))).count();
        assert_eq!(retries, 10);
    }
}
