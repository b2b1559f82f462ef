//! The state of accounts that decides about tokens: read for one user, and as fingerprints for many.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, DateTime, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::users::{disabled, text};
use super::{Mongo, document, roles};
use crate::model::{AccountStatus, PasswordMark, StoredPassword};
use crate::store::{Confirmed, Fingerprint, StoreError, can_log_in};

/// How often a read or change is repeated when others change the same user.
pub(super) const ATTEMPTS: u32 = 8;
/// The pause before each repetition.
pub(super) const PAUSE: Duration = Duration::from_millis(20);
/// Names in one query, of at most about 1 KB each; a command has at most 16 MB.
const NAMES_AT_ONCE: usize = 10_000;

/// One read of a user's documents.
struct AccountRead {
    /// The user's document, if it has a password.
    user: Option<UserDocument>,
    sum: u64,
}

struct UserDocument {
    document: RawDocumentBuf,
    password_changed_at: Option<i64>,
    password_mark: PasswordMark,
}

impl Mongo {
    pub(in crate::store) async fn account(
        &self,
        identity: &str,
        now: i64,
    ) -> Result<(AccountStatus, Fingerprint), StoreError> {
        let logouts = self.logouts(identity, now);
        let ((logged_out, logout_sum), account) = futures_util::try_join!(logouts, self.read_account(identity, now))?;
        let fingerprint = Fingerprint(account.sum.wrapping_add(logout_sum));
        let status = match account.user {
            Some(user) if disabled(&user.document) => AccountStatus { disabled: true, ..AccountStatus::default() },
            Some(user) => AccountStatus {
                active: true,
                disabled: false,
                password_changed_at: user.password_changed_at,
                password_mark: Some(user.password_mark),
                logged_out,
                roles: roles::stored(&user.document),
            },
            None => AccountStatus::default(),
        };
        Ok((status, fingerprint))
    }

    pub(in crate::store) async fn confirm_login(
        &self,
        username: &str,
        stored: &StoredPassword,
        now: i64,
    ) -> Result<Confirmed, StoreError> {
        let same = |user: &UserDocument| {
            !disabled(&user.document) && text(&user.document, "password") == Some(stored.expose())
        };
        Ok(match self.read_account(username, now).await?.user.filter(same) {
            Some(user) => {
                let UserDocument { document, password_changed_at, password_mark } = user;
                Confirmed::Yes { password_changed_at, password_mark, roles: roles::stored(&document) }
            }
            None => Confirmed::Superseded,
        })
    }

    pub(in crate::store) async fn fingerprints(
        &self,
        identities: &[Arc<str>],
        now: i64,
    ) -> Result<HashMap<Arc<str>, Fingerprint>, StoreError> {
        let mut sums: HashMap<Arc<str>, u64> = identities.iter().map(|identity| (Arc::clone(identity), 0)).collect();
        // An empty list is queried too: the response shows that the server is available.
        let chunks = identities.chunks(NAMES_AT_ONCE);
        let chunks = if identities.is_empty() { vec![&[][..]] } else { chunks.collect() };
        for chunk in chunks {
            let names: Vec<&str> = chunk.iter().map(AsRef::as_ref).collect();
            let users = self.users.find(doc! { "username": { "$in": names.clone() } }).projection(projection());
            let users = async { users.max_time(self.timeout).await?.try_collect::<Vec<_>>().await };
            let logouts = doc! { "identity": { "$in": names }, "expires_at": { "$gt": seconds(now) } };
            let logouts = self.logouts.find(logouts).projection(doc! { "_id": 1 });
            let logouts = async { logouts.max_time(self.timeout).await?.try_collect::<Vec<_>>().await };
            let (users, logouts) = futures_util::try_join!(self.within(users), self.within(logouts))?;
            let users = users.iter().filter_map(|user| Some((text(user, "username")?, user)));
            let logouts = logouts.iter().filter_map(|logout| {
                let id = logout.get_document("_id").ok()?;
                Some((text(id, "identity")?, logout))
            });
            for (name, document) in users.chain(logouts) {
                if let Some(sum) = sums.get_mut(name) {
                    *sum = sum.wrapping_add(self.sum(document));
                }
            }
        }
        Ok(sums.into_iter().map(|(identity, sum)| (identity, Fingerprint(sum))).collect())
    }

    /// A keyed hash of a document, meaningful only in this process.
    pub(super) fn sum(&self, document: &RawDocument) -> u64 {
        self.hash_keys.hash_one(document.as_bytes())
    }

    async fn read_account(&self, username: &str, now: i64) -> Result<AccountRead, StoreError> {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            // The order matters: see `passwords`.
            let state = self.password_state(username).await?;
            let documents = self.user_documents(username).await?;
            let sum = documents.iter().fold(0_u64, |sum, document| sum.wrapping_add(self.sum(document)));
            let Some((document, id)) = documents.into_iter().next().and_then(|first| {
                let id = document::id(&first)?;
                Some((first, id))
            }) else {
                if self.record_missing(username, state, now).await? {
                    return Ok(AccountRead { user: None, sum });
                }
                continue;
            };
            let Some(password) = text(&document, "password").filter(|password| can_log_in(username, password)) else {
                return Ok(AccountRead { user: None, sum });
            };
            if let Some(known) = self.record_password(username, state, &id, password, now).await? {
                let password_changed_at = changed_at(&document, &id, known.changed_at, now);
                let password_mark = known.mark(&document, id)?;
                return Ok(AccountRead {
                    user: Some(UserDocument { document, password_changed_at, password_mark }),
                    sum,
                });
            }
        }
        Err(StoreError::Unavailable("a user was changed repeatedly while it was read".to_owned()))
    }

    /// All documents of a name, the user first.
    async fn user_documents(&self, username: &str) -> Result<Vec<RawDocumentBuf>, StoreError> {
        let find = self.users.find(doc! { "username": username }).sort(doc! { "_id": 1 }).projection(projection());
        self.within(async { find.max_time(self.timeout).await?.try_collect().await }).await
    }
}

/// The fields of a user that decide about tokens and what they permit.
fn projection() -> Document {
    doc! {
        "username": 1, "password": 1, "disabled": 1, "password_changed_at": 1, "created_at": 1, "password_mark": 1,
        "roles": 1,
    }
}

/// The latest known time of a password change. A user that was deleted and created again is another one, so the
/// creation counts; in older documents it is in the `_id`.
pub(super) fn changed_at(document: &RawDocument, id: &Bson, found_at: Option<i64>, now: i64) -> Option<i64> {
    let created_at = time(document, "created_at").map(|at| at.min(now)).or_else(|| match id {
        Bson::ObjectId(id) => Some(id.timestamp().timestamp_millis().div_euclid(1000)).filter(|at| *at <= now),
        _ => None,
    });
    // A clock that is ahead must not move a change to the future, beyond all tokens.
    let [stored_at, found_at] = [time(document, "password_changed_at"), found_at].map(|at| at.map(|at| at.min(now)));
    [stored_at, created_at, found_at].into_iter().flatten().max()
}

/// A time in seconds since the Unix epoch, from any type that it may be stored as.
pub(super) fn time(document: &RawDocument, name: &str) -> Option<i64> {
    match document.get(name).ok()?? {
        RawBsonRef::Int64(seconds) => Some(seconds),
        RawBsonRef::Int32(seconds) => Some(seconds.into()),
        RawBsonRef::DateTime(time) => Some(time.timestamp_millis().div_euclid(1000)),
        RawBsonRef::Double(seconds) if seconds.is_finite() =>
        {
            #[allow(
                clippy::cast_possible_truncation,
                reason = "saturates, which has the same effect as any time that far away"
            )]
            Some(seconds.floor() as i64)
        }
        _ => None,
    }
}

/// A time as a type of the driver.
pub(super) fn seconds(at: i64) -> DateTime {
    DateTime::from_millis(at.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use mongodb::bson::oid::ObjectId;
    use mongodb::bson::{DateTime, rawdoc};

    use super::*;

    #[test]
    fn the_latest_known_time_counts_unless_it_is_in_the_future() {
        let id = |at| Bson::ObjectId(ObjectId::from_parts(at, [0; 5], [0; 3]));
        let name = Bson::String("user01".to_owned());
        let all = rawdoc! { "password_changed_at": 30_i64, "created_at": 20_i64 };
        assert_eq!(changed_at(&all, &id(25), None, 100), Some(30));
        assert_eq!(changed_at(&all, &id(25), Some(40), 100), Some(40));
        assert_eq!(changed_at(&all, &name, Some(10), 25), Some(25), "the clock was ahead");
        assert_eq!(changed_at(&rawdoc! { "created_at": 20_i64 }, &id(25), None, 100), Some(20), "the more exact one");
        assert_eq!(changed_at(&rawdoc! {}, &id(25), Some(10), 100), Some(25));
        assert_eq!(changed_at(&rawdoc! {}, &id(125), None, 100), None, "an id of the future is ignored");
        assert_eq!(changed_at(&rawdoc! {}, &name, None, 100), None);
        let date = DateTime::from_millis(30_999);
        for value in [rawdoc! { "created_at": 30_i32 }, rawdoc! { "created_at": 30.9 }, rawdoc! { "created_at": date }]
        {
            assert_eq!(changed_at(&value, &name, None, 100), Some(30), "{value:?}");
        }
        assert_eq!(changed_at(&rawdoc! { "created_at": "yesterday" }, &name, None, 100), None);
    }
}
