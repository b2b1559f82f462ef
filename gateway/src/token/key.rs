//! One key of HS256 (RFC 7518, section 3.2).

use std::fmt;

use aws_lc_rs::hmac;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use super::{MAX_NAME_BYTES, is_plain_name};

/// The shortest secret that is accepted, in bytes: HS256's own output size (RFC 7518, section 3.2).
pub const MIN_SECRET_BYTES: usize = 32;

/// What the key of tickets is derived from a secret with.
const TICKET_KEY_LABEL: &[u8] = b"holodule gateway: tickets";

/// Why a key is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAKey {
    /// The secret is too short to sign with.
    #[error("has {0} bytes; at least {MIN_SECRET_BYTES} are required")]
    SecretTooShort(usize),
    /// The key ID is empty, too long, or has other characters.
    #[error("must have 1 to {MAX_NAME_BYTES} characters of A-Z a-z 0-9 - . _")]
    Kid,
}

/// A key that signs and verifies.
pub struct Key {
    kid: Option<String>,
    without_kid: bool,
    retire_at: Option<i64>,
    signing: EncodingKey,
    verifying: hmac::Key,
    /// Derived from the secret, for tickets only.
    tickets: TicketKey,
}

struct TicketKey {
    signing: EncodingKey,
    verifying: hmac::Key,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kid, without_kid, retire_at, .. } = self;
        let mut shown = f.debug_struct("Key");
        shown.field("kid", kid).field("without_kid", without_kid).field("retire_at", retire_at).finish_non_exhaustive()
    }
}

impl Key {
    /// The key of tokens without `kid`, such as those of the original service.
    ///
    /// # Errors
    /// [`NotAKey::SecretTooShort`] below [`MIN_SECRET_BYTES`].
    pub fn unnamed(secret: &[u8]) -> Result<Self, NotAKey> {
        Self::check_secret(secret)?;
        let verifying = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derived = hmac::sign(&verifying, TICKET_KEY_LABEL);
        Ok(Self {
            kid: None,
            without_kid: true,
            retire_at: None,
            signing: EncodingKey::from_secret(secret),
            tickets: TicketKey {
                signing: EncodingKey::from_secret(derived.as_ref()),
                verifying: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()),
            },
            verifying,
        })
    }

    /// The key of tokens whose header names `kid`: 1 to 64 characters of `A-Z a-z 0-9 - . _`.
    ///
    /// # Errors
    /// [`NotAKey`].
    pub fn named(kid: &str, secret: &[u8]) -> Result<Self, NotAKey> {
        Self::check_kid(kid)?;
        Ok(Self { kid: Some(kid.to_owned()), without_kid: false, ..Self::unnamed(secret)? })
    }

    /// Checks a key ID.
    ///
    /// # Errors
    /// [`NotAKey::Kid`].
    pub fn check_kid(kid: &str) -> Result<(), NotAKey> {
        if is_plain_name(kid) { Ok(()) } else { Err(NotAKey::Kid) }
    }

    /// Checks a secret.
    ///
    /// # Errors
    /// [`NotAKey::SecretTooShort`] below [`MIN_SECRET_BYTES`].
    pub fn check_secret(secret: &[u8]) -> Result<(), NotAKey> {
        if secret.len() < MIN_SECRET_BYTES { Err(NotAKey::SecretTooShort(secret.len())) } else { Ok(()) }
    }

    /// Sets whether the key also verifies tokens without `kid`.
    #[must_use]
    pub fn without_kid(mut self, allowed: bool) -> Self {
        self.without_kid = allowed;
        self
    }

    /// Sets the second (since 1970) from which the key neither signs nor verifies.
    #[must_use]
    pub fn retire_at(mut self, second: Option<i64>) -> Self {
        self.retire_at = second;
        self
    }

    /// Whether `other` verifies the tokens that this key signs.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let signed = hmac::sign(&self.verifying, TICKET_KEY_LABEL);
        let is_named = self.kid == other.kid && (other.without_kid || !self.without_kid);
        is_named && other.verify(TICKET_KEY_LABEL, signed.as_ref())
    }

    /// The key ID; `None` for the key of tokens without `kid`.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// [`Key::retire_at`].
    pub(super) fn retirement(&self) -> Option<i64> {
        self.retire_at
    }

    /// Whether it signs and verifies at `now`.
    pub fn is_in_force(&self, now: i64) -> bool {
        self.retire_at.is_none_or(|retired| now < retired)
    }

    /// Whether the key may verify a token whose header has this `kid`.
    pub(super) fn accepts_kid(&self, kid: Option<&str>) -> bool {
        kid.map_or(self.without_kid, |kid| self.kid() == Some(kid))
    }

    /// Whether `signature` is that of `signed`; compared in constant time.
    pub(super) fn verify(&self, signed: &[u8], signature: &[u8]) -> bool {
        hmac::verify(&self.verifying, signed, signature).is_ok()
    }

    /// Signs a token with these claims; `None` if the cryptography library fails.
    pub(super) fn sign(&self, claims: &impl Serialize) -> Option<String> {
        let header = Header { kid: self.kid.clone(), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, claims, &self.signing).ok()
    }

    /// Whether `signature` is that of the ticket `signed`; compared in constant time.
    pub(super) fn verify_ticket(&self, signed: &[u8], signature: &[u8]) -> bool {
        hmac::verify(&self.tickets.verifying, signed, signature).is_ok()
    }

    /// Signs a ticket with this `typ` and these claims; `None` if the cryptography library fails.
    pub(super) fn sign_ticket(&self, typ: &str, claims: &impl Serialize) -> Option<String> {
        let header = Header { typ: Some(typ.to_owned()), kid: self.kid.clone(), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, claims, &self.tickets.signing).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_secret_is_refused() {
        assert_eq!(Key::unnamed(&[7; 31]).unwrap_err(), NotAKey::SecretTooShort(31));
        assert_eq!(Key::named("a", &[]).unwrap_err(), NotAKey::SecretTooShort(0));
    }

    #[test]
    fn a_key_id_has_1_to_64_plain_characters() {
        for kid in ["a", "2026-11", "A.b_c", &"k".repeat(64)] {
            assert_eq!(Key::named(kid, &[7; 32]).unwrap().kid(), Some(kid));
        }
        for kid in ["", "../../dev/null", "' OR 1=1", "a b", "é", &"k".repeat(65)] {
            assert_eq!(Key::named(kid, &[7; 32]).unwrap_err(), NotAKey::Kid, "{kid}");
        }
    }

    #[test]
    fn debug_output_has_no_secret() {
        let key = Key::named("a", b"hush hush hush hush hush hush hush").unwrap();
        assert_eq!(format!("{key:?}"), r#"Key { kid: Some("a"), without_kid: false, retire_at: None, .. }"#);
    }
}
