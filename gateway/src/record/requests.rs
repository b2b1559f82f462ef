//! Counts of requests, updated without a lock in memory that no other worker writes to: about 12 KiB per
//! route. The Prometheus counters are updated from them on each scrape.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{IntCounter, IntCounterVec};

use super::durations::{self, Durations, observe};
use super::labels::Labels;
use super::places::Places;
use super::striped::{Held, Striped};

/// The method labels: those that a route can accept (RFC 9110, section 9; RFC 5789), and `other`.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];

/// The status classes, by first digit; `none` if there was no response.
const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The index of a method in [`METHODS`].
fn place_of_method(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::PATCH => 4,
        Method::DELETE => 5,
        Method::OPTIONS => 6,
        _ => 7,
    }
}

/// The index of a status in [`STATUS_CLASSES`].
fn place_of_status(status: Option<StatusCode>) -> usize {
    let class = usize::from(status.map_or(0, |status| status.as_u16() / 100));
    if class < STATUS_CLASSES.len() { class } else { 0 }
}

/// The label of a method: one that a route can accept, or `other`.
pub fn method_label(method: &Method) -> &'static str {
    METHODS.get(place_of_method(method)).copied().unwrap_or_default()
}

/// The label of routes that are not declared, so that requests cannot create series.
const OTHER: &str = "other";

/// The Prometheus counters.
pub(super) struct Vectors {
    /// With the labels `route`, `method` and `status_class`.
    pub(super) requests: IntCounterVec,
    /// With the labels `route` and `result`.
    pub(super) cache: IntCounterVec,
    /// With the label `route`.
    pub(super) failures: IntCounterVec,
}

/// The counts of requests. Those of a route are adjacent: requests by method and status class, cache results,
/// request durations, upstream durations, and failures.
pub(super) struct Requests {
    vectors: Vectors,
    places: Arc<Places>,
    in_flight: Striped,
    /// The cache results.
    results: Vec<String>,
    /// Serialises [`Requests::publish`], which adds differences to the counters.
    publishing: Mutex<()>,
}

const BY_STATUS: usize = METHODS.len() * STATUS_CLASSES.len();

impl Requests {
    /// Creates the counts for `labels`, all 0.
    pub(super) fn new(vectors: Vectors, labels: &Labels<'_>) -> Self {
        let results: Vec<_> = labels.cache.iter().map(|name| (*name).to_owned()).collect();
        let places = Places::new(BY_STATUS + results.len() + 2 * durations::COUNTS + 1, OTHER);
        let requests = Self {
            vectors,
            places: Arc::new(places),
            in_flight: Striped::new(1),
            results,
            publishing: Mutex::default(),
        };
        requests.add(labels);
        requests
    }

    /// Creates the counts of the routes in `labels` that have none, and the series of their failures and cache results.
    pub(super) fn add(&self, labels: &Labels<'_>) {
        self.places.add(&labels.routes);
        for route in &labels.routes {
            self.vectors.failures.with_label_values(&[*route]);
        }
        for route in &labels.cached_routes {
            for result in labels.cache {
                self.vectors.cache.with_label_values(&[route, result]);
            }
        }
    }

    /// The offset of the durations within the counts of a route.
    fn durations_within(&self) -> usize {
        BY_STATUS + self.results.len()
    }

    /// The offset of the failures within the counts of a route.
    fn failures_within(&self) -> usize {
        self.durations_within() + 2 * durations::COUNTS
    }

    /// Creates the histograms of request and upstream durations, each from a name and a help text.
    ///
    /// # Errors
    /// A name is not valid for Prometheus: a bug in this crate.
    pub(super) fn durations(&self, [total, upstream]: [(&str, &str); 2]) -> prometheus::Result<[Durations; 2]> {
        let durations = |(name, help), within| Durations::new(name, help, Arc::clone(&self.places), within);
        let within = self.durations_within();
        Ok([durations(total, within)?, durations(upstream, within + durations::COUNTS)?])
    }

    /// Counts a request as in flight until the guard is dropped.
    pub(super) fn in_flight(&self) -> Held {
        self.in_flight.hold(0)
    }

    /// The number of requests in flight.
    pub(super) fn count_in_flight(&self) -> i64 {
        // During the summation, a start can be missed whose end is counted, so the sum can be negative.
        self.in_flight.sum(0).cast_signed().max(0)
    }

    /// Counts a cache result.
    pub(super) fn count_cache(&self, route: &str, result: &str) {
        if let Some(index) = self.results.iter().position(|known| known == result) {
            self.places.with(route, |counts| counts.add(BY_STATUS + index, 1));
        }
    }

    /// Counts a request that was answered or whose client left.
    pub(super) fn count(
        &self,
        route: &str,
        method: &Method,
        status: Option<StatusCode>,
        total: Duration,
        upstream: Option<Duration>,
    ) {
        self.places.with(route, |counts| {
            counts.add(place_of_method(method) * STATUS_CLASSES.len() + place_of_status(status), 1);
            let durations = self.durations_within();
            observe(counts, durations, total);
            if let Some(upstream) = upstream {
                observe(counts, durations + durations::COUNTS, upstream);
            }
        });
    }

    /// Counts a failed request.
    pub(super) fn count_failure(&self, route: &str) {
        self.places.with(route, |counts| counts.add(self.failures_within(), 1));
    }

    /// Updates the Prometheus counters. Counts of 0 create no series.
    pub(super) fn publish(&self) {
        let _publishing = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let catch_up = |counter: &IntCounter, count: u64| counter.inc_by(count.saturating_sub(counter.get()));
        for (route, counts) in self.places.all() {
            let classes = METHODS.iter().flat_map(|method| STATUS_CLASSES.map(|class| [&*route, method, class]));
            for (offset, labels) in classes.enumerate() {
                let count = counts.sum(offset);
                if count > 0 {
                    catch_up(&self.vectors.requests.with_label_values(&labels), count);
                }
            }
            for (offset, result) in self.results.iter().enumerate() {
                let count = counts.sum(BY_STATUS + offset);
                if count > 0 {
                    catch_up(&self.vectors.cache.with_label_values(&[&*route, result]), count);
                }
            }
            let failures = counts.sum(self.failures_within());
            if failures > 0 {
                catch_up(&self.vectors.failures.with_label_values(&[&*route]), failures);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;
    use prometheus::core::Collector as _;
    use prometheus::proto::Metric;

    use super::*;

    fn requests() -> Requests {
        let counters = |name: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, name), labels).unwrap();
        let vectors = Vectors {
            requests: counters("a", &["route", "method", "status_class"]),
            cache: counters("d", &["route", "result"]),
            failures: counters("e", &["route"]),
        };
        let routes = vec!["holodules", "none", "auth", "none"];
        let labels = Labels { routes, cache: &["hit", "miss"], cached_routes: vec!["holodules"], ..Labels::default() };
        Requests::new(vectors, &labels)
    }

    /// The number of durations of each route.
    fn sample_counts(durations: &Durations) -> Vec<(String, u64)> {
        let [family] = &durations.collect()[..] else { panic!("one metric") };
        let count =
            |metric: &Metric| (metric.get_label()[0].value().to_owned(), metric.get_histogram().get_sample_count());
        family.get_metric().iter().map(count).collect()
    }

    #[test]
    fn each_request_counts_in_the_series_of_its_labels() {
        let requests = requests();
        let methods = METHODS.map(|name| Method::from_bytes(name.as_bytes()).unwrap());
        let statuses = [None, Some(100), Some(200), Some(304), Some(404), Some(503)];
        for round in 1..=2 {
            for route in ["holodules", "none", "auth", "unknown"] {
                for method in &methods {
                    for status in statuses.map(|status| status.map(|status| StatusCode::from_u16(status).unwrap())) {
                        requests.count(route, method, status, Duration::ZERO, None);
                        requests.count(route, method, status, Duration::ZERO, Some(Duration::ZERO));
                    }
                }
            }
            requests.publish();
            for route in ["holodules", "none", "auth", OTHER] {
                for method in METHODS {
                    for class in STATUS_CLASSES {
                        let counter = requests.vectors.requests.with_label_values(&[route, method, class]);
                        assert_eq!(counter.get(), 2 * round, "{route} {method} {class}");
                    }
                }
            }
        }
        let durations = requests.durations([("b", "b"), ("c", "c")]).unwrap();
        let each = |count| ["auth", "holodules", "none"].map(|route| (route.to_owned(), count));
        assert_eq!(durations.each_ref().map(sample_counts), [each(192).to_vec(), each(96).to_vec()]);
    }

    #[test]
    fn counts_of_zero_create_no_series() {
        let requests = requests();
        requests.count("auth", &Method::POST, Some(StatusCode::OK), Duration::ZERO, None);
        requests.publish();
        assert_eq!(requests.vectors.requests.collect()[0].get_metric().len(), 1);
    }

    #[test]
    fn a_route_that_is_added_has_counts_of_its_own_and_the_others_continue() {
        let requests = requests();
        let count = |route| requests.count(route, &Method::GET, Some(StatusCode::OK), Duration::ZERO, None);
        let [total, _] = requests.durations([("a_seconds", "A."), ("b_seconds", "B.")]).unwrap();
        (0..2).for_each(|_| count("holodules"));
        count("new");
        requests.add(&Labels { routes: vec!["new", "auth"], ..Labels::default() });
        (0..3).for_each(|_| count("new"));
        count("holodules");
        requests.publish();
        let counted = |route| requests.vectors.requests.with_label_values(&[route, "GET", "2xx"]).get();
        assert_eq!((counted("holodules"), counted("new"), counted("other")), (3, 3, 1));
        assert!(sample_counts(&total).contains(&("new".to_owned(), 3)), "{:?}", sample_counts(&total));
    }

    #[test]
    fn cache_results_count_for_routes_with_a_cache() {
        let requests = requests();
        assert_eq!(requests.vectors.cache.collect()[0].get_metric().len(), 2);
        for (route, result) in [("holodules", "hit"), ("holodules", "unknown"), ("none", "hit")] {
            requests.count_cache(route, result);
            requests.count_cache(route, result);
        }
        requests.publish();
        let count = |route, result| requests.vectors.cache.with_label_values(&[route, result]).get();
        assert_eq!((count("holodules", "hit"), count("holodules", "miss"), count("none", "hit")), (2, 0, 2));
        assert_eq!(count("holodules", "unknown"), 0, "not a label value");
    }

    #[test]
    fn failures_count_apart_from_the_last_duration_and_the_next_route() {
        let requests = requests();
        let count = |route| requests.vectors.failures.with_label_values(&[route]).get();
        assert_eq!(requests.vectors.failures.collect()[0].get_metric().len(), 3, "those of declared routes begin at 0");
        let upstream = Some(Duration::from_secs(1));
        for route in ["auth", "holodules", "unknown"] {
            requests.count(route, &Method::GET, Some(StatusCode::BAD_GATEWAY), Duration::ZERO, upstream);
            requests.count_failure(route);
        }
        requests.count_failure("holodules");
        requests.publish();
        assert_eq!(["auth", "holodules", "none", OTHER].map(count), [1, 2, 0, 1]);
    }

    #[test]
    fn a_request_is_in_flight_until_its_guard_is_dropped() {
        let requests = requests();
        let held = [requests.in_flight(), requests.in_flight()];
        assert_eq!(requests.count_in_flight(), 2);
        drop(held);
        assert_eq!(requests.count_in_flight(), 0);
    }

    #[test]
    fn requests_cannot_create_label_values() {
        for name in ["BREW", "X1", "get"] {
            assert_eq!(method_label(&Method::from_bytes(name.as_bytes()).unwrap()), "other");
        }
        assert_eq!(place_of_status(StatusCode::from_u16(999).ok()), 0);
    }
}
