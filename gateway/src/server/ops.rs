//! The ops listener: `/metrics`, `/healthz` and `/readyz`, for those who run the gateway.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tracing_appender::non_blocking::ErrorCounter;

use super::plain::{self, Plain};
use crate::record::Metrics;
use crate::revocation::Revocation;
use crate::upstream::Upstream;

/// Connections at once: a scraper, a prober, a person.
const MAX_CONNECTIONS: usize = 64;

/// For a whole connection: longer than any scrape interval in use, so that a scraper keeps its own.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);

/// What the pages tell of.
pub(super) struct Ops {
    pub(super) metrics: Arc<Metrics>,
    pub(super) upstreams: Vec<Arc<Upstream>>,
    /// What is known of revocations, where they are followed.
    pub(super) revocation: Option<Revocation>,
    /// Counts the log lines that were lost, where there is a log.
    pub(super) lost: Option<ErrorCounter>,
}

impl Ops {
    /// The service that tells of it on `socket`.
    pub(super) fn on(self, socket: TcpListener) -> Plain<Self> {
        Plain::new("ops", socket, MAX_CONNECTIONS, CONNECTION_TIMEOUT, self)
    }

    fn metrics_page(&self) -> Response<Full<Bytes>> {
        if let Some(lost) = &self.lost {
            self.metrics.log_lines_lost(lost.dropped_lines() as u64);
        }
        if let Some(revocation) = &self.revocation {
            self.metrics.revocation(revocation.age(), revocation.remembered());
        }
        match self.metrics.page() {
            Ok(page) => plain::page(StatusCode::OK, prometheus::TEXT_FORMAT, page),
            Err(error) => plain::text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    /// Ready once every backend has answered and revocations have been heard of. A later loss is
    /// told, but is no reason to take the gateway out of service.
    fn readiness(&self) -> Response<Full<Bytes>> {
        let heard = self.revocation.as_ref().is_none_or(|revocation| revocation.age().is_some());
        let ready = heard && self.upstreams.iter().all(|upstream| upstream.was_reached());
        let state = |upstream: &Upstream| if upstream.is_up() { "up" } else { "down" };
        let upstreams: serde_json::Map<_, _> =
            self.upstreams.iter().map(|upstream| (upstream.name.to_owned(), state(upstream).into())).collect();
        let body = format!("{}\n", serde_json::json!({"ready": ready, "upstreams": upstreams}));
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        plain::page(status, "application/json", body)
    }
}

impl plain::Answer for Ops {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        match request.uri().path() {
            "/metrics" => self.metrics_page(),
            "/healthz" => plain::text(StatusCode::OK, "ok"),
            "/readyz" => self.readiness(),
            _ => plain::text(StatusCode::NOT_FOUND, "not found"),
        }
    }
}
