//! Detects password changes, including those made directly in the database.
//!
//! A direct edit of a user in MongoDB sets no time of change. So a separate collection records, by name, a fingerprint
//! of the last known value. A read that finds another value stores the time of detection before it returns the user.
//! The collection is separate from `users` so that those documents remain as the original knows them, and replacing one
//! does not lose the record.
//!
//! The fingerprint is an HMAC-SHA-256 of the document's `_id` and the stored value, with a random key stored next to
//! it: to try a password, its holder would still have to compute the stored hash. It includes the `_id` because another
//! document is another account.
//!
//! A value that this service is about to store is announced first with [`Mongo::expect_password`], so that a concurrent
//! read knows that it is not an external change. Each update increments the revision, and a read stores its result only
//! if the revision is unchanged. It reads the state before the user, so that an older user is never compared with a
//! newer state.

use aws_lc_rs::hmac;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, RawDocument, doc};

use super::accounts::{ATTEMPTS, PAUSE};
use super::{Mongo, error};
use crate::model::PasswordMark;
use crate::store::StoreError;

/// The length of a salt, in bytes.
const SALT: usize = 16;
/// The maximum number of expected values, each of a change in progress.
const EXPECTED_LIMIT: i32 = 16;
/// How long the state of a deleted user is stored, in milliseconds: longer than any token lives, which is one day.
const GONE_MILLIS: i64 = 25 * 3600 * 1000;

/// The recorded state of a user's password.
pub(super) struct PasswordState {
    salt: Vec<u8>,
    /// `None` if a value was expected before any was read.
    fingerprint: Option<Vec<u8>>,
    expected: Vec<Vec<u8>>,
    /// When an external change was last detected, in seconds since the Unix epoch.
    changed_at: Option<i64>,
    /// The number of external changes detected.
    changes: i64,
    /// Whether the user was missing at the last read.
    gone: bool,
    revision: i64,
}

/// The known history of a password that was read.
pub(super) struct PasswordHistory {
    salt: Vec<u8>,
    /// When an external change was last detected, in seconds since the Unix epoch.
    pub(super) changed_at: Option<i64>,
    changes: i64,
}

impl PasswordHistory {
    /// The mark of tokens issued for the user of `document` now. All its inputs are constant while the password is: the
    /// random value set with a password by this service, and the external changes detected since. The times are
    /// included for older versions, which set no random value.
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

/// The result of comparing a password with the recorded state.
enum Comparison {
    /// The last known value.
    Same,
    /// The first value read, or one announced by this service.
    Expected,
    /// An external change.
    Changed,
}

impl PasswordState {
    /// Reads a stored state. A corrupted one counts as an external change.
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

    fn compare(&self, fingerprint: &[u8]) -> Comparison {
        if self.expected.iter().any(|expected| expected == fingerprint) {
            return Comparison::Expected;
        }
        match &self.fingerprint {
            _ if self.gone => Comparison::Changed,
            None => Comparison::Expected,
            Some(known) if known == fingerprint => Comparison::Same,
            Some(_) => Comparison::Changed,
        }
    }
}

impl Mongo {
    /// Reads the recorded state of a user's password.
    pub(super) async fn password_state(&self, username: &str) -> Result<Option<PasswordState>, StoreError> {
        let find = self.password_states.find_one(doc! { "_id": username });
        let state = self.within(async { find.max_time(self.timeout).await }).await?;
        Ok(state.as_ref().map(PasswordState::of))
    }

    /// Compares a password with the state that was read before it, and stores changes. `None` if the state has changed
    /// meanwhile and the read must be repeated.
    pub(super) async fn record_password(
        &self,
        username: &str,
        state: Option<PasswordState>,
        id: &Bson,
        password: &str,
        now: i64,
    ) -> Result<Option<PasswordHistory>, StoreError> {
        let Some(state) = state else {
            let salt = new_salt()?;
            let fingerprint = fingerprint(&salt, id, password)?;
            let first = doc! { "_id": username, "salt": data(salt.clone()), "fingerprint": data(fingerprint), "revision": 1_i64 };
            let history = PasswordHistory { salt, changed_at: None, changes: 0 };
            return Ok(self.insert_state(first).await?.then_some(history));
        };
        let fingerprint = fingerprint(&state.salt, id, password)?;
        let mut set = doc! { "salt": data(state.salt.clone()), "fingerprint": data(fingerprint.clone()) };
        let mut history =
            PasswordHistory { salt: state.salt.clone(), changed_at: state.changed_at, changes: state.changes };
        match state.compare(&fingerprint) {
            Comparison::Same => return Ok(Some(history)),
            Comparison::Expected => {}
            Comparison::Changed => {
                let changed_at = now.max(state.changed_at.unwrap_or(now));
                history.changed_at = Some(changed_at);
                history.changes = state.changes.wrapping_add(1);
                set.insert("changed_at", changed_at);
                set.insert("changes", history.changes);
                tracing::info!("a password was changed directly in the database");
            }
        }
        let update = doc! {
            "$set": set,
            "$pull": { "expected": data(fingerprint) },
            "$unset": { "gone": "", "forget_at": "" },
        };
        Ok(self.update_state(username, &state, update).await?.then_some(history))
    }

    /// Records that a user is missing, so that one who is created again with the same value counts as changed. `false`
    /// if the read must be repeated.
    pub(super) async fn record_missing(
        &self,
        username: &str,
        state: Option<PasswordState>,
        now: i64,
    ) -> Result<bool, StoreError> {
        match state {
            Some(state) if !state.gone => self.update_state(username, &state, gone(now)).await,
            _ => Ok(true),
        }
    }

    /// Records the deletion of a user.
    pub(super) async fn record_deletion(&self, username: &str, now: i64) -> Result<(), StoreError> {
        let mut update = gone(now);
        update.insert("$inc", doc! { "revision": 1_i64 });
        let update = self.password_states.update_one(doc! { "_id": username }, update);
        self.within(async { update.await }).await.map(drop)
    }

    /// Announces that `password` will be stored in the document `id`.
    pub(super) async fn expect_password(&self, username: &str, id: &Bson, password: &str) -> Result<(), StoreError> {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let state = self.password_state(username).await?;
            let salt = state.as_ref().map_or_else(new_salt, |state| Ok(state.salt.clone()))?;
            let expected = data(fingerprint(&salt, id, password)?);
            let recorded = match state {
                Some(state) => {
                    let push = doc! { "expected": { "$each": [expected], "$slice": -EXPECTED_LIMIT } };
                    self.update_state(username, &state, doc! { "$push": push }).await?
                }
                None => {
                    let first = doc! { "_id": username, "salt": data(salt), "expected": [expected], "revision": 1_i64 };
                    self.insert_state(first).await?
                }
            };
            if recorded {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable("a user was changed repeatedly by others".to_owned()))
    }

    /// Updates the state if it is unchanged since it was read.
    async fn update_state(
        &self,
        username: &str,
        read: &PasswordState,
        mut update: Document,
    ) -> Result<bool, StoreError> {
        update.insert("$inc", doc! { "revision": 1_i64 });
        // A document without a revision is not from this service, and is adopted.
        let revision = if read.revision == 0 { Bson::Null } else { read.revision.into() };
        let update = self.password_states.update_one(doc! { "_id": username, "revision": revision }, update);
        Ok(self.within(async { update.await }).await?.matched_count > 0)
    }

    /// Stores the first state; `false` if another process was faster.
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
    // BSON begins with its length, so the concatenation is unambiguous.
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
