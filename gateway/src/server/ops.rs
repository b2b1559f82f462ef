//! The ops listener: `/metrics`, `/healthz`, `/readyz`, `/config`, `/upgrade` and `POST /cache/purge`, for operators.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use holodule_handover::History;
use holodule_telemetry::{Figures, Tracer};
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use tokio::sync::watch;

use super::defence::defend;
use super::handover::Phase;
use super::plain::{self, Plain};
use super::readiness::Readiness;
use super::service::{Backends, Service};
use crate::cache::{Cache, CacheStats};
use crate::config::Entries;
use crate::drain::Draining;
use crate::flow::Flow;
use crate::framing::CanonicalPath;
use crate::listener::CurrentServing;
use crate::record::{FanOutGauges, Lines, Metrics};
use crate::upstream::Upstream;

/// The maximum number of concurrent connections.
const MAX_CONNECTIONS: usize = 64;

/// The maximum lifetime of a connection: longer than usual scrape intervals, so that scrapers can reuse connections.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);

/// The path of cache purges.
const PURGE: &str = "/cache/purge";

/// The path of the digests of the configuration, which the command `diff` requests.
pub const CONFIG: &str = "/config";

/// The metric label of a purge through the ops listener.
pub(super) const PURGED_BY_OPS: &str = "ops";

/// The state that the ops listener reports and changes.
pub(super) struct Ops {
    pub(super) metrics: Arc<Metrics>,
    /// What the gateway depends on.
    pub(super) readiness: Readiness,
    /// Whether the gateway is stopping.
    pub(super) draining: Draining,
    /// Has the cache, if enabled, and the routes, to resolve aliases in purges.
    pub(super) serving: CurrentServing<Flow>,
    /// Host names accepted for write requests, besides IP addresses and `localhost`.
    pub(super) allowed_hosts: Arc<ArcSwap<Vec<String>>>,
    /// The configuration in force.
    pub(super) entries: Arc<ArcSwap<Entries>>,
    /// Random, so that digests cannot be computed in advance.
    pub(super) salt: String,
    /// The queue of log lines, which counts lost lines, if there is a log.
    pub(super) lines: Option<Lines>,
    /// The queue of spans, which counts them, if traces are exported.
    pub(super) tracer: Option<Tracer>,
    /// The upgrades.
    pub(super) history: Arc<History>,
}

impl Ops {
    /// The service on `socket`.
    pub(super) fn on(self, socket: TcpListener, phase: watch::Receiver<Phase>) -> Plain<Self> {
        Plain::new("ops", (socket, phase), MAX_CONNECTIONS, CONNECTION_TIMEOUT, self)
    }

    fn cache(&self) -> Option<Cache> {
        self.serving.load().handler.cache.clone()
    }

    fn metrics_page(&self) -> Response<Full<Bytes>> {
        if let Some(lines) = &self.lines {
            self.metrics.log_lines_lost(lines.lost());
        }
        self.metrics.upgrades().draining(self.history.draining().len());
        self.readiness.backends().services.iter().for_each(|service| service.record(&self.metrics));
        if let Some(revocation) = &self.readiness.revocation {
            self.metrics.revocation(revocation.age(), revocation.accounts());
        }
        if let Some(cache) = self.cache() {
            let CacheStats { entries, bytes, evictions, compressions } = cache.stats();
            self.metrics.cache(entries, bytes, evictions, compressions);
        }
        let fan_out = self.serving.load().handler.fan_out.stats();
        self.metrics.fan_out().set(&FanOutGauges {
            streams: fan_out.streams,
            listeners: fan_out.listeners,
            bytes: fan_out.bytes,
            events: fan_out.events,
            requests: fan_out.requests,
            slow: fan_out.slow,
        });
        if let Some(tracer) = &self.tracer {
            let Figures { exported, failed, dropped } = tracer.figures();
            self.metrics.spans(exported, failed, dropped);
        }
        match self.metrics.page() {
            Ok(page) => plain::page(StatusCode::OK, prometheus::TEXT_FORMAT, page),
            Err(error) => plain::text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    /// The gateway is ready once every backend and required service has responded and the revocation feed is connected,
    /// until it drains. A later failure is reported but does not make it unready, since cached responses and cached
    /// revocation results are still used. `revocations` is `off`, `waiting` before the first heartbeat, `fresh`, or `stale` after
    /// `revocation.max_age`.
    fn readiness(&self) -> Response<Full<Bytes>> {
        let draining = self.draining.has_begun();
        let ready = !draining && self.readiness.missing().is_none();
        let Backends { upstreams, services } = &*self.readiness.backends();
        let revocations = match &self.readiness.revocation {
            None => "off",
            Some(revocation) if revocation.age().is_none() => "waiting",
            Some(revocation) if revocation.is_fresh() => "fresh",
            Some(_) => "stale",
        };
        let state = |upstream: &Upstream| if upstream.is_up() { "up" } else { "down" };
        let upstreams: serde_json::Map<_, _> =
            upstreams.iter().map(|upstream| (upstream.name.to_owned(), state(upstream).into())).collect();
        let mut page = serde_json::json!({
            "ready": ready, "draining": draining, "revocations": revocations, "upstreams": upstreams,
        });
        // Absent without services, for programs that read the page of a gateway that has none.
        if let Some(page) = page.as_object_mut().filter(|_| !services.is_empty()) {
            let addresses = |service: &Service| -> serde_json::Map<_, _> {
                service.states().map(|(text, state)| (text.to_owned(), state.into())).collect()
            };
            let services: serde_json::Map<_, _> = (services.iter())
                .map(|service| {
                    let addresses = addresses(service);
                    let page = serde_json::json!({"required": service.required, "addresses": addresses});
                    (service.upstream.name.to_owned(), page)
                })
                .collect();
            page.insert("services".to_owned(), services.into());
        }
        let body = format!("{page}\n");
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        plain::page(status, "application/json", body)
    }
}

impl Ops {
    /// The state of upgrades in place, which the command `upgrade` reads.
    fn upgrades_page(&self) -> Response<Full<Bytes>> {
        match serde_json::to_string(&self.history.page()) {
            Ok(page) => plain::page(StatusCode::OK, "application/json", format!("{page}\n")),
            Err(error) => plain::text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }
}

/// The body of a purge request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Purge {
    /// Responses with this path, as requested by clients or as forwarded to the backend.
    Path(String),
    /// Everything, if true.
    All(bool),
}

impl Ops {
    fn purge(&self, cache: &Cache, body: &[u8]) -> Response<Full<Bytes>> {
        match &serde_json::from_slice(body) {
            Ok(Purge::All(true)) => cache.purge_all(),
            Ok(Purge::Path(path)) if let Ok(canonical) = CanonicalPath::parse_preserving(path) => {
                // As the backend's path, and as what each route makes of it.
                cache.purge(path);
                self.serving.load().handler.routes.purge_keys(canonical).for_each(|key| cache.purge(&key));
            }
            Ok(_) | Err(_) => {
                let usage = r#"must be {"path":"/a/canonical/path"} or {"all":true}"#;
                return plain::text(StatusCode::BAD_REQUEST, usage);
            }
        }
        self.metrics.cache_purge(PURGED_BY_OPS);
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    }
}

impl plain::PlainHandler for Ops {
    fn admit(&self, request: &Parts) -> Option<Result<(), StatusCode>> {
        (request.uri.path() == PURGE && self.cache().is_some()).then(|| defend(request, &self.allowed_hosts.load()))
    }

    fn post(&self, _: &Parts, body: &Bytes) -> Response<Full<Bytes>> {
        match self.cache() {
            Some(cache) => self.purge(&cache, body),
            None => plain::text(StatusCode::NOT_FOUND, "not found"),
        }
    }

    fn answer(&self, request: &Parts) -> Response<Full<Bytes>> {
        match request.uri.path() {
            "/metrics" => self.metrics_page(),
            "/healthz" => plain::text(StatusCode::OK, "ok"),
            "/readyz" => self.readiness(),
            CONFIG => {
                let digests = self.entries.load().digests(&self.salt);
                let page = serde_json::json!({"salt": self.salt, "digests": digests});
                plain::page(StatusCode::OK, "application/json", format!("{page}\n"))
            }
            holodule_handover::PAGE => self.upgrades_page(),
            _ => plain::text(StatusCode::NOT_FOUND, "not found"),
        }
    }
}
