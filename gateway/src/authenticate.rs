//! Authentication by the `Authorization` header (RFC 9110, section 11.6.2; RFC 6750, section 2.1).
//!
//! Pure: headers and the time go in, a [`Principal`] or an error comes out.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use memchr::{memchr2, memchr3};

use crate::scope::Scopes;
use crate::syntax::trim_ows;
use crate::token::{Keys, Presented, StaticToken, StaticTokens, TokenError, Verified};

/// The accepted keys and static tokens. A reload replaces it as a whole.
#[derive(Debug)]
pub struct Accepted {
    /// The keys that verify the tokens issued at login.
    pub keys: Arc<Keys>,
    /// The static tokens of machine clients.
    pub static_tokens: StaticTokens,
}

/// The authenticated principal of a request. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The credential it presented.
    pub credential: Credential,
}

/// An accepted credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A JSON Web Token.
    Token(Arc<Verified>),
    /// A static token.
    Static(Arc<StaticToken>),
}

impl Principal {
    /// The identity in logs, limits and requests to the backend; not empty.
    pub fn identity(&self) -> &str {
        match &self.credential {
            Credential::Token(token) => &token.identity,
            Credential::Static(token) => token.identity(),
        }
    }

    /// What the credential allows. For a user, the roles that the backend returns with a revocation check replace it.
    pub fn scopes(&self) -> &Scopes {
        match &self.credential {
            Credential::Token(token) => &token.scopes,
            Credential::Static(token) => token.scopes(),
        }
    }

    /// Returns whether the credential is valid for this route. A static token is valid only for its configured
    /// routes; for it, others do not exist.
    pub fn may_use(&self, route: &str) -> bool {
        match &self.credential {
            Credential::Token(_) => true,
            Credential::Static(token) => token.may_use(route),
        }
    }
}

/// Why a request is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthenticationError {
    /// `Authorization` is missing or empty.
    Absent,
    /// The scheme is neither `JWT` nor `Bearer`.
    UnsupportedScheme,
    /// The token is missing.
    TokenMissing,
    /// There is more than one token: separated by spaces or commas, or in a second header.
    TokenContainsSpaces,
    /// The token is not valid.
    Token(TokenError),
    /// A static token was sent with a scheme other than `Bearer`. The response is that for an unknown token, so
    /// that the `JWT` scheme cannot be used to test for static tokens.
    StaticTokenScheme(TokenError),
}

impl AuthenticationError {
    /// All values of [`AuthenticationError::label`].
    pub const LABELS: [&str; 10] = [
        "absent",
        "header",
        "encoding",
        "algorithm",
        "unknown_kid",
        "signature",
        "claims",
        "expired",
        "identity",
        "static_token_scheme",
    ];

    /// The value of the metric's `reason` label.
    pub fn label(self) -> &'static str {
        let refused = match self {
            Self::Absent => return "absent",
            Self::UnsupportedScheme | Self::TokenMissing | Self::TokenContainsSpaces => return "header",
            Self::StaticTokenScheme(_) => return "static_token_scheme",
            Self::Token(refused) => refused,
        };
        match refused {
            TokenError::TooLong
            | TokenError::NotEnoughSegments
            | TokenError::HeaderEncoding
            | TokenError::HeaderJson(_)
            | TokenError::PayloadEncoding
            | TokenError::SignatureEncoding
            | TokenError::PayloadJson(_) => "encoding",
            TokenError::Algorithm => "algorithm",
            TokenError::UnknownKid => "unknown_kid",
            TokenError::Signature => "signature",
            TokenError::Missing(_)
            | TokenError::NotAnInteger(_)
            | TokenError::IssuedInTheFuture
            | TokenError::NotYetValid
            | TokenError::InvalidScopes(_) => "claims",
            TokenError::Expired => "expired",
            TokenError::NoIdentity => "identity",
        }
    }
}

/// Authenticates a request with `headers` at `now` (seconds since 1970).
///
/// # Errors
/// The [`AuthenticationError`] for the response.
pub fn authenticate(headers: &HeaderMap, accepted: &Accepted, now: i64) -> Result<Principal, AuthenticationError> {
    let (scheme, token) = credentials(headers)?;
    verify(scheme, token, accepted, now)
}

/// Authenticates a client that sent `token` in another place than `Authorization`, where it counts as `Bearer`.
///
/// # Errors
/// The [`AuthenticationError`] for the response.
pub fn authenticate_bearer(token: &[u8], accepted: &Accepted, now: i64) -> Result<Principal, AuthenticationError> {
    if token.is_empty() {
        return Err(AuthenticationError::TokenMissing);
    }
    verify(Scheme::Bearer, token, accepted, now)
}

fn verify(scheme: Scheme, token: &[u8], accepted: &Accepted, now: i64) -> Result<Principal, AuthenticationError> {
    let token = Presented::new(token).map_err(AuthenticationError::Token)?;
    // User tokens are verified first, so their cost does not depend on the number of static tokens.
    let refused = match accepted.keys.verify(&token, now) {
        Ok(verified) => return Ok(Principal { credential: Credential::Token(verified) }),
        Err(refused) => refused,
    };
    match accepted.static_tokens.find(&token) {
        None => Err(AuthenticationError::Token(refused)),
        Some(_) if scheme != Scheme::Bearer => Err(AuthenticationError::StaticTokenScheme(refused)),
        Some(found) if found.is_expired(now) => Err(AuthenticationError::Token(TokenError::Expired)),
        Some(found) => Ok(Principal { credential: Credential::Static(Arc::clone(found)) }),
    }
}

/// The authentication scheme.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    /// The scheme of the original service.
    Jwt,
    /// RFC 6750.
    Bearer,
}

/// Returns the scheme and the token of the only `Authorization` header.
fn credentials(headers: &HeaderMap) -> Result<(Scheme, &[u8]), AuthenticationError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Err(AuthenticationError::Absent) };
    if values.next().is_some() {
        return Err(AuthenticationError::TokenContainsSpaces);
    }
    let value = trim_ows(value.as_bytes());
    let end = memchr2(b' ', b'\t', value).unwrap_or(value.len());
    let (scheme, token) = value.split_at_checked(end).unwrap_or((value, &[]));
    let scheme = match scheme {
        [] => return Err(AuthenticationError::Absent),
        word if word.eq_ignore_ascii_case(b"JWT") => Scheme::Jwt,
        word if word.eq_ignore_ascii_case(b"Bearer") => Scheme::Bearer,
        _ => return Err(AuthenticationError::UnsupportedScheme),
    };
    let token = trim_ows(token);
    if token.is_empty() {
        return Err(AuthenticationError::TokenMissing);
    }
    // A comma joins the values of two headers (RFC 9110, section 5.3); no token contains one.
    if memchr3(b' ', b'\t', b',', token).is_some() {
        return Err(AuthenticationError::TokenContainsSpaces);
    }
    Ok((scheme, token))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::token::{Digest, Key, Routes, Settings};

    /// A static token that expires at 2000 seconds.
    const MACHINE: &str = "machine-0123";

    fn refusal(values: &[&str]) -> AuthenticationError {
        authenticate(&headers(values), &accepted(), 0).unwrap_err()
    }

    fn accepted() -> Accepted {
        let settings = Settings { lifetime: 300, leeway: 0, max_lifetime: 3600 };
        let keys = Keys::new(vec![Key::unnamed(&[7; 32]).unwrap()], settings).unwrap();
        let routes = Routes::Named(vec!["holodules".to_owned()]);
        let machine = StaticToken::new("collector", Digest::of(MACHINE.as_bytes()), routes, Some(2000)).unwrap();
        Accepted { keys: Arc::new(keys), static_tokens: StaticTokens::new(vec![machine]).unwrap() }
    }

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn an_absent_empty_or_blank_header_is_absent() {
        for values in [&[][..], &[""], &[" "], &["\t "]] {
            assert_eq!(refusal(values), AuthenticationError::Absent);
        }
    }

    #[test]
    fn other_schemes_and_bare_tokens_are_unsupported() {
        for value in ["Basic dXNlcjE6cGFzcw==", "eyJ.e30.x", "JWTx a", "Token a b"] {
            assert_eq!(refusal(&[value]), AuthenticationError::UnsupportedScheme, "{value}");
        }
    }

    #[test]
    fn a_scheme_without_a_token_is_refused() {
        assert_eq!(refusal(&["JWT"]), AuthenticationError::TokenMissing);
        assert_eq!(refusal(&["bearer "]), AuthenticationError::TokenMissing);
    }

    #[test]
    fn several_tokens_are_refused() {
        for values in [&["JWT a b"][..], &["JWT a", "JWT a"], &["JWT a, JWT b"], &["JWT a,b"]] {
            assert_eq!(refusal(values), AuthenticationError::TokenContainsSpaces);
        }
    }

    #[test]
    fn schemes_are_case_insensitive() {
        let accepted = accepted();
        let token = accepted.keys.issue("user01", "1", 1000).unwrap();
        for scheme in ["JWT ", "jwt ", "Bearer ", "BEARER\t \t", "bearer   "] {
            let principal = authenticate(&headers(&[&format!("{scheme}{token}")]), &accepted, 1000).unwrap();
            assert_eq!(principal.identity(), "user01");
            assert!(principal.may_use("holodules") && principal.may_use("anything"));
        }
    }

    #[test]
    fn a_static_token_requires_bearer_and_is_valid_for_its_routes_until_it_expires() {
        let accepted = accepted();
        let sent = |value: &str, now| authenticate(&headers(&[value]), &accepted, now);
        for scheme in ["Bearer", "bearer ", "BEARER\t"] {
            let principal = sent(&format!("{scheme} {MACHINE}"), 1999).unwrap();
            assert_eq!(principal.identity(), "static:collector");
            assert!(principal.may_use("holodules") && !principal.may_use("anything"));
        }
        let refused = Err(AuthenticationError::Token(TokenError::NotEnoughSegments));
        for now in [1999, 2000] {
            let sent = sent(&format!("JWT {MACHINE}"), now);
            assert_eq!(sent, Err(AuthenticationError::StaticTokenScheme(TokenError::NotEnoughSegments)));
        }
        assert_eq!(sent(&format!("JWT {MACHINE}4"), 1999), refused);
        assert_eq!(sent(&format!("Bearer {MACHINE}4"), 1999), refused);
        assert_eq!(sent(&format!("Bearer {}", Digest::of(MACHINE.as_bytes())), 1999), refused);
        assert_eq!(sent(&format!("Bearer {MACHINE}"), 2000), Err(AuthenticationError::Token(TokenError::Expired)));
    }

    #[test]
    fn a_json_web_token_cannot_have_the_identity_of_a_static_token() {
        let accepted = accepted();
        for identity in ["static:collector", "static:", "static:other"] {
            let token = accepted.keys.issue(identity, "1", 1000).unwrap();
            let refused = authenticate(&headers(&[&format!("Bearer {token}")]), &accepted, 1000);
            assert_eq!(refused, Err(AuthenticationError::Token(TokenError::NoIdentity)), "{identity}");
        }
    }

    #[test]
    fn every_error_has_a_listed_label() {
        let refused = [
            TokenError::TooLong,
            TokenError::Algorithm,
            TokenError::UnknownKid,
            TokenError::Signature,
            TokenError::NotYetValid,
            TokenError::Expired,
            TokenError::NoIdentity,
        ];
        let tokens = refused.into_iter().map(AuthenticationError::Token);
        let others = [
            AuthenticationError::Absent,
            AuthenticationError::TokenMissing,
            AuthenticationError::StaticTokenScheme(TokenError::TooLong),
        ];
        let labels: Vec<_> = tokens.chain(others).map(AuthenticationError::label).collect();
        assert!(AuthenticationError::LABELS.iter().all(|label| labels.contains(label)), "{labels:?}");
        assert!(labels.iter().all(|label| AuthenticationError::LABELS.contains(label)), "{labels:?}");
    }

    #[test]
    fn an_invalid_token_is_reported_as_such() {
        assert_eq!(refusal(&["JWT a"]), AuthenticationError::Token(TokenError::NotEnoughSegments));
    }
}
