//! The metrics of the cache as a whole. Those of its requests are in [`super::requests`].

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::labels::Labels;

/// The metrics of the cache.
pub(super) struct Caches {
    /// Vectors although they have no labels: without a cache they have no series.
    bytes: IntGaugeVec,
    entries: IntGaugeVec,
    evictions: IntCounter,
    compressions: IntCounter,
    purges: IntCounterVec,
}

impl Caches {
    /// Registers the metrics, with a series for each source of purges.
    ///
    /// # Errors
    /// Two metrics have the same name: a bug in this file.
    pub(super) fn new(registry: &Registry, labels: &Labels<'_>) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), &[])?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let purges = Opts::new("gateway_cache_purges_total", "Cache purges, by source.");
        let purges = IntCounterVec::new(purges, &["by"])?;
        registry.register(Box::new(purges.clone()))?;
        for by in labels.cache_purges {
            purges.with_label_values(&[*by]);
        }
        Ok(Self {
            bytes: gauge("gateway_cache_bytes", "Size of cached responses, in bytes.")?,
            entries: gauge("gateway_cache_entries", "Cached responses.")?,
            evictions: counter("gateway_cache_evictions_total", "Cached responses evicted for lack of space.")?,
            compressions: counter("gateway_cache_compressions_total", "Compressed bodies of cached responses.")?,
            purges,
        })
    }

    /// Counts a purge.
    pub(super) fn purged(&self, by: &str) {
        self.purges.with_label_values(&[by]).inc();
    }

    /// Sets the size, in entries and bytes, and the evictions and compressions since the start.
    pub(super) fn set(&self, entries: usize, bytes: u64, evictions: u64, compressions: u64) {
        const NO_LABELS: [&str; 0] = [];
        self.entries.with_label_values(&NO_LABELS).set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.bytes.with_label_values(&NO_LABELS).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.evictions.inc_by(evictions.saturating_sub(self.evictions.get()));
        self.compressions.inc_by(compressions.saturating_sub(self.compressions.get()));
    }
}
