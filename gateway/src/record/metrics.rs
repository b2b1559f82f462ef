//! The metrics, declared as one struct. Label values come from fixed sets and from the configuration, never
//! from a request, so that clients cannot create series.

mod series;

use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use prometheus::{Encoder as _, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use super::acme::AcmeMetrics;
use super::caches::Caches;
use super::certificates::Certificates;
use super::fan_out::FanOutMetrics;
use super::labels::Labels;
use super::requests::{Requests, Vectors};
use super::revocations::Revocations;
use super::routes::Routes;
use super::services::{ServiceAddress, Services};
use super::spans::Spans;
use super::striped::Held;
use super::tunnels::{OpenTunnel, Tunnels};
use super::upgrades::Upgrades;

/// Every metric of the gateway.
pub struct Metrics {
    registry: Registry,
    requests: Requests,
    in_flight: IntGauge,
    caches: Caches,
    logins: IntCounterVec,
    token_refusals: IntCounterVec,
    scope_refusals: IntCounterVec,
    tunnels: Tunnels,
    fan_out: FanOutMetrics,
    acme: AcmeMetrics,
    rate_limited: IntCounterVec,
    handshakes: IntCounterVec,
    handshake_failures: IntCounterVec,
    connections: IntGauge,
    connections_refused: IntCounterVec,
    connections_reaped: IntCounterVec,
    streams_refused: IntCounter,
    certificates: Certificates,
    routes: Routes,
    upstream_up: IntGaugeVec,
    services: Services,
    spans: Spans,
    reload_successful: IntGauge,
    reload_success_time: IntGauge,
    clock_skew: IntGaugeVec,
    revocations: Revocations,
    panics: IntCounter,
    log_lines_lost: IntCounter,
    upgrades: Upgrades,
}

impl Metrics {
    /// Creates all metrics at 0, with a series for each of `labels`, so that `rate()` includes the first
    /// event.
    ///
    /// # Errors
    /// Two metrics have the same name: a bug in this file.
    pub fn new(labels: &Labels<'_>) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        gauges("gateway_build_info", "The running version; always 1.", &["version"])?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        let vectors = Vectors {
            requests: counters("gateway_requests_total", "Requests answered.", &["route", "method", "status_class"])?,
            cache: counters(
                "gateway_cache_requests_total",
                "Requests on cached routes, by cache result.",
                &["route", "result"],
            )?,
            failures: counters(
                "gateway_request_failures_total",
                "Requests that the gateway or a service behind it failed, by route.",
                &["route"],
            )?,
        };
        let requests = Requests::new(vectors, labels);
        let durations = requests.durations([
            ("gateway_request_duration_seconds", "Seconds from the request head to the end of the response."),
            (
                "gateway_upstream_duration_seconds",
                "Seconds from the request to the backend to the end of its response.",
            ),
        ])?;
        for durations in durations {
            registry.register(Box::new(durations))?;
        }
        let metrics = Self {
            requests,
            in_flight: gauge("gateway_requests_in_flight", "Requests in flight.")?,
            caches: Caches::new(&registry, labels)?,
            logins: counters("gateway_logins_total", "Logins, by result.", &["result"])?,
            token_refusals: counters(
                "gateway_token_refusals_total",
                "Requests refused because of their token, by reason.",
                &["reason"],
            )?,
            scope_refusals: counters(
                "gateway_scope_refusals_total",
                "Requests refused because their token lacks the roles that the route requires, by route.",
                &["route"],
            )?,
            tunnels: Tunnels::new(&registry, labels)?,
            fan_out: FanOutMetrics::new(&registry)?,
            acme: AcmeMetrics::new(&registry, labels)?,
            rate_limited: counters(
                "gateway_rate_limited_total",
                "Requests refused by a rate limit, by limit.",
                &["limit"],
            )?,
            handshakes: counters(
                "gateway_tls_handshakes_total",
                "Completed TLS handshakes, by version.",
                &["version"],
            )?,
            handshake_failures: counters(
                "gateway_tls_handshake_failures_total",
                "Failed TLS handshakes, by reason.",
                &["reason"],
            )?,
            connections: gauge("gateway_connections", "Open client connections.")?,
            connections_refused: counters(
                "gateway_connections_refused_total",
                "Refused client connections, by reason.",
                &["reason"],
            )?,
            connections_reaped: counters(
                "gateway_connections_reaped_total",
                "Client connections closed because of a deadline or a flood, by reason.",
                &["reason"],
            )?,
            streams_refused: counter(
                "gateway_http2_streams_refused_total",
                "HTTP/2 requests refused because of too many concurrent streams.",
            )?,
            certificates: Certificates::new(&registry)?,
            routes: Routes::new(&registry)?,
            upstream_up: gauges(
                "gateway_upstream_up",
                "Whether the backend responded to the last request.",
                &["upstream"],
            )?,
            services: Services::new(&registry)?,
            spans: Spans::new(&registry)?,
            reload_successful: gauge(
                "gateway_config_last_reload_successful",
                "Whether the last reload of the configuration succeeded.",
            )?,
            reload_success_time: gauge(
                "gateway_config_last_reload_success_timestamp_seconds",
                "When the current configuration was loaded.",
            )?,
            clock_skew: gauges(
                "gateway_backend_clock_skew_seconds",
                "Seconds by which the clock of the backend's admin listener was last seen ahead of the gateway's.",
                &[],
            )?,
            revocations: Revocations::new(&registry)?,
            panics: counter("gateway_panics_total", "Requests that ended in a panic: each is a bug in the gateway.")?,
            log_lines_lost: counter(
                "gateway_log_lines_lost_total",
                "Log lines lost because the reader of the log stalled.",
            )?,
            upgrades: Upgrades::new(&registry)?,
            registry,
        };
        metrics.touch(labels);
        Ok(metrics)
    }

    /// Encodes the metrics in the Prometheus text format.
    ///
    /// # Errors
    /// A metric cannot be encoded.
    pub fn page(&self) -> prometheus::Result<Vec<u8>> {
        self.requests.publish();
        self.in_flight.set(self.requests.count_in_flight());
        let mut page = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut page)?;
        Ok(page)
    }

    /// Counts a request until the guard is dropped.
    pub fn in_flight(&self) -> InFlight {
        InFlight { _held: self.requests.in_flight() }
    }

    /// Counts a request that was answered or whose client left.
    pub fn request(
        &self,
        route: &str,
        method: &Method,
        status: Option<StatusCode>,
        total: Duration,
        upstream: Option<Duration>,
    ) {
        self.requests.count(route, method, status, total, upstream);
    }

    /// Counts a request that the gateway or a service behind it failed, in addition to [`Metrics::request`].
    pub fn request_failure(&self, route: &str) {
        self.requests.count_failure(route);
    }

    /// Counts a cache result.
    pub fn cache_request(&self, route: &str, result: &'static str) {
        self.requests.count_cache(route, result);
    }

    /// Counts a purge.
    pub fn cache_purge(&self, by: &'static str) {
        self.caches.purged(by);
    }

    /// Sets the size of the cache, in entries and bytes, and the evictions and compressions since the start.
    pub fn cache(&self, entries: usize, bytes: u64, evictions: u64, compressions: u64) {
        self.caches.set(entries, bytes, evictions, compressions);
    }

    /// Counts a login.
    pub fn login(&self, result: &'static str) {
        self.logins.with_label_values(&[result]).inc();
    }

    /// Counts a request refused because of its token.
    pub fn token_refusal(&self, reason: &'static str) {
        self.token_refusals.with_label_values(&[reason]).inc();
    }

    /// Counts a request refused because of its scopes.
    pub fn scope_refusal(&self, route: &str) {
        self.scope_refusals.with_label_values(&[route]).inc();
    }

    /// The metrics of shared event streams.
    pub fn fan_out(&self) -> &FanOutMetrics {
        &self.fan_out
    }

    /// Counts a tunnel until the guard is dropped.
    pub fn tunnel(&self, route: &str) -> OpenTunnel {
        self.tunnels.open(route)
    }

    /// The metrics of certificates by ACME.
    pub fn acme(&self) -> &AcmeMetrics {
        &self.acme
    }

    /// Counts a request refused by a rate limit.
    pub fn rate_limited(&self, limit: &'static str) {
        self.rate_limited.with_label_values(&[limit]).inc();
    }

    /// The number of open connections, which the caller increments and decrements.
    pub fn connections(&self) -> &IntGauge {
        &self.connections
    }

    /// Counts a refused connection.
    pub fn connection_refused(&self, reason: &'static str) {
        self.connections_refused.with_label_values(&[reason]).inc();
    }

    /// Counts a connection closed at a deadline.
    pub fn connection_reaped(&self, reason: &'static str) {
        self.connections_reaped.with_label_values(&[reason]).inc();
    }

    /// Counts an HTTP/2 request refused because its connection had too many concurrent streams.
    pub fn stream_refused(&self) {
        self.streams_refused.inc();
    }

    /// Counts a request that ended in a panic.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// Counts a completed TLS handshake.
    pub fn handshake(&self, version: &'static str) {
        self.handshakes.with_label_values(&[version]).inc();
    }

    /// Counts a failed TLS handshake.
    pub fn handshake_failure(&self, reason: &'static str) {
        self.handshake_failures.with_label_values(&[reason]).inc();
    }

    /// The metrics of the certificates.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The metric that describes the routes.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Sets whether a backend responded.
    pub fn upstream_up(&self, upstream: &str, up: bool) {
        self.upstream_up.with_label_values(&[upstream]).set(i64::from(up));
    }

    /// Sets the metrics of an address of a service.
    pub fn service_address(&self, state: &ServiceAddress<'_>) {
        self.services.set(state);
    }

    /// Sets the number of seconds by which the backend's clock is ahead.
    pub fn clock_skew(&self, seconds: i64) {
        const NO_LABELS: [&str; 0] = [];
        self.clock_skew.with_label_values(&NO_LABELS).set(seconds);
    }

    /// Records a reload of the configuration at `now`.
    pub fn reloaded(&self, successful: bool, now: SystemTime) {
        self.reload_successful.set(i64::from(successful));
        if successful {
            let elapsed = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.reload_success_time.set(i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX));
        }
    }

    /// Sets the time since the last revocation update, `None` before the first, and the number of cached
    /// identities.
    pub fn revocation(&self, age: Option<Duration>, remembered: usize) {
        self.revocations.set(age, remembered);
    }

    /// The metrics of upgrades in place.
    pub fn upgrades(&self) -> &Upgrades {
        &self.upgrades
    }

    /// Sets the numbers of spans of traces since the start, by what became of them.
    pub fn spans(&self, exported: u64, failed: u64, dropped: u64) {
        self.spans.set(exported, failed, dropped);
    }

    /// Sets the number of log lines lost since the start.
    pub fn log_lines_lost(&self, total: u64) {
        self.log_lines_lost.inc_by(total.saturating_sub(self.log_lines_lost.get()));
    }
}

/// Guard of a request in flight.
pub struct InFlight {
    _held: Held,
}

#[cfg(test)]
mod tests;
