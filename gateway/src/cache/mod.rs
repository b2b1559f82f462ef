//! A shared cache of backend responses (RFC 9111) behind authentication, with stale responses during revalidation and
//! while the backend is down (RFC 5861).
//!
//! Only an authorised GET or HEAD request on a cacheable route gets here. A request to the backend that fills the cache
//! contains only what is part of the [`CacheKey`], so that no client can influence the response for another. Concurrent
//! requests for one key are coalesced into one backend request. The size of the cache is bounded in bytes. A purge
//! takes effect at once, and also for responses that are being fetched.

mod encoding;
mod entry;
mod fetch;
mod fill;
mod forms;
mod generation;
mod key;
pub mod policy;
mod store;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HeaderName;
use http::request;
use tokio::time::timeout;

use encoding::Compressors;
pub use entry::CacheEntry;
use fill::{Fill, FillOutcome, Fills};
pub use forms::{Form, Representation, distinguish_head, encode_head, vary_head};
use generation::{Generations, Validity};
pub use key::{CacheKey, KeyParts};
use policy::Freshness;
use store::{Store, StoreItem};

use crate::single_flight::{Completion, Joined};
use crate::upstream::{PublicAuthority, Timeouts, UpstreamClient, UpstreamError};

/// Sizes and timeouts of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The maximum size of all stored responses including overhead, in bytes. 64 MiB by default.
    pub max_bytes: u64,
    /// The maximum size of a stored body, in bytes. 1 MiB by default.
    pub max_body_bytes: usize,
    /// How long a request waits for a response that is being fetched. After that it gets a stale response if one is
    /// allowed, and is forwarded otherwise. If a stale response is allowed, the time counts from the beginning of the
    /// fetch, and is shorter after a failed one. 2 s by default.
    pub wait_timeout: Duration,
}

/// The contents of the cache, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStats {
    /// The number of keys.
    pub entries: usize,
    /// Their size, in bytes.
    pub bytes: u64,
    /// The number of evictions for lack of space since the start.
    pub evictions: u64,
    /// The number of bodies that were compressed since the start.
    pub compressions: u64,
}

/// Where a response is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStatus {
    /// From the cache, and fresh.
    Hit,
    /// From the backend.
    Miss,
    /// From the cache, and stale.
    Stale,
    /// From the cache, and successfully revalidated.
    Revalidated,
}

impl CacheStatus {
    /// All labels, including the one of requests that bypass the cache.
    pub const LABELS: [&str; 5] = ["hit", "miss", "stale", "revalidated", PASS];

    /// The label in metrics, logs and `X-Cache`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
        }
    }
}

/// The label in metrics and logs of a request that bypasses the cache.
pub const PASS: &str = "pass";

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum CacheOutcome {
    /// It gets this response.
    Served(Arc<CacheEntry>, CacheStatus),
    /// It is forwarded.
    Pass,
    /// The backend did not respond, and no stale response is allowed.
    Failed(UpstreamError),
}

/// A request, except for its key.
#[derive(Clone, Copy, Debug)]
pub struct CacheRequest<'a> {
    /// The path whose purge purges the response. A query is ignored.
    pub purge_key: &'a str,
    /// The public name of the service: the host in the key.
    pub public: PublicAuthority<'a>,
    /// The request fields in the key.
    pub declared: &'a Arc<[HeaderName]>,
    /// The timeouts that differ from those of the backend.
    pub timeouts: Timeouts,
    /// Whether an identity is in the key. Only then is it sent to the backend.
    pub has_identity: bool,
    /// The backend of the route.
    pub backend: &'a UpstreamClient,
    /// Whether the route compresses responses.
    pub compresses: bool,
}

/// The result of a lookup.
pub enum CacheLookup {
    /// The outcome is known.
    Ready(CacheOutcome),
    /// The response is being fetched.
    Pending(PendingResponse),
}

/// The cache. Clones share their contents.
#[derive(Clone)]
pub struct Cache {
    settings: Settings,
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    fills: Fills,
    generations: Generations,
    compressors: Compressors,
}

/// A request that waits for a response.
pub struct PendingResponse {
    outcome: Joined<FillOutcome>,
    is_leader: bool,
    fallback: Option<Arc<CacheEntry>>,
    wait_timeout: Duration,
}

impl PendingResponse {
    /// Waits for the outcome, up to `wait_timeout`. If no stale response is allowed, the leader waits as long as the
    /// deadlines of the backend allow.
    pub async fn outcome(self) -> CacheOutcome {
        let outcome = self.outcome.result();
        let outcome = if self.is_leader && self.fallback.is_none() {
            outcome.await
        } else {
            timeout(self.wait_timeout, outcome).await.ok().flatten()
        };
        match outcome {
            Some(FillOutcome::Shared(entry, cache_status)) => CacheOutcome::Served(entry, cache_status),
            Some(FillOutcome::LeaderOnly(entry)) if self.is_leader => CacheOutcome::Served(entry, CacheStatus::Miss),
            Some(FillOutcome::Failed(error)) => CacheOutcome::Failed(error),
            Some(FillOutcome::LeaderOnly(_) | FillOutcome::Pass) => CacheOutcome::Pass,
            None => self.fallback.map_or(CacheOutcome::Pass, |entry| CacheOutcome::Served(entry, CacheStatus::Stale)),
        }
    }
}

impl Cache {
    /// An empty cache.
    pub fn new(settings: Settings) -> Self {
        let store = Store::new(settings.max_bytes);
        let (fills, generations, compressors) = (Fills::new(0), Generations::new(), Compressors::new());
        Self { settings, inner: Arc::new(Inner { store, fills, generations, compressors }) }
    }

    /// The same contents with other settings. A smaller cache evicts the responses that have no place.
    pub fn with_settings(&self, settings: Settings) -> Self {
        if settings.max_bytes != self.settings.max_bytes {
            self.inner.store.resize(settings.max_bytes);
        }
        Self { settings, inner: Arc::clone(&self.inner) }
    }

    /// Looks up the response of `key`. If it must be fetched, `build_request` builds the request to the backend.
    pub fn lookup(
        &self,
        key: &CacheKey,
        request: CacheRequest<'_>,
        build_request: impl FnOnce() -> http::Result<request::Parts>,
    ) -> CacheLookup {
        let now = Instant::now();
        let previous = match self.inner.store.get(key) {
            Some(StoreItem::Entry(entry, _)) => match self.freshness(&entry, now) {
                Some(Freshness::Fresh) => return CacheLookup::Ready(CacheOutcome::Served(entry, CacheStatus::Hit)),
                Some(freshness) => Some((entry, freshness)),
                None => None,
            },
            Some(StoreItem::Pass { until, generation })
                if now < until && self.inner.generations.validity(&generation) == Validity::Valid =>
            {
                return CacheLookup::Ready(CacheOutcome::Pass);
            }
            _ => None,
        };
        let may_be_stale = |freshness: Freshness| freshness != Freshness::Expired;
        if let Some((entry, freshness)) = &previous
            && may_be_stale(*freshness)
            && entry.is_retry_paused(now)
        {
            return CacheLookup::Ready(CacheOutcome::Served(Arc::clone(entry), CacheStatus::Stale));
        }
        let generation = self.inner.generations.current(request.purge_key);
        // The generation is part of the key, so that a request after a purge does not join an earlier fetch.
        let (outcome, leader) = self.inner.fills.join(&(key.clone(), generation));
        let is_leader = leader.is_some();
        let fallback = previous.as_ref().filter(|(_, freshness)| may_be_stale(*freshness));
        let wait_timeout = match fallback {
            Some((entry, _)) => entry.remaining_wait(now, is_leader, self.settings.wait_timeout),
            None => self.settings.wait_timeout,
        };
        if let Some(leader) = leader {
            // Forwarding the request reports why it cannot be built.
            let Ok(parts) = build_request() else { return CacheLookup::Ready(CacheOutcome::Pass) };
            let fill = Fill {
                cache: self.clone(),
                backend: request.backend.clone(),
                key: key.clone(),
                generation,
                declared: Arc::clone(request.declared),
                previous: previous.as_ref().map(|(entry, _)| Arc::clone(entry)),
                timeouts: request.timeouts,
                has_identity: request.has_identity,
                host: request.public.authority.to_owned(),
                is_host_passed_on: request.public.is_forwarded,
                needs_token: request.public.needs_token,
                prefixes: request.public.prefixes.map(|(own, public)| (own.to_owned(), public.to_owned())),
                compresses: request.compresses,
            };
            // A separate task, since other requests wait for the response and this client may disconnect.
            tokio::spawn(async move {
                let outcome = fill.run(parts).await;
                leader.complete(|_| Completion::Share(outcome));
            });
        }
        match previous {
            Some((entry, Freshness::StaleWhileRevalidate)) => {
                CacheLookup::Ready(CacheOutcome::Served(entry, CacheStatus::Stale))
            }
            previous => {
                let fallback = previous.filter(|(_, freshness)| may_be_stale(*freshness)).map(|(entry, _)| entry);
                CacheLookup::Pending(PendingResponse { outcome, is_leader, fallback, wait_timeout })
            }
        }
    }

    /// The freshness of `entry` at `now`; `None` if it was purged.
    fn freshness(&self, entry: &CacheEntry, now: Instant) -> Option<Freshness> {
        let freshness = entry.freshness(now);
        match self.inner.generations.validity(entry.generation()) {
            Validity::Valid => Some(freshness),
            Validity::MustRevalidate if freshness == Freshness::Expired => Some(freshness),
            // stale-while-revalidate covers a change within the last seconds, not one that was missed.
            Validity::MustRevalidate => Some(Freshness::StaleIfError),
            Validity::Purged => None,
        }
    }

    /// Purges the responses with this `purge_key`, for each host, query and identity.
    pub fn purge(&self, purge_key: &str) {
        self.inner.generations.purge(purge_key);
    }

    /// Purges all responses.
    pub fn purge_all(&self) {
        self.inner.generations.purge_all();
        self.inner.store.clear();
    }

    /// Requires that each stored response is revalidated before it is served again, unless the backend fails.
    pub fn require_revalidation(&self) {
        self.inner.generations.require_revalidation();
    }

    /// The current contents.
    pub fn stats(&self) -> CacheStats {
        CacheStats { compressions: self.inner.compressors.count(), ..self.inner.store.stats() }
    }
}
