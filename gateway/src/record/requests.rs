//! What is counted of every request. Each series is looked up by its labels once, when it is
//! first needed; after that a request costs neither a lock nor a hash.

use std::array;
use std::sync::OnceLock;
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};

use super::Labels;

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

/// The metrics of requests, with their labels.
pub(super) struct Vectors {
    /// `route`, `method` and `status_class`.
    pub(super) counters: IntCounterVec,
    /// `route`.
    pub(super) durations: HistogramVec,
    /// `route`.
    pub(super) upstream_durations: HistogramVec,
    /// `route` and `result`.
    pub(super) cache: IntCounterVec,
}

/// The same, by route.
pub(super) struct Requests {
    vectors: Vectors,
    /// In the order of their names.
    routes: Vec<Route>,
}

/// The series of one route.
struct Route {
    name: String,
    /// By method and status class. Of what never happened there is no series.
    counters: [[OnceLock<IntCounter>; STATUS_CLASSES.len()]; METHODS.len()],
    duration: Histogram,
    upstream_duration: Histogram,
    /// By what the cache did, where it does anything.
    cache: Vec<(String, IntCounter)>,
}

impl Requests {
    /// The series of what `labels` tell of in `vectors`. All but the counters of requests are
    /// there at once.
    pub(super) fn new(vectors: Vectors, labels: &Labels<'_>) -> Self {
        let mut names = labels.routes.clone();
        names.sort_unstable();
        names.dedup();
        let route = |name: &str| {
            let results = labels.cache.iter().filter(|_| labels.cached_routes.contains(&name));
            Route {
                name: name.to_owned(),
                counters: array::from_fn(|_| array::from_fn(|_| OnceLock::new())),
                duration: vectors.durations.with_label_values(&[name]),
                upstream_duration: vectors.upstream_durations.with_label_values(&[name]),
                cache: results
                    .map(|result| ((*result).to_owned(), vectors.cache.with_label_values(&[name, *result])))
                    .collect(),
            }
        };
        let routes = names.into_iter().map(route).collect();
        Self { vectors, routes }
    }

    fn route(&self, name: &str) -> Option<&Route> {
        let place = self.routes.binary_search_by(|route| route.name.as_str().cmp(name)).ok()?;
        self.routes.get(place)
    }

    /// Counts what the cache did for a request.
    pub(super) fn count_cache(&self, route: &str, result: &str) {
        let known = self.route(route).and_then(|known| known.cache.iter().find(|(name, _)| name == result));
        match known {
            Some((_, counter)) => counter.inc(),
            // One that was not told of at the start.
            None => self.vectors.cache.with_label_values(&[route, result]).inc(),
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
        let (total, upstream) = (total.as_secs_f64(), upstream.map(|upstream| upstream.as_secs_f64()));
        let (method, class) = (place_of_method(method), place_of_status(status));
        let label = |labels: &'static [&str], place| labels.get(place).copied().unwrap_or_default();
        let labels = || [route, label(&METHODS, method), label(&STATUS_CLASSES, class)];
        let Some(known) = self.route(route) else {
            // One that was not told of at the start.
            self.vectors.counters.with_label_values(&labels()).inc();
            self.vectors.durations.with_label_values(&[route]).observe(total);
            if let Some(upstream) = upstream {
                self.vectors.upstream_durations.with_label_values(&[route]).observe(upstream);
            }
            return;
        };
        if let Some(counter) = known.counters.get(method).and_then(|counters| counters.get(class)) {
            counter.get_or_init(|| self.vectors.counters.with_label_values(&labels())).inc();
        }
        known.duration.observe(total);
        if let Some(upstream) = upstream {
            known.upstream_duration.observe(upstream);
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::core::Collector as _;
    use prometheus::{HistogramOpts, Opts};

    use super::*;

    fn requests() -> Requests {
        let counters = |name: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, name), labels).unwrap();
        let histograms = |name: &str| HistogramVec::new(HistogramOpts::new(name, name), &["route"]).unwrap();
        let vectors = Vectors {
            counters: counters("a", &["route", "method", "status_class"]),
            durations: histograms("b"),
            upstream_durations: histograms("c"),
            cache: counters("d", &["route", "result"]),
        };
        let routes = vec!["holodules", "none", "auth", "none"];
        let labels = Labels { routes, cache: &["hit", "miss"], cached_routes: vec!["holodules"], ..Labels::default() };
        Requests::new(vectors, &labels)
    }

    #[test]
    fn each_request_counts_in_the_one_series_of_its_labels() {
        let requests = requests();
        let methods = METHODS.map(|name| Method::from_bytes(name.as_bytes()).unwrap());
        let statuses = [None, Some(100), Some(200), Some(304), Some(404), Some(503)];
        for route in ["holodules", "none", "auth", "unheard-of"] {
            for method in &methods {
                for status in statuses.map(|status| status.map(|status| StatusCode::from_u16(status).unwrap())) {
                    requests.count(route, method, status, Duration::ZERO, None);
                    requests.count(route, method, status, Duration::ZERO, Some(Duration::ZERO));
                }
            }
            for method in METHODS {
                for class in STATUS_CLASSES {
                    assert_eq!(requests.vectors.counters.with_label_values(&[route, method, class]).get(), 2);
                }
            }
            assert_eq!(requests.vectors.durations.with_label_values(&[route]).get_sample_count(), 96);
            assert_eq!(requests.vectors.upstream_durations.with_label_values(&[route]).get_sample_count(), 48);
        }
    }

    #[test]
    fn what_never_happened_has_no_series() {
        let requests = requests();
        requests.count("auth", &Method::POST, Some(StatusCode::OK), Duration::ZERO, None);
        assert_eq!(requests.vectors.counters.collect()[0].get_metric().len(), 1);
        assert_eq!(requests.vectors.durations.collect()[0].get_metric().len(), 3);
    }

    #[test]
    fn what_the_cache_did_counts_where_there_is_one() {
        let requests = requests();
        assert_eq!(requests.vectors.cache.collect()[0].get_metric().len(), 2);
        for (route, result) in [("holodules", "hit"), ("holodules", "unheard-of"), ("unheard-of", "hit")] {
            requests.count_cache(route, result);
            requests.count_cache(route, result);
            assert_eq!(requests.vectors.cache.with_label_values(&[route, result]).get(), 2);
        }
        assert_eq!(requests.vectors.cache.with_label_values(&["holodules", "miss"]).get(), 0);
    }

    #[test]
    fn no_request_can_name_a_label() {
        for name in ["BREW", "X1", "get"] {
            assert_eq!(method_label(&Method::from_bytes(name.as_bytes()).unwrap()), "other");
        }
        assert_eq!(place_of_status(StatusCode::from_u16(999).ok()), 0);
    }
}
