//! Why a request to an upstream failed.

use std::error::Error as _;

/// Why there is no response, or no complete one. The first value is the name of the upstream; the text is for the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection was made within the connect timeout, so nothing was sent.
    #[error("the {0} upstream is unreachable: {1}")]
    Unreachable(&'static str, String),
    /// The connection failed before the head of a response, or the head is malformed.
    #[error("no response from the {0} upstream: {1}")]
    NoResponse(&'static str, String),
    /// A deadline passed.
    #[error("the {0} upstream did not respond in time")]
    TimedOut(&'static str),
    /// The response is too large, malformed or incomplete.
    #[error("invalid response from the {0} upstream: {1}")]
    InvalidResponse(&'static str, String),
}

/// The text of an error and of its cause.
pub(super) fn with_cause(error: &hyper::Error) -> String {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}
