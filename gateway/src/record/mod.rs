//! Metrics and the access log.

mod access;
mod acme;
mod caches;
mod certificates;
mod durations;
mod fan_out;
mod labels;
mod line;
mod lines;
pub mod log;
mod metrics;
mod places;
mod requests;
mod revocations;
mod routes;
mod services;
mod spans;
mod striped;
mod target;
mod tunnels;
mod upgrades;

pub use access::{Access, AccessLog, Tunnelled};
pub use acme::AcmeMetrics;
pub use certificates::Certificates;
pub use fan_out::{FanOutGauges, FanOutMetrics};
pub use labels::Labels;
pub use lines::Lines;
pub use metrics::{InFlight, Metrics};
pub use requests::method_label;
pub use routes::{RouteInfo, Routes};
pub use services::ServiceAddress;
pub use tunnels::OpenTunnel;
pub use upgrades::Upgrades;
