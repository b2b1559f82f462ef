//! The validity of the certificates.

use std::ops::RangeInclusive;

use prometheus::{IntGaugeVec, Opts, Registry};

/// The labels of each metric: the index in the configuration, and the first name.
const LABELS: [&str; 2] = ["certificate", "name"];

/// The metrics of the certificates. Alerts need both ends of the validity, because how long before the end a renewal
/// is late depends on the lifetime.
pub struct Certificates {
    start: IntGaugeVec,
    expiry: IntGaugeVec,
}

impl Certificates {
    /// Registers the metrics, without series.
    ///
    /// # Errors
    /// Two metrics have the same name: a bug in this file.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let gauges = |name: &str, help: &str| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), &LABELS)?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        Ok(Self {
            start: gauges(
                "gateway_certificate_start_timestamp_seconds",
                "When the validity of each certificate begins, by its index in the configuration and its first name.",
            )?,
            expiry: gauges(
                "gateway_certificate_expiry_timestamp_seconds",
                "When each certificate expires, by its index in the configuration and its first name.",
            )?,
        })
    }

    /// Replaces the certificates: first name and validity in seconds since 1970, in the order of the configuration.
    pub fn replace<'a>(&self, certificates: impl IntoIterator<Item = (&'a str, RangeInclusive<i64>)>) {
        self.start.reset();
        self.expiry.reset();
        for (place, (name, validity)) in certificates.into_iter().enumerate() {
            let place = place.to_string();
            let labels = &[place.as_str(), name];
            self.start.with_label_values(labels).set(*validity.start());
            self.expiry.with_label_values(labels).set(*validity.end());
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn a_replaced_certificate_has_no_series() {
        let registry = Registry::new();
        let certificates = Certificates::new(&registry).unwrap();
        certificates.replace([("old.example", 1..=2), ("b.example", 3..=4)]);
        certificates.replace([("a.example", 5..=6)]);
        let page = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let series: Vec<_> = page.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            series,
            [
                r#"gateway_certificate_expiry_timestamp_seconds{certificate="0",name="a.example"} 6"#,
                r#"gateway_certificate_start_timestamp_seconds{certificate="0",name="a.example"} 5"#,
            ]
        );
    }
}
