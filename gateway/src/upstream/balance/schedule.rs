//! The order of a weighted round robin.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Addresses in turn, each as often as its weight, as evenly spread as possible.
#[derive(Debug)]
pub(super) struct Schedule {
    /// One round: the positions of addresses with a weight.
    turns: Box<[u8]>,
    next: AtomicUsize,
}

impl Schedule {
    /// The schedule for these weights. Addresses without one are never found.
    pub(super) fn new(weights: &[u32]) -> Self {
        let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
        let shares: Vec<i64> = weights.iter().map(|weight| i64::from(weight / divisor)).collect();
        let total: i64 = shares.iter().sum();
        // The smooth round robin of nginx: in each turn, every address gets credit for its weight, and the one with the
        // most credit is chosen and loses the sum of all weights.
        let mut credits = vec![0_i64; shares.len()];
        let turns = (0..total).filter_map(|_| {
            credits.iter_mut().zip(&shares).for_each(|(credit, share)| *credit += share);
            let chosen = credits.iter().enumerate().rev().max_by_key(|(_, credit)| **credit)?.0;
            *credits.get_mut(chosen)? -= total;
            u8::try_from(chosen).ok()
        });
        Self { turns: turns.collect(), next: AtomicUsize::new(0) }
    }

    /// The address whose turn it is among those for which `may_use` holds. The turns of others are skipped, so that the
    /// rest share them according to their weights.
    pub(super) fn find(&self, may_use: impl Fn(usize) -> bool) -> Option<usize> {
        let turn = || {
            let next = self.next.fetch_add(1, Ordering::Relaxed);
            self.turns.get(next.checked_rem(self.turns.len())?).map(|place| usize::from(*place))
        };
        // Other requests take turns meanwhile, so all may be missed.
        let mut turns = std::iter::repeat_with(turn).take(self.turns.len()).flatten();
        turns.find(|&place| may_use(place)).or_else(|| self.peek(may_use))
    }

    /// The next address for which `may_use` holds, without taking a turn: for a request that has had one.
    pub(super) fn peek(&self, may_use: impl Fn(usize) -> bool) -> Option<usize> {
        let start = self.next.load(Ordering::Relaxed).checked_rem(self.turns.len())?;
        let turns = self.turns.iter().cycle().skip(start).take(self.turns.len());
        turns.map(|place| usize::from(*place)).find(|&place| may_use(place))
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(weights: &[u32], count: usize, may_use: impl Fn(usize) -> bool) -> Vec<usize> {
        let schedule = Schedule::new(weights);
        (0..count).filter_map(|_| schedule.find(&may_use)).collect()
    }

    #[test]
    fn each_address_has_turns_according_to_its_weight_and_evenly_spread() {
        assert_eq!(rounds(&[1, 1], 4, |_| true), [0, 1, 0, 1]);
        assert_eq!(rounds(&[5, 1, 1], 7, |_| true), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(rounds(&[100, 50], 6, |_| true), [0, 1, 0, 0, 1, 0]);
        assert_eq!(rounds(&[0, 2, 0], 3, |_| true), [1, 1, 1]);
        assert_eq!(rounds(&[0, 0], 3, |_| true), [0; 0]);
        assert_eq!(Schedule::new(&[100, 99]).turns.len(), 199);
    }

    #[test]
    fn a_second_attempt_takes_no_turn() {
        let schedule = Schedule::new(&[1, 1]);
        for _ in 0..4 {
            assert_eq!((schedule.find(|_| true), schedule.peek(|place| place != 0)), (Some(0), Some(1)));
            assert_eq!((schedule.find(|_| true), schedule.peek(|place| place != 1)), (Some(1), Some(0)));
        }
        assert_eq!(schedule.peek(|_| false), None);
        assert_eq!(Schedule::new(&[0]).peek(|_| true), None);
    }

    #[test]
    fn the_turns_of_an_unusable_address_are_shared_by_weight() {
        let used = rounds(&[3, 3, 1], 400, |place| place != 0);
        let of_second = used.iter().filter(|place| **place == 1).count();
        assert_eq!((used.len(), of_second), (400, 300));
        assert_eq!(rounds(&[1, 1], 2, |_| false), [0; 0]);
    }
}
