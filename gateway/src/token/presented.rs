//! A token as somebody presents it.

use super::{Digest, Refused};

/// The longest token that is looked at, in bytes. A longer one is refused before any cryptography.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A token that is short enough to be looked at, with the SHA-256 by which it is looked up.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) digest: Digest,
}

impl<'a> Presented<'a> {
    /// Takes the `bytes` that were sent.
    ///
    /// # Errors
    /// [`Refused::TooLong`] over [`MAX_TOKEN_BYTES`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, Refused> {
        if bytes.len() > MAX_TOKEN_BYTES {
            return Err(Refused::TooLong);
        }
        Ok(Self { bytes, digest: Digest::of(bytes) })
    }
}
