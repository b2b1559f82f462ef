//! Pairs of a name and an address with a successful login.
//!
//! Only a successful login creates an entry, so untrusted clients cannot. All entries of one name are in the
//! same set and take at most half of it: a user with many addresses displaces only entries of the same name.
//! Two such users in one set can displace other entries; a displaced pair shares the failures of its name, like
//! an unknown address, until its next login.

use std::sync::{Arc, Mutex, PoisonError};

use super::backoff::NameFailures;
use super::table::{State as _, WAYS};

/// Maximum number of entries per name.
pub(super) const PER_NAME: usize = WAYS / 2;

/// The pairs, in a table of fixed size. Clones share their entries.
#[derive(Clone)]
pub(super) struct KnownPairs {
    sets: Arc<[Mutex<[Pair; WAYS]>]>,
}

#[derive(Clone, Default)]
struct Pair {
    /// Hash of the name; 0 if the entry is empty.
    name: u64,
    /// Hash of name and address.
    pair: u64,
    /// Time of the latest login, in nanoseconds.
    latest: u64,
    /// Failures of this pair.
    failures: NameFailures,
}

impl KnownPairs {
    /// Creates a table for at least `entries` pairs. All memory is allocated here.
    pub(super) fn new(entries: usize) -> Self {
        let sets = 0..entries.div_ceil(WAYS).max(1);
        Self { sets: sets.map(|_| Mutex::new(std::array::from_fn(|_| Pair::default()))).collect() }
    }

    /// Updates the failures of a pair; `None` if it is not known.
    pub(super) fn with<R>(&self, name: u64, pair: u64, work: impl FnOnce(&mut NameFailures) -> R) -> Option<R> {
        self.set(name, |set| {
            let entry = set.iter_mut().find(|entry| entry.name == name && entry.pair == pair)?;
            Some(work(&mut entry.failures))
        })
    }

    /// Records a successful login of a pair at `now`.
    pub(super) fn insert(&self, name: u64, pair: u64, now: u64) {
        self.set(name, |set| {
            if let Some(entry) = set.iter_mut().find(|entry| entry.name == name && entry.pair == pair) {
                entry.latest = entry.latest.max(now);
                return Some(());
            }
            let full = set.iter().filter(|entry| entry.name == name).count() >= PER_NAME;
            let open = set.iter_mut().filter(|entry| !full || entry.name == name);
            // If all entries have pending attempts, the pair is not recorded.
            let entry = open.filter(|entry| !entry.failures.is_pinned()).min_by_key(|entry| entry.latest)?;
            *entry = Pair { name, pair, latest: now, failures: NameFailures::default() };
            Some(())
        });
    }

    fn set<R>(&self, name: u64, work: impl FnOnce(&mut [Pair; WAYS]) -> Option<R>) -> Option<R> {
        let set = self.sets.get(usize::try_from(name % self.sets.len() as u64).ok()?)?;
        work(&mut set.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.sets.len() * size_of::<Mutex<[Pair; WAYS]>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knows(known: &KnownPairs, name: u64, pair: u64) -> bool {
        known.with(name, pair, |_| ()).is_some()
    }

    #[test]
    fn a_name_with_many_addresses_displaces_only_its_own_entries() {
        let known = KnownPairs::new(WAYS);
        for name in 1..=8 {
            known.insert(name, 1, 1);
        }
        for pair in 0..1_000_000 {
            known.insert(100, pair, 2 + pair);
        }
        for name in 1..=8 {
            assert!(knows(&known, name, 1), "{name}");
        }
        assert!(knows(&known, 100, 999_999) && !knows(&known, 100, 0));
        assert_eq!((0..1_000_000).filter(|pair| knows(&known, 100, *pair)).count(), PER_NAME);
    }

    #[test]
    fn the_least_recent_login_is_displaced() {
        let known = KnownPairs::new(WAYS);
        for name in 1..=16 {
            known.insert(name, 1, name);
        }
        known.insert(1, 1, 17);
        known.insert(17, 1, 18);
        assert!(knows(&known, 1, 1) && knows(&known, 17, 1) && !knows(&known, 2, 1));
    }

    #[test]
    fn memory_is_bounded_for_a_million_pairs() {
        let known = KnownPairs::new(65_536);
        let before = known.bytes();
        for pair in 0..1_000_000_u64 {
            known.insert(pair.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, pair, pair);
        }
        assert_eq!(known.bytes(), before);
        assert!(before <= 3200 * 1024, "{before} bytes");
    }
}
