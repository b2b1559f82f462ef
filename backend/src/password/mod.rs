//! Passwords: how new ones are hashed and stored ones are checked.
//!
//! `check` is the pure part: what a stored value means. `foreign` reads the hashes of other
//! libraries, and `effort` makes every refusal cost the same. [`Hasher`] runs it off the async threads, with bounded concurrency and a
//! bounded queue. Who the user is, and where the value is stored, is not known here.

mod check;
mod cost;
mod foreign;
mod hasher;
mod limits;
mod stored;
#[cfg(test)]
mod vectors;

use std::fmt;

pub use check::Outcome;
pub use hasher::{Busy, Hasher, Load};
pub use limits::{BCRYPT_COST_LIMIT, CostLimits, Unverifiable};

/// The longest password that is taken, in bytes.
pub const PASSWORD_LIMIT: usize = 1024;

/// What a hash costs, and how many are computed at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Memory of one argon2id hash, in KiB (RFC 9106's `m`).
    pub memory_kib: u32,
    /// Passes over that memory (`t`).
    pub iterations: u32,
    /// Lanes (`p`).
    pub parallelism: u32,
    /// Hashes computed at once. At least 1.
    pub concurrency: usize,
    /// Hashes that may wait for their turn; past them the answer is [`Busy`] at once.
    pub queue: usize,
    /// Whether a password that is stored in an older form becomes argon2id on a login.
    pub upgrade: bool,
}

/// A password as a client sent it: bounded, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Takes a password of at most [`PASSWORD_LIMIT`] bytes. An empty one is taken too: it may be checked.
    ///
    /// # Errors
    /// [`TooLong`] past the limit.
    pub fn new(text: String) -> Result<Self, TooLong> {
        if text.len() > PASSWORD_LIMIT { Err(TooLong) } else { Ok(Self(text)) }
    }

    fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether it has no characters at all; such a one is not fit to be set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[password]")
    }
}

/// A password over [`PASSWORD_LIMIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a password has at most {PASSWORD_LIMIT} bytes")]
pub struct TooLong;
