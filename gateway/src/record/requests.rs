//! What is counted of every request. Each series is looked up by its labels once, when it is
//! first needed; after that a request costs neither a lock nor a hash.

use std::array;
use std::sync::OnceLock;
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};

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

/// The metrics of requests, by route.
pub(super) struct Requests {
    counters: IntCounterVec,
    durations: HistogramVec,
    upstream_durations: HistogramVec,
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
}

impl Requests {
    /// The series of `routes` in vectors with the labels `route`, `method` and `status_class`, and
    /// twice `route`. The durations are there at once.
    pub(super) fn new(
        counters: IntCounterVec,
        durations: HistogramVec,
        upstream_durations: HistogramVec,
        routes: &[&str],
    ) -> Self {
        let mut names = routes.to_vec();
        names.sort_unstable();
        names.dedup();
        let route = |name: &str| Route {
            name: name.to_owned(),
            counters: array::from_fn(|_| array::from_fn(|_| OnceLock::new())),
            duration: durations.with_label_values(&[name]),
            upstream_duration: upstream_durations.with_label_values(&[name]),
        };
        let routes = names.into_iter().map(route).collect();
        Self { counters, durations, upstream_durations, routes }
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
        let known = self.routes.binary_search_by(|known| known.name.as_str().cmp(route)).ok();
        let Some(known) = known.and_then(|place| self.routes.get(place)) else {
            // One that was not told of at the start.
            self.counters.with_label_values(&labels()).inc();
            self.durations.with_label_values(&[route]).observe(total);
            if let Some(upstream) = upstream {
                self.upstream_durations.with_label_values(&[route]).observe(upstream);
            }
            return;
        };
        if let Some(counter) = known.counters.get(method).and_then(|counters| counters.get(class)) {
            counter.get_or_init(|| self.counters.with_label_values(&labels())).inc();
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
        let counters = IntCounterVec::new(Opts::new("a", "a"), &["route", "method", "status_class"]).unwrap();
        let histograms = |name: &str| HistogramVec::new(HistogramOpts::new(name, name), &["route"]).unwrap();
        Requests::new(counters, histograms("b"), histograms("c"), &["holodules", "none", "auth", "none"])
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
                    assert_eq!(requests.counters.with_label_values(&[route, method, class]).get(), 2);
                }
            }
            assert_eq!(requests.durations.with_label_values(&[route]).get_sample_count(), 96);
            assert_eq!(requests.upstream_durations.with_label_values(&[route]).get_sample_count(), 48);
        }
    }

    #[test]
    fn what_never_happened_has_no_series() {
        let requests = requests();
        requests.count("auth", &Method::POST, Some(StatusCode::OK), Duration::ZERO, None);
        assert_eq!(requests.counters.collect()[0].get_metric().len(), 1);
        assert_eq!(requests.durations.collect()[0].get_metric().len(), 3);
    }

    #[test]
    fn no_request_can_name_a_label() {
        for name in ["BREW", "X1", "get"] {
            assert_eq!(method_label(&Method::from_bytes(name.as_bytes()).unwrap()), "other");
        }
        assert_eq!(place_of_status(StatusCode::from_u16(999).ok()), 0);
    }
}
