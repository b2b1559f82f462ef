//! What is told of the gateway's work: metrics, and one line a request.

mod access;
pub mod log;
mod metrics;

pub use access::{Access, write};
pub use metrics::{InFlight, Labels, Metrics, method_label};
