//! JSON Web Tokens (RFC 7515, 7519, 8725), and the static tokens of machine clients, which are long random strings.
//!
//! Pure: the time is an argument, and there is no I/O. The algorithm is always HS256, whatever the header states.

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
mod ticket;

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
pub use ticket::{InvalidTicket, Parent, TICKET_LIFETIME, TICKET_SKEW, Ticket, ticket_target};

/// Why a token is not valid. The variants are in the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// Over [`MAX_TOKEN_BYTES`].
    TooLong,
    /// Fewer than three segments.
    NotEnoughSegments,
    /// The header is not strict base64url.
    HeaderEncoding,
    /// The header is not a JSON object, or has a duplicate name.
    HeaderJson(&'static str),
    /// The payload is not strict base64url, or there are more than three segments.
    PayloadEncoding,
    /// The signature is not strict base64url.
    SignatureEncoding,
    /// `alg` is not HS256, or the header requires an unsupported extension.
    Algorithm,
    /// The header names a key that is unknown or retired.
    UnknownKid,
    /// The signature is invalid.
    Signature,
    /// The payload is not a JSON object, or has a duplicate name.
    PayloadJson(&'static str),
    /// A required claim is missing or null.
    Missing(Claim),
    /// A time is not an integer within ±2^53.
    NotAnInteger(Claim),
    /// `iat` is in the future.
    IssuedInTheFuture,
    /// `nbf` is in the future.
    NotYetValid,
    /// `exp` is not in the future, or the token exceeds the maximum lifetime.
    Expired,
    /// `identity` is missing, empty, not a string, or reserved for static tokens.
    NoIdentity,
    /// The claim of this name has invalid scopes, or `scope` and `scp` differ.
    InvalidScopes(&'static str),
}

#[cfg(test)]
mod tests;
