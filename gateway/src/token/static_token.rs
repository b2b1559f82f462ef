//! Static tokens: long random strings that authorise machine clients for some routes until they are removed
//! from the configuration. Only their SHA-256 is stored.

use std::sync::Arc;

use super::{Digest, MAX_NAME_BYTES, Presented, is_plain_name, random_hex};
use crate::scope::Scopes;

/// Prefix of the identities of static tokens, reserved for them.
pub const STATIC_PREFIX: &str = "static:";

/// Maximum number of static tokens: each is compared with each token received.
pub const MAX_STATIC_TOKENS: usize = 1024;

/// Prefix of generated tokens, for secret scanners.
const TOKEN_PREFIX: &str = "holodule_";

/// A name that is not valid for a static token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to {MAX_NAME_BYTES} characters of A-Z a-z 0-9 - . _")]
pub struct NotAName;

/// Why a list of static tokens is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotStaticTokens {
    /// There are more than [`MAX_STATIC_TOKENS`].
    #[error("{0} static tokens are more than {MAX_STATIC_TOKENS}")]
    TooMany(usize),
    /// Two have the same name.
    #[error("two static tokens have the name {0:?}")]
    SameName(String),
    /// Two have the same SHA-256, so the identity would be ambiguous.
    #[error("the static tokens {0:?} and {1:?} have the same sha256")]
    SameDigest(String, String),
}

/// The routes a static token is valid for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routes {
    /// All configured routes.
    All,
    /// The routes with these names.
    Named(Vec<String>),
}

/// A static token, without the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticToken {
    identity: Arc<str>,
    sha256: Digest,
    routes: Routes,
    expires_at: Option<i64>,
    scopes: Scopes,
}

impl StaticToken {
    /// The token whose SHA-256 this is, called `name`: 1 to 64 characters of `A-Z a-z 0-9 - . _`.
    /// It is not valid from `expires_at` (seconds since 1970) on.
    ///
    /// # Errors
    /// [`NotAName`].
    pub fn new(name: &str, sha256: Digest, routes: Routes, expires_at: Option<i64>) -> Result<Self, NotAName> {
        Self::check_name(name)?;
        let identity = format!("{STATIC_PREFIX}{name}").into();
        Ok(Self { identity, sha256, routes, expires_at, scopes: Scopes::default() })
    }

    /// The same token with `scopes`; without this it has none.
    #[must_use]
    pub fn with_scopes(self, scopes: Scopes) -> Self {
        Self { scopes, ..self }
    }

    /// What its holder may do.
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// Checks a name.
    ///
    /// # Errors
    /// [`NotAName`] if it is not valid.
    pub fn check_name(name: &str) -> Result<(), NotAName> {
        if is_plain_name(name) { Ok(()) } else { Err(NotAName) }
    }

    /// The identity: `static:` and the name.
    pub fn identity(&self) -> &Arc<str> {
        &self.identity
    }

    /// The SHA-256 of the secret.
    pub fn sha256(&self) -> Digest {
        self.sha256
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.identity.strip_prefix(STATIC_PREFIX).unwrap_or_default()
    }

    /// The routes it is valid for.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Returns whether it is valid for the route with this name.
    pub fn may_use(&self, route: &str) -> bool {
        match &self.routes {
            Routes::All => true,
            Routes::Named(names) => names.iter().any(|name| name == route),
        }
    }

    /// Returns whether it has expired at `now` (seconds since 1970).
    pub fn is_expired(&self, now: i64) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    /// When it expires, in seconds since 1970.
    pub fn expires_at(&self) -> Option<i64> {
        self.expires_at
    }
}

/// The configured static tokens.
#[derive(Clone, Debug, Default)]
pub struct StaticTokens(Vec<Arc<StaticToken>>);

impl StaticTokens {
    /// Creates the set of `tokens`.
    ///
    /// # Errors
    /// [`NotStaticTokens`].
    pub fn new(tokens: Vec<StaticToken>) -> Result<Self, NotStaticTokens> {
        if tokens.len() > MAX_STATIC_TOKENS {
            return Err(NotStaticTokens::TooMany(tokens.len()));
        }
        for (index, token) in tokens.iter().enumerate() {
            for other in tokens.iter().skip(index + 1) {
                if token.identity == other.identity {
                    return Err(NotStaticTokens::SameName(token.name().to_owned()));
                }
                if token.sha256 == other.sha256 {
                    return Err(NotStaticTokens::SameDigest(token.name().to_owned(), other.name().to_owned()));
                }
            }
        }
        Ok(Self(tokens.into_iter().map(Arc::new).collect()))
    }

    /// Finds `token`, expired or not. All static tokens are compared, each in constant time, so that the timing
    /// does not reveal any of them.
    pub fn find(&self, token: &Presented<'_>) -> Option<&Arc<StaticToken>> {
        if self.0.is_empty() {
            return None;
        }
        let digest = token.digest();
        self.0.iter().fold(None, |found, known| if known.sha256 == digest { Some(known) } else { found })
    }

    /// The static token with this identity and this digest, expired or not.
    pub fn find_named(&self, identity: &str, sha256: Digest) -> Option<&Arc<StaticToken>> {
        self.0.iter().find(|known| *known.identity == *identity && known.sha256 == sha256)
    }

    /// All static tokens.
    pub fn iter(&self) -> impl Iterator<Item = &StaticToken> {
        self.0.iter().map(AsRef::as_ref)
    }
}

/// Generates a token: `holodule_` and 256 random bits in lower-case hexadecimal. `None` if the system's random
/// generator fails.
pub fn random_static_token() -> Option<String> {
    Some(format!("{TOKEN_PREFIX}{}", random_hex::<32>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, secret: &str) -> StaticToken {
        StaticToken::new(name, Digest::of(secret.as_bytes()), Routes::Named(vec!["holodules".to_owned()]), Some(100))
            .unwrap()
    }

    #[test]
    fn a_token_is_found_only_by_its_exact_value() {
        let tokens = StaticTokens::new(vec![token("a", "one"), token("b", "two"), token("c", "three")]).unwrap();
        let find = |secret: &str| tokens.find(&Presented::new(secret.as_bytes()).unwrap()).map(|token| token.name());
        assert_eq!((find("one"), find("two"), find("three")), (Some("a"), Some("b"), Some("c")));
        assert_eq!((find(""), find("on"), find("One"), find("a"), find("four")), (None, None, None, None, None));
        // The configuration does not reveal a token.
        assert_eq!(find(&Digest::of(b"one").to_string()), None);
    }

    #[test]
    fn its_identity_cannot_be_a_user_name() {
        assert_eq!(&**token("collector", "one").identity(), "static:collector");
    }

    #[test]
    fn it_is_valid_for_its_routes_until_it_expires() {
        let token = token("a", "one");
        assert!(token.may_use("holodules") && !token.may_use("notes") && !token.may_use(""));
        assert!(!token.is_expired(99) && token.is_expired(100));
        let all = StaticToken::new("a", Digest::of(b""), Routes::All, None).unwrap();
        assert!(all.may_use("notes") && !all.is_expired(i64::MAX));
    }

    #[test]
    fn duplicates_and_invalid_names_are_refused() {
        let refused = |tokens| StaticTokens::new(tokens).unwrap_err();
        let twice = vec![token("a", "one"), token("b", "two"), token("a", "three")];
        assert_eq!(refused(twice), NotStaticTokens::SameName("a".to_owned()));
        let twice = vec![token("a", "one"), token("b", "one")];
        assert_eq!(refused(twice), NotStaticTokens::SameDigest("a".to_owned(), "b".to_owned()));
        let many = (0..=MAX_STATIC_TOKENS).map(|number| token(&number.to_string(), &number.to_string())).collect();
        assert_eq!(refused(many), NotStaticTokens::TooMany(1025));
        for name in ["", "a b", "static:a", "é", "a/b", &"n".repeat(65)] {
            let odd = StaticToken::new(name, Digest::of(b""), Routes::All, None);
            assert_eq!(odd.unwrap_err(), NotAName, "{name}");
        }
    }

    #[test]
    fn a_generated_token_is_unique_and_has_the_prefix() {
        let (one, two) = (random_static_token().unwrap(), random_static_token().unwrap());
        assert_ne!(one, two);
        let digits = one.strip_prefix("holodule_").unwrap();
        assert_eq!(digits.len(), 64);
        assert!(digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
    }
}
