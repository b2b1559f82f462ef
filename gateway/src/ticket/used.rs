//! The tickets that were used, each for longer than it is valid. When there are too many, no other is accepted.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::token::{TICKET_LIFETIME, TICKET_SKEW};

/// The longest time that a ticket can be valid here, in milliseconds: if it comes from a gateway whose clock is ahead.
const LONGEST: Duration = Duration::from_millis((TICKET_LIFETIME + TICKET_SKEW) as u64);

/// The ids of used tickets. Each is remembered for [`LONGEST`] to twice as long.
pub struct UsedTickets {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those used since `since`.
    current: HashSet<u128>,
    /// Those used in the period before.
    previous: HashSet<u128>,
    since: Duration,
}

/// Why a ticket cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// It was used before.
    Used,
    /// The table is full.
    Full,
}

impl UsedTickets {
    /// A table of at most `capacity` tickets.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, state: Mutex::default() }
    }

    /// Uses the ticket `id`. `now` is the time since the start of any clock that never goes back.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn take(&self, id: u128, now: Duration) -> Result<(), NotTaken> {
        // A panic leaves it consistent: each change is one call on a collection.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_sub(state.since);
        if passed >= LONGEST {
            let current = std::mem::take(&mut state.current);
            state.previous = if passed >= 2 * LONGEST { HashSet::new() } else { current };
            state.since = now;
        }
        if state.current.contains(&id) || state.previous.contains(&id) {
            return Err(NotTaken::Used);
        }
        if state.current.len() + state.previous.len() >= self.capacity {
            return Err(NotTaken::Full);
        }
        state.current.insert(id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_ticket_is_used_once_for_as_long_as_it_can_be_valid() {
        for start in [Duration::ZERO, 45 * SECOND, LONGEST - SECOND, LONGEST, 1000 * SECOND] {
            let used = UsedTickets::new(10);
            // Opens a period.
            used.take(1, Duration::ZERO).unwrap();
            assert_eq!(used.take(2, start), Ok(()));
            for after in 0..90 {
                assert_eq!(used.take(2, start + after * SECOND), Err(NotTaken::Used), "{start:?} {after}");
            }
        }
    }

    #[test]
    fn a_full_table_accepts_no_other_until_some_are_forgotten() {
        let used = UsedTickets::new(3);
        for id in 0..3 {
            assert_eq!(used.take(id, SECOND), Ok(()));
        }
        assert_eq!(used.take(3, SECOND), Err(NotTaken::Full));
        assert_eq!(used.take(0, SECOND), Err(NotTaken::Used));
        assert_eq!(used.take(3, LONGEST + SECOND), Err(NotTaken::Full));
        assert_eq!(used.take(3, 2 * LONGEST + 2 * SECOND), Ok(()));
    }
}
