//! What is counted of every request: without a lock, and in memory that no other worker writes to.
//! It takes some 12 KiB for each route. What Prometheus reads is brought up to date when it asks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{IntCounter, IntCounterVec};

use super::durations::{self, Durations, observe};
use super::labels::Labels;
use super::striped::{Held, Striped};

/// The methods as labels: those that a route may take (RFC 9110, section 9; RFC 5789), and what
/// stands for any other.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];

/// The classes of status codes, by their first digits; the first is for no answer.
const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The place of a method among [`METHODS`].
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

/// The place of a status among [`STATUS_CLASSES`].
fn place_of_status(status: Option<StatusCode>) -> usize {
    let class = usize::from(status.map_or(0, |status| status.as_u16() / 100));
    if class < STATUS_CLASSES.len() { class } else { 0 }
}

/// The method as a label: one that a route may take, or `other`.
pub fn method_label(method: &Method) -> &'static str {
    METHODS.get(place_of_method(method)).copied().unwrap_or_default()
}

/// What stands for a route that was not told of at the start, so that none is made by a request.
const OTHER: &str = "other";

/// The counters of requests, with their labels.
pub(super) struct Vectors {
    /// `route`, `method` and `status_class`.
    pub(super) requests: IntCounterVec,
    /// `route` and `result`.
    pub(super) cache: IntCounterVec,
}

/// What is counted of requests. The counts of each route stand together: those of its requests, by
/// method and status class; what the cache did; how long they took; and how long the backend took.
pub(super) struct Requests {
    vectors: Vectors,
    counts: Arc<Striped>,
    /// The names of the routes, in their order; the counts of [`OTHER`] come after theirs.
    routes: Vec<String>,
    /// What the cache may do.
    results: Vec<String>,
    /// Held by whoever brings the counters up to date, which is done by differences.
    publishing: Mutex<()>,
}

/// The first count of all.
const IN_FLIGHT: usize = 0;

const BY_STATUS: usize = METHODS.len() * STATUS_CLASSES.len();

impl Requests {
    /// The counts of what `labels` tell of.
    pub(super) fn new(vectors: Vectors, labels: &Labels<'_>) -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (mut routes, results) = (owned(&labels.routes), owned(labels.cache));
        routes.sort_unstable();
        routes.dedup();
        for route in &labels.cached_routes {
            for result in labels.cache {
                vectors.cache.with_label_values(&[route, result]);
            }
        }
        let counts = 1 + (routes.len() + 1) * (BY_STATUS + results.len() + 2 * durations::COUNTS);
        Self { vectors, counts: Arc::new(Striped::new(counts)), routes, results, publishing: Mutex::default() }
    }

    /// Where the counts begin of the route that stands at `index`.
    fn place(&self, index: usize) -> usize {
        1 + index * (self.durations_within() + 2 * durations::COUNTS)
    }

    /// Where, among the counts of a route, those of its durations begin.
    fn durations_within(&self) -> usize {
        BY_STATUS + self.results.len()
    }

    /// Where the counts begin of the route of this name.
    fn place_of(&self, route: &str) -> usize {
        let index = self.routes.binary_search_by(|known| known.as_str().cmp(route));
        self.place(index.unwrap_or(self.routes.len()))
    }

    /// How long the requests of each route took, and how long the backend took of that; each has a
    /// name and a help.
    ///
    /// # Errors
    /// A name that Prometheus does not take: a mistake in this crate.
    pub(super) fn durations(&self, [total, upstream]: [(&str, &str); 2]) -> prometheus::Result<[Durations; 2]> {
        let durations = |(name, help): (&str, &str), within: usize| {
            let routes = self.routes.iter().enumerate();
            let routes = routes.map(|(index, route)| (route.clone(), self.place(index) + within)).collect();
            Durations::new(name, help, Arc::clone(&self.counts), routes)
        };
        let within = self.durations_within();
        Ok([durations(total, within)?, durations(upstream, within + durations::COUNTS)?])
    }

    /// Counts a request as under way until the guard is dropped.
    pub(super) fn in_flight(&self) -> Held {
        self.counts.hold(IN_FLIGHT)
    }

    /// How many requests are under way.
    pub(super) fn count_in_flight(&self) -> i64 {
        // While it is added up, one may be missed that has begun and seen that has ended.
        self.counts.sum(IN_FLIGHT).cast_signed().max(0)
    }

    /// Counts what the cache did for a request.
    pub(super) fn count_cache(&self, route: &str, result: &str) {
        if let Some(index) = self.results.iter().position(|known| known == result) {
            self.counts.own().add(self.place_of(route) + BY_STATUS + index, 1);
        }
    }

    /// Counts a request that was answered, or whose client left.
    pub(super) fn count(
        &self,
        route: &str,
        method: &Method,
        status: Option<StatusCode>,
        total: Duration,
        upstream: Option<Duration>,
    ) {
        let (place, counts) = (self.place_of(route), self.counts.own());
        counts.add(place + place_of_method(method) * STATUS_CLASSES.len() + place_of_status(status), 1);
        let durations = place + self.durations_within();
        observe(counts, durations, total);
        if let Some(upstream) = upstream {
            observe(counts, durations + durations::COUNTS, upstream);
        }
    }

    /// Brings the counters up to date. Of what never happened there is no series.
    pub(super) fn publish(&self) {
        let _publishing = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let catch_up = |counter: &IntCounter, count: u64| counter.inc_by(count.saturating_sub(counter.get()));
        for (index, route) in self.routes.iter().map(String::as_str).chain([OTHER]).enumerate() {
            let place = self.place(index);
            let classes = METHODS.iter().flat_map(|method| STATUS_CLASSES.map(|class| [route, method, class]));
            for (offset, labels) in classes.enumerate() {
                let count = self.counts.sum(place + offset);
                if count > 0 {
                    catch_up(&self.vectors.requests.with_label_values(&labels), count);
                }
            }
            for (offset, result) in self.results.iter().enumerate() {
                let count = self.counts.sum(place + BY_STATUS + offset);
                if count > 0 {
                    catch_up(&self.vectors.cache.with_label_values(&[route, result]), count);
                }
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
        };
        let routes = vec!["holodules", "none", "auth", "none"];
        let labels = Labels { routes, cache: &["hit", "miss"], cached_routes: vec!["holodules"], ..Labels::default() };
        Requests::new(vectors, &labels)
    }

    /// How many durations each route has.
    fn told(durations: &Durations) -> Vec<(String, u64)> {
        let [family] = &durations.collect()[..] else { panic!("one metric") };
        let told =
            |metric: &Metric| (metric.get_label()[0].value().to_owned(), metric.get_histogram().get_sample_count());
        family.get_metric().iter().map(told).collect()
    }

    #[test]
    fn each_request_counts_in_the_one_series_of_its_labels() {
        let requests = requests();
        let methods = METHODS.map(|name| Method::from_bytes(name.as_bytes()).unwrap());
        let statuses = [None, Some(100), Some(200), Some(304), Some(404), Some(503)];
        for round in 1..=2 {
            for route in ["holodules", "none", "auth", "unheard-of"] {
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
        assert_eq!(durations.each_ref().map(told), [each(192).to_vec(), each(96).to_vec()]);
    }

    #[test]
    fn what_never_happened_has_no_series() {
        let requests = requests();
        requests.count("auth", &Method::POST, Some(StatusCode::OK), Duration::ZERO, None);
        requests.publish();
        assert_eq!(requests.vectors.requests.collect()[0].get_metric().len(), 1);
    }

    #[test]
    fn what_the_cache_did_counts_where_there_is_one() {
        let requests = requests();
        assert_eq!(requests.vectors.cache.collect()[0].get_metric().len(), 2);
        for (route, result) in [("holodules", "hit"), ("holodules", "unheard-of"), ("none", "hit")] {
            requests.count_cache(route, result);
            requests.count_cache(route, result);
        }
        requests.publish();
        let count = |route, result| requests.vectors.cache.with_label_values(&[route, result]).get();
        assert_eq!((count("holodules", "hit"), count("holodules", "miss"), count("none", "hit")), (2, 0, 2));
        assert_eq!(count("holodules", "unheard-of"), 0, "it is no label");
    }

    #[test]
    fn a_request_is_under_way_until_its_guard_is_dropped() {
        let requests = requests();
        let held = [requests.in_flight(), requests.in_flight()];
        assert_eq!(requests.count_in_flight(), 2);
        drop(held);
        assert_eq!(requests.count_in_flight(), 0);
    }

    #[test]
    fn no_request_can_name_a_label() {
        for name in ["BREW", "X1", "get"] {
            assert_eq!(method_label(&Method::from_bytes(name.as_bytes()).unwrap()), "other");
        }
        assert_eq!(place_of_status(StatusCode::from_u16(999).ok()), 0);
    }
}
