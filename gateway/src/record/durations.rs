//! Request durations as Prometheus histograms, one per route.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::places::Places;
use super::striped::{Own, Striped};

/// Upper bounds in seconds: from a response by the gateway itself to the longest deadline.
const BUCKETS: [f64; 16] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The number of counts per histogram: one for each bucket, one for longer durations, and the sum in
/// nanoseconds.
pub(super) const COUNTS: usize = BUCKETS.len() + 2;

/// The index of the sum among them.
const SUM: usize = COUNTS - 1;

/// Adds a duration to the histogram whose counts begin at `place`.
pub(super) fn observe(counts: Own<'_>, place: usize, duration: Duration) {
    let seconds = duration.as_secs_f64();
    let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
    counts.add(place + bucket, 1);
    counts.add(place + SUM, u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
}

/// The histograms of one metric.
pub(super) struct Durations {
    desc: Desc,
    places: Arc<Places>,
    /// The index of the first count among those of a route.
    within: usize,
}

impl Durations {
    /// Creates the histograms of the routes in `places`, whose counts begin at `within`.
    ///
    /// # Errors
    /// The name is not valid for Prometheus: a bug in this crate.
    pub(super) fn new(name: &str, help: &str, places: Arc<Places>, within: usize) -> prometheus::Result<Self> {
        let desc = Desc::new(name.to_owned(), help.to_owned(), vec!["route".to_owned()], HashMap::new())?;
        Ok(Self { desc, places, within })
    }

    fn histogram(&self, counts: &Striped) -> Histogram {
        let place = self.within;
        let mut cumulative = 0;
        let bucket = |(bucket, bound): (usize, &f64)| {
            cumulative += counts.sum(place + bucket);
            let mut output = Bucket::default();
            output.set_upper_bound(*bound);
            output.set_cumulative_count(cumulative);
            output
        };
        let buckets = BUCKETS.iter().enumerate().map(bucket).collect();
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(cumulative + counts.sum(place + BUCKETS.len()));
        histogram.set_sample_sum(Duration::from_nanos(counts.sum(place + SUM)).as_secs_f64());
        histogram
    }
}

impl Collector for Durations {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let routes = self.places.routes();
        let metric = |(route, counts): &(Arc<str>, Arc<Striped>)| {
            let mut label = LabelPair::default();
            label.set_name("route".to_owned());
            label.set_value(route.to_string());
            let mut metric = Metric::from_label(vec![label]);
            metric.set_histogram(self.histogram(counts));
            metric
        };
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(routes.iter().map(metric).collect());
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_bucket_that_contains_it_and_in_all_later_ones() {
        let places = Arc::new(Places::new(2 * COUNTS, "other"));
        places.add(&["b", "a"]);
        for micros in [100, 250, 251, 30_000_000, 31_000_000] {
            places.with("b", |counts| observe(counts, COUNTS, Duration::from_micros(micros)));
        }
        let durations = Durations::new("x_seconds", "X.", places, COUNTS).unwrap();
        let [family] = &durations.collect()[..] else { panic!("one family") };
        let [empty, full] = family.get_metric() else { panic!("two routes") };
        assert_eq!(empty.get_histogram().get_sample_count(), 0);
        assert_eq!(full.get_label()[0].value(), "b");
        let full = full.get_histogram();
        let buckets: Vec<_> = full.get_bucket().iter().map(Bucket::cumulative_count).collect();
        assert_eq!((buckets[..3].to_vec(), buckets[15]), (vec![2, 3, 3], 4));
        assert_eq!((full.get_sample_count(), full.get_sample_sum()), (5, 61.000_601));
    }
}
