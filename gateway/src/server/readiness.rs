//! Whether a gateway that starts can serve.

use std::sync::Arc;

use tokio::sync::watch;

use super::service::Backends;
use crate::revocation::Revocation;

/// What a gateway depends on.
#[derive(Clone)]
pub(super) struct Readiness {
    pub(super) backends: watch::Receiver<Arc<Backends>>,
    /// The revocation state, if enabled.
    pub(super) revocation: Option<Revocation>,
}

impl Readiness {
    /// What is in use, as of the last reload.
    pub(super) fn backends(&self) -> Arc<Backends> {
        Arc::clone(&self.backends.borrow())
    }

    /// What is missing: a backend or required service that has not responded yet, or the revocation feed. `None` once
    /// everything was there. A later failure changes nothing, since cached responses and cached revocation results are
    /// then used.
    pub(super) fn missing(&self) -> Option<String> {
        if self.revocation.as_ref().is_some_and(|revocation| revocation.age().is_none()) {
            return Some("the revocation feed is not connected".to_owned());
        }
        let Backends { upstreams, services } = &*self.backends();
        let required = services.iter().filter(|service| service.required).map(|service| &service.upstream);
        let missing = upstreams.iter().chain(required).find(|upstream| !upstream.was_reached());
        missing.map(|upstream| format!("the upstream {} has not responded", upstream.name))
    }
}
