//! Exponential backoff after a number of free failures.

use std::time::Duration;

use super::table::State;
use super::{AttemptRefused, nanoseconds};

/// The number of free failures, and the growth of the delays after them.
///
/// One failure is forgiven every two maximum delays: a client that fails as often as the delays allow stays at
/// the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Failures before the first delay: 1 to 100.
    pub failures: u32,
    /// The first delay, which doubles with each further failure; above 0.
    pub delay: Duration,
    /// The maximum delay; at least the first.
    pub max_delay: Duration,
}

impl Backoff {
    /// Nanoseconds in which one failure is forgiven.
    fn forgiveness(&self) -> u64 {
        nanoseconds(self.max_delay).saturating_mul(2).max(1)
    }

    /// The delay after `level` failures, in nanoseconds.
    fn delay_at(&self, level: u64) -> u64 {
        let Some(doublings) = level.checked_sub(u64::from(self.failures)) else { return 0 };
        let factor = u32::try_from(doublings).ok().and_then(|doublings| 1_u64.checked_shl(doublings));
        nanoseconds(self.delay).saturating_mul(factor.unwrap_or(u64::MAX)).min(nanoseconds(self.max_delay))
    }

    /// The lowest number of failures with the maximum delay. More are not counted, so that a long attack is
    /// forgiven as fast as a short one.
    fn highest_level(&self) -> u64 {
        let free = u64::from(self.failures);
        (free..free + 64).find(|&level| self.delay_at(level) >= nanoseconds(self.max_delay)).unwrap_or(free + 64)
    }
}

/// The failures and pending attempts of one key.
#[derive(Clone, Debug, Default)]
pub(super) struct NameFailures {
    /// When the last failure will be forgiven.
    forgiven_at: u64,
    /// When the delay ends.
    delayed_until: u64,
    pending: u32,
}

impl NameFailures {
    /// The number of failures that are not forgiven at `now`.
    fn level(&self, backoff: &Backoff, now: u64) -> u64 {
        self.forgiven_at.saturating_sub(now).div_ceil(backoff.forgiveness())
    }

    /// Starts an attempt at `now`: within the free failures, or as the only one after the delay.
    pub(super) fn begin(&mut self, backoff: &Backoff, now: u64) -> Result<(), AttemptRefused> {
        let level = self.level(backoff, now);
        let free = u64::from(backoff.failures);
        if level >= free && now < self.delayed_until {
            return Err(AttemptRefused::Wait(self.delayed_until - now));
        }
        // Each pending attempt could fail.
        if self.pending > 0 && level.saturating_add(u64::from(self.pending)) >= free {
            return Err(AttemptRefused::Busy);
        }
        self.pending += 1;
        Ok(())
    }

    /// Ends an attempt, and records a failure at `failed_at` if it failed.
    pub(super) fn end(&mut self, backoff: &Backoff, failed_at: Option<u64>) {
        self.pending = self.pending.saturating_sub(1);
        let Some(now) = failed_at else { return };
        let maximum = backoff.forgiveness().saturating_mul(backoff.highest_level());
        let forgiven_at = self.forgiven_at.max(now).saturating_add(backoff.forgiveness());
        self.forgiven_at = forgiven_at.min(now.saturating_add(maximum));
        let delay = backoff.delay_at(self.level(backoff, now));
        self.delayed_until = self.delayed_until.max(now.saturating_add(delay));
    }
}

impl State for NameFailures {
    fn weight(&self, now: u64) -> u64 {
        self.forgiven_at.saturating_sub(now)
    }

    fn merge(&mut self, other: &Self) {
        self.forgiven_at = self.forgiven_at.max(other.forgiven_at);
        self.delayed_until = self.delayed_until.max(other.delayed_until);
    }

    fn is_pinned(&self) -> bool {
        self.pending > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const BACKOFF: Backoff =
        Backoff { failures: 10, delay: Duration::from_secs(1), max_delay: Duration::from_secs(60) };

    fn fail(failures: &mut NameFailures, now: u64) -> Result<(), AttemptRefused> {
        failures.begin(&BACKOFF, now)?;
        failures.end(&BACKOFF, Some(now));
        Ok(())
    }

    /// Ten failures, one per second.
    fn ten() -> NameFailures {
        let mut failures = NameFailures::default();
        for second in 1..=10 {
            assert_eq!(fail(&mut failures, second * SECOND), Ok(()));
        }
        failures
    }

    #[test]
    fn delays_double_from_the_eleventh_failure_up_to_the_maximum() {
        let mut failures = ten();
        let mut now = 10 * SECOND;
        let mut delays = Vec::new();
        for _ in 0..9 {
            let Err(AttemptRefused::Wait(wait)) = fail(&mut failures, now) else { panic!("accepted at {now}") };
            delays.push(wait / SECOND);
            now += wait;
            assert_eq!(fail(&mut failures, now), Ok(()), "after {delays:?}");
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn refused_attempts_do_not_extend_the_delay() {
        let mut failures = ten();
        for now in 10 * SECOND..10 * SECOND + 1000 {
            assert_eq!(fail(&mut failures, now), Err(AttemptRefused::Wait(11 * SECOND - now)));
        }
        assert_eq!(fail(&mut failures, 11 * SECOND), Ok(()));
    }

    #[test]
    fn after_the_delay_attempts_are_sequential() {
        let mut failures = ten();
        let now = 11 * SECOND;
        assert_eq!(failures.begin(&BACKOFF, now), Ok(()));
        assert_eq!(failures.begin(&BACKOFF, now), Err(AttemptRefused::Busy));
        failures.end(&BACKOFF, None);
        assert_eq!(failures.begin(&BACKOFF, now), Ok(()), "one that did not fail makes room");
        failures.end(&BACKOFF, Some(now));
        assert_eq!(failures.begin(&BACKOFF, now), Err(AttemptRefused::Wait(2 * SECOND)));
    }

    #[test]
    fn pending_attempts_count_as_failures() {
        let mut failures = NameFailures::default();
        for _ in 0..10 {
            assert_eq!(failures.begin(&BACKOFF, 0), Ok(()));
        }
        assert_eq!(failures.begin(&BACKOFF, 0), Err(AttemptRefused::Busy));
        for _ in 0..10 {
            failures.end(&BACKOFF, Some(SECOND));
        }
        assert_eq!(failures.begin(&BACKOFF, SECOND), Err(AttemptRefused::Wait(SECOND)));
    }

    #[test]
    fn successful_attempts_are_never_refused() {
        let mut failures = NameFailures::default();
        for now in 0..1000 {
            assert_eq!(failures.begin(&BACKOFF, now), Ok(()));
            failures.end(&BACKOFF, None);
        }
    }

    #[test]
    fn failures_are_forgiven_one_by_one_regardless_of_the_attack_length() {
        let mut failures = ten();
        assert_eq!(fail(&mut failures, 131 * SECOND), Ok(()), "nine or ten");
        for round in 0..1000 {
            let _ = fail(&mut failures, (200 + round) * 60 * SECOND);
        }
        let last = 1199 * 60 * SECOND;
        let level = failures.level(&BACKOFF, last);
        assert_eq!(level, 16);
        assert_eq!(failures.level(&BACKOFF, last + 16 * 120 * SECOND), 0);
    }

    #[test]
    fn guessing_all_day_allows_about_one_attempt_per_minute() {
        let mut failures = NameFailures::default();
        let day = 24 * 60 * 60;
        let guesses = (0..day).filter(|second| fail(&mut failures, second * SECOND).is_ok()).count();
        assert!((1400..1480).contains(&guesses), "{guesses}");
    }

    #[test]
    fn extreme_settings_do_not_overflow() {
        let long = Backoff { failures: 100, delay: Duration::from_millis(1), max_delay: Duration::MAX };
        let mut failures = NameFailures::default();
        for now in [0, 1, u64::MAX - 1, u64::MAX] {
            let _ = failures.begin(&long, now);
            failures.end(&long, Some(now));
        }
        assert_eq!(long.delay_at(u64::MAX), u64::MAX);
    }
}
