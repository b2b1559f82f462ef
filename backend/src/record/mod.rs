//! What is told of the requests: metrics and log lines. It knows no handler and no
//! store; whoever holds it says what happened.

mod access;
mod label;
mod log;
mod metrics;
mod name;

pub use access::{Access, HEALTHZ, request_id};
pub use label::{Listener, Upgrade, Verification};
pub use log::{Format, Level, LogGuard, Settings, start};
pub use metrics::{Gauges, InFlight, Metrics};
pub use name::shown;
