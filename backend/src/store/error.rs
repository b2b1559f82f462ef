//! Errors of the store. They know no HTTP.

/// Why an operation failed. The text never contains a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The engine did not respond in time, or is unavailable. A retry may help; a write may have happened, and can be
    /// repeated.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The engine returned an error that a retry does not fix.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The store cannot work with this configuration. Only returned by [`super::Store::open`].
    #[error("the store cannot be opened: {0}")]
    Unusable(String),
}

impl StoreError {
    /// The kind of the error in traces.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Failed(_) => "failed",
            Self::Unusable(_) => "unusable",
        }
    }
}
