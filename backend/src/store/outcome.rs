//! What the store has to tell, beside its errors.

use crate::model::{Holodule, PasswordMark, Saved};

/// What a day holds, as one read saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DayListing {
    /// Newest first; ties by `key` ascending, bytewise.
    pub holodules: Vec<Holodule>,
    /// The `_id` of each document that could not be read and was left out.
    pub unreadable: Vec<String>,
}

impl DayListing {
    /// Brings the holodules into their order. What shares a key too is ordered
    /// by its video, so that each read gives one order.
    pub(super) fn sort(&mut self) {
        self.holodules.sort_by(|a, b| {
            b.datetime.cmp(&a.datetime).then_with(|| a.key.cmp(&b.key)).then_with(|| a.video_id.cmp(&b.video_id))
        });
    }
}

/// A stored holodule that no day shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undated {
    /// The document's `_id`.
    pub id: String,
    /// What its `datetime` is instead of the text `yyyymmdd hhmmss`.
    pub datetime: &'static str,
}

/// What a store is like, found by [`super::Store::probe`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// How many holodules no day shows.
    pub undated: u64,
    /// The first of them by `_id`, up to 1,000.
    pub first_undated: Vec<Undated>,
}

/// What became of one entry of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upserted {
    /// It was not there before.
    Inserted,
    /// It was there with other content.
    Updated,
    /// It was there, the same to the byte.
    Unchanged,
}

/// What became of a change to one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserChange {
    /// It is durable.
    Done,
    /// No such user.
    NoSuchUser,
}

/// Logouts of one identity that are in force, at most: past them a further one is refused,
/// for none of them may be forgotten.
pub const LOGOUT_LIMIT: usize = 1024;

/// What became of a logout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoggedOut {
    /// It is durable.
    Done,
    /// [`LOGOUT_LIMIT`] of this identity are in force already.
    TooMany,
}

/// A login that was about to succeed, seen once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// The user may log in with what was compared.
    Yes {
        /// As [`crate::model::AccountStatus::password_changed_at`].
        password_changed_at: Option<i64>,
        /// As [`crate::model::AccountStatus::password_mark`].
        password_mark: PasswordMark,
    },
    /// Another value is stored by now, or the user may not log in any more.
    Superseded,
}

/// All that a look saw of an account, as a fingerprint: two that differ tell of a change. It
/// means nothing outside of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(pub(super) u64);

#[cfg(test)]
impl Fingerprint {
    pub(crate) fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// How changes that this process did not make are learnt of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeDetection {
    /// There are none: the engine belongs to this process.
    LocalOnly,
    /// By looking again and again: [`super::Store::sightings`].
    Polling,
    /// The engine tells of them: [`super::Store::changes`].
    Streaming,
}

/// A change of what decides over tokens, by whatever hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountChange {
    /// Of this identity.
    Identity(String),
    /// Of somebody who is not named: look for whom.
    Unknown,
    /// What came before could not be followed: anything may have changed.
    All,
    /// No change, but one of [`super::Store::echo`]'s numbers: what came before it has been told.
    Echo(i64),
}

/// What a backup has read, beside its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackedUp {
    /// Whether all records are of one moment.
    pub consistent: bool,
    /// Documents that could not be read and are not in the backup.
    pub unreadable: u64,
}

/// What became of a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// The records are durable.
    Done {
        /// Holodules that were left out, since another one has their `video_id`.
        duplicates: u64,
    },
    /// The store holds users or holodules, which were not to be replaced. Nothing was changed.
    NotEmpty,
}

/// Records on their way into a store. An error says, in words, why there are no more.
pub type Incoming = tokio::sync::mpsc::Receiver<Result<Saved, String>>;

/// One record of an export: a holodule, or the `_id` of a document that could not be read.
pub type Exported = Result<Holodule, String>;
