//! What is kept, within a bound in bytes. Quick Cache keeps what is asked for again and lets go
//! what came once, so that a walk over a million keys does not drive out what everybody reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use super::generation::Generation;
use super::{Entry, Key};

/// What an item takes besides its key and its answer, in bytes: its places in the tables and
/// the counts of what is shared.
const OVERHEAD: usize = 512;

/// The size of an answer by which the tables are laid out.
const USUAL_SIZE: u64 = 8 * 1024;

/// Parts that are locked on their own.
const SHARDS: usize = 8;

/// How long it is remembered that an answer cannot be kept.
const PASS: Duration = Duration::from_secs(10);

/// What is known of a key.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    /// An answer.
    Entry(Arc<Entry>),
    /// That answers cannot be kept: those who ask need not wait for each other.
    Pass { until: Instant, generation: Generation },
}

#[derive(Clone, Copy, Debug)]
struct Bytes;

/// A [`Key`] of which no more is kept than its bytes.
type KeptKey = Arc<[u8]>;

impl Weighter<KeptKey, Kept> for Bytes {
    fn weight(&self, key: &KeptKey, kept: &Kept) -> u64 {
        let answer = match kept {
            Kept::Entry(entry) => entry.size(),
            Kept::Pass { .. } => 0,
        };
        (OVERHEAD + key.len() + answer) as u64
    }
}

/// Counts what had to go for want of room.
#[derive(Clone, Debug, Default)]
struct Evictions(Arc<AtomicU64>);

impl Lifecycle<KeptKey, Kept> for Evictions {
    type RequestState = ();

    fn begin_request(&self) {}

    // Not `on_evict`, which hears of what was replaced as well.
    fn before_evict(&self, (): &mut (), _: &KeptKey, _: &mut Kept) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The store.
pub(super) struct Store {
    kept: Cache<KeptKey, Kept, Bytes, DefaultHashBuilder, Evictions>,
    evictions: Evictions,
}

impl Store {
    /// Room for `max_bytes`.
    pub(super) fn new(max_bytes: u64) -> Self {
        let items = usize::try_from(max_bytes / USUAL_SIZE).unwrap_or(usize::MAX).max(SHARDS);
        let mut options = OptionsBuilder::new();
        options.shards(SHARDS).estimated_items_capacity(items).weight_capacity(max_bytes);
        let evictions = Evictions::default();
        let kept = match options.build() {
            Ok(options) => Cache::with_options(options, Bytes, DefaultHashBuilder::default(), evictions.clone()),
            // What was not set has defaults that hold.
            Err(_) => Cache::with(items, max_bytes, Bytes, DefaultHashBuilder::default(), evictions.clone()),
        };
        Self { kept, evictions }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Kept> {
        self.kept.get(key.as_bytes())
    }

    /// Keeps an answer in place of what was known of its key.
    pub(super) fn keep(&self, key: &Key, entry: Arc<Entry>) {
        self.kept.insert(key.as_bytes().into(), Kept::Entry(entry));
    }

    /// Notes that the answers of `key` cannot be kept.
    pub(super) fn pass(&self, key: &Key, now: Instant, generation: Generation) {
        self.kept.insert(key.as_bytes().into(), Kept::Pass { until: now + PASS, generation });
    }

    /// Gives up all memory that answers take.
    pub(super) fn clear(&self) {
        self.kept.clear();
    }

    /// What is kept.
    pub(super) fn figures(&self) -> super::Figures {
        super::Figures {
            entries: self.kept.len(),
            bytes: self.kept.weight(),
            evictions: self.evictions.0.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::generation::Generations;
    use super::super::key::Parts;
    use super::*;

    const MAX_BYTES: u64 = 1024 * 1024;

    fn key(number: u32) -> Key {
        Key::new(Parts { host: "a", target: &format!("/{number:08}"), identity: None }, std::iter::empty())
    }

    #[test]
    fn no_number_of_keys_takes_more_than_the_bound() {
        let (store, generation) = (Store::new(MAX_BYTES), Generations::new().current("/"));
        let now = Instant::now();
        for number in 0..1_000_000 {
            store.pass(&key(number), now, generation);
        }
        let figures = store.figures();
        assert!(figures.bytes <= MAX_BYTES, "{figures:?}");
        assert!(figures.entries as u64 <= MAX_BYTES / OVERHEAD as u64, "{figures:?}");
        assert!(figures.evictions >= 990_000, "{figures:?}");
    }

    #[test]
    fn a_walk_over_many_keys_does_not_drive_out_what_is_asked_for_again() {
        let (store, generation) = (Store::new(MAX_BYTES), Generations::new().current("/"));
        let now = Instant::now();
        for number in 0..10 {
            store.pass(&key(number), now, generation);
        }
        for number in 10..100_000 {
            let popular = key(number % 10);
            assert!(store.get(&popular).is_some(), "{number}");
            store.pass(&key(number), now, generation);
        }
    }

    #[test]
    fn what_is_replaced_was_not_driven_out() {
        let (store, generation) = (Store::new(MAX_BYTES), Generations::new().current("/"));
        for _ in 0..10 {
            store.pass(&key(1), Instant::now(), generation);
        }
        assert_eq!((store.figures().entries, store.figures().evictions), (1, 0));
    }
}
