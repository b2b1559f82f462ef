//! When a password changed, also by other hands than ours.
//!
//! Whoever edits a user in MongoDB itself sets no time of the change. So a collection of
//! our own remembers, by name, a fingerprint of the value that was seen last; a look that
//! finds another one stores the time before it tells of the user. It is apart from `users`
//! so that those documents stay as the original knows them, and so that whoever replaces
//! one whole does not take the memory with it.
//!
//! The fingerprint is an HMAC-SHA-256 over the document's `_id` and the stored value, under
//! a random key that stands beside it: one who has it has still to compute whatever hash is
//! stored to try a password. The `_id` is in it because another document is another account.
//!
//! A value that we are about to store is expected first, under [`Mongo::expect_password`]:
//! whoever sees it in between then knows that it is no change by other hands. Each update
//! counts the revision up, and a look stores what it found only where the revision is the
//! one that it read; it reads the state before the user, so that no older user is ever
//! compared with a newer state.

use aws_lc_rs::hmac;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, RawDocument, doc};

use super::accounts::{ATTEMPTS, PAUSE};
use super::{Mongo, error};
use crate::model::PasswordMark;
use crate::store::StoreError;

/// The length of a salt, in bytes.
const SALT: usize = 16;
/// Expected values that are remembered. Each is of one change that was under way.
const EXPECTED_LIMIT: i32 = 16;
/// How long a deleted user is remembered, in milliseconds: longer than any token lives.
const GONE_MILLIS: i64 = 2 * 3600 * 1000;

/// What is remembered of one user's password.
pub(super) struct State {
    salt: Vec<u8>,
    /// `None` where a value was expected before any was seen.
    fingerprint: Option<Vec<u8>>,
    expected: Vec<Vec<u8>>,
    /// When a change by other hands was found, in seconds since the Unix epoch.
    changed_at: Option<i64>,
    /// How many external changes were found.
    changes: i64,
    /// Whether the user was not there when last looked for.
    gone: bool,
    revision: i64,
}

/// What is known of a password that a look has found, beside the user's document.
pub(super) struct Seen {
    salt: Vec<u8>,
    /// When an external change was found last, in seconds since the Unix epoch.
    pub(super) changed_at: Option<i64>,
    changes: i64,
}

impl Seen {
    /// The mark of the tokens that are issued for the user of `document` now. Each part of it stays the same
    /// while the password does: what this service sets with a password, and the external changes that were
    /// found since. The times are part of it for the sake of older versions, which set nothing else.
    pub(super) fn mark(&self, document: &RawDocument, id: Bson) -> Result<PasswordMark, StoreError> {
        let stored = |name: &str| match document.get(name) {
            Ok(Some(value)) => Bson::try_from(value).unwrap_or(Bson::Undefined),
            _ => Bson::Null,
        };
        let text = mongodb::bson::serialize_to_vec(&doc! {
            "mark": stored("password_mark"),
            "_id": id,
            "created_at": stored("created_at"),
            "password_changed_at": stored("password_changed_at"),
            "found_at": self.changed_at,
            "found": self.changes,
        });
        let text = text.map_err(|_| StoreError::Failed("a user's document cannot be read".to_owned()))?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.salt);
        Ok(PasswordMark::of(hmac::sign(&key, &text).as_ref()))
    }
}

/// What a look at a password means.
enum Found {
    /// The value that was seen last.
    Same,
    /// The first value that is seen, or one that we have stored.
    Ours,
    /// Other hands have been at work.
    ChangedDays,
}

impl State {
    /// Reads a stored state. One that other hands have spoilt tells of a change.
    fn of(document: &Document) -> Self {
        let bytes = |name| document.get_binary_generic(name).ok().cloned();
        let salt = bytes("salt").filter(|salt| salt.len() == SALT);
        let expected = document.get_array("expected").map(Vec::as_slice).unwrap_or_default();
        Self {
            gone: salt.is_none() || document.get_bool("gone").unwrap_or(false),
            salt: salt.unwrap_or_else(|| vec![0; SALT]),
            fingerprint: bytes("fingerprint"),
            expected: expected.iter().filter_map(binary).collect(),
            changed_at: document.get_i64("changed_at").ok(),
            changes: document.get_i64("changes").unwrap_or(0),
            revision: document.get_i64("revision").unwrap_or(0),
        }
    }

    fn find(&self, fingerprint: &[u8]) -> Found {
        if self.expected.iter().any(|expected| expected == fingerprint) {
            return Found::Ours;
        }
        match &self.fingerprint {
            _ if self.gone => Found::ChangedDays,
            None => Found::Ours,
            Some(known) if known == fingerprint => Found::Same,
            Some(_) => Found::ChangedDays,
        }
    }
}

impl Mongo {
    /// What is remembered of a user's password.
    pub(super) async fn password_state(&self, username: &str) -> Result<Option<State>, StoreError> {
        let find = self.password_states.find_one(doc! { "_id": username });
        let state = self.within(async { find.max_time(self.timeout).await }).await?;
        Ok(state.as_ref().map(State::of))
    }

    /// Compares what a look has found with the state that was read before it, and stores what
    /// is new. `None` where the state is another by now, and the look has to be repeated.
    pub(super) async fn saw_password(
        &self,
        username: &str,
        state: Option<State>,
        id: &Bson,
        password: &str,
        now: i64,
    ) -> Result<Option<Seen>, StoreError> {
        let Some(state) = state else {
            let salt = new_salt()?;
            let fingerprint = fingerprint(&salt, id, password)?;
            let first = doc! { "_id": username, "salt": data(salt.clone()), "fingerprint": data(fingerprint), "revision": 1_i64 };
            let seen = Seen { salt, changed_at: None, changes: 0 };
            return Ok(self.insert_state(first).await?.then_some(seen));
        };
        let fingerprint = fingerprint(&state.salt, id, password)?;
        let mut set = doc! { "salt": data(state.salt.clone()), "fingerprint": data(fingerprint.clone()) };
        let mut seen = Seen { salt: state.salt.clone(), changed_at: state.changed_at, changes: state.changes };
        match state.find(&fingerprint) {
            Found::Same => return Ok(Some(seen)),
            Found::Ours => {}
            Found::ChangedDays => {
                let changed_at = now.max(state.changed_at.unwrap_or(now));
                seen.changed_at = Some(changed_at);
                seen.changes = state.changes.wrapping_add(1);
                set.insert("changed_at", changed_at);
                set.insert("changes", seen.changes);
                tracing::info!("a password was changed in the database itself");
            }
        }
        let update = doc! {
            "$set": set,
            "$pull": { "expected": data(fingerprint) },
            "$unset": { "gone": "", "forget_at": "" },
        };
        Ok(self.advance(username, &state, update).await?.then_some(seen))
    }

    /// Notes that a user is not there, so that one who comes back with the same value counts
    /// as changed. `false` where the look has to be repeated.
    pub(super) async fn saw_nobody(&self, username: &str, state: Option<State>, now: i64) -> Result<bool, StoreError> {
        match state {
            Some(state) if !state.gone => self.advance(username, &state, gone(now)).await,
            _ => Ok(true),
        }
    }

    /// Notes that we have removed a user.
    pub(super) async fn password_is_gone(&self, username: &str, now: i64) -> Result<(), StoreError> {
        let mut update = gone(now);
        update.insert("$inc", doc! { "revision": 1_i64 });
        let update = self.password_states.update_one(doc! { "_id": username }, update);
        self.within(async { update.await }).await.map(drop)
    }

    /// Announces that we are about to store `password` in the document `id`.
    pub(super) async fn expect_password(&self, username: &str, id: &Bson, password: &str) -> Result<(), StoreError> {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let state = self.password_state(username).await?;
            let salt = state.as_ref().map_or_else(new_salt, |state| Ok(state.salt.clone()))?;
            let expected = data(fingerprint(&salt, id, password)?);
            let noted = match state {
                Some(state) => {
                    let push = doc! { "expected": { "$each": [expected], "$slice": -EXPECTED_LIMIT } };
                    self.advance(username, &state, doc! { "$push": push }).await?
                }
                None => {
                    let first = doc! { "_id": username, "salt": data(salt), "expected": [expected], "revision": 1_i64 };
                    self.insert_state(first).await?
                }
            };
            if noted {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable("a user changes faster than it can be changed".to_owned()))
    }

    /// Changes the state if it is still the one that was read.
    async fn advance(&self, username: &str, read: &State, mut update: Document) -> Result<bool, StoreError> {
        update.insert("$inc", doc! { "revision": 1_i64 });
        // What has no number at all is none of our documents, and becomes one.
        let revision = if read.revision == 0 { Bson::Null } else { read.revision.into() };
        let update = self.password_states.update_one(doc! { "_id": username, "revision": revision }, update);
        Ok(self.within(async { update.await }).await?.matched_count > 0)
    }

    /// Stores the first state; `false` where somebody was quicker.
    async fn insert_state(&self, first: Document) -> Result<bool, StoreError> {
        let insert = async {
            match self.password_states.insert_one(first).await {
                Ok(_) => Ok(true),
                Err(error) if error::is_duplicate_key(&error) => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.within(insert).await
    }
}

fn gone(now: i64) -> Document {
    let forget_at = DateTime::from_millis(now.saturating_mul(1000).saturating_add(GONE_MILLIS));
    doc! { "$set": { "gone": true, "forget_at": forget_at } }
}

fn fingerprint(salt: &[u8], id: &Bson, password: &str) -> Result<Vec<u8>, StoreError> {
    let id = mongodb::bson::serialize_to_vec(&doc! { "_id": id });
    let id = id.map_err(|_| StoreError::Failed("a user's _id cannot be read".to_owned()))?;
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, salt));
    // BSON begins with its own length, so that no two pairs make the same text.
    context.update(&id);
    context.update(password.as_bytes());
    Ok(context.sign().as_ref().to_vec())
}

fn new_salt() -> Result<Vec<u8>, StoreError> {
    let mut salt = vec![0; SALT];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| StoreError::Failed("no random bytes".to_owned()))?;
    Ok(salt)
}

fn data(bytes: Vec<u8>) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes }
}

fn binary(value: &Bson) -> Option<Vec<u8>> {
    match value {
        Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes }) => Some(bytes.clone()),
        _ => None,
    }
}
