//! Failures that are free, and then delays that double.

use std::time::Duration;

use super::table::State;
use super::{Refused, nanoseconds};

/// How many failures are free, and how the delays after them grow.
///
/// A failure is forgiven every two longest delays: whoever keeps failing as fast as the delays
/// let them stays at the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Failures before the first delay: 1 to 100.
    pub failures: u32,
    /// The first delay, which each further failure doubles; above 0.
    pub delay: Duration,
    /// The longest delay; at least the first.
    pub max_delay: Duration,
}

impl Backoff {
    /// Nanoseconds in which a failure is forgiven.
    fn forgiveness(&self) -> u64 {
        nanoseconds(self.max_delay).saturating_mul(2).max(1)
    }

    /// The delay at which `level` failures count, in nanoseconds.
    fn delay_at(&self, level: u64) -> u64 {
        let Some(doublings) = level.checked_sub(u64::from(self.failures)) else { return 0 };
        let factor = u32::try_from(doublings).ok().and_then(|doublings| 1_u64.checked_shl(doublings));
        nanoseconds(self.delay).saturating_mul(factor.unwrap_or(u64::MAX)).min(nanoseconds(self.max_delay))
    }

    /// The fewest failures at which the delay is the longest. More are not counted, so that a
    /// long attack is not remembered for longer than a short one.
    fn highest_level(&self) -> u64 {
        let free = u64::from(self.failures);
        (free..free + 64).find(|&level| self.delay_at(level) >= nanoseconds(self.max_delay)).unwrap_or(free + 64)
    }
}

/// The failures of one key, and its attempts that are under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Failures {
    /// When the last failure will have been forgiven.
    forgiven_at: u64,
    /// When the delay ends.
    delayed_until: u64,
    under_way: u32,
}

impl Failures {
    /// The failures that are not forgiven at `now`.
    fn level(&self, backoff: &Backoff, now: u64) -> u64 {
        self.forgiven_at.saturating_sub(now).div_ceil(backoff.forgiveness())
    }

    /// Begins an attempt at `now`: within the free failures, or alone after the delay.
    pub(super) fn begin(&mut self, backoff: &Backoff, now: u64) -> Result<(), Refused> {
        let level = self.level(backoff, now);
        let free = u64::from(backoff.failures);
        if level >= free && now < self.delayed_until {
            return Err(Refused::Wait(self.delayed_until - now));
        }
        // Of those that are under way each could fail.
        if self.under_way > 0 && level.saturating_add(u64::from(self.under_way)) >= free {
            return Err(Refused::Busy);
        }
        self.under_way += 1;
        Ok(())
    }

    /// Ends an attempt, and notes a failure at `now` where it was one.
    pub(super) fn end(&mut self, backoff: &Backoff, failed_at: Option<u64>) {
        self.under_way = self.under_way.saturating_sub(1);
        let Some(now) = failed_at else { return };
        let most = backoff.forgiveness().saturating_mul(backoff.highest_level());
        let forgiven_at = self.forgiven_at.max(now).saturating_add(backoff.forgiveness());
        self.forgiven_at = forgiven_at.min(now.saturating_add(most));
        let delay = backoff.delay_at(self.level(backoff, now));
        self.delayed_until = self.delayed_until.max(now.saturating_add(delay));
    }
}

impl State for Failures {
    fn weight(&self, now: u64) -> u64 {
        self.forgiven_at.saturating_sub(now)
    }

    fn join(&mut self, other: &Self) {
        self.forgiven_at = self.forgiven_at.max(other.forgiven_at);
        self.delayed_until = self.delayed_until.max(other.delayed_until);
    }

    fn is_pinned(&self) -> bool {
        self.under_way > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const BACKOFF: Backoff =
        Backoff { failures: 10, delay: Duration::from_secs(1), max_delay: Duration::from_secs(60) };

    fn fail(failures: &mut Failures, now: u64) -> Result<(), Refused> {
        failures.begin(&BACKOFF, now)?;
        failures.end(&BACKOFF, Some(now));
        Ok(())
    }

    /// Ten failures, one a second.
    fn ten() -> Failures {
        let mut failures = Failures::default();
        for second in 1..=10 {
            assert_eq!(fail(&mut failures, second * SECOND), Ok(()));
        }
        failures
    }

    #[test]
    fn from_the_eleventh_on_delays_double_up_to_the_longest() {
        let mut failures = ten();
        let mut now = 10 * SECOND;
        let mut delays = Vec::new();
        for _ in 0..9 {
            let Err(Refused::Wait(wait)) = fail(&mut failures, now) else { panic!("let through at {now}") };
            delays.push(wait / SECOND);
            now += wait;
            assert_eq!(fail(&mut failures, now), Ok(()), "after {delays:?}");
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn refused_attempts_prolong_nothing() {
        let mut failures = ten();
        for now in 10 * SECOND..10 * SECOND + 1000 {
            assert_eq!(fail(&mut failures, now), Err(Refused::Wait(11 * SECOND - now)));
        }
        assert_eq!(fail(&mut failures, 11 * SECOND), Ok(()));
    }

    #[test]
    fn after_the_delay_there_is_one_attempt_at_a_time() {
        let mut failures = ten();
        let now = 11 * SECOND;
        assert_eq!(failures.begin(&BACKOFF, now), Ok(()));
        assert_eq!(failures.begin(&BACKOFF, now), Err(Refused::Busy));
        failures.end(&BACKOFF, None);
        assert_eq!(failures.begin(&BACKOFF, now), Ok(()), "one that did not fail makes room");
        failures.end(&BACKOFF, Some(now));
        assert_eq!(failures.begin(&BACKOFF, now), Err(Refused::Wait(2 * SECOND)));
    }

    #[test]
    fn attempts_under_way_could_all_fail() {
        let mut failures = Failures::default();
        for _ in 0..10 {
            assert_eq!(failures.begin(&BACKOFF, 0), Ok(()));
        }
        assert_eq!(failures.begin(&BACKOFF, 0), Err(Refused::Busy));
        for _ in 0..10 {
            failures.end(&BACKOFF, Some(SECOND));
        }
        assert_eq!(failures.begin(&BACKOFF, SECOND), Err(Refused::Wait(SECOND)));
    }

    #[test]
    fn attempts_that_do_not_fail_are_never_refused() {
        let mut failures = Failures::default();
        for now in 0..1000 {
            assert_eq!(failures.begin(&BACKOFF, now), Ok(()));
            failures.end(&BACKOFF, None);
        }
    }

    #[test]
    fn failures_are_forgiven_one_by_one_and_a_long_attack_as_soon_as_a_short_one() {
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
    fn whoever_guesses_for_a_day_has_about_one_guess_a_minute() {
        let mut failures = Failures::default();
        let day = 24 * 60 * 60;
        let guesses = (0..day).filter(|second| fail(&mut failures, second * SECOND).is_ok()).count();
        assert!((1400..1480).contains(&guesses), "{guesses}");
    }

    #[test]
    fn the_ends_of_the_ranges_do_not_overflow() {
        let long = Backoff { failures: 100, delay: Duration::from_millis(1), max_delay: Duration::MAX };
        let mut failures = Failures::default();
        for now in [0, 1, u64::MAX - 1, u64::MAX] {
            let _ = failures.begin(&long, now);
            failures.end(&long, Some(now));
        }
        assert_eq!(long.delay_at(u64::MAX), u64::MAX);
    }
}
