//! The claims of a token (RFC 7519, section 4.1) and their checks.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::json::Object;
use super::mark::{MAX_CLOCK_SKEW, mark_of};
use super::settings::Settings;
use super::{Presented, STATIC_PREFIX, TokenError};
use crate::scope::Scopes;

/// Up to here integers are exact in every JSON implementation (RFC 8259, section 6).
const EXACT: i64 = 1 << 53;

/// Maximum length of a `jti` that identifies its token, in bytes.
const MAX_JTI_BYTES: usize = 128;

/// The claim with scopes as one text.
const SCOPE: &str = "scope";

/// The claim with scopes as an array, or as one text.
const SCP: &str = "scp";

/// A required claim.
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

/// The verified claims of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The user it was issued to; not empty.
    pub identity: Arc<str>,
    /// `iat`, in seconds since 1970.
    pub issued_at: i64,
    /// When it becomes valid, in seconds since 1970: the later of `iat` and `nbf`, less the leeway, which is at least
    /// [`MAX_CLOCK_SKEW`] for a token with a password mark.
    pub not_before: i64,
    /// When it expires, in seconds since 1970: at `exp` with the leeway, or after the maximum lifetime, whichever is
    /// earlier.
    pub expires_at: i64,
    /// Identifies this token: `jti:` and its `jti` if that is a string of 1 to 128 printable ASCII characters,
    /// otherwise `sha256:` and the SHA-256 of the whole token in lower-case hexadecimal. Tokens of the original service
    /// have no `jti`.
    pub id: Arc<str>,
    /// The mark of the password that the token was issued for, if its `jti` has one.
    pub password_mark: Option<Box<str>>,
    /// What its holder may do, as of when it was issued: `scope` (RFC 8693, section 4.2), or `scp` of other issuers.
    pub scopes: Scopes,
}

/// The claims of an issued token, in the order of the original service.
#[derive(Serialize)]
pub(super) struct Issued<'a> {
    pub(super) exp: i64,
    pub(super) iat: i64,
    pub(super) nbf: i64,
    pub(super) identity: &'a str,
    pub(super) jti: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) scope: &'a str,
}

impl Verified {
    /// Whether it is valid at `now` (seconds since 1970).
    pub(super) fn is_in_time(&self, now: i64) -> bool {
        (self.not_before..self.expires_at).contains(&now)
    }
}

/// Checks the `claims` of `token` at `now`.
pub(super) fn check_claims(
    claims: &Object,
    token: &Presented<'_>,
    now: i64,
    settings: &Settings,
) -> Result<Verified, TokenError> {
    let leeway = i64::from(settings.leeway);
    let [exp, iat, nbf] = [
        required(claims, Claim::ExpirationTime)?,
        required(claims, Claim::IssuedAt)?,
        required(claims, Claim::NotBefore)?,
    ];
    let password_mark = claims.get("jti").and_then(Value::as_str).and_then(mark_of);
    // A gateway whose clock is ahead may have issued it, and its user must be served here immediately.
    let early = if password_mark.is_some() { leeway.max(MAX_CLOCK_SKEW.into()) } else { leeway };
    let issued_at = integer(iat, Claim::IssuedAt)?;
    if issued_at > now + early {
        return Err(TokenError::IssuedInTheFuture);
    }
    let not_before = integer(nbf, Claim::NotBefore)?;
    if not_before > now + early {
        return Err(TokenError::NotYetValid);
    }
    let exp = integer(exp, Claim::ExpirationTime)?;
    // Only the local clock measures the maximum lifetime, so it needs no leeway.
    let expires_at = (exp + leeway).min(issued_at + i64::from(settings.max_lifetime));
    // RFC 7519, section 4.1.4: not accepted "on or after" this time.
    if expires_at <= now {
        return Err(TokenError::Expired);
    }
    let identity = claims.get("identity").and_then(Value::as_str).unwrap_or_default();
    // Reserved for the static tokens of the configuration.
    if identity.is_empty() || identity.starts_with(STATIC_PREFIX) {
        return Err(TokenError::NoIdentity);
    }
    Ok(Verified {
        identity: identity.into(),
        issued_at,
        not_before: not_before.max(issued_at) - early,
        expires_at,
        id: id(claims, token),
        password_mark: password_mark.map(Box::from),
        scopes: scopes(claims)?,
    })
}

/// [`Verified::scopes`]. Both claims may be present if they are equal, since services may read either.
fn scopes(claims: &Object) -> Result<Scopes, TokenError> {
    let present = |name| claims.get(name).filter(|value| !value.is_null());
    let invalid = |name| move || TokenError::InvalidScopes(name);
    let text = |value: &Value| value.as_str().and_then(|text| Scopes::parse(text).ok());
    let scope = present(SCOPE).map(|value| text(value).ok_or_else(invalid(SCOPE))).transpose()?;
    let array = |value: &Value| text(value).or_else(|| Scopes::from_json(value));
    let scp = present(SCP).map(|value| array(value).ok_or_else(invalid(SCP))).transpose()?;
    match (scope, scp) {
        (Some(scope), Some(scp)) if scope != scp => Err(invalid(SCP)()),
        (scope, scp) => Ok(scope.or(scp).unwrap_or_default()),
    }
}

/// [`Verified::id`].
fn id(claims: &Object, token: &Presented<'_>) -> Arc<str> {
    let jti = claims.get("jti").and_then(Value::as_str);
    let is_printable = |jti: &&str| jti.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    match jti.filter(|jti| (1..=MAX_JTI_BYTES).contains(&jti.len())).filter(is_printable) {
        Some(jti) => format!("jti:{jti}").into(),
        None => format!("sha256:{}", token.digest()).into(),
    }
}

fn required(claims: &Object, claim: Claim) -> Result<&Value, TokenError> {
    claims.get(claim.name()).filter(|value| !value.is_null()).ok_or(TokenError::Missing(claim))
}

fn integer(value: &Value, claim: Claim) -> Result<i64, TokenError> {
    value.as_i64().filter(|value| (-EXACT..=EXACT).contains(value)).ok_or(TokenError::NotAnInteger(claim))
}
