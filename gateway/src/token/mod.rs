//! JSON Web Tokens: issued and verified here, and nowhere else (RFC 7515, 7519, 8725).
//!
//! Pure: the time is an argument, and there is no I/O. The algorithm is HS256, pinned
//! by the configuration and never chosen by the token.

mod claims;
mod digest;
mod json;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};

pub use claims::{Claim, Verified};
use claims::{Issued, check_claims};
pub use digest::Digest;
pub use json::{Object, object as json_object};

/// The shortest secret that is accepted, in bytes: HS256's own output size (RFC 7518, section 3.2).
pub const MIN_SECRET_BYTES: usize = 32;

/// The longest token that is looked at, in bytes. A longer one is refused before any cryptography.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// How tokens are made and how exactly their times are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From `iat` to `exp`, in seconds. 1 to 86,400; 300 by default.
    pub lifetime: u32,
    /// The clock skew that is forgiven on `exp`, `nbf` and `iat`, in seconds. 0 to 300; 0 by default.
    pub leeway: u32,
}

/// Why a token opens nothing. The order of the variants is the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Over [`MAX_TOKEN_BYTES`].
    TooLong,
    /// Fewer than three segments.
    NotEnoughSegments,
    /// The header is not strict base64url.
    HeaderEncoding,
    /// The header is no JSON object, or has a name twice.
    HeaderJson(&'static str),
    /// The payload is not strict base64url, or there are more than three segments.
    PayloadEncoding,
    /// The signature is not strict base64url.
    SignatureEncoding,
    /// `alg` is not the pinned one, or the header asks for what is not supported.
    Algorithm,
    /// The signature is not ours.
    Signature,
    /// The payload is no JSON object, or has a name twice.
    PayloadJson(&'static str),
    /// A required claim is missing or null.
    Missing(Claim),
    /// A time is no integer within ±2^53.
    NotAnInteger(Claim),
    /// `iat` lies in the future.
    IssuedInTheFuture,
    /// `nbf` lies in the future.
    NotYetValid,
    /// `exp` is now or in the past.
    Expired,
    /// `identity` is missing, empty, or no string.
    NoIdentity,
}

/// A secret that is too short to sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("has {0} bytes; at least {MIN_SECRET_BYTES} are required")]
pub struct SecretTooShort(pub usize);

/// A token could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the token could not be signed")]
pub struct NotIssued;

/// The key that signs and verifies, with the settings that go with it.
pub struct Keys {
    settings: Settings,
    signing: EncodingKey,
    verifying: DecodingKey,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Keys {
    /// Prepares the key.
    ///
    /// # Errors
    /// [`SecretTooShort`] below [`MIN_SECRET_BYTES`].
    pub fn new(secret: &[u8], settings: Settings) -> Result<Self, SecretTooShort> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(SecretTooShort(secret.len()));
        }
        Ok(Self { settings, signing: EncodingKey::from_secret(secret), verifying: DecodingKey::from_secret(secret) })
    }

    /// Makes a token for `identity` at `now` (seconds since 1970), known by `id`.
    ///
    /// # Errors
    /// [`NotIssued`] where the cryptography library fails.
    pub fn issue(&self, identity: &str, id: &str, now: i64) -> Result<String, NotIssued> {
        let claims = Issued { exp: now + i64::from(self.settings.lifetime), iat: now, nbf: now, identity, jti: id };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing).map_err(|_| NotIssued)
    }

    /// Checks `token` at `now` (seconds since 1970), in the order of [`Refused`].
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(&self, token: &[u8], now: i64) -> Result<Verified, Refused> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refused::TooLong);
        }
        // As RFC 7515 (section 7.1) lays it out: header, payload, signature. What stands
        // between the first and the last point is the payload, whatever it holds.
        let last = token.iter().rposition(|&byte| byte == b'.').ok_or(Refused::NotEnoughSegments)?;
        let (signed, signature) = (token.get(..last), token.get(last + 1..));
        let (Some(signed), Some(signature)) = (signed, signature) else { return Err(Refused::NotEnoughSegments) };
        let first = signed.iter().position(|&byte| byte == b'.').ok_or(Refused::NotEnoughSegments)?;
        let (Some(header), Some(payload)) = (signed.get(..first), signed.get(first + 1..)) else {
            return Err(Refused::NotEnoughSegments);
        };
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| Refused::HeaderEncoding)?;
        let header = json::object(&header).map_err(Refused::HeaderJson)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| Refused::PayloadEncoding)?;
        URL_SAFE_NO_PAD.decode(signature).map_err(|_| Refused::SignatureEncoding)?;
        let signature = std::str::from_utf8(signature).map_err(|_| Refused::SignatureEncoding)?;
        if !is_acceptable(&header) {
            return Err(Refused::Algorithm);
        }
        let genuine = jsonwebtoken::crypto::verify(signature, signed, &self.verifying, Algorithm::HS256);
        if !genuine.unwrap_or(false) {
            return Err(Refused::Signature);
        }
        let payload = json::object(&payload).map_err(Refused::PayloadJson)?;
        check_claims(&payload, token, now, i64::from(self.settings.leeway))
    }
}

/// Whether the header names the pinned algorithm and asks for nothing that would change what
/// is signed (RFC 7515, section 4.1.11; RFC 7797; RFC 7516 for `zip`).
fn is_acceptable(header: &Object) -> bool {
    let pinned = header.get("alg").and_then(serde_json::Value::as_str) == Some("HS256");
    // No key has a name, so no token can rightly ask for one.
    pinned && ["crit", "b64", "zip", "kid"].iter().all(|name| !header.contains_key(*name))
}

#[cfg(test)]
mod tests;
