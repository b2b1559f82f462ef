//! What a backup holds, in the terms of no engine.

use super::{Holodule, Logout, StoredPassword};

/// One record of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// A token that was logged out.
    Logout(Logout),
    /// A holodule as it is stored: older ones need not be an [`ValidHolodule`](super::ValidHolodule).
    Holodule(Box<Holodule>),
    /// A user.
    User(SavedUser),
}

/// A user with what decides over logins and tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedUser {
    /// The name, as it is stored.
    pub username: String,
    /// The document's `id`, where it has one.
    pub id: Option<String>,
    /// As it is stored; empty where the user cannot log in.
    pub password: StoredPassword,
    /// Whether the user may not log in.
    pub disabled: bool,
    /// When the user was made, in seconds since the Unix epoch.
    pub created_at: Option<i64>,
    /// When the password was last found to be set, in seconds since the Unix epoch.
    pub password_changed_at: Option<i64>,
}

/// How many records of each kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Users.
    pub users: u64,
    /// Holodules.
    pub holodules: u64,
    /// Logouts.
    pub logouts: u64,
}

impl Tally {
    /// Counts one record.
    pub fn count(&mut self, saved: &Saved) {
        let kind = match saved {
            Saved::Logout(_) => &mut self.logouts,
            Saved::Holodule(_) => &mut self.holodules,
            Saved::User(_) => &mut self.users,
        };
        *kind = kind.saturating_add(1);
    }
}
