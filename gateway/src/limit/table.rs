//! A table of fixed size for what is known of strangers.
//!
//! It is set-associative: the hash of a key picks a set of [`WAYS`] entries, and the key may
//! stand in any of them. A newcomer to a full set displaces the entry that has the least to
//! forget, and begins with the *floor* of its set: the join of all that was ever displaced
//! there. So nobody gains by being displaced: who comes back finds at least what had been
//! noted. The cost falls on newcomers, which begin with what others did; with [`WAYS`] busy
//! keys in each set it is what the least busy of them did, and it fades as theirs does.

use std::sync::{Mutex, PoisonError};

/// Entries in a set.
pub(super) const WAYS: usize = 16;

/// What is noted of a key. The default is what is noted of a key never seen.
pub(super) trait State: Clone {
    /// How much would be forgotten at `now` (nanoseconds), by any measure; 0 for nothing.
    fn weight(&self, now: u64) -> u64;

    /// Makes this at least as strict as `other`, at every time to come.
    fn join(&mut self, other: &Self);

    /// Whether the entry must stay, since somebody will come back to it.
    fn is_pinned(&self) -> bool {
        false
    }
}

/// The table. Each set has a lock of its own, so workers rarely wait for each other.
pub(super) struct Table<S> {
    sets: Box<[Mutex<Set<S>>]>,
}

struct Set<S> {
    /// The whole hash of each key: two keys that share all 64 bits share an entry.
    tags: [u64; WAYS],
    states: [S; WAYS],
    floor: S,
}

impl<S: State> Table<S> {
    /// A table of at least `entries`, each at first as `unseen`. All memory is taken here.
    pub(super) fn new(entries: usize, unseen: &S) -> Self {
        let set = || Set { tags: [0; WAYS], states: std::array::from_fn(|_| unseen.clone()), floor: unseen.clone() };
        Self { sets: (0..entries.div_ceil(WAYS).max(1)).map(|_| Mutex::new(set())).collect() }
    }

    /// Works on the state of the key with this hash at `now` (nanoseconds). `None` where
    /// every entry that the key could have is pinned.
    pub(super) fn with<R>(&self, hash: u64, now: u64, work: impl FnOnce(&mut S) -> R) -> Option<R> {
        let count = self.sets.len() as u64;
        let set = self.sets.get(usize::try_from(hash % count).ok()?)?;
        // A panic elsewhere leaves numbers that are still numbers.
        let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
        set.entry(hash, now).map(work)
    }

    /// The bytes that a table of so many entries takes, without what the states point to.
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
        self.floor.join(state);
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

    /// A generator whose numbers are the same in every run (SplitMix64).
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
    fn a_table_with_room_keeps_each_key_apart() {
        let table = Table::new(1024, &Bucket::default());
        for key in 0..100 {
            assert_eq!((0..100).filter(|_| take(&table, key, SECOND)).count(), 40);
        }
    }

    #[test]
    fn crowding_a_key_out_does_not_fill_its_bucket() {
        let table = Table::new(WAYS, &Bucket::default());
        while take(&table, 0, SECOND) {}
        // One set, and far more keys than it holds, each of them once.
        for key in 1..10_000 {
            take(&table, key, SECOND);
        }
        assert!(!take(&table, 0, SECOND));
    }

    #[test]
    fn no_key_gets_more_than_its_quota_whatever_the_others_do() {
        let table = Table::new(4 * WAYS, &Bucket::default());
        let mut numbers = Numbers(7);
        let mut taken = std::collections::HashMap::<u64, Vec<u64>>::new();
        let mut now = 0;
        for _ in 0..200_000 {
            now += numbers.next() % (SECOND / 500);
            // A few keys that want much, among a thousand that want little.
            let key = if numbers.next().is_multiple_of(2) { numbers.next() % 8 } else { numbers.next() % 1000 };
            if take(&table, key, now) {
                taken.entry(key).or_default().push(now);
            }
        }
        for (key, times) in taken {
            for (index, &first) in times.iter().enumerate() {
                // From any moment on: a full bucket and what has come since.
                let within = times[index..].iter().take_while(|&&time| time - first < SECOND).count();
                assert!(within <= 50, "{key} was let through {within} times in a second");
            }
        }
    }

    #[test]
    fn a_crowd_of_newcomers_below_the_rate_is_let_through() {
        let table = Table::new(4 * WAYS, &Bucket::default());
        // 64 entries give 640 requests a second; 500 keys that come once a second are 500.
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
    fn a_million_keys_take_no_more_memory() {
        let table = Table::new(65_536, &Bucket::default());
        let before = table.bytes();
        for key in 0..1_000_000 {
            take(&table, key, SECOND);
        }
        // All there is of a set is within it: a bucket points to nothing.
        assert_eq!(table.bytes(), before);
        assert!(before <= 1_280 * 1024, "{before} bytes");
    }

    #[derive(Clone)]
    struct Pinned;

    impl State for Pinned {
        fn weight(&self, _: u64) -> u64 {
            0
        }

        fn join(&mut self, _: &Self) {}

        fn is_pinned(&self) -> bool {
            true
        }
    }

    #[test]
    fn what_is_pinned_stays() {
        let table = Table::new(WAYS, &Pinned);
        assert!(table.with(1, 0, |_| ()).is_none());
    }
}
