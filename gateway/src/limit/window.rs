//! A limit on failures within a sliding window, counted exactly.

use std::time::Duration;

use super::table::State;
use super::{AttemptRefused, nanoseconds};

/// The number of failures allowed within a time window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Failures: 1 to 100.
    pub failures: u32,
    /// Length of the window; above 0.
    pub length: Duration,
}

/// The latest failures and pending attempts of one key.
#[derive(Clone, Debug)]
pub(super) struct AddressFailures {
    /// When each of the latest failures leaves the window, the latest first; 0 if none. Its length is the
    /// number of failures allowed.
    count_until: Box<[u64]>,
    pending: u32,
}

impl AddressFailures {
    /// Creates a state without failures.
    pub(super) fn none(window: &Window) -> Self {
        let size = usize::try_from(window.failures.max(1)).unwrap_or(1);
        Self { count_until: vec![0; size].into(), pending: 0 }
    }

    /// Allows another number of failures. The latest ones remain, with the length of their window.
    pub(super) fn resize(&mut self, window: &Window) {
        let size = usize::try_from(window.failures.max(1)).unwrap_or(1);
        let mut count_until = std::mem::take(&mut self.count_until).into_vec();
        count_until.resize(size, 0);
        self.count_until = count_until.into();
    }

    /// The number of failures in the window at `now`.
    fn count(&self, now: u64) -> usize {
        self.count_until.partition_point(|until| *until > now)
    }

    /// Starts an attempt at `now`, if it could fail without exceeding the limit.
    pub(super) fn begin(&mut self, now: u64) -> Result<(), AttemptRefused> {
        let failures = self.count(now);
        // At the limit: wait until the oldest failure leaves the window.
        if let Some(wait) = self.count_until.last().and_then(|until| until.checked_sub(now)).filter(|wait| *wait > 0) {
            return Err(AttemptRefused::Wait(wait));
        }
        if failures.saturating_add(self.pending as usize) >= self.count_until.len() {
            return Err(AttemptRefused::Busy);
        }
        self.pending += 1;
        Ok(())
    }

    /// Ends an attempt, and records a failure at `failed_at` if it failed.
    pub(super) fn end(&mut self, window: &Window, failed_at: Option<u64>) {
        self.pending = self.pending.saturating_sub(1);
        let Some(now) = failed_at else { return };
        let until = now.saturating_add(nanoseconds(window.length));
        if let Some(first) = self.count_until.last_mut().filter(|first| **first < until) {
            *first = until;
            self.count_until.sort_unstable_by(|a, b| b.cmp(a));
        }
    }
}

impl State for AddressFailures {
    fn weight(&self, now: u64) -> u64 {
        self.count(now) as u64
    }

    /// The n-th latest failure of the result is the later of both n-th latest failures, so it is at least as
    /// strict as either.
    fn merge(&mut self, other: &Self) {
        for (ours, theirs) in self.count_until.iter_mut().zip(&other.count_until) {
            *ours = (*ours).max(*theirs);
        }
    }

    fn is_pinned(&self) -> bool {
        self.pending > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const WINDOW: Window = Window { failures: 20, length: Duration::from_secs(60) };

    fn fail(failures: &mut AddressFailures, now: u64) -> Result<(), AttemptRefused> {
        failures.begin(now)?;
        failures.end(&WINDOW, Some(now));
        Ok(())
    }

    #[test]
    fn the_twenty_first_failure_within_any_minute_is_refused() {
        let mut failures = AddressFailures::none(&WINDOW);
        let mut taken: Vec<u64> = Vec::new();
        // Tries every 0.7 s for ten minutes, refused or not.
        for now in (0..600 * SECOND).step_by(700_000_000) {
            if fail(&mut failures, now).is_ok() {
                taken.push(now);
            }
        }
        for (index, first) in taken.iter().enumerate() {
            let within = taken[index..].iter().take_while(|time| **time < first + 60 * SECOND).count();
            assert!(within <= 20, "{within} from {first}");
        }
        assert!(taken.len() >= 200, "refused attempts prolong nothing: {}", taken.len());
    }

    #[test]
    fn the_wait_ends_when_the_oldest_failure_leaves_the_window() {
        let mut failures = AddressFailures::none(&WINDOW);
        for second in 0..20 {
            assert_eq!(fail(&mut failures, second * SECOND), Ok(()));
        }
        assert_eq!(failures.begin(30 * SECOND), Err(AttemptRefused::Wait(30 * SECOND)));
        assert_eq!(failures.begin(60 * SECOND), Ok(()));
    }

    #[test]
    fn pending_attempts_count_as_failures() {
        let mut failures = AddressFailures::none(&WINDOW);
        for _ in 0..15 {
            fail(&mut failures, 0).unwrap();
        }
        for _ in 0..5 {
            assert_eq!(failures.begin(SECOND), Ok(()));
        }
        assert_eq!(failures.begin(SECOND), Err(AttemptRefused::Busy));
        failures.end(&WINDOW, None);
        assert_eq!(failures.begin(SECOND), Ok(()), "one that did not fail makes room");
        for _ in 0..5 {
            failures.end(&WINDOW, Some(2 * SECOND));
        }
        assert_eq!(failures.begin(3 * SECOND), Err(AttemptRefused::Wait(57 * SECOND)));
    }

    #[test]
    fn failures_remain_when_another_number_is_allowed() {
        let mut failures = AddressFailures::none(&WINDOW);
        for second in 0..6 {
            fail(&mut failures, second * SECOND).unwrap();
        }
        failures.resize(&Window { failures: 7, ..WINDOW });
        fail(&mut failures, 6 * SECOND).unwrap();
        assert_eq!(failures.begin(7 * SECOND), Err(AttemptRefused::Wait(53 * SECOND)));
        failures.resize(&Window { failures: 2, ..WINDOW });
        assert_eq!(failures.begin(7 * SECOND), Err(AttemptRefused::Wait(58 * SECOND)), "the latest two");
        failures.resize(&WINDOW);
        assert_eq!(fail(&mut failures, 8 * SECOND), Ok(()));
    }

    #[test]
    fn a_merged_state_is_as_strict_as_either() {
        let (mut one, mut other) = (AddressFailures::none(&WINDOW), AddressFailures::none(&WINDOW));
        for _ in 0..20 {
            fail(&mut one, 0).unwrap();
        }
        for _ in 0..5 {
            fail(&mut other, 50 * SECOND).unwrap();
        }
        one.merge(&other);
        assert_eq!(one.begin(55 * SECOND), Err(AttemptRefused::Wait(5 * SECOND)));
        for _ in 0..15 {
            assert_eq!(one.begin(61 * SECOND), Ok(()));
        }
        assert_eq!(one.begin(61 * SECOND), Err(AttemptRefused::Busy), "five still count");
    }
}
