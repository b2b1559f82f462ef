//! The collection of logouts. The server removes expired ones.

use futures_util::TryStreamExt;
use mongodb::bson::{RawDocumentBuf, doc};

use super::accounts::seconds;
use super::users::text;
use super::{Mongo, error};
use crate::model::{Logout, TokenId};
use crate::store::{LOGOUT_LIMIT, LoggedOut, StoreError};

impl Mongo {
    /// Unexpired logouts are counted before another is stored, so concurrent ones may exceed [`LOGOUT_LIMIT`] by their
    /// number.
    pub(in crate::store) async fn log_out(&self, logout: &Logout, now: i64) -> Result<LoggedOut, StoreError> {
        let id = doc! { "identity": &logout.identity, "token": logout.token.as_str() };
        let others =
            doc! { "identity": &logout.identity, "expires_at": { "$gt": seconds(now) }, "_id": { "$ne": id.clone() } };
        let others = self.logouts.count_documents(others).limit(LOGOUT_LIMIT as u64);
        if self.within(async { others.max_time(self.timeout).await }).await? >= LOGOUT_LIMIT as u64 {
            return Ok(LoggedOut::TooMany);
        }
        let update = doc! {
            "$max": { "expires_at": seconds(logout.expires_at) },
            "$setOnInsert": { "identity": &logout.identity },
        };
        let store = || async {
            let store = self.logouts.update_one(doc! { "_id": id.clone() }, update.clone());
            match store.upsert(true).await {
                // A concurrent logout of the same token: now the document can be updated.
                Err(error) if error::is_duplicate_key(&error) => Ok(false),
                stored => stored.map(|_| true),
            }
        };
        if self.within(store()).await? || self.within(store()).await? {
            return Ok(LoggedOut::Done);
        }
        Err(StoreError::Unavailable("a logout could not be stored".to_owned()))
    }

    /// The server removes them with an index: see `indexes`.
    pub(in crate::store) async fn remove_expired_logouts(&self, _now: i64) -> Result<(), StoreError> {
        Ok(())
    }

    /// The tokens with unexpired logouts, in order, and the hash of their documents.
    pub(super) async fn logouts(&self, identity: &str, now: i64) -> Result<(Vec<TokenId>, u64), StoreError> {
        let find = self.logouts.find(doc! { "identity": identity, "expires_at": { "$gt": seconds(now) } });
        let find = find.projection(doc! { "_id": 1 });
        let find = async { find.max_time(self.timeout).await?.try_collect::<Vec<RawDocumentBuf>>().await };
        let documents = self.within(find).await?;
        let sum = documents.iter().fold(0_u64, |sum, document| sum.wrapping_add(self.sum(document)));
        // A document with another form is not a token's.
        let token = |document: &RawDocumentBuf| TokenId::parse(text(document.get_document("_id").ok()?, "token")?).ok();
        let mut tokens: Vec<TokenId> = documents.iter().filter_map(token).collect();
        tokens.sort_unstable();
        Ok((tokens, sum))
    }
}
