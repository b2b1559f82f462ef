//! Pairs of a name and an address that have logged in before.
//!
//! Only a login that went well makes an entry, so strangers make none. Those of one name all
//! stand in one set, and take half of it at most: whoever has a name of their own, and many
//! addresses, displaces entries of that name. Two users of one set who do so at once can
//! displace others there; the pair then shares the failures of its name like any stranger
//! until its next login.

use std::sync::{Mutex, PoisonError};

use super::backoff::Failures;
use super::table::{State as _, WAYS};

/// Entries that one name may have.
pub(super) const PER_NAME: usize = WAYS / 2;

/// The pairs, in a table of fixed size.
pub(super) struct Known {
    sets: Box<[Mutex<[Entry; WAYS]>]>,
}

#[derive(Clone, Default)]
struct Entry {
    /// The hash of the name; 0 where there is no entry.
    name: u64,
    /// The hash of both.
    pair: u64,
    /// The time of the latest login, in nanoseconds.
    latest: u64,
    /// Of this pair alone.
    failures: Failures,
}

impl Known {
    /// Room for at least `entries` pairs. All memory is taken here.
    pub(super) fn new(entries: usize) -> Self {
        let sets = 0..entries.div_ceil(WAYS).max(1);
        Self { sets: sets.map(|_| Mutex::new(std::array::from_fn(|_| Entry::default()))).collect() }
    }

    /// Works on the failures of a pair; `None` where it is not known.
    pub(super) fn with<R>(&self, name: u64, pair: u64, work: impl FnOnce(&mut Failures) -> R) -> Option<R> {
        self.set(name, |set| {
            let entry = set.iter_mut().find(|entry| entry.name == name && entry.pair == pair)?;
            Some(work(&mut entry.failures))
        })
    }

    /// Notes that a pair has logged in at `now`.
    pub(super) fn learn(&self, name: u64, pair: u64, now: u64) {
        self.set(name, |set| {
            if let Some(entry) = set.iter_mut().find(|entry| entry.name == name && entry.pair == pair) {
                entry.latest = entry.latest.max(now);
                return Some(());
            }
            let full = set.iter().filter(|entry| entry.name == name).count() >= PER_NAME;
            let open = set.iter_mut().filter(|entry| !full || entry.name == name);
            // Where somebody will come back to every one, the pair is learned another time.
            let entry = open.filter(|entry| !entry.failures.is_pinned()).min_by_key(|entry| entry.latest)?;
            *entry = Entry { name, pair, latest: now, failures: Failures::default() };
            Some(())
        });
    }

    fn set<R>(&self, name: u64, work: impl FnOnce(&mut [Entry; WAYS]) -> Option<R>) -> Option<R> {
        let set = self.sets.get(usize::try_from(name % self.sets.len() as u64).ok()?)?;
        work(&mut set.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.sets.len() * size_of::<Mutex<[Entry; WAYS]>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knows(known: &Known, name: u64, pair: u64) -> bool {
        known.with(name, pair, |_| ()).is_some()
    }

    #[test]
    fn one_name_with_many_addresses_displaces_only_itself() {
        let known = Known::new(WAYS);
        for name in 1..=8 {
            known.learn(name, 1, 1);
        }
        for pair in 0..1_000_000 {
            known.learn(100, pair, 2 + pair);
        }
        for name in 1..=8 {
            assert!(knows(&known, name, 1), "{name}");
        }
        assert!(knows(&known, 100, 999_999) && !knows(&known, 100, 0));
        assert_eq!((0..1_000_000).filter(|pair| knows(&known, 100, *pair)).count(), PER_NAME);
    }

    #[test]
    fn the_one_that_logged_in_longest_ago_leaves() {
        let known = Known::new(WAYS);
        for name in 1..=16 {
            known.learn(name, 1, name);
        }
        known.learn(1, 1, 17);
        known.learn(17, 1, 18);
        assert!(knows(&known, 1, 1) && knows(&known, 17, 1) && !knows(&known, 2, 1));
    }

    #[test]
    fn a_million_pairs_take_no_more_memory() {
        let known = Known::new(65_536);
        let before = known.bytes();
        for pair in 0..1_000_000_u64 {
            known.learn(pair.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, pair, pair);
        }
        assert_eq!(known.bytes(), before);
        assert!(before <= 3200 * 1024, "{before} bytes");
    }
}
