//! Passwords: hashes new ones and checks stored ones.
//!
//! `check` and `stored` are synchronous and pure; `stored_bcrypt` and `foreign` read the hashes of other libraries, and
//! `cost` makes all failed checks cost the same. [`Hasher`] runs them on separate threads, with bounded concurrency and
//! a bounded queue. This module knows neither users nor the store.

mod check;
mod cost;
mod foreign;
mod hasher;
mod limits;
mod stored;
mod stored_bcrypt;
#[cfg(test)]
mod vectors;

use std::fmt;

pub use check::Outcome;
pub use hasher::{Busy, Hasher, Load};
pub use limits::{BCRYPT_COST_LIMIT, CostLimits, Unverifiable};

/// The longest accepted password, in bytes.
pub const PASSWORD_LIMIT: usize = 1024;

/// The cost of hashes, and how many are computed at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Memory of one argon2id hash, in KiB (RFC 9106's `m`).
    pub memory_kib: u32,
    /// Passes (`t`).
    pub iterations: u32,
    /// Lanes (`p`).
    pub parallelism: u32,
    /// Concurrent hashes, at least 1.
    pub concurrency: usize,
    /// Hashes that may wait in the queue; beyond it, [`Busy`] is returned at once.
    pub queue: usize,
    /// Whether passwords stored in an older form are upgraded to argon2id on login.
    pub upgrade: bool,
}

/// A password from a client: bounded, and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Accepts a password of at most [`PASSWORD_LIMIT`] bytes. It may be empty, for a check.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn new(text: String) -> Result<Self, TooLong> {
        if text.len() > PASSWORD_LIMIT { Err(TooLong) } else { Ok(Self(text)) }
    }

    fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether it is empty. An empty password cannot be set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[password]")
    }
}

/// A password longer than [`PASSWORD_LIMIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a password has at most {PASSWORD_LIMIT} bytes")]
pub struct TooLong;
