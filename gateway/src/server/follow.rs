//! The service that follows the backend's feed of revocations and purges.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;

use crate::flow::Flow;
use crate::listener::CurrentServing;
use crate::record::Metrics;
use crate::revocation::{Invalidation, Revocation};
use crate::upstream::{Upstream, UpstreamClient};

/// The metric label of a purge that the backend requested.
pub(super) const PURGED_BY_FEED: &str = "feed";

/// The service that follows.
pub(super) struct Follow {
    pub(super) revocation: Revocation,
    pub(super) backend: Arc<Upstream>,
    /// Has the cache to purge, if enabled.
    pub(super) serving: CurrentServing<Flow>,
    pub(super) metrics: Arc<Metrics>,
}

impl Follow {
    fn purge(&self, invalidation: Invalidation<'_>) {
        let Some(cache) = self.serving.load().handler.cache.clone() else { return };
        match invalidation {
            Invalidation::Path(path) => cache.purge(path),
            Invalidation::All => cache.purge_all(),
            Invalidation::Unknown => return cache.require_revalidation(),
        }
        self.metrics.cache_purge(PURGED_BY_FEED);
    }
}

#[async_trait]
impl Service for Follow {
    async fn start_service(&mut self, _: Option<ListenFds>, mut shutdown: ShutdownWatch, _: usize) {
        // A separate client, since its connections belong to the runtime of this service.
        let backend = UpstreamClient::new(Arc::clone(&self.backend));
        tokio::select! {
            () = self.revocation.follow(&backend, |invalidation| self.purge(invalidation)) => {}
            // A closed channel means the same as a change.
            _ = shutdown.changed() => {}
        }
    }

    fn name(&self) -> &str {
        "revocation"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}
