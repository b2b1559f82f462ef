//! The metrics of shared event streams.

use prometheus::{IntCounter, IntGauge, Registry};

/// The metrics of shared event streams.
pub struct FanOutMetrics {
    streams: IntGauge,
    listeners: IntGauge,
    bytes: IntGauge,
    events: IntCounter,
    requests: IntCounter,
    slow: IntCounter,
}

/// Their values. The last three are counts since the start.
#[derive(Clone, Copy, Debug)]
pub struct FanOutGauges {
    /// Open streams.
    pub streams: usize,
    /// Their listeners.
    pub listeners: usize,
    /// The size of their logs, in bytes.
    pub bytes: u64,
    /// Events from services.
    pub events: u64,
    /// Requests to services.
    pub requests: u64,
    /// Listeners ended because they were too slow.
    pub slow: u64,
}

impl FanOutMetrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// Two metrics have the same name: a bug in this file.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            streams: gauge("gateway_shared_streams", "Event streams that requests of the same target share.")?,
            listeners: gauge("gateway_shared_stream_listeners", "Listeners of shared event streams.")?,
            bytes: gauge("gateway_shared_stream_bytes", "Size of the logs of shared event streams, in bytes.")?,
            events: counter("gateway_shared_stream_events_total", "Events received from services on shared streams.")?,
            requests: counter("gateway_shared_stream_requests_total", "Requests to services for shared streams.")?,
            slow: counter(
                "gateway_shared_stream_slow_listeners_total",
                "Listeners of shared streams ended because they were too slow.",
            )?,
        })
    }

    /// Sets all values.
    pub fn set(&self, values: &FanOutGauges) {
        let FanOutGauges { streams, listeners, bytes, events, requests, slow } = *values;
        self.streams.set(i64::try_from(streams).unwrap_or(i64::MAX));
        self.listeners.set(i64::try_from(listeners).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        for (counter, value) in [(&self.events, events), (&self.requests, requests), (&self.slow, slow)] {
            counter.inc_by(value.saturating_sub(counter.get()));
        }
    }
}
