//! JSON Web Tokens: issued and verified here, and nowhere else (RFC 7515, 7519, 8725); and the
//! static tokens of machines, which are no more than long random words.
//!
//! Pure: the time is an argument, and there is no I/O. The algorithm is HS256, pinned
//! by the configuration and never chosen by the token.

mod claims;
mod digest;
mod json;
mod key;
mod keys;
mod mark;
mod name;
mod presented;
mod random;
mod seen;
mod settings;
mod static_token;

pub use claims::{Claim, Verified};
pub use digest::{Digest, NotADigest};
pub use json::{Object, object as json_object};
pub use key::{Key, MIN_SECRET_BYTES, NotAKey};
pub use keys::{Keys, MAX_KEYS, NotIssued, NotKeys};
pub(crate) use mark::marked_jti;
pub use mark::{MAX_CLOCK_SKEW, is_password_mark};
use name::{MAX_NAME_BYTES, is_plain_name};
pub use presented::{MAX_TOKEN_BYTES, Presented};
pub use random::{correlation_id, random_hex};
pub use settings::Settings;
pub use static_token::{
    MAX_STATIC_TOKENS, NotAName, NotStaticTokens, Routes, STATIC_PREFIX, StaticToken, StaticTokens, random_static_token,
};

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
    /// The header names a key that is not configured, or that is retired.
    UnknownKid,
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
    /// `exp` is now or in the past, or the token is older than any may become.
    Expired,
    /// `identity` is missing, empty, no string, or one that only a static token has.
    NoIdentity,
}

#[cfg(test)]
mod tests;
