//! The metrics of tunnels.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::labels::Labels;

/// The outcome of a tunnel that is dropped at the end of a drain before its turn.
const DRAINED: &str = "drain";

/// The metrics, by route.
pub(super) struct Tunnels {
    open: IntGaugeVec,
    ended: IntCounterVec,
    bytes: IntCounterVec,
}

/// An open tunnel. Without an end, it counts as [`DRAINED`] when dropped.
pub struct OpenTunnel {
    open: IntGauge,
    ended: IntCounterVec,
    route: String,
    outcome: &'static str,
    /// The bytes that the service has received.
    pub to_service: IntCounter,
    /// The bytes that clients have received.
    pub to_client: IntCounter,
}

impl Tunnels {
    /// Registers the metrics, with a series for each of `labels`.
    pub(super) fn new(registry: &Registry, labels: &Labels<'_>) -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let open = IntGaugeVec::new(Opts::new("gateway_tunnels", "Open WebSocket connections, by route."), &["route"])?;
        registry.register(Box::new(open.clone()))?;
        let tunnels = Self {
            open,
            ended: counters(
                "gateway_tunnels_ended_total",
                "WebSocket connections that have ended, by route and outcome.",
                &["route", "outcome"],
            )?,
            bytes: counters(
                "gateway_tunnel_bytes_total",
                "Bytes in WebSocket connections, by route and direction.",
                &["route", "direction"],
            )?,
        };
        tunnels.add(labels);
        Ok(tunnels)
    }

    /// Creates a series for each of `labels`.
    pub(super) fn add(&self, labels: &Labels<'_>) {
        for route in &labels.upgrade_routes {
            self.open.with_label_values(&[*route]);
            for outcome in labels.tunnel_outcomes {
                self.ended.with_label_values(&[*route, *outcome]);
            }
            for direction in ["to_service", "to_client"] {
                self.bytes.with_label_values(&[*route, direction]);
            }
        }
    }

    /// Counts a tunnel until the guard is dropped.
    pub(super) fn open(&self, route: &str) -> OpenTunnel {
        let open = self.open.with_label_values(&[route]);
        open.inc();
        OpenTunnel {
            open,
            ended: self.ended.clone(),
            route: route.to_owned(),
            outcome: DRAINED,
            to_service: self.bytes.with_label_values(&[route, "to_service"]),
            to_client: self.bytes.with_label_values(&[route, "to_client"]),
        }
    }
}

impl OpenTunnel {
    /// Sets the outcome.
    pub fn end(&mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.open.dec();
        self.ended.with_label_values(&[self.route.as_str(), self.outcome]).inc();
    }
}
