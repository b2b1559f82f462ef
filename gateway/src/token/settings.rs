//! The settings of tokens.

/// How tokens are made and how exactly their times are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From `iat` to `exp`, in seconds. 1 to 86,400; 300 by default.
    pub lifetime: u32,
    /// The clock skew that is forgiven on `exp`, `nbf` and `iat`, in seconds. 0 to 300; 0 by default.
    pub leeway: u32,
    /// How long after its `iat` a token counts as expired whatever its `exp` says, in seconds, so
    /// that nothing needs to be known of it longer. `lifetime` to 86,400; 3,600 by default.
    pub max_lifetime: u32,
}
