//! The metrics of upgrades in place.

use prometheus::{Error, IntCounterVec, IntGauge};

use super::registrar::Registrar;

/// The results: `succeeded` is counted by the new process, the others by the one that continues to serve.
const RESULTS: [&str; 3] = ["succeeded", "failed", "refused"];

/// The metrics.
#[derive(Debug)]
pub struct Upgrades {
    results: IntCounterVec,
    draining: IntGauge,
}

impl Upgrades {
    /// Registers the metrics, with a series for each result.
    pub(super) fn new(add: &Registrar<'_>) -> Result<Self, Error> {
        let results = add.counters("backend_upgrades_total", "Upgrades in place, by result.", &["result"])?;
        for result in RESULTS {
            results.with_label_values(&[result]);
        }
        let draining = add.gauge("backend_draining_processes", "Earlier processes that still drain.")?;
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
