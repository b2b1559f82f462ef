//! The current configuration, for what lasts longer than a request: endless responses, WebSocket connections and tickets
//! are checked against it, and not against the one that they began with.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::authenticate::Accepted;
use crate::route::{Route, RouteTable};

/// What is in force, as of the last reload.
pub struct Live {
    accepted: ArcSwap<Accepted>,
    routes: ArcSwap<RouteTable>,
    /// Notified of each reload, with the time of the last one that removed or retired a key.
    key_removed: watch::Sender<Option<Instant>>,
}

impl Live {
    /// With the first configuration.
    pub fn new(accepted: Arc<Accepted>, routes: Arc<RouteTable>) -> Self {
        let (accepted, routes) = (ArcSwap::new(accepted), ArcSwap::new(routes));
        Self { accepted, routes, key_removed: watch::Sender::new(None) }
    }

    /// Replaces it. `second` is the time in seconds since 1970, by which keys may have retired.
    pub fn replace(&self, accepted: &Arc<Accepted>, routes: Arc<RouteTable>, second: i64) {
        self.routes.store(routes);
        let before = self.accepted.swap(Arc::clone(accepted));
        let removed = before.keys.has_key_missing_in(&accepted.keys, second).then(Instant::now);
        self.key_removed.send_modify(|last| *last = removed.or(*last));
    }

    /// The keys and static tokens.
    pub fn accepted(&self) -> Arc<Accepted> {
        self.accepted.load_full()
    }

    /// Whether a request that is admitted to `route` is still admitted to it by the same rules.
    pub(super) fn still_has(&self, route: &Route) -> bool {
        self.routes.load().iter().any(|current| current.admits_as(route))
    }

    /// Changes with each reload: when one last removed or retired a key, so that its tokens are no longer accepted.
    pub(super) fn key_removed(&self) -> watch::Receiver<Option<Instant>> {
        self.key_removed.subscribe()
    }

    /// When a reload last removed or retired a key.
    pub(super) fn last_key_removed(&self) -> Option<Instant> {
        *self.key_removed.borrow()
    }
}
