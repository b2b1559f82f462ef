//! Users: who may be created, and what is stored of one.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::PasswordForm;

/// The longest name of a new user, in bytes of UTF-8.
pub const USERNAME_LIMIT: usize = 128;

/// Names that begin so belong to machine tokens, whose identity must never be a user's.
pub const RESERVED_PREFIX: &str = "static:";

/// A name that a new user may have: 1 to [`USERNAME_LIMIT`] bytes, no control
/// characters (Unicode `Cc`), not beginning with [`RESERVED_PREFIX`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Username(String);

/// Why a name may not be given to a user. Fit to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAUsername {
    /// It is empty.
    #[error("a username must not be empty")]
    Empty,
    /// It is longer than [`USERNAME_LIMIT`].
    #[error("a username must not be longer than {USERNAME_LIMIT} bytes")]
    TooLong,
    /// It has a control character.
    #[error("a username must not contain control characters")]
    ControlCharacter,
    /// It begins with [`RESERVED_PREFIX`].
    #[error("a username must not begin with \"{RESERVED_PREFIX}\"")]
    Reserved,
}

impl Username {
    /// Reads a name, exactly as it stands: nothing is trimmed or folded.
    ///
    /// # Errors
    /// [`NotAUsername`] tells the rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, NotAUsername> {
        if text.is_empty() {
            return Err(NotAUsername::Empty);
        }
        if text.len() > USERNAME_LIMIT {
            return Err(NotAUsername::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(NotAUsername::ControlCharacter);
        }
        if text.starts_with(RESERVED_PREFIX) {
            return Err(NotAUsername::Reserved);
        }
        Ok(Self(text.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A password as it is stored: a hash, or the plain text of older eras. It can be
/// used, but not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredPassword(String);

impl StoredPassword {
    /// Wraps a stored value.
    pub fn new(stored: impl Into<String>) -> Self {
        Self(stored.into())
    }

    /// The stored value, for the one place that compares it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// How it is stored.
    pub fn form(&self) -> PasswordForm {
        PasswordForm::of(&self.0)
    }
}

impl fmt::Debug for StoredPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A user who can be checked against a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredUser {
    /// The name, as it is stored: older ones need not be a [`Username`].
    pub username: String,
    /// The document's `id`, where it has one.
    pub id: Option<String>,
    /// Never empty.
    pub password: StoredPassword,
    /// Whether the user may not log in.
    pub disabled: bool,
}

impl StoredUser {
    /// How the password is stored.
    pub fn form(&self) -> PasswordForm {
        self.password.form()
    }
}

/// What a list of users tells of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSummary {
    /// The document's `id`, where it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// The name, as it is stored.
    pub username: String,
    /// Whether the user may not log in.
    pub disabled: bool,
    /// How the password is stored. `None` where nobody could log in with what is.
    pub form: Option<PasswordForm>,
}

/// A user to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUser {
    /// The name.
    pub username: Username,
    /// The hash of the password.
    pub hash: StoredPassword,
    /// When, in seconds since the Unix epoch.
    pub created_at: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_username_keeps_its_bytes_and_its_rules() {
        for good in ["user01", "a", "ときのそら", "with space", " ", "Static:x", "statics", &"x".repeat(128)] {
            assert_eq!(Username::parse(good).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", NotAUsername::Empty),
            ("a\0b", NotAUsername::ControlCharacter),
            ("a\nb", NotAUsername::ControlCharacter),
            ("a\u{85}b", NotAUsername::ControlCharacter),
            ("static:", NotAUsername::Reserved),
            ("static:monitor", NotAUsername::Reserved),
            (&"x".repeat(129), NotAUsername::TooLong),
        ] {
            assert_eq!(Username::parse(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn no_debug_text_holds_a_password() {
        let password = StoredPassword::new("password01");
        let user = StoredUser { username: "u".into(), id: None, password: password.clone(), disabled: false };
        let new = NewUser { username: Username::parse("u").unwrap(), hash: password, created_at: 0 };
        assert!(!format!("{user:?}{new:?}").contains("password01"));
    }
}
