//! The settings of tokens.

/// How tokens are issued and how strictly their times are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From `iat` to `exp`, in seconds. 1 to 86,400; 300 by default.
    pub lifetime: u32,
    /// The tolerated clock skew for `exp`, `nbf` and `iat`, in seconds. 0 to 300; 0 by default.
    pub leeway: u32,
    /// Maximum lifetime from `iat`, whatever the `exp`, in seconds, so that revocations need not be stored longer. `lifetime` to 86,400; 3,600 by default.
    pub max_lifetime: u32,
}
