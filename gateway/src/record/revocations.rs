//! The metrics of the revocation state.

use std::time::Duration;

use prometheus::{GaugeVec, IntGaugeVec, Opts, Registry};

/// The metrics. They are vectors although they have no labels: without revocation they have no series.
pub(super) struct Revocations {
    age: GaugeVec,
    remembered: IntGaugeVec,
}

impl Revocations {
    /// Registers the metrics.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let age = Opts::new(
            "gateway_revocation_feed_age_seconds",
            "Seconds since the last revocation update; +Inf before the first.",
        );
        let remembered = Opts::new("gateway_revocation_identities", "Identities whose revocation state is cached.");
        let (age, remembered) = (GaugeVec::new(age, &[])?, IntGaugeVec::new(remembered, &[])?);
        registry.register(Box::new(age.clone()))?;
        registry.register(Box::new(remembered.clone()))?;
        Ok(Self { age, remembered })
    }

    /// Sets the time since the last update, `None` before the first, and the number of cached identities.
    pub(super) fn set(&self, age: Option<Duration>, remembered: usize) {
        const NO_LABELS: [&str; 0] = [];
        let age = age.map_or(f64::INFINITY, |age| age.as_secs_f64());
        self.age.with_label_values(&NO_LABELS).set(age);
        self.remembered.with_label_values(&NO_LABELS).set(i64::try_from(remembered).unwrap_or(i64::MAX));
    }
}
