//! Stored responses, bounded in bytes. Quick Cache prefers entries that are used again to entries that were used once,
//! so that a scan of a million keys does not evict popular responses.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use super::forms::Bodies;
use super::generation::Generation;
use super::{CacheEntry, CacheKey};

/// What an item uses besides its key and response, in bytes: table slots and reference counts.
const OVERHEAD_BYTES: usize = 512;

/// The response size from which the number of table slots is derived.
const TYPICAL_BYTES: u64 = 8 * 1024;

/// The number of shards, each with its own lock.
const SHARDS: usize = 8;

/// How long a key is marked as uncacheable.
const PASS_DURATION: Duration = Duration::from_secs(10);

/// What is stored for a key.
#[derive(Clone, Debug)]
pub(super) enum StoreItem {
    /// A response, and the counted size of its compressed forms. The weight of an item must change only by
    /// [`Store::count_forms`].
    Entry(Arc<CacheEntry>, usize),
    /// Responses of this key are uncacheable, so that requests are not coalesced.
    Pass { until: Instant, generation: Generation },
}

#[derive(Clone, Copy, Debug)]
struct ByteWeight;

/// The bytes of a [`CacheKey`].
type StoredKey = Arc<[u8]>;

impl Weighter<StoredKey, StoreItem> for ByteWeight {
    fn weight(&self, key: &StoredKey, item: &StoreItem) -> u64 {
        let size = match item {
            StoreItem::Entry(entry, forms) => entry.size() + forms,
            StoreItem::Pass { .. } => 0,
        };
        (OVERHEAD_BYTES + key.len() + size) as u64
    }
}

/// Counts evictions for lack of space.
#[derive(Clone, Debug, Default)]
struct Evictions(Arc<AtomicU64>);

impl Lifecycle<StoredKey, StoreItem> for Evictions {
    type RequestState = ();

    fn begin_request(&self) {}

    // Not `on_evict`, which also counts replaced items.
    fn before_evict(&self, (): &mut (), _: &StoredKey, _: &mut StoreItem) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The store.
pub(super) struct Store {
    items: Cache<StoredKey, StoreItem, ByteWeight, DefaultHashBuilder, Evictions>,
    evictions: Evictions,
    /// One for each shard of `items`, held while an item is stored, so that [`Store::count_forms`] does not overwrite an
    /// item that it has not seen. Reads do not wait for it.
    writing: [Mutex<()>; SHARDS],
}

impl Store {
    /// A store of at most `max_bytes`.
    pub(super) fn new(max_bytes: u64) -> Self {
        let items = usize::try_from(max_bytes / TYPICAL_BYTES).unwrap_or(usize::MAX).max(SHARDS);
        let mut options = OptionsBuilder::new();
        options.shards(SHARDS).estimated_items_capacity(items).weight_capacity(max_bytes);
        let evictions = Evictions::default();
        let items = match options.build() {
            Ok(options) => Cache::with_options(options, ByteWeight, DefaultHashBuilder::default(), evictions.clone()),
            // All required options are set; otherwise the defaults apply.
            Err(_) => Cache::with(items, max_bytes, ByteWeight, DefaultHashBuilder::default(), evictions.clone()),
        };
        Self { items, evictions, writing: Default::default() }
    }

    /// Changes the maximum size. Responses that exceed it are evicted.
    pub(super) fn resize(&self, max_bytes: u64) {
        self.items.set_capacity(max_bytes);
    }

    pub(super) fn get(&self, key: &CacheKey) -> Option<StoreItem> {
        self.items.get(key.as_bytes())
    }

    /// Stores a response in place of what was stored for its key.
    pub(super) fn insert(&self, key: &CacheKey, entry: Arc<CacheEntry>) {
        let bodies = entry.bodies().cloned();
        let forms = entry.forms_size();
        self.put(key, StoreItem::Entry(entry, forms));
        if let Some(bodies) = bodies {
            // One may have been made since.
            self.count_forms(key, &bodies);
        }
    }

    /// Counts the compressed forms of the response of `key`, if its compressed bodies are `bodies`, and evicts
    /// responses if that exceeds the limit.
    pub(super) fn count_forms(&self, key: &CacheKey, bodies: &Arc<Bodies>) {
        let _writing = self.lock(key);
        let Some(StoreItem::Entry(entry, _)) = self.items.peek(key.as_bytes()) else { return };
        if !entry.bodies().is_some_and(|own| Arc::ptr_eq(own, bodies)) {
            return;
        }
        let forms = entry.forms_size();
        // Not a hit, so that a scan of many keys does not evict popular responses.
        let _ = self.items.replace(key.as_bytes().into(), StoreItem::Entry(entry, forms), true);
    }

    /// Marks the responses of `key` as uncacheable.
    pub(super) fn insert_pass(&self, key: &CacheKey, now: Instant, generation: Generation) {
        self.put(key, StoreItem::Pass { until: now + PASS_DURATION, generation });
    }

    fn put(&self, key: &CacheKey, item: StoreItem) {
        let _writing = self.lock(key);
        self.items.insert(key.as_bytes().into(), item);
    }

    /// Waits until nothing else is being stored in the shard of `key`.
    fn lock(&self, key: &CacheKey) -> Option<MutexGuard<'_, ()>> {
        let lock = self.writing.get(self.items.shard_index(key.as_bytes()) % SHARDS)?;
        Some(lock.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Removes all items and releases their memory.
    pub(super) fn clear(&self) {
        self.items.clear();
    }

    /// The current contents. Compression is counted elsewhere.
    pub(super) fn stats(&self) -> super::CacheStats {
        super::CacheStats {
            entries: self.items.len(),
            bytes: self.items.weight(),
            evictions: self.evictions.0.load(Ordering::Relaxed),
            compressions: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use bytes::Bytes;
    use http::header::CONTENT_TYPE;
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::super::encoding::tests::upstream;
    use super::super::entry::{Compression, Received};
    use super::super::generation::Generations;
    use super::super::key::KeyParts;
    use super::*;
    use crate::upstream::PublicAuthority;

    const MAX_BYTES: u64 = 1024 * 1024;

    fn key(number: u32) -> CacheKey {
        CacheKey::new(
            KeyParts { host: "a", route: "r", target: &format!("/{number:08}"), identity: None },
            std::iter::empty(),
        )
    }

    #[test]
    fn the_size_of_many_keys_is_bounded() {
        let (store, generation) = (Store::new(MAX_BYTES), Generations::new().current("/"));
        let now = Instant::now();
        for number in 0..1_000_000 {
            store.insert_pass(&key(number), now, generation);
        }
        let stats = store.stats();
        assert!(stats.bytes <= MAX_BYTES, "{stats:?}");
        assert!(stats.entries as u64 <= MAX_BYTES / OVERHEAD_BYTES as u64, "{stats:?}");
        assert!(stats.evictions >= 990_000, "{stats:?}");
    }

    #[test]
    fn a_store_that_becomes_smaller_evicts_and_one_that_becomes_larger_does_not() {
        let (store, generation) = (Store::new(MAX_BYTES), Generations::new().current("/"));
        let fill = || (0..10_000).for_each(|number| store.insert_pass(&key(number), Instant::now(), generation));
        fill();
        let before = store.stats();
        store.resize(2 * MAX_BYTES);
        assert_eq!(store.stats(), before);
        fill();
        assert!(store.stats().bytes > MAX_BYTES, "{:?}", store.stats());
        store.resize(MAX_BYTES / 4);
        let stats = store.stats();
        assert!(stats.entries > 0 && stats.bytes <= MAX_BYTES / 4, "{stats:?}");
    }

    #[test]
    fn a_scan_of_many_keys_does_not_evict_popular_keys() {
        let (store, generation) = (Store::new(MAX_BYTES), Generations::new().current("/"));
        let now = Instant::now();
        for number in 0..10 {
            store.insert_pass(&key(number), now, generation);
        }
        for number in 10..100_000 {
            let popular = key(number % 10);
            assert!(store.get(&popular).is_some(), "{number}");
            store.insert_pass(&key(number), now, generation);
        }
    }

    #[test]
    fn a_replaced_item_is_not_counted_as_evicted() {
        let (store, generation) = (Store::new(MAX_BYTES), Generations::new().current("/"));
        for _ in 0..10 {
            store.insert_pass(&key(1), Instant::now(), generation);
        }
        assert_eq!((store.stats().entries, store.stats().evictions), (1, 0));
    }

    /// The sizes of compressed forms are counted while newer responses are stored.
    #[test]
    fn counting_forms_never_restores_a_replaced_response() {
        let (store, generation) = (Store::new(MAX_BYTES), Generations::new().current("/"));
        let upstream = upstream();
        let public = PublicAuthority { authority: "a", is_forwarded: false, needs_token: true, prefixes: None };
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let entry = |previous: Option<&CacheEntry>| {
            let received = Received { at: Instant::now(), generation };
            let body = Bytes::from_static(&[b' '; 300]);
            let compression = Compression::On(previous);
            CacheEntry::new(StatusCode::OK, &headers, body, None, received, compression, (&upstream, &public))
        };
        let first = entry(None).unwrap();
        let bodies = first.bodies().unwrap();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    store.count_forms(&key(1), bodies);
                }
            });
            for _ in 0..20_000 {
                let newer = Arc::new(entry(Some(&first)).unwrap());
                store.insert(&key(1), Arc::clone(&newer));
                let is_newer =
                    matches!(store.get(&key(1)), Some(StoreItem::Entry(stored, _)) if Arc::ptr_eq(&stored, &newer));
                if !is_newer {
                    ended.store(true, Ordering::Relaxed);
                }
                assert!(is_newer);
            }
            ended.store(true, Ordering::Relaxed);
        });
    }
}
