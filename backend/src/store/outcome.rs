//! Results of store operations.

use crate::model::{Holodule, PasswordMark, Position, RolesRefused, Saved, StoredRoles};

/// A page of a list of holodules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The exact number of holodules of the whole selection, unreadable ones included.
    pub total: u64,
    /// The holodules of the page, in the order of the request.
    pub entries: Vec<Holodule>,
    /// The position of the last entry, if more follow.
    pub next: Option<Position>,
    /// The `_id`s of documents of the page that could not be read and are missing from it.
    pub unreadable: Vec<String>,
}

/// The result of an import of streamers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamersStored {
    /// New ones.
    pub inserted: usize,
    /// Existing ones with other content.
    pub updated: usize,
    /// Existing ones with the same content.
    pub unchanged: usize,
}

/// The holodules of a day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DayListing {
    /// Newest first; ties by `key` ascending, bytewise.
    pub holodules: Vec<Holodule>,
    /// The `_id`s of documents that could not be read and are missing.
    pub unreadable: Vec<String>,
}

impl DayListing {
    /// Sorts the holodules. Ties by key are ordered by video, so that the order is always the same.
    pub(super) fn sort(&mut self) {
        self.holodules.sort_by(|a, b| {
            b.datetime.cmp(&a.datetime).then_with(|| a.key.cmp(&b.key)).then_with(|| a.video_id.cmp(&b.video_id))
        });
    }
}

/// A stored holodule that is not listed under any day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undated {
    /// The document's `_id`.
    pub id: String,
    /// What its `datetime` is, instead of text of the form `yyyymmdd hhmmss`.
    pub datetime: &'static str,
}

/// The state of a store, see [`super::Store::probe`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// The number of holodules not listed under any day.
    pub undated: u64,
    /// The first 1,000 of them by `_id`.
    pub first_undated: Vec<Undated>,
}

/// The result for one entry of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upserted {
    /// It was created.
    Inserted,
    /// It existed with other content.
    Updated,
    /// It existed with the same content.
    Unchanged,
}

/// The result of a change to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserChange {
    /// It is durable.
    Done,
    /// The user does not exist.
    NoSuchUser,
}

/// The result of the creation of a calendar feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalendarCreated {
    /// It is durable.
    Done,
    /// The user has [`CALENDARS_LIMIT`](crate::model::CALENDARS_LIMIT) feeds.
    TooMany,
    /// The owner does not exist or cannot log in.
    NoSuchUser,
}

/// The result of a change to the roles of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolesChanged {
    /// It is durable.
    Done,
    /// The user does not exist.
    NoSuchUser,
    /// Nothing was changed.
    Refused(RolesRefused),
}

/// The maximum number of unexpired logouts of an identity. Further ones are refused, because none may be forgotten.
pub const LOGOUT_LIMIT: usize = 1024;

/// The result of a logout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoggedOut {
    /// It is durable.
    Done,
    /// The identity has [`LOGOUT_LIMIT`] unexpired logouts.
    TooMany,
}

/// The confirmation of a login after the password was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// The user may log in with the compared value.
    Yes {
        /// As [`crate::model::AccountStatus::password_changed_at`].
        password_changed_at: Option<i64>,
        /// As [`crate::model::AccountStatus::password_mark`].
        password_mark: PasswordMark,
        /// As [`crate::model::AccountStatus::roles`].
        roles: StoredRoles,
    },
    /// The stored value has changed, or the user can no longer log in.
    Superseded,
}

/// A fingerprint of an account's state: two differ if the account has changed. Only meaningful within this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(pub(super) u64);

#[cfg(test)]
impl Fingerprint {
    pub(crate) fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// How changes by other processes are detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeDetection {
    /// There are none: the engine belongs to this process.
    LocalOnly,
    /// By polling [`super::Store::fingerprints`].
    Polling,
    /// The engine streams them: [`super::Store::changes`].
    Streaming,
}

/// A change to the state that decides about tokens, by any process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountChange {
    /// This identity has changed.
    Identity(String),
    /// A document of a user was disabled, and may be enabled again already.
    Disabled {
        /// The document.
        user: DisabledUser,
        /// Whether the document was replaced: another name that it had has changed too, which a poll finds.
        is_replaced: bool,
    },
    /// An unidentified account has changed; a poll finds it.
    Unknown,
    /// Any account may have changed, because earlier changes were not received.
    All,
    /// A number written by [`super::Store::echo`]: all earlier changes have been received.
    Echo(i64),
}

/// A document of a user that was disabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisabledUser {
    /// The name. Several documents may have it, of which one is the user.
    pub username: String,
    /// The document that contains only the `_id` of the disabled one, as BSON.
    pub document: Vec<u8>,
    /// The server's time of the change: seconds since the Unix epoch, and the number of the operation in that second.
    pub at: (u32, u32),
}

/// Information about a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackedUp {
    /// Whether all records were read from one snapshot.
    pub consistent: bool,
    /// The number of documents that could not be read and are missing.
    pub unreadable: u64,
}

/// The result of a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// The records are durable.
    Done {
        /// The number of holodules left out because another has the same `video_id`.
        duplicates: u64,
    },
    /// The store is not empty and `replace` is not set. Nothing was changed.
    NotEmpty,
}

/// Records for a restore. An error has the reason why they end early.
pub type Incoming = tokio::sync::mpsc::Receiver<Result<Saved, String>>;

/// A record of an export: a holodule, or the `_id` of a document that could not be read.
pub type Exported = Result<Holodule, String>;

/// The texts of searched days in memory. Counts are since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchCacheStats {
    /// The memory that they occupy, in bytes.
    pub bytes: u64,
    /// Days that a search found in memory.
    pub hits: u64,
    /// Days that a search had to read.
    pub misses: u64,
}
