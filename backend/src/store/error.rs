//! Why the store could not do what was asked. It knows no HTTP.

/// Why an operation of the store failed. No text here holds a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The engine did not answer in time, or cannot just now. Trying again may help;
    /// a write may or may not have happened, and may be repeated.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// The engine answered with an error that trying again will not mend.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The store can never serve as it is configured. Only from [`super::Store::open`].
    #[error("the store cannot be opened: {0}")]
    Unusable(String),
}
