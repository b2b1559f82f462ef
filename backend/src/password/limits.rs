//! What a stored hash may cost, and why one cannot be checked.

/// The most that a stored hash may cost: anyone who can write to the database must not be
/// able to take this process's memory or processors.
#[derive(Clone, Copy, Debug)]
pub struct CostLimits;

impl CostLimits {
    /// Memory of argon2 or scrypt, in KiB: 256 MiB.
    pub const MEMORY_KIB: u32 = 256 * 1024;
    /// Passes of argon2.
    pub const ITERATIONS: u32 = 16;
    /// Lanes of argon2.
    pub const PARALLELISM: u32 = 16;
    /// Rounds of PBKDF2 (some 4 s); Django and Werkzeug use about 1,000,000.
    pub const PBKDF2_ROUNDS: u32 = 10_000_000;
    /// `N * r * p` of scrypt (some 4 s); Werkzeug uses 262,144.
    pub const SCRYPT_BLOCKS: u64 = 1 << 23;
}

/// The highest cost of a stored bcrypt hash that is checked (some 4 s); the usual one is 12.
pub const BCRYPT_COST_LIMIT: u32 = 16;

/// Why a stored hash cannot be checked. Its text is fit for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverifiable {
    /// [`PasswordForm::Unsupported`].
    #[error("its form is not supported")]
    Unsupported,
    /// It begins like a supported form and cannot be read.
    #[error("it is damaged")]
    Damaged,
    /// It costs more than [`CostLimits`] or [`BCRYPT_COST_LIMIT`].
    #[error("it costs too much")]
    Costly,
}
