//! The metrics of certificates that are obtained by ACME.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::labels::Labels;

/// The metrics. Without ACME they have no series.
pub struct AcmeMetrics {
    attempts: IntCounterVec,
    failures: IntGaugeVec,
    renewal: IntGaugeVec,
    validations: IntCounter,
}

impl AcmeMetrics {
    /// Registers the metrics, with a series for each of `labels`.
    pub(super) fn new(registry: &Registry, labels: &Labels<'_>) -> prometheus::Result<Self> {
        let gauges = |name: &str, help: &str| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), &["name"])?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let attempts = Opts::new("gateway_acme_attempts_total", "Attempts to obtain a certificate by ACME, by result.");
        let attempts = IntCounterVec::new(attempts, &["result"])?;
        registry.register(Box::new(attempts.clone()))?;
        let validations = IntCounter::new(
            "gateway_acme_tls_validations_total",
            "TLS handshakes by which a CA validated a name (tls-alpn-01).",
        )?;
        registry.register(Box::new(validations.clone()))?;
        for result in labels.acme_results {
            attempts.with_label_values(&[*result]);
        }
        Ok(Self {
            attempts,
            failures: gauges(
                "gateway_acme_failures",
                "Failures in a row to obtain the certificate with this first name; 0 after a success.",
            )?,
            renewal: gauges(
                "gateway_acme_renewal_timestamp_seconds",
                "When the certificate with this first name is to be renewed.",
            )?,
            validations,
        })
    }

    /// Counts an attempt.
    pub fn attempt(&self, result: &'static str) {
        self.attempts.with_label_values(&[result]).inc();
    }

    /// Sets the state of the certificate with the first name `name`: when it is to be renewed (in seconds since 1970;
    /// `None` without a certificate), and the failures since it was last obtained.
    pub fn certificate(&self, name: &str, renewal: Option<i64>, failures: u32) {
        if let Some(renewal) = renewal {
            self.renewal.with_label_values(&[name]).set(renewal);
        }
        self.failures.with_label_values(&[name]).set(failures.into());
    }

    /// Counts the handshake of a CA.
    pub fn validation(&self) {
        self.validations.inc();
    }
}
