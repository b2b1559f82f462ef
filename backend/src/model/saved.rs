//! The records of a backup, independent of the engine.

use super::{Calendar, Delivered, Holodule, Logout, Roles, StoredPassword, Streamer};

/// One record of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// A token that was logged out.
    Logout(Logout),
    /// A stored holodule; older ones may not be a [`ValidHolodule`](super::ValidHolodule).
    Holodule(Box<Holodule>),
    /// A user.
    User(SavedUser),
    /// A calendar feed. Engines send all of them before other records ([`Saved::version`]).
    Calendar(Box<Calendar>),
    /// What the feed with this id has delivered. Engines send it after the feed.
    Delivered(String, Box<Delivered>),
    /// A streamer. Engines send them after the feeds, before other records.
    Streamer(Box<Streamer>),
}

impl Saved {
    /// The first version of the backup format that has such records in this program: feeds without what they have
    /// delivered were in version 2.
    pub fn version(&self) -> u32 {
        match self {
            Self::Logout(_) | Self::Holodule(_) | Self::User(_) => 1,
            Self::Streamer(_) => 2,
            Self::Calendar(_) | Self::Delivered(..) => 3,
        }
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
    /// Calendar feeds that have delivered events.
    pub delivered: u64,
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
            Saved::Delivered(..) => &mut self.delivered,
        };
        *kind = kind.saturating_add(1);
    }
}
