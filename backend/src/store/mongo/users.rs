//! The collection of users.
//!
//! A unique index on `username` cannot be created in every existing database, so a new user's document has the name as
//! its `_id`, which is always unique: of two concurrent additions of a name, one fails. If older data has a name
//! several times, the document with the lowest `_id` is the user, as always; deleting the user deletes all of them.

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::{Mongo, document, error, roles};
use crate::model::{NewUser, PasswordForm, StoredPassword, StoredUser, UserSummary};
use crate::store::{StoreError, UserChange, can_log_in, random_id};

impl Mongo {
    pub(in crate::store) async fn user(&self, username: &str) -> Result<Option<StoredUser>, StoreError> {
        let Some(document) = self.user_document(username).await? else { return Ok(None) };
        let Some(password) = text(&document, "password").filter(|password| can_log_in(username, password)) else {
            return Ok(None);
        };
        Ok(Some(StoredUser {
            username: username.to_owned(),
            id: id(&document),
            password: StoredPassword::new(password),
            disabled: disabled(&document),
        }))
    }

    pub(in crate::store) async fn users(&self) -> Result<Vec<UserSummary>, StoreError> {
        let find = self.users.find(doc! {}).sort(doc! { "username": 1, "_id": 1 }).allow_disk_use(true);
        let documents: Vec<RawDocumentBuf> = self.within(async { find.await?.try_collect().await }).await?;
        let summary = |document: &RawDocumentBuf| {
            let username = text(document, "username")?.to_owned();
            let password = text(document, "password").filter(|password| can_log_in(&username, password));
            let form = password.map(PasswordForm::of);
            let roles = roles::stored(document);
            Some(UserSummary { id: id(document), disabled: disabled(document), form, roles, username })
        };
        Ok(documents.iter().filter_map(summary).collect())
    }

    pub(in crate::store) async fn create_user(&self, user: NewUser) -> Result<bool, StoreError> {
        let username = user.username.as_str();
        if self.user_document(username).await?.is_none() {
            // Of a user of the same name who was deleted directly in the database.
            self.delete_calendars_of(username).await?;
        }
        self.expect_password(username, &username.into(), user.hash.expose()).await?;
        let document = doc! {
            "_id": username,
            "id": random_id()?,
            "username": username,
            "password": user.hash.expose(),
            "created_at": user.created_at,
            "password_mark": random_id()?,
        };
        let create = self.users.update_one(doc! { "username": username }, doc! { "$setOnInsert": document });
        let create = async {
            match create.upsert(true).await {
                Ok(result) => Ok(result.upserted_id.is_some()),
                Err(error) if error::is_duplicate_key(&error) => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.within(create).await
    }

    pub(in crate::store) async fn change_password(
        &self,
        username: &str,
        hash: &str,
        changed_at: i64,
    ) -> Result<UserChange, StoreError> {
        let Some(id) = self.user_id(username).await? else { return Ok(UserChange::NoSuchUser) };
        self.expect_password(username, &id, hash).await?;
        let set = doc! { "password": hash, "password_changed_at": changed_at, "password_mark": random_id()? };
        self.change_user(username, id, set).await
    }

    pub(in crate::store) async fn upgrade_password(
        &self,
        username: &str,
        stored: &str,
        hash: &str,
    ) -> Result<bool, StoreError> {
        let Some(id) = self.user_id(username).await? else { return Ok(false) };
        self.expect_password(username, &id, hash).await?;
        let filter = doc! { "_id": id, "username": username, "password": stored };
        let update = self.users.update_one(filter, doc! { "$set": { "password": hash } });
        Ok(self.within(async { update.await }).await?.matched_count > 0)
    }

    pub(in crate::store) async fn set_disabled(
        &self,
        username: &str,
        disabled: bool,
        now: i64,
    ) -> Result<UserChange, StoreError> {
        let Some(id) = self.user_id(username).await? else { return Ok(UserChange::NoSuchUser) };
        let mut set = doc! { "disabled": disabled };
        if !disabled {
            // The user may have been disabled directly in the database.
            self.end_calendars_of_disabled_user(username).await?;
        }
        if disabled {
            set.extend(doc! { "password_changed_at": now, "password_mark": random_id()? });
        }
        let changed = self.change_user(username, id, set).await?;
        if disabled {
            // Until then, they are not served either, because the user is disabled.
            self.delete_calendars_of(username).await?;
        }
        Ok(changed)
    }

    pub(in crate::store) async fn delete_user(&self, username: &str, now: i64) -> Result<UserChange, StoreError> {
        let delete = self.users.delete_many(doc! { "username": username });
        let deleted = self.within(async { delete.await }).await?.deleted_count;
        self.delete_calendars_of(username).await?;
        if deleted > 0
            && let Err(error) = self.record_deletion(username, now).await
        {
            // The next read of the user records it.
            tracing::warn!(%error, "the deletion of a user could not be recorded; the next read records it");
        }
        Ok(if deleted > 0 { UserChange::Done } else { UserChange::NoSuchUser })
    }

    async fn change_user(&self, username: &str, id: Bson, set: Document) -> Result<UserChange, StoreError> {
        let filter = doc! { "_id": id, "username": username };
        let update = self.users.update_one(filter, doc! { "$set": set });
        let matched = self.within(async { update.await }).await?.matched_count;
        Ok(if matched > 0 { UserChange::Done } else { UserChange::NoSuchUser })
    }

    async fn user_id(&self, username: &str) -> Result<Option<Bson>, StoreError> {
        Ok(self.user_document(username).await?.and_then(|document| document::id(&document)))
    }

    pub(super) async fn user_document(&self, username: &str) -> Result<Option<RawDocumentBuf>, StoreError> {
        let find = self.users.find_one(doc! { "username": username }).sort(doc! { "_id": 1 });
        self.within(async { find.max_time(self.timeout).await }).await
    }
}

pub(super) fn text<'a>(document: &'a RawDocument, name: &str) -> Option<&'a str> {
    document.get_str(name).ok()
}

/// The original's ids are strings; manual edits may have written numbers.
pub(super) fn id(document: &RawDocument) -> Option<String> {
    match document.get("id") {
        Ok(Some(RawBsonRef::String(id))) => Some(id.to_owned()),
        Ok(Some(RawBsonRef::Int32(id))) => Some(id.to_string()),
        Ok(Some(RawBsonRef::Int64(id))) => Some(id.to_string()),
        _ => None,
    }
}

/// A user is enabled only if the field is missing, null or false.
pub(super) fn disabled(document: &RawDocument) -> bool {
    !matches!(document.get("disabled"), Ok(None | Some(RawBsonRef::Null | RawBsonRef::Boolean(false))))
}
