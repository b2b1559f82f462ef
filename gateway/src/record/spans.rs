//! The metrics of the export of traces.

use prometheus::{IntCounterVec, Opts, Registry};

/// The spans of traces, by what became of them.
pub(super) struct Spans(IntCounterVec);

impl Spans {
    /// Registers the metric, without series: there are none if traces are not exported.
    ///
    /// # Errors
    /// Two metrics have the same name: a bug in this file.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let spans = Opts::new("gateway_telemetry_spans_total", "Spans of traces, by what became of them.");
        let spans = IntCounterVec::new(spans, &["result"])?;
        registry.register(Box::new(spans.clone()))?;
        Ok(Self(spans))
    }

    /// Sets the numbers of spans since the start: those that the collector accepted, those that it did not accept, and
    /// those for which the queue had no room.
    pub(super) fn set(&self, exported: u64, failed: u64, dropped: u64) {
        for (result, total) in [("exported", exported), ("failed", failed), ("dropped", dropped)] {
            let counter = self.0.with_label_values(&[result]);
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }
}
