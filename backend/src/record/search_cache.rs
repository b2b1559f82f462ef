//! The metrics of the texts of searched days in memory.

use prometheus::{Error, IntCounterVec, IntGauge};

use super::registrar::{Registrar, count_to, saturated};

/// Values that are read at each scrape. Counts are since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct SearchCache {
    /// The memory in bytes.
    pub bytes: u64,
    /// Days that searches found in memory.
    pub hits: u64,
    /// Days that searches had to read.
    pub misses: u64,
}

/// The metrics.
#[derive(Debug)]
pub(super) struct SearchCacheMetrics {
    bytes: IntGauge,
    days: IntCounterVec,
}

impl SearchCacheMetrics {
    pub(super) fn new(add: &Registrar<'_>) -> Result<Self, Error> {
        let bytes = add.gauge(
            "backend_search_cache_bytes",
            "Memory of the texts of searched days, which searches of MongoDB cache, in bytes.",
        )?;
        let days = add.counters(
            "backend_search_cache_lookups_total",
            "Days of searches of MongoDB, by whether their texts were in memory.",
            &["result"],
        )?;
        Ok(Self { bytes, days })
    }

    pub(super) fn set(&self, SearchCache { bytes, hits, misses }: SearchCache) {
        self.bytes.set(saturated(bytes));
        for (result, total) in [("hit", hits), ("miss", misses)] {
            count_to(&self.days.with_label_values(&[result]), total);
        }
    }
}
