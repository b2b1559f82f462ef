//! The backend request that fills the cache, and what becomes of its response.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HeaderName;
use http::request::Parts;

use super::fetch::{Cacheability, FetchRequest, FetchedResponse, fetch};
use super::generation::{Generation, Validity};
use super::policy::{self, Freshness};
use super::{Cache, CacheEntry, CacheKey, CacheStatus};
use crate::single_flight::SingleFlight;
use crate::upstream::{PublicAuthority, Timeouts, UpstreamClient, UpstreamError};

/// How long after a failure of the backend stale responses are served without another attempt.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The fills in progress. The generation separates those before a purge from those after it.
pub(super) type Fills = SingleFlight<(CacheKey, Generation), FillOutcome>;

/// The result of a fill.
#[derive(Clone)]
pub(super) enum FillOutcome {
    /// A response for all waiting requests.
    Shared(Arc<CacheEntry>, CacheStatus),
    /// A response for the leader; the other requests are forwarded.
    LeaderOnly(Arc<CacheEntry>),
    /// Each request is forwarded.
    Pass,
    /// No request gets a response.
    Failed(UpstreamError),
}

/// A fill in progress.
pub(super) struct Fill {
    pub(super) cache: Cache,
    pub(super) backend: UpstreamClient,
    pub(super) key: CacheKey,
    pub(super) generation: Generation,
    pub(super) declared: Arc<[HeaderName]>,
    pub(super) previous: Option<Arc<CacheEntry>>,
    /// The timeouts that differ from those of the backend.
    pub(super) timeouts: Timeouts,
    /// Whether the identity is sent to the backend.
    pub(super) has_identity: bool,
    /// The requested host.
    pub(super) host: String,
    pub(super) is_host_passed_on: bool,
    pub(super) needs_token: bool,
    /// [`PublicAuthority::prefixes`].
    pub(super) prefixes: Option<(String, String)>,
    pub(super) compresses: bool,
}

impl Fill {
    pub(super) async fn run(self, parts: Parts) -> FillOutcome {
        let cache = &self.cache;
        let request = FetchRequest {
            parts,
            declared: &self.declared,
            previous: self.previous.as_deref(),
            max_body: cache.settings.max_body_bytes,
            generation: self.generation,
            timeouts: self.timeouts,
            compresses: self.compresses,
            public: PublicAuthority {
                authority: &self.host,
                is_forwarded: self.is_host_passed_on,
                needs_token: self.needs_token,
                prefixes: self.prefixes.as_ref().map(|(own, public)| (own.as_str(), public.as_str())),
            },
        };
        match fetch(&self.backend, request).await {
            Ok(FetchedResponse::Complete(entry, ..)) if policy::allows_stale_if_error(entry.status()) => {
                // Shared, since forwarding each request would add to the load of a failing backend.
                self.stale_if_error().unwrap_or_else(|| match entry.sets_cookie() {
                    true => self.per_client(entry),
                    false => FillOutcome::Shared(entry, CacheStatus::Miss),
                })
            }
            Ok(FetchedResponse::Complete(entry, Cacheability::Storable, cache_status)) => {
                self.store(entry, cache_status)
            }
            Ok(FetchedResponse::Complete(entry, Cacheability::NotStorable, _)) => {
                self.store_pass();
                FillOutcome::LeaderOnly(entry)
            }
            Ok(FetchedResponse::Complete(entry, Cacheability::PerClient, _)) => {
                self.store_pass();
                self.per_client(entry)
            }
            Ok(FetchedResponse::Unread) => {
                self.store_pass();
                FillOutcome::Pass
            }
            Err(error) => self.stale_if_error().unwrap_or(FillOutcome::Failed(error)),
        }
    }

    fn store(&self, entry: Arc<CacheEntry>, cache_status: CacheStatus) -> FillOutcome {
        // After a purge the store may already have a newer response.
        if self.cache.inner.generations.validity(&self.generation) != Validity::Purged {
            self.cache.inner.store.insert(&self.key, Arc::clone(&entry));
        }
        FillOutcome::Shared(entry, cache_status)
    }

    /// The outcome for a response that may depend on the client. If it was fetched without an identity, each request
    /// has to be forwarded with its own.
    fn per_client(&self, entry: Arc<CacheEntry>) -> FillOutcome {
        if self.has_identity { FillOutcome::LeaderOnly(entry) } else { FillOutcome::Pass }
    }

    /// Replaces the stored response by a pass.
    fn store_pass(&self) {
        self.cache.inner.store.insert_pass(&self.key, Instant::now(), self.generation);
    }

    /// The stale response to serve after a failure, if one is allowed.
    fn stale_if_error(&self) -> Option<FillOutcome> {
        let now = Instant::now();
        let previous = self.previous.as_ref()?;
        let freshness = self.cache.freshness(previous, now)?;
        previous.pause_retries(now, RETRY_INTERVAL);
        (freshness != Freshness::Expired).then(|| FillOutcome::Shared(Arc::clone(previous), CacheStatus::Stale))
    }
}

#[cfg(test)]
mod tests {
    use super::super::generation::Generations;
    use super::super::key::KeyParts;
    use super::*;
    use crate::single_flight::Completion;

    #[tokio::test]
    async fn a_request_after_a_purge_does_not_join_an_earlier_fetch() {
        let key = CacheKey::new(KeyParts { host: "a", route: "r", target: "/a", identity: None }, std::iter::empty());
        let (fills, generations) = (SingleFlight::new(0), Generations::new());
        let join = || fills.join(&(key.clone(), generations.current("/a")));
        let (before, older) = join();
        generations.purge("/a");
        let (after, newer) = join();
        let newer = newer.expect("a new flight");
        older.expect("a new flight").complete(|_| Completion::Share(1));
        assert_eq!(before.result().await, Some(1));
        assert!(join().1.is_none(), "a third flight");
        newer.complete(|_| Completion::Share(2));
        assert_eq!(after.result().await, Some(2));
    }
}
