//! Compresses cached bodies, each once per coding, on threads that serve no requests.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{Cache, CacheEntry, CacheKey};
use crate::compress::{self, Encoding};
use crate::single_flight::{Completion, Leader, SingleFlight};

/// How many bodies may wait for a thread. Further responses are sent without compression until one of them is done.
const QUEUE: usize = 64;

/// How long a request waits for a compressed form, which takes some milliseconds. After that it gets the body
/// without compression: with many large bodies at once, waiting would take longer than sending.
const WAIT_TIMEOUT: Duration = Duration::from_millis(500);

/// The compressions in progress. A key is the address of the compressed bodies, which the leader keeps alive.
type Flights = SingleFlight<(usize, Encoding), ()>;

/// Bounds compression: of threads, and of bodies that wait for one.
pub(super) struct Compressors {
    flights: Flights,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    made: AtomicU64,
}

impl Compressors {
    pub(super) fn new() -> Self {
        // Half of the cores, so that requests are served meanwhile.
        let threads = available_parallelism().map_or(1, NonZeroUsize::get).div_ceil(2);
        Self {
            flights: Flights::new(0),
            running: Arc::new(Semaphore::new(threads)),
            waiting: Arc::new(Semaphore::new(threads + QUEUE)),
            made: AtomicU64::new(0),
        }
    }

    /// The number of bodies that were compressed.
    pub(super) fn count(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }
}

impl Cache {
    /// Makes the compressed form of `entry` in `encoding`, the response of `key`, unless it exists or cannot be made.
    /// Concurrent requests for the same form wait for one compression, but not longer than [`WAIT_TIMEOUT`].
    ///
    /// It continues if the future is dropped, since other requests may wait for it.
    pub async fn encode(&self, key: &CacheKey, entry: &Arc<CacheEntry>, encoding: Encoding) {
        let Some(bodies) = entry.bodies() else { return };
        let compressors = &self.inner.compressors;
        let (done, leader) = compressors.flights.join(&(Arc::as_ptr(bodies).addr(), encoding));
        if let Some(leader) = leader {
            // The last leader may have ended in between.
            if entry.is_encoded(encoding) {
                return leader.complete(|_| Completion::Share(()));
            }
            // Dropping the leader lets another request try again.
            let Ok(place) = Arc::clone(&compressors.waiting).try_acquire_owned() else { return };
            let job = Job { cache: self.clone(), key: key.clone(), entry: Arc::clone(entry), encoding };
            tokio::spawn(job.run(place, leader));
        }
        // After a timeout the form is not there, and the response is sent without it.
        let _ = timeout(WAIT_TIMEOUT, done.result()).await;
    }
}

/// One compression.
struct Job {
    cache: Cache,
    key: CacheKey,
    entry: Arc<CacheEntry>,
    encoding: Encoding,
}

impl Job {
    /// Runs it, holding its `place` in the queue.
    async fn run(self, place: OwnedSemaphorePermit, leader: Leader<(usize, Encoding), ()>) {
        // Never closed.
        let Ok(permit) = Arc::clone(&self.cache.inner.compressors.running).acquire_owned().await else { return };
        self.cache.inner.compressors.made.fetch_add(1, Ordering::Relaxed);
        let (encoding, body) = (self.encoding, self.entry.body().clone());
        let compressed = spawn_blocking(move || {
            let _permit = permit;
            compress::compress(encoding, &body)
        });
        let compressed = match compressed.await {
            Ok(Ok(compressed)) => compressed.map(exact),
            // A lack of memory. The body is sent as it is.
            Ok(Err(_)) | Err(_) => None,
        };
        if let Some(bodies) = self.entry.bodies() {
            if let Some(place) = bodies.get(encoding.index()) {
                // The only writer, since the flight has one leader.
                let _ = place.set(compressed);
            }
            // Counted even if the response was replaced by a `304` meanwhile: that one has the same bodies.
            self.cache.inner.store.count_forms(&self.key, bodies);
        }
        drop(place);
        leader.complete(|_| Completion::Share(()));
    }
}

/// The bytes without the unused memory of the buffer.
fn exact(compressed: Vec<u8>) -> Bytes {
    compressed.into_boxed_slice().into()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Instant;

    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::super::Settings;
    use super::super::entry::{Compression, Received};
    use super::super::forms::Form;
    use super::super::key::KeyParts;
    use super::super::policy::Lifetime;
    use super::super::store::StoreItem;
    use super::*;
    use crate::upstream::{self, Address, PublicAuthority, Upstream};

    const GZIP: Encoding = Encoding::Gzip;

    pub(in super::super) fn upstream() -> Upstream {
        let second = Duration::from_secs(1);
        let settings = upstream::Settings {
            connect_timeout: second,
            read_timeout: second,
            request_timeout: second,
            idle_timeout: second,
            max_connections: 1,
        };
        Upstream::new("api", Address::Inet("127.0.0.1:1".parse().unwrap()), settings)
    }

    fn cache() -> Cache {
        let settings = Settings { max_bytes: 1 << 20, max_body_bytes: 1 << 16, wait_timeout: Duration::from_secs(1) };
        Cache::new(settings)
    }

    fn key() -> CacheKey {
        CacheKey::new(KeyParts { host: "a", route: "r", target: "/a", identity: None }, std::iter::empty())
    }

    /// An entry with this body, stored in `cache`. Its body is that of `previous`, if there is one.
    fn stored(cache: &Cache, body: &str, previous: Option<&CacheEntry>) -> Arc<CacheEntry> {
        let headers = HeaderMap::from_iter([
            (http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain")),
            (http::header::ETAG, HeaderValue::from_static("\"x\"")),
        ]);
        let (hour, zero) = (Duration::from_secs(3600), Duration::ZERO);
        let lifetime = Lifetime { fresh: hour, while_revalidate: zero, if_error: zero, initial_age: zero };
        let received = Received { at: Instant::now(), generation: cache.inner.generations.current("/a") };
        let public = PublicAuthority { authority: "a", is_forwarded: false, needs_token: true, prefixes: None };
        let body = Bytes::copy_from_slice(body.repeat(1000).as_bytes());
        let compression = Compression::On(previous);
        let entry = CacheEntry::new(
            StatusCode::OK,
            &headers,
            body,
            Some(lifetime),
            received,
            compression,
            (&upstream(), &public),
        );
        let entry = Arc::new(entry.unwrap());
        cache.inner.store.insert(&key(), Arc::clone(&entry));
        entry
    }

    fn is_compressed(entry: &CacheEntry, encoding: Encoding) -> bool {
        entry.representation(Form::Encoded(encoding)).header.headers.contains_key("content-encoding")
    }

    fn current(cache: &Cache) -> Arc<CacheEntry> {
        let Some(StoreItem::Entry(entry, _)) = cache.inner.store.get(&key()) else { panic!("no response") };
        entry
    }

    #[tokio::test]
    async fn concurrent_requests_wait_for_one_compression() {
        let cache = cache();
        let entry = stored(&cache, "body", None);
        let before = cache.stats().bytes;
        let key = key();
        futures_util::future::join_all((0..50).map(|_| cache.encode(&key, &entry, GZIP))).await;
        assert_eq!(cache.stats().compressions, 1);
        let form = entry.representation(Form::Encoded(GZIP));
        assert_eq!(form.header.headers.get("etag").unwrap(), "\"x-gzip\"");
        assert!(cache.stats().bytes >= before + form.body.len() as u64 + form.wire.len() as u64);
        cache.encode(&key, &entry, GZIP).await;
        cache.encode(&key, &entry, Encoding::Br).await;
        assert_eq!(cache.stats().compressions, 2);
        assert!(is_compressed(&entry, Encoding::Br) && !is_compressed(&entry, Encoding::Zstd));
        assert_eq!(cache.inner.compressors.flights.len(), 0);
    }

    #[tokio::test]
    async fn a_response_that_a_304_updates_keeps_its_compressed_forms() {
        let cache = cache();
        let first = stored(&cache, "body", None);
        cache.encode(&key(), &first, GZIP).await;
        let bytes = cache.stats().bytes;
        let second = stored(&cache, "body", Some(&first));
        assert!(second.is_encoded(GZIP) && is_compressed(&second, GZIP));
        assert_eq!(cache.stats().bytes, bytes);
        // A form that is made for the earlier entry is counted for the later one.
        cache.encode(&key(), &first, Encoding::Br).await;
        assert!(is_compressed(&second, Encoding::Br) && cache.stats().bytes > bytes);
        assert!(Arc::ptr_eq(&current(&cache), &second));
    }

    #[tokio::test]
    async fn a_compression_during_a_purge_changes_nothing_that_is_stored_later() {
        let cache = cache();
        let old = stored(&cache, "old", None);
        let threads = u32::try_from(cache.inner.compressors.running.available_permits()).unwrap();
        let held = cache.inner.compressors.running.acquire_many(threads).await.unwrap();
        let key = key();
        let encoding = cache.encode(&key, &old, GZIP);
        let purge = async {
            cache.purge("/a");
            let new = stored(&cache, "new", None);
            let bytes = cache.stats().bytes;
            drop(held);
            (new, bytes)
        };
        let ((), (new, bytes)) = tokio::join!(encoding, purge);
        assert!(is_compressed(&old, GZIP) && !new.is_encoded(GZIP));
        assert!(Arc::ptr_eq(&current(&cache), &new));
        assert_eq!(cache.stats().bytes, bytes);
        cache.purge_all();
        cache.encode(&key, &new, GZIP).await;
        assert_eq!((cache.stats().entries, cache.stats().bytes), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_a_busy_thread_for_a_limited_time() {
        let cache = cache();
        let entry = stored(&cache, "body", None);
        let threads = u32::try_from(cache.inner.compressors.running.available_permits()).unwrap();
        let held = cache.inner.compressors.running.acquire_many(threads).await.unwrap();
        let began = tokio::time::Instant::now();
        cache.encode(&key(), &entry, GZIP).await;
        assert!(began.elapsed() >= WAIT_TIMEOUT && entry.can_be_encoded(GZIP) && !entry.is_encoded(GZIP));
        drop(held);
        tokio::time::resume();
        cache.encode(&key(), &entry, GZIP).await;
        assert!(is_compressed(&entry, GZIP));
        assert_eq!(cache.stats().compressions, 1);
    }

    #[tokio::test]
    async fn with_a_full_queue_a_request_does_not_wait() {
        let cache = cache();
        let entry = stored(&cache, "body", None);
        let places = u32::try_from(cache.inner.compressors.waiting.available_permits()).unwrap();
        let held = cache.inner.compressors.waiting.acquire_many(places).await.unwrap();
        cache.encode(&key(), &entry, GZIP).await;
        assert!(!entry.is_encoded(GZIP));
        assert_eq!((cache.stats().compressions, cache.inner.compressors.flights.len()), (0, 0));
        drop(held);
        cache.encode(&key(), &entry, GZIP).await;
        assert!(is_compressed(&entry, GZIP));
    }
}
