//! The metrics, in one struct with its own registry: two services in one process are counted separately.
//!
//! All label values are from fixed sets, so that clients cannot create series.

use std::sync::Arc;
use std::time::Duration;

use holodule_telemetry::Figures;
use prometheus::{
    Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use super::label::{Listener, Upgrade, Verification, method_label, status_class};
use super::registrar::{Registrar, count_to, saturated};
use super::search_cache::{SearchCache, SearchCacheMetrics};
use super::upgrades::Upgrades;

/// Values that are read at each scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// Password hashes being computed.
    pub hashing_running: usize,
    /// Password hashes waiting in the queue.
    pub hashing_waiting: usize,
    /// Values of `video_id` in more than one document.
    pub duplicate_video_ids: u64,
    /// Stored holodules that are not listed under any day.
    pub undated_holodules: u64,
    /// MongoDB indexes that were missing and have been created again.
    pub restored_indexes: u64,
    /// Identities that are watched for the feed.
    pub watched_identities: usize,
    /// Subscribers of the feed.
    pub subscribers: usize,
    /// Identity events published since the start.
    pub identity_events: u64,
    /// Resets published.
    pub reset_events: u64,
    /// Days published.
    pub purge_events: u64,
    /// Purges of all days published.
    pub purge_all_events: u64,
    /// Beats published.
    pub beat_events: u64,
    /// Subscribers disconnected since the start because they did not read.
    pub cut_off_subscribers: u64,
    /// Time since the start of the last successful poll; `None` before the first.
    pub poll_age: Option<Duration>,
    /// Distinct queries of streams.
    pub stream_queries: usize,
    /// Subscribers of streams.
    pub stream_subscribers: usize,
    /// The texts of searched days in memory.
    pub search_cache: SearchCache,
    /// Log lines lost since the start because their reader was too slow.
    pub log_lines_dropped: usize,
    /// The spans of traces since the start; `None` if traces are not exported.
    pub spans: Option<Figures>,
}

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    probes: IntCounterVec,
    durations: HistogramVec,
    in_flight: IntGaugeVec,
    connections: IntGaugeVec,
    verifications: IntCounterVec,
    upgrades: IntCounterVec,
    verification_durations: Histogram,
    hashing_running: IntGauge,
    hashing_waiting: IntGauge,
    unreadable: IntCounter,
    duplicates: IntGauge,
    undated: IntGauge,
    restored_indexes: IntCounter,
    store_errors: IntCounterVec,
    rows: IntCounterVec,
    panics: IntCounter,
    watched_identities: IntGauge,
    subscribers: IntGauge,
    feed_events: IntCounterVec,
    cut_off_subscribers: IntCounter,
    poll_age: Gauge,
    stream_queries: IntGauge,
    stream_subscribers: IntGauge,
    search_cache: SearchCacheMetrics,
    log_lines_lost: IntCounter,
    in_place: Upgrades,
    spans: IntCounterVec,
}

impl Metrics {
    /// Creates the metrics, with all fixed series at zero.
    ///
    /// # Errors
    /// A duplicate or invalid metric name, which is a bug in this file.
    pub fn new() -> Result<Arc<Self>, prometheus::Error> {
        let registry = Registry::new();
        let add = Registrar(&registry);
        let build =
            add.gauges("backend_build_info", "Constant 1, labelled with the version of the program.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            requests: add.counters(
                "backend_requests_total",
                "Requests, by listener, matched route, method and status class.",
                &["listener", "route", "method", "status_class"],
            )?,
            probes: add.counters(
                "backend_probes_total",
                "Successful requests for /healthz, which other request metrics exclude, by listener.",
                &["listener"],
            )?,
            durations: add.histograms(
                "backend_request_duration_seconds",
                "Time from the request header to the last byte of the response, in seconds.",
                &["listener", "route"],
            )?,
            in_flight: add.gauges("backend_requests_in_flight", "Requests in flight.", &["listener"])?,
            connections: add.gauges("backend_connections", "Open client connections.", &["listener"])?,
            verifications: add.counters(
                "backend_verifications_total",
                "Verifications of credentials, by result.",
                &["result"],
            )?,
            upgrades: add.counters(
                "backend_password_upgrades_total",
                "Upgrades of stored passwords to argon2id on login, by result.",
                &["result"],
            )?,
            verification_durations: add.histogram(
                "backend_verification_duration_seconds",
                "Duration of verifications of credentials including the time in the queue, in seconds.",
            )?,
            hashing_running: add.gauge("backend_password_hashing_running", "Password hashes being computed.")?,
            hashing_waiting: add.gauge("backend_password_hashing_waiting", "Password hashes waiting in the queue.")?,
            unreadable: add.counter(
                "backend_unreadable_documents_total",
                "Stored holodules that could not be read and were left out of a response.",
            )?,
            duplicates: add.gauge(
                "backend_duplicate_video_ids",
                "Values of video_id in more than one stored document; above zero, the unique index is missing.",
            )?,
            undated: add.gauge(
                "backend_undated_holodules",
                "Stored holodules not listed under any day because their datetime is not of the form yyyymmdd hhmmss.",
            )?,
            restored_indexes: add.counter(
                "backend_restored_indexes_total",
                "MongoDB indexes that were missing after the start and have been created again.",
            )?,
            store_errors: add.counters(
                "backend_store_errors_total",
                "Failed operations of the store, by kind.",
                &["kind"],
            )?,
            rows: add.counters("backend_uploaded_rows_total", "Uploaded rows, by result.", &["result"])?,
            panics: add
                .counter("backend_panics_total", "Requests that failed with 500 because their handler panicked.")?,
            watched_identities: add.gauge(
                "backend_revocation_watched_identities",
                "Identities whose changes are published on the feed, because a gateway has checked them.",
            )?,
            subscribers: add.gauge("backend_revocation_subscribers", "Subscribers of the feed.")?,
            feed_events: add.counters(
                "backend_revocation_events_total",
                "Events published on the feed, by kind.",
                &["kind"],
            )?,
            cut_off_subscribers: add.counter(
                "backend_revocation_cut_off_subscribers_total",
                "Subscribers of the feed disconnected because they did not read.",
            )?,
            poll_age: add.float_gauge(
                "backend_revocation_last_look_age_seconds",
                "Seconds since the start of the last successful poll of the store for changes; NaN before the first.",
            )?,
            stream_queries: add.gauge(
                "backend_stream_queries",
                "Distinct queries of event streams, each followed once for all its subscribers.",
            )?,
            stream_subscribers: add.gauge("backend_stream_subscribers", "Subscribers of event streams.")?,
            search_cache: SearchCacheMetrics::new(&add)?,
            log_lines_lost: add
                .counter("backend_log_lines_lost_total", "Log lines lost because their reader stalled.")?,
            in_place: Upgrades::new(&add)?,
            // Without series unless traces are exported.
            spans: add.counters(
                "backend_telemetry_spans_total",
                "Spans of traces, by what became of them.",
                &["result"],
            )?,
            registry: registry.clone(),
        };
        for listener in [Listener::Api, Listener::Admin] {
            metrics.in_flight.with_label_values(&[listener.as_str()]).set(0);
            metrics.connections.with_label_values(&[listener.as_str()]).set(0);
        }
        for result in Verification::ALL {
            metrics.verifications.with_label_values(&[result.as_str()]).inc_by(0);
        }
        for result in Upgrade::ALL {
            metrics.upgrades.with_label_values(&[result.as_str()]).inc_by(0);
        }
        for kind in ["unavailable", "failed"] {
            metrics.store_errors.with_label_values(&[kind]).inc_by(0);
        }
        for result in ["inserted", "updated", "unchanged", "rejected"] {
            metrics.rows.with_label_values(&[result]).inc_by(0);
        }
        Ok(Arc::new(metrics))
    }

    /// The metrics of upgrades in place.
    pub fn in_place(&self) -> &Upgrades {
        &self.in_place
    }

    /// Counts a liveness probe.
    pub fn count_probe(&self, listener: Listener) {
        self.probes.with_label_values(&[listener.as_str()]).inc();
    }

    /// Counts a request. `route` is the matched route's template, never the raw path.
    pub fn count_request(
        &self,
        listener: Listener,
        route: &'static str,
        method: &http::Method,
        status: u16,
        took: Duration,
    ) {
        let labels = [listener.as_str(), route, method_label(method), status_class(status)];
        self.requests.with_label_values(&labels).inc();
        self.durations.with_label_values(&[listener.as_str(), route]).observe(took.as_secs_f64());
    }

    /// Counts a request as in flight until the guard is dropped.
    pub fn request_in_flight(&self, listener: Listener) -> InFlight {
        InFlight::count(self.in_flight.with_label_values(&[listener.as_str()]))
    }

    /// Counts a connection as open until the guard is dropped.
    pub fn connection_open(&self, listener: Listener) -> InFlight {
        InFlight::count(self.connections.with_label_values(&[listener.as_str()]))
    }

    /// Counts a verification of credentials.
    pub fn verified(&self, result: Verification, took: Duration) {
        self.verifications.with_label_values(&[result.as_str()]).inc();
        self.verification_durations.observe(took.as_secs_f64());
    }

    /// Counts an upgrade of a stored password.
    pub fn upgraded(&self, result: Upgrade) {
        self.upgrades.with_label_values(&[result.as_str()]).inc();
    }

    /// Counts documents that were left out of a response.
    pub fn unreadable(&self, documents: usize) {
        self.unreadable.inc_by(documents as u64);
    }

    /// Counts a failed operation of the store.
    pub fn store_failed(&self, unavailable: bool) {
        self.store_errors.with_label_values(&[if unavailable { "unavailable" } else { "failed" }]).inc();
    }

    /// Counts uploaded rows by result.
    pub fn rows(&self, inserted: u64, updated: u64, unchanged: u64, rejected: u64) {
        for (result, rows) in
            [("inserted", inserted), ("updated", updated), ("unchanged", unchanged), ("rejected", rejected)]
        {
            self.rows.with_label_values(&[result]).inc_by(rows);
        }
    }

    /// Counts a handler that panicked.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// Renders the metrics in the Prometheus text format, version 0.0.4.
    ///
    /// # Errors
    /// If a metric cannot be encoded.
    pub fn render(&self, gauges: Gauges) -> Result<String, prometheus::Error> {
        self.hashing_running.set(saturated(gauges.hashing_running as u64));
        self.hashing_waiting.set(saturated(gauges.hashing_waiting as u64));
        self.duplicates.set(saturated(gauges.duplicate_video_ids));
        self.undated.set(saturated(gauges.undated_holodules));
        count_to(&self.restored_indexes, gauges.restored_indexes);
        self.watched_identities.set(saturated(gauges.watched_identities as u64));
        self.subscribers.set(saturated(gauges.subscribers as u64));
        let events = [
            ("identity", gauges.identity_events),
            ("reset", gauges.reset_events),
            ("purge", gauges.purge_events),
            ("purge_all", gauges.purge_all_events),
            ("beat", gauges.beat_events),
        ];
        for (kind, total) in events {
            count_to(&self.feed_events.with_label_values(&[kind]), total);
        }
        count_to(&self.cut_off_subscribers, gauges.cut_off_subscribers);
        self.poll_age.set(gauges.poll_age.map_or(f64::NAN, |age| age.as_secs_f64()));
        self.stream_queries.set(saturated(gauges.stream_queries as u64));
        self.stream_subscribers.set(saturated(gauges.stream_subscribers as u64));
        self.search_cache.set(gauges.search_cache);
        count_to(&self.log_lines_lost, gauges.log_lines_dropped as u64);
        if let Some(Figures { exported, failed, dropped }) = gauges.spans {
            for (result, total) in [("exported", exported), ("failed", failed), ("dropped", dropped)] {
                count_to(&self.spans.with_label_values(&[result]), total);
            }
        }
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Increments a gauge until it is dropped.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl InFlight {
    fn count(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_instances_are_independent() {
        let (one, other) = (Metrics::new().unwrap(), Metrics::new().unwrap());
        one.panicked();
        assert!(one.render(Gauges::default()).unwrap().contains("\nbackend_panics_total 1\n"));
        assert!(other.render(Gauges::default()).unwrap().contains("\nbackend_panics_total 0\n"));
    }

    #[test]
    fn lost_lines_are_counted_once() {
        let metrics = Metrics::new().unwrap();
        for log_lines_dropped in [0, 3, 3, 5] {
            let page = metrics.render(Gauges { log_lines_dropped, ..Gauges::default() }).unwrap();
            assert!(page.contains(&format!("\nbackend_log_lines_lost_total {log_lines_dropped}\n")), "{page}");
        }
    }

    #[test]
    fn an_unknown_method_adds_no_series() {
        let metrics = Metrics::new().unwrap();
        let method = http::Method::from_bytes(b"BREW").unwrap();
        metrics.count_request(Listener::Api, "unknown", &method, 404, Duration::from_millis(1));
        let page = metrics.render(Gauges::default()).unwrap();
        assert!(page.contains(r#"method="other""#) && !page.contains("BREW"), "{page}");
    }

    #[test]
    fn the_gauge_of_requests_in_flight_follows_its_guard() {
        let metrics = Metrics::new().unwrap();
        let guard = metrics.request_in_flight(Listener::Admin);
        let line = |count| format!("backend_requests_in_flight{{listener=\"admin\"}} {count}\n");
        assert!(metrics.render(Gauges::default()).unwrap().contains(&line(1)));
        drop(guard);
        assert!(metrics.render(Gauges::default()).unwrap().contains(&line(0)));
    }
}
