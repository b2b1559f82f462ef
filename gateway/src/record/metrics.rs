//! The metrics, declared as one struct. Label values come from fixed sets and from the
//! configuration, never from a request, so that no stranger can make a series.

use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use prometheus::{
    Encoder as _, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::labels::Labels;
use super::requests::{Requests, Vectors};
use super::striped::Held;

/// Every metric of the gateway.
pub struct Metrics {
    registry: Registry,
    requests: Requests,
    in_flight: IntGauge,
    cache_bytes: IntGaugeVec,
    cache_entries: IntGaugeVec,
    cache_evictions: IntCounter,
    cache_purges: IntCounterVec,
    logins: IntCounterVec,
    token_refusals: IntCounterVec,
    rate_limited: IntCounterVec,
    handshakes: IntCounterVec,
    handshake_failures: IntCounterVec,
    connections: IntGauge,
    connections_refused: IntCounterVec,
    connections_reaped: IntCounterVec,
    streams_refused: IntCounter,
    certificate_expiry: IntGaugeVec,
    upstream_up: IntGaugeVec,
    reload_successful: IntGauge,
    reload_success_time: IntGauge,
    clock_skew: IntGaugeVec,
    revocation_age: GaugeVec,
    revocation_remembered: IntGaugeVec,
    panics: IntCounter,
    log_lines_lost: IntCounter,
}

impl Metrics {
    /// All metrics at zero, with the series of these labels already there, so that a rate over the
    /// first event is no gap.
    ///
    /// # Errors
    /// Two metrics of one name: a mistake in this file.
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
        let ages = Opts::new(
            "gateway_revocation_feed_age_seconds",
            "Seconds since revocations were last heard of; +Inf before.",
        );
        let ages = GaugeVec::new(ages, &[])?;
        registry.register(Box::new(ages.clone()))?;
        gauges("gateway_build_info", "The version that runs; always 1.", &["version"])?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        let vectors = Vectors {
            requests: counters("gateway_requests_total", "Requests answered.", &["route", "method", "status_class"])?,
            cache: counters(
                "gateway_cache_requests_total",
                "Requests on routes whose answers are kept, by what the cache did.",
                &["route", "result"],
            )?,
        };
        let requests = Requests::new(vectors, labels);
        let durations = requests.durations([
            ("gateway_request_duration_seconds", "Seconds from the request's head to the end of its answer."),
            ("gateway_upstream_duration_seconds", "Seconds from asking the backend to the end of its answer."),
        ])?;
        for durations in durations {
            registry.register(Box::new(durations))?;
        }
        let metrics = Self {
            requests,
            in_flight: gauge("gateway_requests_in_flight", "Requests being answered.")?,
            // Without labels, and yet vectors: where nothing is kept there is no series.
            cache_bytes: gauges("gateway_cache_bytes", "What kept answers take, in bytes.", &[])?,
            cache_entries: gauges("gateway_cache_entries", "Kept answers.", &[])?,
            cache_evictions: counter("gateway_cache_evictions_total", "Kept answers that had to go for want of room.")?,
            cache_purges: counters("gateway_cache_purges_total", "Purges, by who asked for them.", &["by"])?,
            logins: counters("gateway_logins_total", "Logins by what became of them.", &["result"])?,
            token_refusals: counters(
                "gateway_token_refusals_total",
                "Requests refused for their token, by reason.",
                &["reason"],
            )?,
            rate_limited: counters(
                "gateway_rate_limited_total",
                "Requests refused for there being too many, by limit.",
                &["limit"],
            )?,
            handshakes: counters(
                "gateway_tls_handshakes_total",
                "TLS handshakes that ended well, by version.",
                &["version"],
            )?,
            handshake_failures: counters(
                "gateway_tls_handshake_failures_total",
                "TLS handshakes that failed, by reason.",
                &["reason"],
            )?,
            connections: gauge("gateway_connections", "Open client connections.")?,
            connections_refused: counters(
                "gateway_connections_refused_total",
                "Connections that were not taken, by reason.",
                &["reason"],
            )?,
            connections_reaped: counters(
                "gateway_connections_reaped_total",
                "Connections closed for want of a request.",
                &["reason"],
            )?,
            streams_refused: counter(
                "gateway_http2_streams_refused_total",
                "Requests of HTTP/2 connections that had too many at once.",
            )?,
            certificate_expiry: gauges(
                "gateway_certificate_expiry_timestamp_seconds",
                "When each certificate stops being valid, by its place in the configuration and its first name.",
                &["certificate", "name"],
            )?,
            upstream_up: gauges("gateway_upstream_up", "Whether the backend answered when last asked.", &["upstream"])?,
            reload_successful: gauge(
                "gateway_config_last_reload_successful",
                "Whether the configuration could be used when it was last read.",
            )?,
            reload_success_time: gauge(
                "gateway_config_last_reload_success_timestamp_seconds",
                "When the configuration in force was read.",
            )?,
            clock_skew: gauges(
                "gateway_backend_clock_skew_seconds",
                "By how much the clock of the backend's admin listener is ahead of the gateway's, when last asked.",
                &[],
            )?,
            // Without labels, and yet vectors: where revocations are off there is no series.
            revocation_age: ages,
            revocation_remembered: gauges(
                "gateway_revocation_identities",
                "Identities whose standing is remembered.",
                &[],
            )?,
            panics: counter("gateway_panics_total", "Requests that ended in a panic: each is a fault of the gateway.")?,
            log_lines_lost: counter("gateway_log_lines_lost_total", "Log lines lost because their reader stalled.")?,
            registry,
        };
        metrics.touch(labels);
        Ok(metrics)
    }

    /// Makes the series of these labels.
    fn touch(&self, fixed: &Labels<'_>) {
        for by in fixed.cache_purges {
            self.cache_purges.with_label_values(&[*by]);
        }
        for result in fixed.logins {
            self.logins.with_label_values(&[*result]);
        }
        for reason in fixed.token_refusals {
            self.token_refusals.with_label_values(&[*reason]);
        }
        for limit in fixed.rate_limited {
            self.rate_limited.with_label_values(&[*limit]);
        }
        for version in fixed.handshakes {
            self.handshakes.with_label_values(&[*version]);
        }
        for reason in fixed.handshake_failures {
            self.handshake_failures.with_label_values(&[*reason]);
        }
        for reason in fixed.connections_refused {
            self.connections_refused.with_label_values(&[*reason]);
        }
        for reason in fixed.connections_reaped {
            self.connections_reaped.with_label_values(&[*reason]);
        }
    }

    /// The page that Prometheus reads, in its text format.
    ///
    /// # Errors
    /// A metric that cannot be encoded.
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

    /// Counts a request that was answered, or whose client left.
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

    /// Counts what the cache did for a request.
    pub fn cache_request(&self, route: &str, result: &'static str) {
        self.requests.count_cache(route, result);
    }

    /// Counts a purge.
    pub fn cache_purge(&self, by: &'static str) {
        self.cache_purges.with_label_values(&[by]).inc();
    }

    /// Tells what is kept: keys, bytes, and how many had to go since the start.
    pub fn cache(&self, entries: usize, bytes: u64, evictions: u64) {
        const NO_LABELS: [&str; 0] = [];
        self.cache_entries.with_label_values(&NO_LABELS).set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.cache_bytes.with_label_values(&NO_LABELS).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.cache_evictions.inc_by(evictions.saturating_sub(self.cache_evictions.get()));
    }

    /// Counts a login by what became of it.
    pub fn login(&self, result: &'static str) {
        self.logins.with_label_values(&[result]).inc();
    }

    /// Counts a request that was refused for its token.
    pub fn token_refusal(&self, reason: &'static str) {
        self.token_refusals.with_label_values(&[reason]).inc();
    }

    /// Counts a request that was refused for there being too many.
    pub fn rate_limited(&self, limit: &'static str) {
        self.rate_limited.with_label_values(&[limit]).inc();
    }

    /// The open connections; whoever opens one closes it.
    pub fn connections(&self) -> &IntGauge {
        &self.connections
    }

    /// Counts a connection that was not taken.
    pub fn connection_refused(&self, reason: &'static str) {
        self.connections_refused.with_label_values(&[reason]).inc();
    }

    /// Counts a connection that was closed for want of a request.
    pub fn connection_reaped(&self, reason: &'static str) {
        self.connections_reaped.with_label_values(&[reason]).inc();
    }

    /// Counts a request of HTTP/2 that was refused, since its connection had too many at once.
    pub fn stream_refused(&self) {
        self.streams_refused.inc();
    }

    /// Counts a request that ended in a panic.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// Counts a handshake that ended well.
    pub fn handshake(&self, version: &'static str) {
        self.handshakes.with_label_values(&[version]).inc();
    }

    /// Counts a handshake that failed.
    pub fn handshake_failure(&self, reason: &'static str) {
        self.handshake_failures.with_label_values(&[reason]).inc();
    }

    /// Tells when each certificate ends, in seconds since 1970: the first names, in the order of
    /// the configuration. Those that were told before are forgotten.
    pub fn certificate_expiries<'a>(&self, expiries: impl IntoIterator<Item = (&'a str, i64)>) {
        self.certificate_expiry.reset();
        for (place, (name, not_after)) in expiries.into_iter().enumerate() {
            self.certificate_expiry.with_label_values(&[place.to_string().as_str(), name]).set(not_after);
        }
    }

    /// Tells whether a backend answered.
    pub fn upstream_up(&self, upstream: &str, up: bool) {
        self.upstream_up.with_label_values(&[upstream]).set(i64::from(up));
    }

    /// Sets by how many seconds the backend's clock is ahead.
    pub fn clock_skew(&self, seconds: i64) {
        const NO_LABELS: [&str; 0] = [];
        self.clock_skew.with_label_values(&NO_LABELS).set(seconds);
    }

    /// Tells whether the configuration that was read at `now` is in force.
    pub fn reloaded(&self, successful: bool, now: SystemTime) {
        self.reload_successful.set(i64::from(successful));
        if successful {
            let elapsed = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.reload_success_time.set(i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX));
        }
    }

    /// Tells how long ago revocations were heard of (infinitely long where they never were), and
    /// how many identities are remembered.
    pub fn revocation(&self, age: Option<Duration>, remembered: usize) {
        const NO_LABELS: [&str; 0] = [];
        let age = age.map_or(f64::INFINITY, |age| age.as_secs_f64());
        self.revocation_age.with_label_values(&NO_LABELS).set(age);
        let remembered = i64::try_from(remembered).unwrap_or(i64::MAX);
        self.revocation_remembered.with_label_values(&NO_LABELS).set(remembered);
    }

    /// Tells how many log lines were lost since the start.
    pub fn log_lines_lost(&self, total: u64) {
        self.log_lines_lost.inc_by(total.saturating_sub(self.log_lines_lost.get()));
    }
}

/// A request being answered; dropping it ends the count, however the request ended.
pub struct InFlight {
    _held: Held,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(metrics: &Metrics) -> String {
        String::from_utf8(metrics.page().unwrap()).unwrap()
    }

    #[test]
    fn in_flight_ends_with_its_guard() {
        let metrics = Metrics::new(&Labels::default()).unwrap();
        let guard = metrics.in_flight();
        assert!(page(&metrics).contains("gateway_requests_in_flight 1\n"));
        drop(guard);
        assert!(page(&metrics).contains("gateway_requests_in_flight 0\n"));
    }

    #[test]
    fn the_page_tells_of_requests_in_the_format_of_prometheus() {
        let metrics = Metrics::new(&Labels { routes: vec!["holodules"], ..Labels::default() }).unwrap();
        let (total, upstream) = (Duration::from_micros(1534), Some(Duration::from_micros(250)));
        metrics.request("holodules", &Method::GET, Some(StatusCode::OK), total, upstream);
        let page = page(&metrics);
        for line in [
            r#"gateway_requests_total{method="GET",route="holodules",status_class="2xx"} 1"#,
            "# TYPE gateway_request_duration_seconds histogram",
            r#"gateway_request_duration_seconds_bucket{route="holodules",le="0.001"} 0"#,
            r#"gateway_request_duration_seconds_bucket{route="holodules",le="0.0025"} 1"#,
            r#"gateway_request_duration_seconds_bucket{route="holodules",le="+Inf"} 1"#,
            r#"gateway_request_duration_seconds_sum{route="holodules"} 0.001534"#,
            r#"gateway_upstream_duration_seconds_bucket{route="holodules",le="0.00025"} 1"#,
            r#"gateway_upstream_duration_seconds_count{route="holodules"} 1"#,
        ] {
            assert!(page.lines().any(|told| told == line), "{line} is not in {page}");
        }
    }
}
