//! Roles of users. Gateways issue them as the scope of a token (RFC 6749, section 3.3).

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest role, in bytes.
pub const ROLE_LIMIT: usize = 64;
/// The maximum number of roles of a user.
pub const ROLES_LIMIT: usize = 64;
/// The longest scope, in bytes: all roles of a user, separated by spaces. It lengthens a token by a third more, 2,731
/// bytes at most, so that a token still fits into a header field of 8 KiB.
pub const SCOPE_LIMIT: usize = 2048;

/// A role: a scope token of RFC 6749, section 3.3, of at most [`ROLE_LIMIT`] bytes. Roles are compared exactly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Role(String);

/// Why roles are invalid. Safe to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRoles {
    /// One is not a [`Role`].
    #[error("a role is 1 to {ROLE_LIMIT} printable ASCII characters, without space, \" and \\")]
    Role,
    /// There are more than [`ROLES_LIMIT`].
    #[error("a user has at most {ROLES_LIMIT} roles")]
    TooMany,
    /// Their scope is longer than [`SCOPE_LIMIT`].
    #[error("the roles of a user have at most {SCOPE_LIMIT} bytes, separated by spaces")]
    TooLong,
}

impl Role {
    /// Parses a role.
    ///
    /// # Errors
    /// [`InvalidRoles::Role`].
    pub fn parse(text: &str) -> Result<Self, InvalidRoles> {
        let is_legal = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if (1..=ROLE_LIMIT).contains(&text.len()) && text.bytes().all(is_legal) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidRoles::Role)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The roles of a user: sorted bytewise, without duplicates, at most [`ROLES_LIMIT`] with a scope of at most
/// [`SCOPE_LIMIT`] bytes. In JSON an array of strings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Roles(BTreeSet<Role>);

impl Roles {
    /// Parses roles. Duplicates count once.
    ///
    /// # Errors
    /// [`InvalidRoles`].
    pub fn parse<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<Self, InvalidRoles> {
        let mut roles = Self::default();
        for text in texts {
            roles.0.insert(Role::parse(text.as_ref())?);
            if roles.0.len() > ROLES_LIMIT {
                return Err(InvalidRoles::TooMany);
            }
        }
        roles.checked()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Role::as_str)
    }

    /// Whether any role is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        !self.0.is_disjoint(&other.0)
    }

    fn checked(self) -> Result<Self, InvalidRoles> {
        if self.0.len() > ROLES_LIMIT {
            return Err(InvalidRoles::TooMany);
        }
        let scope = self.iter().map(|role| role.len() + 1).sum::<usize>().saturating_sub(1);
        if scope > SCOPE_LIMIT { Err(InvalidRoles::TooLong) } else { Ok(self) }
    }
}

impl TryFrom<Vec<String>> for Roles {
    type Error = InvalidRoles;

    fn try_from(texts: Vec<String>) -> Result<Self, InvalidRoles> {
        Self::parse(texts)
    }
}

impl From<Roles> for Vec<String> {
    fn from(roles: Roles) -> Self {
        roles.0.into_iter().map(|role| role.0).collect()
    }
}

/// The stored roles of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredRoles {
    /// They are valid; missing ones are none.
    Valid(Roles),
    /// The stored value is something else, such as a manual edit in MongoDB. The user has no roles.
    Unreadable,
}

impl Default for StoredRoles {
    fn default() -> Self {
        Self::Valid(Roles::default())
    }
}

impl StoredRoles {
    /// The roles, if they are readable.
    pub fn valid(self) -> Option<Roles> {
        match self {
            Self::Valid(roles) => Some(roles),
            Self::Unreadable => None,
        }
    }
}

/// A change to the roles of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolesChange {
    /// These replace all others.
    Replace(Roles),
    /// Some are added and others removed. A role in both is removed.
    Edit {
        /// Roles that the user has afterwards.
        add: Roles,
        /// Roles that the user does not have afterwards.
        remove: Roles,
    },
}

/// Why roles cannot be changed. Safe to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RolesRefused {
    /// They would exceed a limit.
    #[error(transparent)]
    Invalid(#[from] InvalidRoles),
    /// The stored roles cannot be read.
    #[error("the stored roles cannot be read, so the user has none; replace them")]
    Unreadable,
}

impl RolesChange {
    /// The roles after the change.
    ///
    /// # Errors
    /// [`RolesRefused`].
    pub fn apply(&self, stored: &StoredRoles) -> Result<Roles, RolesRefused> {
        match (self, stored) {
            (Self::Replace(roles), _) => Ok(roles.clone()),
            (Self::Edit { add, remove }, StoredRoles::Valid(current)) => {
                let all = current.0.union(&add.0);
                let roles = Roles(all.filter(|role| !remove.0.contains(role)).cloned().collect());
                Ok(roles.checked()?)
            }
            (Self::Edit { .. }, StoredRoles::Unreadable) => Err(RolesRefused::Unreadable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(texts: &[&str]) -> Roles {
        Roles::parse(texts).unwrap()
    }

    #[test]
    fn a_role_is_a_scope_token() {
        for byte in 0..=0x7f_u8 {
            // RFC 6749, section 3.3: 1*( %x21 / %x23-5B / %x5D-7E ).
            let legal = (0x21..=0x7e).contains(&byte) && byte != b'"' && byte != b'\\';
            assert_eq!(Role::parse(&char::from(byte).to_string()).is_ok(), legal, "{byte:#x}");
        }
        let longest = "r".repeat(ROLE_LIMIT);
        for good in ["admin", "a:b/c$", "$where", &longest] {
            assert_eq!(Role::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "é", "役", &format!("{longest}r")] {
            assert_eq!(Role::parse(bad), Err(InvalidRoles::Role), "{bad:?}");
        }
    }

    #[test]
    fn roles_are_sorted_distinct_and_case_sensitive() {
        let some = roles(&["b", "a", "B", "b"]);
        assert_eq!(some.iter().collect::<Vec<_>>(), ["B", "a", "b"]);
        assert_eq!(serde_json::to_string(&some).unwrap(), r#"["B","a","b"]"#);
        assert_eq!(serde_json::from_str::<Roles>(r#"["a","b","B"]"#).unwrap(), some);
        assert!(roles(&[]).is_empty() && !some.is_empty());
        for bad in ["null", "{}", "\"a\"", "[1]", "[null]", r#"["a b"]"#, r#"[["a"]]"#] {
            assert!(serde_json::from_str::<Roles>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_number_and_the_length_of_roles_are_limited() {
        let numbered = |count: usize| (0..count).map(|number| format!("{number:03}")).collect::<Vec<_>>();
        assert_eq!(Roles::parse(numbered(ROLES_LIMIT)).unwrap().iter().count(), ROLES_LIMIT);
        assert_eq!(Roles::parse(numbered(ROLES_LIMIT + 1)), Err(InvalidRoles::TooMany));
        // 31 of 64 bytes and 31 spaces; the last one completes the scope.
        let long = |last: usize| {
            let longest = (0..31).map(|number| format!("{number:064}"));
            longest.chain([format!("{:0last$}", 99)]).collect::<Vec<_>>()
        };
        let scope = Roles::parse(long(33)).unwrap().iter().collect::<Vec<_>>().join(" ");
        assert_eq!(scope.len(), SCOPE_LIMIT);
        assert_eq!(Roles::parse(long(34)), Err(InvalidRoles::TooLong));
    }

    #[test]
    fn a_change_is_applied_within_the_limits() {
        let edit = |add: &[&str], remove: &[&str]| RolesChange::Edit { add: roles(add), remove: roles(remove) };
        let stored = |roles: &Roles| StoredRoles::Valid(roles.clone());
        let (some, full) =
            (roles(&["a", "b"]), Roles::parse((0..ROLES_LIMIT).map(|number| number.to_string())).unwrap());
        let (some, full) = (stored(&some), stored(&full));
        assert_eq!(edit(&["c", "a"], &["b", "x"]).apply(&some), Ok(roles(&["a", "c"])));
        assert_eq!(edit(&["c"], &["c"]).apply(&some), Ok(roles(&["a", "b"])));
        assert_eq!(edit(&[], &["a", "b"]).apply(&some), Ok(Roles::default()));
        assert_eq!(RolesChange::Replace(roles(&["z"])).apply(&some), Ok(roles(&["z"])));
        assert_eq!(edit(&["x"], &[]).apply(&full), Err(InvalidRoles::TooMany.into()));
        assert_eq!(edit(&["x"], &["0"]).apply(&full).unwrap().iter().count(), ROLES_LIMIT);
        assert_eq!(edit(&["0"], &[]).apply(&full).ok(), full.valid());
    }

    #[test]
    fn unreadable_roles_can_only_be_replaced() {
        let (stored, some) = (StoredRoles::Unreadable, roles(&["a"]));
        let edit = RolesChange::Edit { add: Roles::default(), remove: some.clone() };
        assert_eq!(edit.apply(&stored), Err(RolesRefused::Unreadable));
        assert_eq!(RolesChange::Replace(some.clone()).apply(&stored), Ok(some));
        assert_eq!(stored.valid(), None);
    }
}
