//! The set of active keys: the first signs, all verify.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::claims::{Issued, check_claims};
use super::json::{self, Object};
use super::seen::Seen;
use super::settings::Settings;
use super::{Key, MAX_TOKEN_BYTES, Presented, TokenError, Verified};
use crate::scope::Scopes;

/// Maximum number of keys. A token without `kid` may have to be verified with each of them.
pub const MAX_KEYS: usize = 16;

/// Why a set of keys is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKeys {
    /// There are no keys.
    #[error("at least one key is required")]
    None,
    /// There are more than [`MAX_KEYS`].
    #[error("{0} keys are more than {MAX_KEYS}")]
    TooMany(usize),
    /// Two keys have the same key ID, or two have none.
    #[error("two keys have the kid {0:?}")]
    SameKid(String),
}

/// Why no token was issued.
#[derive(Debug, thiserror::Error)]
pub enum NotIssued {
    /// Every key is retired.
    #[error("every key that could sign is retired")]
    NoKey,
    /// The cryptography library failed.
    #[error("the token could not be signed")]
    Cryptography,
    /// It would exceed [`MAX_TOKEN_BYTES`], so no gateway would accept it.
    #[error("the token would have {0} bytes, more than {MAX_TOKEN_BYTES}")]
    TooLong(usize),
}

/// The keys, their settings, and a cache of the tokens that they verified. A reload replaces all of it, so that no
/// cached token outlives its key.
pub struct Keys {
    settings: Settings,
    keys: Vec<Key>,
    seen: Seen,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("settings", &self.settings).field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Keys {
    /// Creates a set of `keys`. The first that is not retired signs.
    ///
    /// # Errors
    /// [`NotKeys`].
    pub fn new(keys: Vec<Key>, settings: Settings) -> Result<Self, NotKeys> {
        if keys.is_empty() {
            return Err(NotKeys::None);
        }
        if keys.len() > MAX_KEYS {
            return Err(NotKeys::TooMany(keys.len()));
        }
        for (index, key) in keys.iter().enumerate() {
            if keys.iter().skip(index + 1).any(|other| other.kid() == key.kid()) {
                return Err(NotKeys::SameKid(key.kid().unwrap_or_default().to_owned()));
            }
        }
        Ok(Self { settings, keys, seen: Seen::new() })
    }

    /// All keys, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    /// Whether `later` does not verify with one of these keys at `now` (seconds since 1970), so that its
    /// tokens are no longer accepted.
    pub fn has_key_missing_in(&self, later: &Self, now: i64) -> bool {
        let is_in_later = |key: &Key| later.keys.iter().any(|other| other.is_in_force(now) && key.is_same(other));
        self.keys.iter().any(|key| key.is_in_force(now) && !is_in_later(key))
    }

    /// The first second after `second` (since 1970) from which one of the keys is retired.
    pub fn retirement_after(&self, second: i64) -> Option<i64> {
        self.keys.iter().filter_map(Key::retirement).filter(|&retired| retired > second).min()
    }

    /// The key that signs at `now` (seconds since 1970); `None` if every key is retired.
    pub fn signing(&self, now: i64) -> Option<&Key> {
        self.keys.iter().find(|key| key.is_in_force(now))
    }

    /// Issues a token without scopes for `identity` at `now` (seconds since 1970) with `id` as its `jti`.
    ///
    /// # Errors
    /// [`NotIssued`].
    pub fn issue(&self, identity: &str, id: &str, now: i64) -> Result<String, NotIssued> {
        self.issue_scoped(identity, id, &Scopes::default(), now)
    }

    /// Issues a token like [`Keys::issue`], with `scopes` as its `scope` if there are any.
    ///
    /// # Errors
    /// [`NotIssued`].
    pub fn issue_scoped(&self, identity: &str, id: &str, scopes: &Scopes, now: i64) -> Result<String, NotIssued> {
        let exp = now + i64::from(self.settings.lifetime);
        let claims = Issued { exp, iat: now, nbf: now, identity, jti: id, scope: scopes.as_str() };
        let token = self.signing(now).ok_or(NotIssued::NoKey)?.sign(&claims).ok_or(NotIssued::Cryptography)?;
        if token.len() > MAX_TOKEN_BYTES { Err(NotIssued::TooLong(token.len())) } else { Ok(token) }
    }

    /// Checks `token` at `now` (seconds since 1970), in the order of [`TokenError`].
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(&self, token: &Presented<'_>, now: i64) -> Result<Arc<Verified>, TokenError> {
        // A token that was verified before must not have expired, and its key must be in force. Otherwise the full
        // verification returns the reason. That it has begun was checked: it must stay valid if the clock is set back.
        if let Some((verified, key)) = self.seen.get(token)
            && now < verified.expires_at
            && self.keys.get(key).is_some_and(|key| key.is_in_force(now))
        {
            return Ok(verified);
        }
        let (verified, key) = self.verify_uncached(token, now)?;
        let verified = Arc::new(verified);
        self.seen.insert(token, Arc::clone(&verified), key);
        Ok(verified)
    }

    /// Verifies `token` without the cache. Also returns the index of the key that verified it.
    fn verify_uncached(&self, token: &Presented<'_>, now: i64) -> Result<(Verified, usize), TokenError> {
        let Segments { signed, header, payload, signature } = Segments::of(token.bytes)?;
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| TokenError::HeaderEncoding)?;
        let header = json::object(&header).map_err(TokenError::HeaderJson)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| TokenError::PayloadEncoding)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::SignatureEncoding)?;
        if !is_acceptable(&header) {
            return Err(TokenError::Algorithm);
        }
        let key = self.signer_by(&header, now, |key| key.verify(signed, &signature))?;
        let payload = json::object(&payload).map_err(TokenError::PayloadJson)?;
        let verified = check_claims(&payload, token, now, &self.settings)?;
        Ok((verified, key))
    }

    /// The index of the first key that `is_signer` accepts, among those that the header allows.
    pub(super) fn signer_by(
        &self,
        header: &Object,
        now: i64,
        is_signer: impl Fn(&Key) -> bool,
    ) -> Result<usize, TokenError> {
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.as_str()),
            Some(_) => return Err(TokenError::Algorithm),
        };
        let mut candidates =
            self.keys.iter().enumerate().filter(|(_, key)| key.accepts_kid(kid) && key.is_in_force(now));
        if kid.is_some() {
            let (index, key) = candidates.next().ok_or(TokenError::UnknownKid)?;
            return is_signer(key).then_some(index).ok_or(TokenError::Signature);
        }
        let signer = candidates.find(|(_, key)| is_signer(key));
        signer.map(|(index, _)| index).ok_or(TokenError::Signature)
    }
}

/// The parts of a token (RFC 7515, section 7.1).
pub(super) struct Segments<'a> {
    /// The signed part: header and payload with the dot between them.
    pub(super) signed: &'a [u8],
    pub(super) header: &'a [u8],
    pub(super) payload: &'a [u8],
    pub(super) signature: &'a [u8],
}

impl<'a> Segments<'a> {
    /// The payload is everything between the first and the last dot.
    pub(super) fn of(token: &'a [u8]) -> Result<Self, TokenError> {
        let is_dot = |byte: &u8| *byte == b'.';
        let last = token.iter().rposition(is_dot).ok_or(TokenError::NotEnoughSegments)?;
        let (signed, signature) = token.split_at(last);
        let first = signed.iter().position(is_dot).ok_or(TokenError::NotEnoughSegments)?;
        let (header, payload) = signed.split_at(first);
        let after_dot = |part: &'a [u8]| part.get(1..).unwrap_or_default();
        Ok(Self { signed, header, payload: after_dot(payload), signature: after_dot(signature) })
    }
}

/// Whether the header has the only supported algorithm, and no extension that changes what is signed (RFC 7515,
/// section 4.1.11; RFC 7797; RFC 7516 for `zip`). Parameters that locate a key (`jku`, `jwk`, `x5u`, `x5c`) are
/// ignored.
pub(super) fn is_acceptable(header: &Object) -> bool {
    let pinned = header.get("alg").and_then(Value::as_str) == Some("HS256");
    pinned && ["crit", "b64", "zip"].iter().all(|name| !header.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;
    const SETTINGS: Settings = Settings { lifetime: 300, leeway: 0, max_lifetime: 3600 };

    fn named(kid: &str, secret: u8) -> Key {
        Key::named(kid, &[secret; 32]).unwrap()
    }

    fn keys(keys: Vec<Key>) -> Keys {
        Keys::new(keys, SETTINGS).unwrap()
    }

    fn verify(keys: &Keys, token: &str, now: i64) -> Result<Arc<Verified>, TokenError> {
        keys.verify(&Presented::new(token.as_bytes()).unwrap(), now)
    }

    fn issue(keys: &Keys) -> String {
        keys.issue("user01", "1", NOW).unwrap()
    }

    #[test]
    fn the_first_key_signs_with_its_kid_and_all_verify() {
        let [old, new] = [keys(vec![named("old", 1)]), keys(vec![named("new", 2)])];
        let both = keys(vec![named("new", 2), named("old", 1)]);
        let token = issue(&both);
        let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        assert_eq!(header, br#"{"typ":"JWT","alg":"HS256","kid":"new"}"#);
        assert!(verify(&both, &token, NOW).is_ok() && verify(&new, &token, NOW).is_ok());
        assert!(verify(&both, &issue(&old), NOW).is_ok());
        assert_eq!(verify(&old, &token, NOW), Err(TokenError::UnknownKid));
    }

    #[test]
    fn a_kid_with_the_signature_of_another_key_is_refused() {
        let forged = issue(&keys(vec![named("new", 1)]));
        let both = keys(vec![named("new", 2), named("old", 1)]);
        assert_eq!(verify(&both, &forged, NOW), Err(TokenError::Signature));
    }

    #[test]
    fn a_key_is_missing_if_its_name_or_its_secret_is() {
        let both = keys(vec![named("new", 2), named("old", 1)]);
        for (later, is_missing) in [
            (vec![named("old", 1), named("new", 2)], false),
            (vec![named("third", 3), named("new", 2), named("old", 1)], false),
            (vec![named("new", 2)], true),
            (vec![named("new", 2), named("old", 3)], true),
            (vec![named("new", 2), named("other", 1)], true),
        ] {
            assert_eq!(both.has_key_missing_in(&keys(later), NOW), is_missing);
        }
    }

    #[test]
    fn a_key_is_missing_once_it_is_retired_or_verifies_fewer_tokens() {
        let of = |retired: Option<i64>, without_kid: bool| {
            keys(vec![named("new", 2), named("old", 1).retire_at(retired).without_kid(without_kid)])
        };
        for (before, later, is_missing) in [
            (of(None, false), of(Some(NOW + 1), false), false),
            (of(None, false), of(Some(NOW), false), true),
            (of(Some(NOW + 1), false), of(Some(NOW - 1), false), true),
            (of(Some(NOW), false), of(Some(NOW - 1), false), false),
            (of(Some(NOW), false), keys(vec![named("new", 2)]), false),
            (of(None, true), of(None, false), true),
            (of(None, false), of(None, true), false),
        ] {
            assert_eq!(before.has_key_missing_in(&later, NOW), is_missing, "{before:?} {later:?}");
        }
        let both =
            keys(vec![named("a", 1).retire_at(Some(NOW + 9)), named("b", 2).retire_at(Some(NOW)), named("c", 3)]);
        for (second, expected) in [(NOW - 1, Some(NOW)), (NOW, Some(NOW + 9)), (NOW + 9, None)] {
            assert_eq!(both.retirement_after(second), expected);
        }
    }

    #[test]
    fn a_token_without_kid_is_verified_with_the_keys_that_allow_it() {
        let unnamed = keys(vec![Key::unnamed(&[1; 32]).unwrap()]);
        let token = issue(&unnamed);
        let [allowed, refused] = [true, false].map(|allowed| {
            keys(vec![named("new", 2), named("other", 3).without_kid(true), named("old", 1).without_kid(allowed)])
        });
        assert!(verify(&allowed, &token, NOW).is_ok());
        assert_eq!(verify(&refused, &token, NOW), Err(TokenError::Signature));
        let none = keys(vec![named("old", 1)]);
        assert_eq!(verify(&none, &token, NOW), Err(TokenError::Signature));
    }

    #[test]
    fn a_retired_key_neither_signs_nor_verifies_even_a_cached_token() {
        let both = keys(vec![named("first", 1).retire_at(Some(NOW + 10)), named("second", 2)]);
        let token = issue(&both);
        assert!(verify(&both, &token, NOW + 9).is_ok());
        assert!(verify(&both, &token, NOW + 9).is_ok());
        assert_eq!(verify(&both, &token, NOW + 10), Err(TokenError::UnknownKid));
        assert_eq!(
            (both.signing(NOW + 9).unwrap().kid(), both.signing(NOW + 10).unwrap().kid()),
            (Some("first"), Some("second"))
        );
        let unnamed = keys(vec![Key::unnamed(&[1; 32]).unwrap().retire_at(Some(NOW + 10))]);
        let token = issue(&unnamed);
        assert!(verify(&unnamed, &token, NOW + 9).is_ok());
        assert_eq!(verify(&unnamed, &token, NOW + 10), Err(TokenError::Signature));
        assert!(matches!(unnamed.issue("user01", "1", NOW + 10), Err(NotIssued::NoKey)));
    }

    #[test]
    fn scopes_are_issued_and_verified_and_change_nothing_if_there_are_none() {
        let keys = keys(vec![Key::unnamed(&[1; 32]).unwrap()]);
        let payload = |token: &str| {
            let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
            String::from_utf8(payload).unwrap()
        };
        let common = format!(r#"{{"exp":{},"iat":{NOW},"nbf":{NOW},"identity":"user01","jti":"1""#, NOW + 300);
        assert_eq!(payload(&issue(&keys)), format!("{common}}}"));
        let scopes = Scopes::parse("viewer editor").unwrap();
        let token = keys.issue_scoped("user01", "1", &scopes, NOW).unwrap();
        assert_eq!(payload(&token), format!(r#"{common},"scope":"editor viewer"}}"#));
        assert_eq!(verify(&keys, &token, NOW).unwrap().scopes, scopes);
        // From the cache of verified tokens.
        assert_eq!(verify(&keys, &token, NOW).unwrap().scopes, scopes);
        assert!(verify(&keys, &issue(&keys), NOW).unwrap().scopes.is_empty());
    }

    #[test]
    fn a_token_with_the_most_scopes_is_accepted_and_fits_into_a_header_section() {
        let keys = keys(vec![named(&"k".repeat(64), 1)]);
        let name = |number: usize| format!("{number:02}{}", "r".repeat(29));
        let names: Vec<_> = (0..64).map(name).collect();
        let longest = Scopes::new(&names).unwrap();
        let exact = Scopes::parse(&format!("{longest_text}r", longest_text = longest.as_str())).unwrap();
        assert_eq!(exact.as_str().len(), crate::scope::MAX_SCOPES_BYTES);
        let jti = format!("{}.{}", "0".repeat(32), "0".repeat(16));
        // The longest name of a new user: 256 bytes, each escaped with two.
        let token = keys.issue_scoped(&"\"".repeat(256), &jti, &exact, NOW).unwrap();
        assert!(token.len() < 4096, "{}", token.len());
        assert_eq!(verify(&keys, &token, NOW).unwrap().scopes, exact);
        let too_long = keys.issue_scoped(&"\u{1}".repeat(700), &jti, &exact, NOW);
        assert!(matches!(too_long, Err(NotIssued::TooLong(bytes)) if bytes > MAX_TOKEN_BYTES));
    }

    #[test]
    fn keys_that_cannot_stand_together() {
        let refused = |keys| Keys::new(keys, SETTINGS).unwrap_err();
        assert_eq!(refused(vec![]), NotKeys::None);
        assert_eq!(refused(vec![named("a", 1), named("b", 2), named("a", 3)]), NotKeys::SameKid("a".to_owned()));
        let many = (0..17_u8).map(|number| named(&number.to_string(), number)).collect();
        assert_eq!(refused(many), NotKeys::TooMany(17));
    }
}
