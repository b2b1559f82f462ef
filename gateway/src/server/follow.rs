//! Follows the backend's feed of revocations, for as long as the gateway serves.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;

use crate::revocation::Revocation;
use crate::upstream::{Client, Upstream};

/// The service that follows.
pub(super) struct Follow {
    revocation: Revocation,
    backend: Arc<Upstream>,
}

impl Follow {
    pub(super) fn new(revocation: Revocation, backend: Arc<Upstream>) -> Self {
        Self { revocation, backend }
    }
}

#[async_trait]
impl Service for Follow {
    async fn start_service(&mut self, _: Option<ListenFds>, mut shutdown: ShutdownWatch, _: usize) {
        // A client of its own: its connections live on this service's thread.
        let backend = Client::new(Arc::clone(&self.backend));
        tokio::select! {
            () = self.revocation.follow(&backend) => {}
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
