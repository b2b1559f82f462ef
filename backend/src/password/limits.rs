//! The limits of stored hashes, and why one cannot be checked.

/// The maximum cost of a stored hash: write access to the database must not allow to exhaust this process's memory or
/// CPU.
#[derive(Clone, Copy, Debug)]
pub struct CostLimits;

impl CostLimits {
    /// Memory of argon2 or scrypt, in KiB: 256 MiB.
    pub const MEMORY_KIB: u32 = 256 * 1024;
    /// Passes of argon2.
    pub const ITERATIONS: u32 = 16;
    /// Lanes of argon2.
    pub const PARALLELISM: u32 = 16;
    /// Rounds of PBKDF2 (about 4 s); Django and Werkzeug use about 1,000,000.
    pub const PBKDF2_ROUNDS: u32 = 10_000_000;
    /// `N * r * p` of scrypt (about 4 s); Werkzeug uses 262,144.
    pub const SCRYPT_BLOCKS: u64 = 1 << 23;
}

/// The maximum cost of a stored bcrypt hash (about 4 s); 12 is usual.
pub const BCRYPT_COST_LIMIT: u32 = 16;

/// Why a stored hash cannot be checked. The text is safe to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverifiable {
    /// [`PasswordForm::Unsupported`](crate::model::PasswordForm::Unsupported).
    #[error("its form is not supported")]
    Unsupported,
    /// It has a supported prefix and cannot be parsed.
    #[error("it is damaged")]
    Damaged,
    /// It exceeds [`CostLimits`] or [`BCRYPT_COST_LIMIT`].
    #[error("it costs too much")]
    Costly,
}
