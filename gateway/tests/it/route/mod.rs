//! Routes as clients and services see them: which requests a route matches, and what it forwards.

mod body_limit;
mod cache_key;
mod cors;
mod defaults;
mod encoded;
mod forwarding;
mod header_rules;
mod host;
mod limit_by_path;
mod networks;
mod public;
mod rate;
mod secret_path;
mod timeouts;

use crate::support::backend::{Backend, Seen, Step, answer};
use crate::support::{Gateway, admin};

/// A gateway with a cache and these routes, in front of a service that returns what `script` says.
struct Routed {
    gateway: Gateway,
    service: Backend,
    _admin: Backend,
}

impl Routed {
    async fn start(
        routes: &str,
        settings: &[(&str, &str)],
        script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let (service, admin) = (Backend::start(script).await, admin().await);
        let settings: Vec<_> =
            [("ROUTE", routes), ("CACHE_MAX_BYTES", "67108864")].into_iter().chain(settings.iter().copied()).collect();
        let gateway = Gateway::start_with(&service, &admin, &settings);
        Self { gateway, service, _admin: admin }
    }
}

/// A response with this body, which the cache may store.
fn cacheable(body: &str) -> Vec<Step> {
    answer("200 OK", &[("Cache-Control", "public, s-maxage=600")], body)
}
