//! A token as somebody presents it.

use super::{Digest, Refused};

/// The longest token that is looked at, in bytes. A longer one is refused before any cryptography.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A token that is short enough to be looked at.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    pub(super) bytes: &'a [u8],
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
        Ok(Self { bytes })
    }

    /// Its SHA-256, made anew each time: a token that was seen before is found without it.
    pub(super) fn digest(&self) -> Digest {
        Digest::of(self.bytes)
    }
}
