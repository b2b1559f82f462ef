//! The series that exist although nothing was counted yet, and those that end with a reload.

use super::Metrics;
use crate::record::labels::Labels;

impl Metrics {
    /// Creates the series of labels that a reload adds. Those of routes that it removes remain.
    pub fn add(&self, labels: &Labels<'_>) {
        self.requests.add(labels);
        self.tunnels.add(labels);
        self.touch(labels);
    }

    /// Removes the series of a service, or of the upstream of this name.
    pub fn remove_upstream(&self, name: &str) {
        // Fails if there is none.
        let _ = self.upstream_up.remove_label_values(&[name]);
    }

    /// Removes the series of an address of a service.
    pub fn remove_service_address(&self, service: &str, address: &str) {
        self.services.remove(service, address);
    }

    /// Creates the series of these labels.
    pub(super) fn touch(&self, fixed: &Labels<'_>) {
        for result in fixed.logins {
            self.logins.with_label_values(&[*result]);
        }
        for reason in fixed.token_refusals {
            self.token_refusals.with_label_values(&[*reason]);
        }
        for route in &fixed.restricted_routes {
            self.scope_refusals.with_label_values(&[*route]);
        }
        for limit in fixed.rate_limited {
            self.rate_limited.with_label_values(&[*limit]);
        }
        for version in fixed.handshakes {
            self.handshakes.with_label_values(&[*version]);
        }
        for reason in fixed.handshake_failures {
            self.handshake_failures.with_label_values(&[*reason]);
        }
        for reason in fixed.connections_refused {
            self.connections_refused.with_label_values(&[*reason]);
        }
        for reason in fixed.connections_reaped {
            self.connections_reaped.with_label_values(&[*reason]);
        }
    }
}
