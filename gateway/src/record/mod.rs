//! What is told of the gateway's work: metrics, and one line a request.

mod access;
mod lines;
pub mod log;
mod metrics;

pub use access::{Access, AccessLog};
pub use lines::Lines;
pub use metrics::{InFlight, Labels, Metrics, method_label};
