//! Backup and restore.
//!
//! A backup of a replica set is a snapshot: all reads are of one point in time, which the server retains for five
//! minutes by default. A standalone server has no snapshots. A restore is not a transaction, whose size and time are
//! limited. Its order ensures that a partial restore accepts no login: users are removed first and stored last.

use std::collections::HashMap;

use futures_util::StreamExt;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::CollectionOptions;
use mongodb::{ClientSession, Collection};
use tokio::sync::mpsc;

use super::accounts::{changed_at, seconds, time};
use super::calendars::{calendar, delivered};
use super::holodules::run_to_completion;
use super::users::{disabled, id, text};
use super::{
    CALENDARS, HOLODULES, LOGOUTS, Mongo, PASSWORD_STATES, STREAMERS, USERS, document, error, is_distributed, primary,
    roles, streamers,
};
use crate::model::{Logout, Roles, Saved, SavedUser, StoredPassword, StoredRoles, TokenId};
use crate::store::changed::TouchedDays;
use crate::store::{BackedUp, Incoming, Restored, StoreError, random_id};

/// Documents inserted or removed per operation.
const BATCH: usize = 500;
/// Concurrent writes of users.
const WRITERS: usize = 16;
/// The first wire version with snapshot reads outside transactions: MongoDB 5.0.
const SNAPSHOTS: i32 = 13;

/// Reads whole collections, as a snapshot if the server supports it.
struct CollectionReader<'a> {
    engine: &'a Mongo,
    session: ClientSession,
    consistent: bool,
}

impl CollectionReader<'_> {
    /// Sends the records of each document.
    async fn each<I: IntoIterator<Item = Saved>>(
        &mut self,
        collection: &str,
        order: Document,
        records: &mpsc::Sender<Saved>,
        mut saved: impl FnMut(&RawDocumentBuf) -> I,
    ) -> Result<(), StoreError> {
        // Without a read concern, which would contradict the session's.
        let options = CollectionOptions::builder().selection_criteria(primary()).build();
        let collection: Collection<RawDocumentBuf> = self.engine.database.collection_with_options(collection, options);
        let find = collection.find(doc! {}).sort(order).allow_disk_use(true);
        let mut cursor = self.engine.within(async { find.session(&mut self.session).await }).await?;
        while let Some(document) =
            self.engine.within(async { cursor.next(&mut self.session).await.transpose() }).await?
        {
            for saved in saved(&document) {
                if records.send(saved).await.is_err() {
                    return Err(StoreError::Failed("the receiver of the records was dropped".to_owned()));
                }
            }
        }
        Ok(())
    }
}

impl Mongo {
    pub(in crate::store) async fn backup(&self, records: mpsc::Sender<Saved>) -> Result<BackedUp, StoreError> {
        let hello = self.database.run_command(doc! { "hello": 1 });
        let hello = self.within(async { hello.await }).await?;
        let consistent =
            is_distributed(&hello) && hello.get_i32("maxWireVersion").is_ok_and(|version| version >= SNAPSHOTS);
        let session = self.database.client().start_session().snapshot(consistent);
        let session = self.within(async { session.await }).await?;
        let mut reader = CollectionReader { engine: self, session, consistent };
        let mut unreadable = 0;

        let feed = |found: &RawDocumentBuf| {
            let calendar = calendar(found);
            unreadable += u64::from(calendar.is_none());
            let delivered = delivered(found).delivered;
            calendar.map_or_else(Vec::new, |calendar| {
                let id = calendar.id.clone();
                let mut records = vec![Saved::Calendar(Box::new(calendar))];
                if !delivered.events.is_empty() {
                    records.push(Saved::Delivered(id, Box::new(delivered)));
                }
                records
            })
        };
        reader.each(CALENDARS, doc! { "_id": 1 }, &records, feed).await?;
        // Of several documents with the same code, the first is the streamer. Those without one remain in a restore.
        let mut code = String::new();
        let streamer = |document: &RawDocumentBuf| {
            let streamer = Some(streamers::streamer(document)).filter(|streamer| streamer.code != code)?;
            code.clone_from(&streamer.code);
            Some(Saved::Streamer(Box::new(streamer)))
        };
        reader.each(STREAMERS, doc! { "code": 1, "_id": 1 }, &records, streamer).await?;
        reader.each(LOGOUTS, doc! { "_id": 1 }, &records, logout).await?;
        let by_time = doc! { "datetime": 1, "key": 1 };
        let holodule = |found: &RawDocumentBuf| match document::holodule(found) {
            Ok(holodule) => Some(Saved::Holodule(Box::new(holodule))),
            Err(document::UnreadableDocument(id)) => {
                tracing::warn!(id, "an unreadable document is not in the backup");
                unreadable += 1;
                None
            }
        };
        reader.each(HOLODULES, by_time, &records, holodule).await?;
        let mut found_at = HashMap::new();
        let state = |state: &RawDocumentBuf| {
            let (name, at) = (text(state, "_id")?, time(state, "changed_at")?);
            found_at.insert(name.to_owned(), at);
            None
        };
        reader.each(PASSWORD_STATES, doc! { "_id": 1 }, &records, state).await?;
        // Of several documents with the same name, the first is the user.
        let mut last = None;
        let user = |document: &RawDocumentBuf| {
            let username = text(document, "username")?;
            if last.as_deref() == Some(username) {
                return None;
            }
            last = Some(username.to_owned());
            user(document, username, found_at.get(username).copied())
        };
        reader.each(USERS, doc! { "username": 1, "_id": 1 }, &records, user).await?;
        Ok(BackedUp { consistent: reader.consistent, unreadable })
    }

    pub(in crate::store) async fn restore(
        &self,
        records: Incoming,
        replace: bool,
        now: i64,
    ) -> Result<Restored, StoreError> {
        self.indexes_settled().await?;
        let (engine, touched) = (self.clone(), TouchedDays::none(&self.changed));
        run_to_completion(async move { engine.restore_all(records, replace, now, &touched).await }).await
    }

    async fn restore_all(
        &self,
        mut records: Incoming,
        replace: bool,
        now: i64,
        touched: &TouchedDays,
    ) -> Result<Restored, StoreError> {
        if !(replace || self.is_empty(&self.users).await? && self.is_empty(&self.holodules).await?) {
            return Ok(Restored::NotEmpty);
        }
        touched.touch_all();
        self.clear(&self.users).await?;
        self.clear(&self.holodules).await?;
        self.clear(&self.calendars).await?;
        let (mut holodules, mut users, mut duplicates) = (Vec::with_capacity(BATCH), Vec::new(), 0);
        let mut streamers = Vec::new();
        while let Some(record) = records.recv().await {
            match record.map_err(StoreError::Failed)? {
                Saved::Logout(logout) if logout.expires_at <= now => {}
                Saved::Logout(logout) => self.restore_logout(&logout).await?,
                Saved::Holodule(holodule) => {
                    let document = document::changes(&crate::model::Holodule::default(), &holodule);
                    let document = document.and_then(|document| RawDocumentBuf::try_from(&document));
                    holodules.push(document.map_err(|error| StoreError::Failed(error.to_string()))?);
                    if holodules.len() >= BATCH {
                        duplicates += self.insert_holodules(&holodules).await?;
                        holodules.clear();
                    }
                }
                // Stored after everything else.
                Saved::User(user) => users.push(user),
                Saved::Streamer(streamer) => streamers.push(*streamer),
                // It is not served before its user is stored.
                Saved::Calendar(calendar) => self.insert_calendar(&calendar).await?,
                // After its feed, which has delivered nothing until then.
                Saved::Delivered(id, delivered) => drop(self.store_delivered(&id, 0, *delivered).await?),
            }
        }
        self.restore_streamers(&streamers, touched).await?;
        duplicates += self.insert_holodules(&holodules).await?;
        let writes: Vec<_> = users.into_iter().map(|user| self.restore_user(user, now)).collect();
        let mut writes = futures_util::stream::iter(writes).buffer_unordered(WRITERS);
        while let Some(written) = writes.next().await {
            written?;
        }
        Ok(Restored::Done { duplicates })
    }

    async fn is_empty(&self, collection: &Collection<RawDocumentBuf>) -> Result<bool, StoreError> {
        let count = collection.count_documents(doc! {}).limit(1);
        Ok(self.within(async { count.await }).await? == 0)
    }

    /// Removes all documents in batches, so that no operation exceeds the timeout.
    async fn clear(&self, collection: &Collection<RawDocumentBuf>) -> Result<(), StoreError> {
        loop {
            let find = collection.find(doc! {}).projection(doc! { "_id": 1 }).limit(i64::try_from(BATCH).unwrap_or(1));
            let found = async { futures_util::TryStreamExt::try_collect::<Vec<_>>(find.await?).await };
            let ids: Vec<Bson> = self.within(found).await?.iter().filter_map(|found| document::id(found)).collect();
            if ids.is_empty() {
                return Ok(());
            }
            let delete = collection.delete_many(doc! { "_id": { "$in": ids } });
            self.within(async { delete.await }).await?;
        }
    }

    /// Inserts holodules unchanged, and returns how many were left out because of their `video_id`.
    async fn insert_holodules(&self, documents: &[RawDocumentBuf]) -> Result<u64, StoreError> {
        if documents.is_empty() {
            return Ok(0);
        }
        let insert = self.holodules.insert_many(documents).ordered(false);
        let insert = async {
            match insert.await {
                Ok(_) => Ok(0),
                Err(error) => duplicates(&error).ok_or(error),
            }
        };
        self.within(insert).await
    }

    async fn restore_user(&self, user: SavedUser, now: i64) -> Result<(), StoreError> {
        let username = user.username.as_str();
        // The recorded state of the name may be of another document or password.
        self.expect_password(username, &username.into(), user.password.expose()).await?;
        let mut document = doc! {
            "_id": username,
            "id": match &user.id {
                Some(id) => id.clone(),
                None => random_id()?,
            },
            "username": username,
            "password": user.password.expose(),
            "created_at": user.created_at.unwrap_or(now).min(now),
            "password_changed_at": now,
            // Tokens issued before the restore are rejected.
            "password_mark": random_id()?,
        };
        if user.disabled {
            document.insert("disabled", true);
        }
        if let Some(roles) = roles::value(&user.roles) {
            document.insert(roles::ROLES, roles);
        }
        let insert = self.users.update_one(doc! { "username": username }, doc! { "$setOnInsert": document });
        self.within(async { insert.upsert(true).await }).await.map(drop)
    }

    async fn restore_logout(&self, logout: &Logout) -> Result<(), StoreError> {
        let id = doc! { "identity": &logout.identity, "token": logout.token.as_str() };
        let update = doc! {
            "$max": { "expires_at": seconds(logout.expires_at) },
            "$setOnInsert": { "identity": &logout.identity },
        };
        let store = self.logouts.update_one(doc! { "_id": id }, update);
        self.within(async { store.upsert(true).await }).await.map(drop)
    }
}

/// The number of documents rejected by a unique index, if there was no other error.
fn duplicates(error: &Error) -> Option<u64> {
    let ErrorKind::InsertMany(error) = error.kind.as_ref() else { return None };
    let errors = error.write_errors.as_ref().filter(|_| error.write_concern_error.is_none())?;
    errors.iter().all(|error| error.code == error::DUPLICATE_KEY).then_some(errors.len() as u64)
}

fn logout(document: &RawDocumentBuf) -> Option<Saved> {
    let id = document.get_document("_id").ok()?;
    let (identity, token) = (text(id, "identity")?.to_owned(), TokenId::parse(text(id, "token")?).ok()?);
    Some(Saved::Logout(Logout { identity, token, expires_at: time(document, "expires_at")? }))
}

fn user(document: &RawDocumentBuf, username: &str, found_at: Option<i64>) -> Option<Saved> {
    let key = document::id(document)?;
    let roles = match roles::stored(document) {
        StoredRoles::Valid(roles) => roles,
        StoredRoles::Unreadable => {
            let id = document::id_text(document);
            tracing::warn!(id, "the roles of a user cannot be read and are not in the backup");
            Roles::default()
        }
    };
    Some(Saved::User(SavedUser {
        username: username.to_owned(),
        id: id(document),
        password: StoredPassword::new(text(document, "password").unwrap_or_default()),
        disabled: disabled(document),
        roles,
        created_at: time(document, "created_at"),
        password_changed_at: changed_at(document, &key, found_at, i64::MAX),
    }))
}
