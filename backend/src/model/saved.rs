//! The records of a backup, independent of the engine.

use super::{Calendar, Holodule, Logout, Roles, StoredPassword, Streamer};

/// One record of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// A token that was logged out.
    Logout(Logout),
    /// A stored holodule; older ones may not be a [`ValidHolodule`](super::ValidHolodule).
    Holodule(Box<Holodule>),
    /// A user.
    User(SavedUser),
    /// A streamer. Engines send them before all other records ([`Saved::is_of_version_2`]).
    Streamer(Box<Streamer>),
    /// A calendar feed, without what it has delivered. Engines send them before all other records as well.
    Calendar(Box<Calendar>),
}

impl Saved {
    /// Whether only version 2 of the backup format has such records.
    pub fn is_of_version_2(&self) -> bool {
        matches!(self, Self::Streamer(_) | Self::Calendar(_))
    }
}

/// A user with the state that decides about logins and tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedUser {
    /// The stored name.
    pub username: String,
    /// The document's `id`, if present.
    pub id: Option<String>,
    /// The stored value; empty if the user cannot log in.
    pub password: StoredPassword,
    /// Whether the user is disabled.
    pub disabled: bool,
    /// The roles. None if the stored ones cannot be read.
    pub roles: Roles,
    /// When the user was created, in seconds since the Unix epoch.
    pub created_at: Option<i64>,
    /// When the password was last known to be set, in seconds since the Unix epoch.
    pub password_changed_at: Option<i64>,
}

/// The number of records by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Users.
    pub users: u64,
    /// Holodules.
    pub holodules: u64,
    /// Logouts.
    pub logouts: u64,
    /// Streamers.
    pub streamers: u64,
    /// Calendar feeds.
    pub calendars: u64,
}

impl Tally {
    /// Counts one record.
    pub fn count(&mut self, saved: &Saved) {
        let kind = match saved {
            Saved::Logout(_) => &mut self.logouts,
            Saved::Holodule(_) => &mut self.holodules,
            Saved::User(_) => &mut self.users,
            Saved::Streamer(_) => &mut self.streamers,
            Saved::Calendar(_) => &mut self.calendars,
        };
        *kind = kind.saturating_add(1);
    }
}
