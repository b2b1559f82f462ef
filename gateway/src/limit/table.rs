//! A table of fixed size for state keyed by untrusted clients.
//!
//! It is set-associative: the hash of a key selects a set of [`WAYS`] entries, any of which the key may use. A
//! new key in a full set displaces the entry with the lowest weight and starts with the *floor* of the set: the
//! merged state of everything displaced there. So being displaced never helps a client: when it returns, it
//! finds a state at least as strict. New keys bear the cost, since they start with the state of others; if a
//! set has [`WAYS`] busy keys, that is the state of the least busy, and it decays like any other.

use std::sync::{Arc, Mutex, PoisonError};

/// Entries per set.
pub(super) const WAYS: usize = 16;

/// The state of a key. The default is the state of an unknown key.
pub(super) trait State: Clone {
    /// How much would be forgotten by displacing this at `now` (nanoseconds), in any unit; 0 for nothing.
    fn weight(&self, now: u64) -> u64;

    /// Makes this at least as strict as `other`, at any later time.
    fn merge(&mut self, other: &Self);

    /// Whether the entry must not be displaced, because of a pending attempt.
    fn is_pinned(&self) -> bool {
        false
    }
}

/// The table. Each set has its own lock, so workers rarely contend. Clones share their entries.
#[derive(Clone)]
pub(super) struct Table<S> {
    sets: Arc<[Mutex<Set<S>>]>,
}

struct Set<S> {
    /// The full hash of each key: two keys with the same 64 bits share an entry.
    tags: [u64; WAYS],
    states: [S; WAYS],
    floor: S,
}

impl<S: State> Table<S> {
    /// Creates a table of at least `entries`, each in the state `unseen`. All memory is allocated here.
    pub(super) fn new(entries: usize, unseen: &S) -> Self {
        let set = || Set { tags: [0; WAYS], states: std::array::from_fn(|_| unseen.clone()), floor: unseen.clone() };
        Self { sets: (0..entries.div_ceil(WAYS).max(1)).map(|_| Mutex::new(set())).collect() }
    }

    /// Updates the state of the key with this hash at `now` (nanoseconds). `None` if all entries available to
    /// the key are pinned.
    pub(super) fn with<R>(&self, hash: u64, now: u64, work: impl FnOnce(&mut S) -> R) -> Option<R> {
        let count = self.sets.len() as u64;
        let set = self.sets.get(usize::try_from(hash % count).ok()?)?;
        // The state only consists of numbers, so it is valid after a panic.
        let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
        set.entry(hash, now).map(work)
    }

    /// Updates the state of the key with this hash, if it has an entry.
    pub(super) fn update(&self, hash: u64, work: impl FnOnce(&mut S)) {
        let count = self.sets.len() as u64;
        let Some(set) = usize::try_from(hash % count).ok().and_then(|place| self.sets.get(place)) else { return };
        let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
        let Set { tags, states, .. } = &mut *set;
        if let Some((_, state)) = tags.iter().zip(states).find(|(tag, _)| **tag == hash) {
            work(state);
        }
    }

    /// Changes each state.
    pub(super) fn for_each(&self, mut work: impl FnMut(&mut S)) {
        for set in &*self.sets {
            let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
            let Set { states, floor, .. } = &mut *set;
            states.iter_mut().chain([floor]).for_each(&mut work);
        }
    }

    /// The size of the table in bytes, without memory that states refer to.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.sets.len() * size_of::<Mutex<Set<S>>>()
    }
}

impl<S: State> Set<S> {
    fn entry(&mut self, tag: u64, now: u64) -> Option<&mut S> {
        if let Some(way) = self.tags.iter().position(|&other| other == tag) {
            return self.states.get_mut(way);
        }
        let ways = self.tags.iter_mut().zip(&mut self.states);
        let (old, state) = ways.filter(|(_, state)| !state.is_pinned()).min_by_key(|(_, state)| state.weight(now))?;
        self.floor.merge(state);
        *old = tag;
        state.clone_from(&self.floor);
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::super::bucket::{Bucket, Quota};
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const QUOTA: Quota = Quota { rate: 10, burst: 40 };

    /// A deterministic random number generator (SplitMix64).
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        }
    }

    fn take(table: &Table<Bucket>, key: u64, now: u64) -> bool {
        table.with(Numbers(key).next(), now, |bucket| bucket.take(QUOTA, now).is_ok()).unwrap()
    }

    #[test]
    fn keys_are_independent_while_there_is_room() {
        let table = Table::new(1024, &Bucket::default());
        for key in 0..100 {
            assert_eq!((0..100).filter(|_| take(&table, key, SECOND)).count(), 40);
        }
    }

    #[test]
    fn displacing_a_key_does_not_refill_its_bucket() {
        let table = Table::new(WAYS, &Bucket::default());
        while take(&table, 0, SECOND) {}
        // One set, and far more keys than it holds, each used once.
        for key in 1..10_000 {
            take(&table, key, SECOND);
        }
        assert!(!take(&table, 0, SECOND));
    }

    #[test]
    fn no_key_exceeds_its_quota() {
        let table = Table::new(4 * WAYS, &Bucket::default());
        let mut numbers = Numbers(7);
        let mut taken = std::collections::HashMap::<u64, Vec<u64>>::new();
        let mut now = 0;
        for _ in 0..200_000 {
            now += numbers.next() % (SECOND / 500);
            // A few keys far above the rate, among a thousand below it.
            let key = if numbers.next().is_multiple_of(2) { numbers.next() % 8 } else { numbers.next() % 1000 };
            if take(&table, key, now) {
                taken.entry(key).or_default().push(now);
            }
        }
        for (key, times) in taken {
            for (index, &first) in times.iter().enumerate() {
                // From any moment on: a full bucket, and the refill since.
                let within = times[index..].iter().take_while(|&&time| time - first < SECOND).count();
                assert!(within <= 50, "{key} was accepted {within} times in a second");
            }
        }
    }

    #[test]
    fn many_new_keys_below_the_rate_are_accepted() {
        let table = Table::new(4 * WAYS, &Bucket::default());
        // 64 entries allow 640 requests per second; 500 keys with one request per second need 500.
        let mut refused = 0;
        for second in 0..60 {
            for key in 0..500 {
                let now = second * SECOND + key * (SECOND / 500);
                refused += u64::from(!take(&table, key, now));
            }
        }
        assert_eq!(refused, 0);
    }

    #[test]
    fn memory_is_bounded_for_a_million_keys() {
        let table = Table::new(65_536, &Bucket::default());
        let before = table.bytes();
        for key in 0..1_000_000 {
            take(&table, key, SECOND);
        }
        // Buckets refer to no other memory.
        assert_eq!(table.bytes(), before);
        assert!(before <= 1_280 * 1024, "{before} bytes");
    }

    #[derive(Clone)]
    struct Pinned;

    impl State for Pinned {
        fn weight(&self, _: u64) -> u64 {
            0
        }

        fn merge(&mut self, _: &Self) {}

        fn is_pinned(&self) -> bool {
            true
        }
    }

    #[test]
    fn pinned_entries_are_not_displaced() {
        let table = Table::new(WAYS, &Pinned);
        assert!(table.with(1, 0, |_| ()).is_none());
    }
}
