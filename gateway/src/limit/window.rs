//! So many failures within a window of time, counted exactly.

use std::time::Duration;

use super::table::State;
use super::{Refused, nanoseconds};

/// How many failures are taken, and within what time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Failures: 1 to 100.
    pub failures: u32,
    /// Any span of time so long; above 0.
    pub length: Duration,
}

/// The latest failures of one key, and its attempts that are under way.
#[derive(Clone, Debug)]
pub(super) struct Failures {
    /// When each of the latest failures no longer counts, the latest first; 0 is none. There
    /// are as many as the window takes.
    count_until: Box<[u64]>,
    under_way: u32,
}

impl Failures {
    /// None so far.
    pub(super) fn none(window: &Window) -> Self {
        let size = usize::try_from(window.failures.max(1)).unwrap_or(1);
        Self { count_until: vec![0; size].into(), under_way: 0 }
    }

    /// The failures that count at `now`.
    fn counting(&self, now: u64) -> usize {
        self.count_until.partition_point(|until| *until > now)
    }

    /// Begins an attempt at `now`, where it could fail and still be within the window.
    pub(super) fn begin(&mut self, now: u64) -> Result<(), Refused> {
        let failures = self.counting(now);
        // As many as there may be: until the first of them no longer counts.
        if let Some(wait) = self.count_until.last().and_then(|until| until.checked_sub(now)).filter(|wait| *wait > 0) {
            return Err(Refused::Wait(wait));
        }
        if failures.saturating_add(self.under_way as usize) >= self.count_until.len() {
            return Err(Refused::Busy);
        }
        self.under_way += 1;
        Ok(())
    }

    /// Ends an attempt, and notes a failure at `now` where it was one.
    pub(super) fn end(&mut self, window: &Window, failed_at: Option<u64>) {
        self.under_way = self.under_way.saturating_sub(1);
        let Some(now) = failed_at else { return };
        let until = now.saturating_add(nanoseconds(window.length));
        if let Some(first) = self.count_until.last_mut().filter(|first| **first < until) {
            *first = until;
            self.count_until.sort_unstable_by(|a, b| b.cmp(a));
        }
    }
}

impl State for Failures {
    fn weight(&self, now: u64) -> u64 {
        self.counting(now) as u64
    }

    /// The n-th latest failure of both is the later of their n-th latest.
    fn join(&mut self, other: &Self) {
        for (ours, theirs) in self.count_until.iter_mut().zip(&other.count_until) {
            *ours = (*ours).max(*theirs);
        }
    }

    fn is_pinned(&self) -> bool {
        self.under_way > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const WINDOW: Window = Window { failures: 20, length: Duration::from_secs(60) };

    fn fail(failures: &mut Failures, now: u64) -> Result<(), Refused> {
        failures.begin(now)?;
        failures.end(&WINDOW, Some(now));
        Ok(())
    }

    #[test]
    fn the_twenty_first_within_a_minute_is_refused_whatever_the_minute() {
        let mut failures = Failures::none(&WINDOW);
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
    fn the_wait_ends_when_the_first_failure_no_longer_counts() {
        let mut failures = Failures::none(&WINDOW);
        for second in 0..20 {
            assert_eq!(fail(&mut failures, second * SECOND), Ok(()));
        }
        assert_eq!(failures.begin(30 * SECOND), Err(Refused::Wait(30 * SECOND)));
        assert_eq!(failures.begin(60 * SECOND), Ok(()));
    }

    #[test]
    fn attempts_under_way_could_all_fail() {
        let mut failures = Failures::none(&WINDOW);
        for _ in 0..15 {
            fail(&mut failures, 0).unwrap();
        }
        for _ in 0..5 {
            assert_eq!(failures.begin(SECOND), Ok(()));
        }
        assert_eq!(failures.begin(SECOND), Err(Refused::Busy));
        failures.end(&WINDOW, None);
        assert_eq!(failures.begin(SECOND), Ok(()), "one that did not fail makes room");
        for _ in 0..5 {
            failures.end(&WINDOW, Some(2 * SECOND));
        }
        assert_eq!(failures.begin(3 * SECOND), Err(Refused::Wait(57 * SECOND)));
    }

    #[test]
    fn what_two_have_done_is_counted_as_strictly_as_either() {
        let (mut one, mut other) = (Failures::none(&WINDOW), Failures::none(&WINDOW));
        for _ in 0..20 {
            fail(&mut one, 0).unwrap();
        }
        for _ in 0..5 {
            fail(&mut other, 50 * SECOND).unwrap();
        }
        one.join(&other);
        assert_eq!(one.begin(55 * SECOND), Err(Refused::Wait(5 * SECOND)));
        for _ in 0..15 {
            assert_eq!(one.begin(61 * SECOND), Ok(()));
        }
        assert_eq!(one.begin(61 * SECOND), Err(Refused::Busy), "five still count");
    }
}
