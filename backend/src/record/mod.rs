//! Metrics and logs. This module knows neither the handlers nor the store; both report events to it.

mod access;
mod label;
mod log;
mod metrics;
mod name;
mod path;
mod registrar;
mod search_cache;
mod trace;
mod upgrades;

pub use access::{Access, HEALTHZ, request_id};
pub use label::{Listener, Upgrade, Verification};
pub use log::{Level, LogFormat, LogGuard, Settings, start};
pub use metrics::{Gauges, InFlight, Metrics};
pub use name::shown;
pub use search_cache::SearchCache;
pub use upgrades::Upgrades;
