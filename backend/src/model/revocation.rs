//! What decides whether a token that was issued is still good: the state of its user's
//! account, and which tokens were logged out.

use std::fmt;

use serde::Serialize;

use crate::hex;

/// The longest id of a token, in characters after its scheme.
pub const TOKEN_ID_LIMIT: usize = 200;

/// How a token is known: `jti:` or `sha256:` and 1 to [`TOKEN_ID_LIMIT`] printable ASCII
/// characters, compared exactly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TokenId(String);

/// A text that is no id of a token. Fit to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token is \"jti:\" or \"sha256:\" and 1 to {TOKEN_ID_LIMIT} printable ASCII characters")]
pub struct NotATokenId;

impl TokenId {
    /// Reads an id, exactly as it stands.
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

    /// Its text, scheme included.
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

/// Which state of an account a token was issued for: it becomes another with each change of the password and
/// with each new account of the name, and stays the same where only the stored form of the password changes.
/// Marks are compared, so that no clock decides which of two tokens is older. It is computed from random values,
/// names and times alone: it says nothing about the password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PasswordMark(String);

impl PasswordMark {
    /// The mark of `digest`, of which the first 8 bytes are used.
    pub fn of(digest: &[u8]) -> Self {
        Self(hex::encode(digest.get(..MARK).unwrap_or(digest)))
    }

    /// 16 lower-case hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A token that its user ended before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logout {
    /// Whose token it is.
    pub identity: String,
    /// Which one.
    pub token: TokenId,
    /// Until when the logout must be remembered, in seconds since the Unix epoch: the
    /// token is good for nothing from then on.
    pub expires_at: i64,
}

/// What holds for the tokens of one identity now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountStatus {
    /// Whether there is such a user who could log in. Where not, nothing else is told.
    pub active: bool,
    /// Whether the user exists and is disabled; false where there is no user.
    pub disabled: bool,
    /// When the password was last set, in whole seconds since the Unix epoch: a token issued
    /// at or before this second is not this account's. `None` where nothing is known.
    pub password_changed_at: Option<i64>,
    /// The mark of the tokens that are this account's. `None` where the account is not active.
    pub password_mark: Option<PasswordMark>,
    /// The tokens that were logged out and have not expired, in order.
    pub logged_out: Vec<TokenId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_the_beginning_of_a_digest() {
        assert_eq!(PasswordMark::of(&[0xa0; 32]).as_str(), "a0a0a0a0a0a0a0a0");
    }

    #[test]
    fn an_id_has_its_scheme_and_its_bounds() {
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
