//! Users: the rules for new ones, and stored ones.

use std::fmt;

use super::{PasswordForm, StoredRoles};

/// The longest name of a new user, in bytes of UTF-8.
pub const USERNAME_LIMIT: usize = 128;

/// The prefix of machine tokens' identities, which users must not have.
pub const RESERVED_PREFIX: &str = "static:";

/// A valid name for a new user: 1 to [`USERNAME_LIMIT`] bytes, no control characters (Unicode `Cc`), not beginning with
/// [`RESERVED_PREFIX`], neither `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Username(String);

/// Why a username is invalid. Safe to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAUsername {
    /// It is empty.
    #[error("a username must not be empty")]
    Empty,
    /// It is longer than [`USERNAME_LIMIT`].
    #[error("a username must not be longer than {USERNAME_LIMIT} bytes")]
    TooLong,
    /// It contains a control character.
    #[error("a username must not contain control characters")]
    ControlCharacter,
    /// It begins with [`RESERVED_PREFIX`].
    #[error("a username must not begin with \"{RESERVED_PREFIX}\"")]
    Reserved,
    /// It is `.` or `..`, which clients remove from a path (RFC 3986, section 5.2.4).
    #[error("a username must not be . or ..")]
    DotSegment,
}

impl Username {
    /// Parses a name without trimming or case folding.
    ///
    /// # Errors
    /// [`NotAUsername`] with the violated rule.
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
        if text == "." || text == ".." {
            return Err(NotAUsername::DotSegment);
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

/// A stored password: a hash, or plain text in old documents. It cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredPassword(String);

impl StoredPassword {
    /// Wraps a stored value.
    pub fn new(stored: impl Into<String>) -> Self {
        Self(stored.into())
    }

    /// The stored value, for comparison.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The form of the stored value.
    pub fn form(&self) -> PasswordForm {
        PasswordForm::of(&self.0)
    }
}

impl fmt::Debug for StoredPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A user whose password can be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredUser {
    /// The stored name; older ones may not be a [`Username`].
    pub username: String,
    /// The document's `id`, where it has one.
    pub id: Option<String>,
    /// Never empty.
    pub password: StoredPassword,
    /// Whether the user may not log in.
    pub disabled: bool,
}

impl StoredUser {
    /// The form of the stored password.
    pub fn form(&self) -> PasswordForm {
        self.password.form()
    }
}

/// A user in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSummary {
    /// The document's `id`, where it has one.
    pub id: Option<String>,
    /// The name, as it is stored.
    pub username: String,
    /// Whether the user may not log in.
    pub disabled: bool,
    /// The form of the stored password. `None` if it allows no login.
    pub form: Option<PasswordForm>,
    /// The roles.
    pub roles: StoredRoles,
}

/// A user to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUser {
    /// The name.
    pub username: Username,
    /// The hash of the password.
    pub hash: StoredPassword,
    /// The time of creation, in seconds since the Unix epoch.
    pub created_at: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_username_is_validated_and_unchanged() {
        for good in ["user01", "a", "ときのそら", "with space", " ", "Static:x", "statics", &"x".repeat(128)] {
            assert_eq!(Username::parse(good).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", NotAUsername::Empty),
            ("a\0b", NotAUsername::ControlCharacter),
            ("a\nb", NotAUsername::ControlCharacter),
            ("a\u{85}b", NotAUsername::ControlCharacter),
            (".", NotAUsername::DotSegment),
            ("..", NotAUsername::DotSegment),
            ("static:", NotAUsername::Reserved),
            ("static:monitor", NotAUsername::Reserved),
            (&"x".repeat(129), NotAUsername::TooLong),
        ] {
            assert_eq!(Username::parse(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn debug_output_contains_no_password() {
        let password = StoredPassword::new("password01");
        let user = StoredUser { username: "u".into(), id: None, password: password.clone(), disabled: false };
        let new = NewUser { username: Username::parse("u").unwrap(), hash: password, created_at: 0 };
        assert!(!format!("{user:?}{new:?}").contains("password01"));
    }
}
