//! The collection of calendar feeds: one document for each, with its delivered events.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use mongodb::bson::{
    Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, Timestamp, deserialize_from_slice, doc,
    serialize_to_document,
};

use super::users::{disabled, id as user_id, text};
use super::{Mongo, document};
use crate::model::{CALENDARS_LIMIT, Calendar, Delivered, DeliveredRevision, KeyHash};
use crate::store::{CalendarCreated, DisabledUser, StoreError, can_log_in};

/// The field of the delivered events, as JSON text: its keys, which are UIDs, contain dots.
const DELIVERED: &str = "delivered";
/// The field of the number of the last write of [`DELIVERED`].
const REVISION: &str = "revision";
/// The field of the server's time of the insertion. The clock of a backend may be another.
const STORED_AT: &str = "stored_at";
/// Names in one query, of at most about 1 KB each; a command has at most 16 MB.
const NAMES_AT_ONCE: usize = 10_000;

impl Mongo {
    /// Feeds are counted before another is stored, so concurrent creations may exceed [`CALENDARS_LIMIT`] by their
    /// number.
    pub(in crate::store) async fn create_calendar(
        &self,
        mut calendar: Calendar,
    ) -> Result<CalendarCreated, StoreError> {
        self.indexes_settled().await?;
        let Some(owner_id) = self.active_user(&calendar.owner).await? else { return Ok(CalendarCreated::NoSuchUser) };
        calendar.owner_id = owner_id;
        let count = self.calendars.count_documents(doc! { "owner": &calendar.owner }).limit(CALENDARS_LIMIT as u64);
        if self.within(async { count.max_time(self.timeout).await }).await? >= CALENDARS_LIMIT as u64 {
            return Ok(CalendarCreated::TooMany);
        }
        self.insert_calendar(&calendar).await?;
        // Disabling or deleting a user removes the feeds afterwards, so that one of the two finds this one.
        if self.active_user(&calendar.owner).await?.is_none_or(|id| !calendar.is_of(id.as_deref())) {
            self.delete_calendar(&calendar.owner, &calendar.id).await?;
            return Ok(CalendarCreated::NoSuchUser);
        }
        Ok(CalendarCreated::Done)
    }

    pub(in crate::store) async fn calendars(&self, owner: &str) -> Result<Vec<Calendar>, StoreError> {
        let Some(user) = self.user_document(owner).await? else { return Ok(Vec::new()) };
        let find = self.calendars.find(doc! { "owner": owner }).projection(doc! { DELIVERED: 0 });
        let find = find.sort(doc! { "created_at": 1, "_id": 1 });
        let find = async { find.max_time(self.timeout).await?.try_collect::<Vec<_>>().await };
        let calendars = self.within(find).await?;
        let id = user_id(&user);
        Ok(calendars.iter().filter_map(|document| calendar(document)).filter(|of| of.is_of(id.as_deref())).collect())
    }

    pub(in crate::store) async fn delete_calendar(&self, owner: &str, id: &str) -> Result<bool, StoreError> {
        let delete = self.calendars.delete_one(doc! { "_id": id, "owner": owner });
        Ok(self.within(async { delete.await }).await?.deleted_count > 0)
    }

    /// Deletes all feeds of a user.
    pub(super) async fn delete_calendars_of(&self, owner: &str) -> Result<(), StoreError> {
        let delete = self.calendars.delete_many(doc! { "owner": owner });
        self.within(async { delete.await }).await.map(drop)
    }

    pub(in crate::store) async fn calendar(
        &self,
        key: &KeyHash,
    ) -> Result<Option<(Calendar, DeliveredRevision)>, StoreError> {
        let find = self.calendars.find_one(doc! { "key_hash": key.as_str() });
        let Some(document) = self.within(async { find.max_time(self.timeout).await }).await? else { return Ok(None) };
        let Some(calendar) = calendar(&document) else { return Ok(None) };
        if self.active_user(&calendar.owner).await?.is_none_or(|id| !calendar.is_of(id.as_deref())) {
            // A user who was disabled directly in the database. The feeds of one who was deleted there remain until the
            // name is used again: a restore of the database may be in progress.
            self.end_calendars_of_disabled_user(&calendar.owner).await?;
            return Ok(None);
        }
        Ok(Some((calendar, delivered(&document))))
    }

    pub(in crate::store) async fn store_delivered(
        &self,
        id: &str,
        revision: i64,
        delivered: Delivered,
    ) -> Result<bool, StoreError> {
        let text = serde_json::to_string(&delivered).map_err(|error| StoreError::Failed(error.to_string()))?;
        let set = doc! { "$set": { REVISION: revision.saturating_add(1), DELIVERED: text } };
        let update = self.calendars.update_one(doc! { "_id": id, "$expr": is_revision(revision) }, set);
        Ok(self.within(async { update.await }).await?.matched_count > 0)
    }

    pub(in crate::store) async fn end_calendars_of_disabled(&self) -> Result<u64, StoreError> {
        // Every value but null and false disables. Several documents may have the name: the feeds end only if the one
        // that is the user is disabled.
        let is_disabled = doc! { "disabled": { "$nin": [Bson::Null, Bson::from(false)] } };
        let find = self.users.find(is_disabled).projection(doc! { "username": 1, "_id": 0 });
        let find = async { find.max_time(self.timeout).await?.try_collect::<Vec<RawDocumentBuf>>().await };
        let users = self.within(find).await?;
        let names: BTreeSet<&str> = users.iter().filter_map(|user| text(user, "username")).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let mut ended = 0_u64;
        for names in names.chunks(NAMES_AT_ONCE) {
            let owners = self.calendars.distinct("owner", doc! { "owner": { "$in": names } });
            let owners = self.within(async { owners.max_time(self.timeout).await }).await?;
            for owner in owners.iter().filter_map(Bson::as_str) {
                ended = ended.saturating_add(self.end_calendars_of_disabled_user(owner).await?);
            }
        }
        Ok(ended)
    }

    /// Deletes the feeds of a user, if the user is disabled. Returns their number.
    pub(super) async fn end_calendars_of_disabled_user(&self, owner: &str) -> Result<u64, StoreError> {
        // Feeds are created only while the user is enabled. So those that exist before the user is found to be disabled
        // end, and those that are created if the user is enabled meanwhile do not.
        let find = self.calendars.find(doc! { "owner": owner }).projection(doc! { "_id": 1 });
        let find = async { find.max_time(self.timeout).await?.try_collect::<Vec<RawDocumentBuf>>().await };
        let ids: Vec<Bson> = self.within(find).await?.iter().filter_map(|found| document::id(found)).collect();
        if ids.is_empty() || !self.user_document(owner).await?.is_some_and(|user| disabled(&user)) {
            return Ok(0);
        }
        let delete = self.calendars.delete_many(doc! { "_id": { "$in": ids } });
        Ok(self.within(async { delete.await }).await?.deleted_count)
    }

    pub(in crate::store) async fn end_calendars(&self, of: &DisabledUser) -> Result<u64, StoreError> {
        let user = self.user_document(&of.username).await?.and_then(|user| document::id_bytes(&user));
        if user.as_ref() != Some(&of.document) {
            return Ok(0);
        }
        let (time, increment) = of.at;
        let until = doc! { "$or": [
            { STORED_AT: { "$lte": Timestamp { time, increment } } },
            { STORED_AT: { "$exists": false }, "created_at": { "$lte": i64::from(time) } },
        ] };
        let delete = self.calendars.delete_many(doc! { "$and": [{ "owner": &of.username }, until] });
        Ok(self.within(async { delete.await }).await?.deleted_count)
    }

    /// Stores a feed that has delivered nothing.
    pub(super) async fn insert_calendar(&self, calendar: &Calendar) -> Result<(), StoreError> {
        let document = written(calendar).and_then(|document| RawDocumentBuf::try_from(&document));
        let document = document.map_err(|error| StoreError::Failed(error.to_string()))?;
        self.within(async { self.calendars.insert_one(document).await }).await.map(drop)
    }

    /// The `id` of a user who can log in; the outer `None` if there is no such user.
    async fn active_user(&self, username: &str) -> Result<Option<Option<String>>, StoreError> {
        let Some(user) = self.user_document(username).await? else { return Ok(None) };
        let active = text(&user, "password").is_some_and(|password| can_log_in(username, password)) && !disabled(&user);
        Ok(active.then(|| user_id(&user)))
    }
}

fn written(calendar: &Calendar) -> Result<Document, mongodb::bson::error::Error> {
    // The server replaces an empty timestamp by its time.
    let mut document = doc! { "_id": &calendar.id, REVISION: 0_i64, STORED_AT: Timestamp { time: 0, increment: 0 } };
    document.extend(serialize_to_document(calendar)?);
    document.remove("id");
    Ok(document)
}

/// Reads a feed; `None`, which is logged, if it cannot be read.
pub(super) fn calendar(document: &RawDocument) -> Option<Calendar> {
    let read = || {
        let mut fields: Document = deserialize_from_slice(document.as_bytes()).ok()?;
        let id = fields.remove("_id")?;
        fields.remove(REVISION);
        fields.remove(DELIVERED);
        fields.remove(STORED_AT);
        fields.insert("id", id);
        mongodb::bson::deserialize_from_document(fields).ok()
    };
    let calendar = read();
    if calendar.is_none() {
        tracing::warn!(id = document::id_text(document), "a calendar feed cannot be read");
    }
    calendar
}

/// A number of a write that another program may have stored, as another numeric type or in a damaged document. Fractions
/// are cut off; what is no integer of 64 bits is 0. [`is_revision`] is the same for the server.
fn revision(stored: RawBsonRef<'_>) -> i64 {
    match stored {
        RawBsonRef::Int32(number) => number.into(),
        RawBsonRef::Int64(number) => number,
        // As text, an integer of any size is exact.
        RawBsonRef::Double(number) => format!("{:.0}", number.trunc()).parse().unwrap_or(0),
        _ => 0,
    }
}

/// The expression for documents whose stored number is `revision`.
fn is_revision(revision: i64) -> Document {
    let field = format!("${REVISION}");
    let number = doc! { "$convert": { "input": &field, "to": "long", "onError": 0_i64 } };
    let is_number = doc! { "$in": [{ "$type": &field }, ["int", "long", "double"]] };
    doc! { "$eq": [{ "$cond": [is_number, number, 0_i64] }, revision] }
}

/// Reads what a feed has delivered. A state that cannot be read counts as lost.
pub(super) fn delivered(document: &RawDocument) -> DeliveredRevision {
    let revision = document.get(REVISION).ok().flatten().map_or(0, revision);
    let delivered = text(document, DELIVERED).and_then(|text| serde_json::from_str(text).ok());
    let delivered = delivered.filter(Delivered::is_valid).unwrap_or_default();
    DeliveredRevision { revision, delivered }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CalendarKey, Filter};

    #[test]
    fn a_feed_is_read_as_it_was_written() {
        let codes = ["HL0501".to_owned()].into();
        let feed = Calendar {
            id: "0f".into(),
            owner: "user01".into(),
            owner_id: Some("1".into()),
            key_hash: CalendarKey::random().unwrap().hash(),
            label: None,
            filter: Filter { codes, ..Filter::default() },
            created_at: 5,
        };
        let mut document = written(&feed).unwrap();
        document.insert(DELIVERED, "{}");
        let read = |document: &Document| calendar(&RawDocumentBuf::try_from(document).unwrap());
        assert_eq!(read(&document), Some(feed));
        document.insert("key_hash", "x");
        assert_eq!(read(&document), None);
    }
}
