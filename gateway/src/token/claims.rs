//! The claims of a token (RFC 7519, section 4.1), and what they have to say.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::json::Object;
use super::{Digest, Refused};

/// The integers that JSON carries exactly between implementations (RFC 8259, section 6).
const EXACT: i64 = 1 << 53;

/// The longest `jti` that a token is known by.
const MAX_JTI_BYTES: usize = 128;

/// A claim that has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// `exp`, the expiration time.
    ExpirationTime,
    /// `iat`, when it was issued.
    IssuedAt,
    /// `nbf`, not before.
    NotBefore,
}

impl Claim {
    /// The registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExpirationTime => "exp",
            Self::IssuedAt => "iat",
            Self::NotBefore => "nbf",
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a good token says. A clone is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Who it was issued to: not empty.
    pub identity: Arc<str>,
    /// `iat`, in seconds since 1970.
    pub issued_at: i64,
    /// The second from which on it opens nothing, since 1970.
    pub expires_at: i64,
    /// What this one token is known by: `jti:` and its `jti`, where that is a string of 1 to 128
    /// printable ASCII characters, else `sha256:` and the SHA-256 of the whole token in lower-case
    /// hexadecimal. Tokens that the original service made have no `jti`.
    pub id: Arc<str>,
}

/// The claims of a token of ours, in the order in which the original wrote them.
#[derive(Serialize)]
pub(super) struct Issued<'a> {
    pub(super) exp: i64,
    pub(super) iat: i64,
    pub(super) nbf: i64,
    pub(super) identity: &'a str,
    pub(super) jti: &'a str,
}

/// Checks what the `claims` of `token` say at `now`, forgiving `leeway` seconds.
pub(super) fn check_claims(claims: &Object, token: &[u8], now: i64, leeway: i64) -> Result<Verified, Refused> {
    let [exp, iat, nbf] = [
        required(claims, Claim::ExpirationTime)?,
        required(claims, Claim::IssuedAt)?,
        required(claims, Claim::NotBefore)?,
    ];
    let issued_at = integer(iat, Claim::IssuedAt)?;
    if issued_at > now + leeway {
        return Err(Refused::IssuedInTheFuture);
    }
    if integer(nbf, Claim::NotBefore)? > now + leeway {
        return Err(Refused::NotYetValid);
    }
    let expires_at = integer(exp, Claim::ExpirationTime)?;
    // RFC 7519, section 4.1.4: "on or after" the time it is not accepted.
    if expires_at <= now - leeway {
        return Err(Refused::Expired);
    }
    match claims.get("identity").and_then(Value::as_str) {
        Some(identity) if !identity.is_empty() => {
            Ok(Verified { identity: identity.into(), issued_at, expires_at, id: id(claims, token) })
        }
        _ => Err(Refused::NoIdentity),
    }
}

/// [`Verified::id`].
fn id(claims: &Object, token: &[u8]) -> Arc<str> {
    let jti = claims.get("jti").and_then(Value::as_str);
    let is_printable = |jti: &&str| jti.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    match jti.filter(|jti| (1..=MAX_JTI_BYTES).contains(&jti.len())).filter(is_printable) {
        Some(jti) => format!("jti:{jti}").into(),
        None => format!("sha256:{}", Digest::of(token)).into(),
    }
}

fn required(claims: &Object, claim: Claim) -> Result<&Value, Refused> {
    claims.get(claim.name()).filter(|value| !value.is_null()).ok_or(Refused::Missing(claim))
}

fn integer(value: &Value, claim: Claim) -> Result<i64, Refused> {
    value.as_i64().filter(|value| (-EXACT..=EXACT).contains(value)).ok_or(Refused::NotAnInteger(claim))
}
