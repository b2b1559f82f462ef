//! The state that decides whether an issued token is valid: the user's account, and logouts.

use std::fmt;

use serde::Serialize;

use super::StoredRoles;
use crate::hex;

/// The longest token id, in characters after its scheme.
pub const TOKEN_ID_LIMIT: usize = 200;

/// Identifies a token: `jti:` or `sha256:` and 1 to [`TOKEN_ID_LIMIT`] printable ASCII characters, compared exactly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TokenId(String);

/// The text is not a token id. Safe to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token id is \"jti:\" or \"sha256:\" and 1 to {TOKEN_ID_LIMIT} printable ASCII characters")]
pub struct NotATokenId;

impl TokenId {
    /// Parses an id.
    ///
    /// # Errors
    /// [`NotATokenId`].
    pub fn parse(text: &str) -> Result<Self, NotATokenId> {
        let id = ["jti:", "sha256:"].into_iter().find_map(|scheme| text.strip_prefix(scheme)).ok_or(NotATokenId)?;
        let printable = id.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if id.is_empty() || id.len() > TOKEN_ID_LIMIT || !printable {
            return Err(NotATokenId);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text, including the scheme.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The length of a [`PasswordMark`], in bytes.
const MARK: usize = 8;

/// Identifies the state of an account for which a token was issued. It changes with each change of the password and
/// with each new account of the same name, but not when only the stored form of the password changes. Marks are
/// compared, so that clocks do not decide which of two tokens is older. It is computed from random values, names and
/// times only, and reveals nothing about the password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PasswordMark(String);

impl PasswordMark {
    /// The mark from the first 8 bytes of `digest`.
    pub fn of(digest: &[u8]) -> Self {
        Self(hex::encode(digest.get(..MARK).unwrap_or(digest)))
    }

    /// 16 lower-case hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A token revoked by its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logout {
    /// The user.
    pub identity: String,
    /// The token.
    pub token: TokenId,
    /// When the token expires and the logout can be forgotten, in seconds since the Unix epoch.
    pub expires_at: i64,
}

/// The current state of an account, which decides about its tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountStatus {
    /// Whether the user exists and can log in. If not, the fields below are unset.
    pub active: bool,
    /// Whether the user exists and is disabled.
    pub disabled: bool,
    /// When the password was last set, in seconds since the Unix epoch. Tokens issued in or before this second are
    /// invalid. `None` if unknown.
    pub password_changed_at: Option<i64>,
    /// The mark of valid tokens. `None` if the account is not active.
    pub password_mark: Option<PasswordMark>,
    /// Unexpired tokens that were logged out, in order.
    pub logged_out: Vec<TokenId>,
    /// The user's roles, which take the place of those in tokens.
    pub roles: StoredRoles,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_a_prefix_of_a_digest() {
        assert_eq!(PasswordMark::of(&[0xa0; 32]).as_str(), "a0a0a0a0a0a0a0a0");
    }

    #[test]
    fn an_id_has_a_scheme_and_a_bounded_length() {
        let longest = format!("sha256:{}", "a".repeat(TOKEN_ID_LIMIT));
        for good in ["jti:a", "jti:~ !", "sha256:0f", &longest] {
            assert_eq!(TokenId::parse(good).unwrap().as_str(), good);
        }
        let too_long = format!("{longest}a");
        for bad in ["", "jti:", "sha256:", "JTI:a", "a", "jti:\n", "jti:\u{7f}", "jti:é", " jti:a", &too_long] {
            assert_eq!(TokenId::parse(bad), Err(NotATokenId), "{bad:?}");
        }
    }
}
