//! The metrics of upgrades in place.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

/// The results: `succeeded` is counted by the new process, the others by the one that continues to serve.
const RESULTS: [&str; 3] = ["succeeded", "failed", "refused"];

/// The metrics.
pub struct Upgrades {
    results: IntCounterVec,
    draining: IntGauge,
}

impl Upgrades {
    /// Registers the metrics, with a series for each result.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let results = Opts::new("gateway_upgrades_total", "Upgrades in place, by result.");
        let results = IntCounterVec::new(results, &["result"])?;
        registry.register(Box::new(results.clone()))?;
        for result in RESULTS {
            results.with_label_values(&[result]);
        }
        let draining = IntGauge::new("gateway_draining_processes", "Earlier processes that still drain.")?;
        registry.register(Box::new(draining.clone()))?;
        Ok(Self { results, draining })
    }

    /// Counts an upgrade.
    pub fn count(&self, result: &'static str) {
        self.results.with_label_values(&[result]).inc();
    }

    /// Sets the number of earlier processes that still drain.
    pub fn draining(&self, processes: usize) {
        self.draining.set(i64::try_from(processes).unwrap_or(i64::MAX));
    }
}
