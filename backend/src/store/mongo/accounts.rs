//! What holds for the tokens of a user: a look at all that tells of it, at one user as at many.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, DateTime, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::users::{disabled, text};
use super::{Mongo, document};
use crate::model::{AccountStatus, PasswordMark, StoredPassword};
use crate::store::{Confirmed, Fingerprint, StoreError, can_log_in};

/// How often a look or a change is repeated where others change the same user.
pub(super) const ATTEMPTS: u32 = 8;
/// The pause before each repetition.
pub(super) const PAUSE: Duration = Duration::from_millis(20);
/// Names that one query asks for, of at most some 1 KB each: a command has 16 MB at most.
const NAMES_AT_ONCE: usize = 10_000;

/// One look at a user's documents.
struct AccountRead {
    /// The document that is the user, where there is one with a password.
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
        let ((logged_out, logout_sum), look) = futures_util::try_join!(logouts, self.look(identity, now))?;
        let fingerprint = Fingerprint(look.sum.wrapping_add(logout_sum));
        let status = match look.user {
            Some(user) if disabled(&user.document) => AccountStatus { disabled: true, ..AccountStatus::default() },
            Some(user) => AccountStatus {
                active: true,
                disabled: false,
                password_changed_at: user.password_changed_at,
                password_mark: Some(user.password_mark),
                logged_out,
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
        Ok(match self.look(username, now).await?.user.filter(same) {
            Some(user) => {
                let UserDocument { password_changed_at, password_mark, .. } = user;
                Confirmed::Yes { password_changed_at, password_mark }
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
        // An empty list is asked about as well: the answer tells that the server is there.
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

    /// What stands of a document, as a number that only this process can make.
    pub(super) fn sum(&self, document: &RawDocument) -> u64 {
        self.sums.hash_one(document.as_bytes())
    }

    async fn look(&self, username: &str, now: i64) -> Result<AccountRead, StoreError> {
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
                if self.saw_nobody(username, state, now).await? {
                    return Ok(AccountRead { user: None, sum });
                }
                continue;
            };
            let Some(password) = text(&document, "password").filter(|password| can_log_in(username, password)) else {
                return Ok(AccountRead { user: None, sum });
            };
            if let Some(seen) = self.saw_password(username, state, &id, password, now).await? {
                let password_changed_at = changed_at(&document, &id, seen.changed_at, now);
                let password_mark = seen.mark(&document, id)?;
                return Ok(AccountRead {
                    user: Some(UserDocument { document, password_changed_at, password_mark }),
                    sum,
                });
            }
        }
        Err(StoreError::Unavailable("a user changes faster than it can be read".to_owned()))
    }

    /// Every document of a name, the user first.
    async fn user_documents(&self, username: &str) -> Result<Vec<RawDocumentBuf>, StoreError> {
        let find = self.users.find(doc! { "username": username }).sort(doc! { "_id": 1 }).projection(projection());
        self.within(async { find.max_time(self.timeout).await?.try_collect().await }).await
    }
}

/// What a look sees of a user: all that decides over the tokens.
fn projection() -> Document {
    doc! {
        "username": 1, "password": 1, "disabled": 1, "password_changed_at": 1, "created_at": 1, "password_mark": 1,
    }
}

/// The latest of all that is known of a password's age. A user who was deleted and made again
/// is another, so that the time of the making counts; older documents have it in their `_id`.
pub(super) fn changed_at(document: &RawDocument, id: &Bson, found_at: Option<i64>, now: i64) -> Option<i64> {
    let made_at = time(document, "created_at").map(|at| at.min(now)).or_else(|| match id {
        Bson::ObjectId(id) => Some(id.timestamp().timestamp_millis().div_euclid(1000)).filter(|at| *at <= now),
        _ => None,
    });
    // A clock that is ahead must not put a change into the future, past any token.
    let [stored_at, found_at] = [time(document, "password_changed_at"), found_at].map(|at| at.map(|at| at.min(now)));
    [stored_at, made_at, found_at].into_iter().flatten().max()
}

/// A time in whole seconds since the Unix epoch, in whichever type some hand wrote it.
pub(super) fn time(document: &RawDocument, name: &str) -> Option<i64> {
    match document.get(name).ok()?? {
        RawBsonRef::Int64(seconds) => Some(seconds),
        RawBsonRef::Int32(seconds) => Some(seconds.into()),
        RawBsonRef::DateTime(time) => Some(time.timestamp_millis().div_euclid(1000)),
        RawBsonRef::Double(seconds) if seconds.is_finite() =>
        {
            #[allow(clippy::cast_possible_truncation, reason = "saturates, which is as good as any time that far away")]
            Some(seconds.floor() as i64)
        }
        _ => None,
    }
}

/// A time as the driver has it.
pub(super) fn seconds(at: i64) -> DateTime {
    DateTime::from_millis(at.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use mongodb::bson::oid::ObjectId;
    use mongodb::bson::{DateTime, rawdoc};

    use super::*;

    #[test]
    fn the_latest_of_what_is_known_counts_and_nothing_of_the_future() {
        let id = |at| Bson::ObjectId(ObjectId::from_parts(at, [0; 5], [0; 3]));
        let name = Bson::String("user01".to_owned());
        let all = rawdoc! { "password_changed_at": 30_i64, "created_at": 20_i64 };
        assert_eq!(changed_at(&all, &id(25), None, 100), Some(30));
        assert_eq!(changed_at(&all, &id(25), Some(40), 100), Some(40));
        assert_eq!(changed_at(&all, &name, Some(10), 25), Some(25), "a clock that was ahead");
        assert_eq!(changed_at(&rawdoc! { "created_at": 20_i64 }, &id(25), None, 100), Some(20), "the better one");
        assert_eq!(changed_at(&rawdoc! {}, &id(25), Some(10), 100), Some(25));
        assert_eq!(changed_at(&rawdoc! {}, &id(125), None, 100), None, "an id of the future tells nothing");
        assert_eq!(changed_at(&rawdoc! {}, &name, None, 100), None);
        let date = DateTime::from_millis(30_999);
        for value in [rawdoc! { "created_at": 30_i32 }, rawdoc! { "created_at": 30.9 }, rawdoc! { "created_at": date }]
        {
            assert_eq!(changed_at(&value, &name, None, 100), Some(30), "{value:?}");
        }
        assert_eq!(changed_at(&rawdoc! { "created_at": "yesterday" }, &name, None, 100), None);
    }
}
