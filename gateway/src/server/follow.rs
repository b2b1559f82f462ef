//! Follows the backend's feed of what changes, for as long as the gateway serves.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;

use crate::cache::Cache;
use crate::record::Metrics;
use crate::revocation::{Change, Revocation};
use crate::upstream::{Client, Upstream};

/// What metrics call a purge that the backend asked for.
pub(super) const PURGED_BY_FEED: &str = "feed";

/// The service that follows.
pub(super) struct Follow {
    pub(super) revocation: Revocation,
    pub(super) backend: Arc<Upstream>,
    /// What is to be purged, where anything is kept.
    pub(super) cache: Option<Cache>,
    pub(super) metrics: Arc<Metrics>,
}

impl Follow {
    fn tell(&self, change: Change<'_>) {
        let Some(cache) = &self.cache else { return };
        match change {
            Change::Path(path) => cache.purge(path),
            Change::All => cache.purge_all(),
            Change::Missed => return cache.doubt(),
        }
        self.metrics.cache_purge(PURGED_BY_FEED);
    }
}

#[async_trait]
impl Service for Follow {
    async fn start_service(&mut self, _: Option<ListenFds>, mut shutdown: ShutdownWatch, _: usize) {
        // A client of its own: its connections live on this service's thread.
        let backend = Client::new(Arc::clone(&self.backend));
        tokio::select! {
            () = self.revocation.follow(&backend, |change| self.tell(change)) => {}
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
