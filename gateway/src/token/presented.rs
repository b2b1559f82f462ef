//! A token as sent by a client.

use super::{Digest, TokenError};

/// Maximum length of a token, in bytes. A longer one is refused before any cryptography.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A token of acceptable length.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    pub(super) bytes: &'a [u8],
}

impl<'a> Presented<'a> {
    /// Checks the length of the `bytes` that were sent.
    ///
    /// # Errors
    /// [`TokenError::TooLong`] over [`MAX_TOKEN_BYTES`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, TokenError> {
        if bytes.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        Ok(Self { bytes })
    }

    /// Its SHA-256, computed on each call: cached tokens are found without it.
    pub(super) fn digest(&self) -> Digest {
        Digest::of(self.bytes)
    }
}
