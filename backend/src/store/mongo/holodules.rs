//! The collection of holodules.

use std::collections::{HashMap, HashSet};

use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use mongodb::bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};

use super::{Mongo, any_member, document, error};
use crate::model::{Day, Holodule, Identifier, ValidHolodule};
use crate::store::changed::TouchedDays;
use crate::store::{DayListing, Exported, StoreError, Upserted};

/// Entries of an upload that are looked up together.
const CHUNK: usize = 256;
/// Concurrent writes of an upload.
const WRITERS: usize = 16;
/// How often a write is retried after concurrent changes.
pub(super) const ATTEMPTS: usize = 5;
/// Documents of a day per batch: one round trip for all but the fullest days.
const DAY_BATCH: u32 = 1000;

/// A stored document.
#[derive(Clone)]
pub(super) struct FoundHolodule {
    id: Bson,
    /// The stored value of any type; null if missing.
    datetime: Bson,
    /// The content, if it can be read.
    pub(super) holodule: Option<Holodule>,
    /// The whole document, if a write needs it unchanged.
    whole: Option<Document>,
}

impl FoundHolodule {
    pub(super) fn read(document: &RawDocument) -> Option<Self> {
        let id = document::id(document)?;
        let datetime = document.get("datetime").ok().flatten().and_then(|value| Bson::try_from(value).ok());
        let holodule = document::holodule(document).ok();
        Some(Self { id, datetime: datetime.unwrap_or(Bson::Null), holodule, whole: None })
    }

    /// The same for a write that needs all fields unchanged.
    pub(super) fn read_whole(document: &RawDocument) -> Option<Self> {
        let whole = Document::try_from(document).ok()?;
        Some(Self { whole: Some(whole), ..Self::read(document)? })
    }

    fn filter(&self, id: &Identifier) -> Document {
        self.unchanged(filter(id))
    }

    /// `filter` for this document while its `datetime` is unchanged: otherwise a write would change a day that is not
    /// recorded.
    pub(super) fn unchanged(&self, mut filter: Document) -> Document {
        filter.insert("_id", doc! { "$eq": &self.id });
        filter.insert("datetime", doc! { "$eq": &self.datetime });
        if let Some(whole) = &self.whole {
            filter.insert("$expr", doc! { "$eq": ["$$ROOT", { "$literal": whole }] });
        }
        filter
    }

    pub(super) fn touch(&self, touched: &TouchedDays) {
        touched.touch(self.datetime.as_str());
    }
}

impl Mongo {
    pub(in crate::store) async fn day(&self, day: Day) -> Result<DayListing, StoreError> {
        let range = day.datetimes();
        let filter = doc! { "datetime": { "$gte": range.start, "$lt": range.end } };
        let find = self.holodules.find(filter).selection_criteria(any_member());
        let find = find.batch_size(DAY_BATCH).max_time(self.timeout);
        let documents: Vec<RawDocumentBuf> = self.within(async { find.await?.try_collect().await }).await?;
        Ok(listing(&documents))
    }

    pub(in crate::store) async fn count_holodules(&self) -> Result<u64, StoreError> {
        let estimate = self.holodules.estimated_document_count().selection_criteria(any_member());
        match self.within(async { estimate.await }).await? {
            // After an unclean shutdown the estimate may be wrong, but zero must be exact.
            0 => {
                let count = self.holodules.count_documents(doc! {}).limit(1).selection_criteria(any_member());
                self.within(async { count.await }).await
            }
            estimate => Ok(estimate),
        }
    }

    pub(in crate::store) async fn export(
        &self,
    ) -> Result<BoxStream<'static, Result<Exported, StoreError>>, StoreError> {
        let find = self.holodules.find(doc! {}).sort(doc! { "datetime": 1, "key": 1 }).allow_disk_use(true);
        let cursor = self.within(async { find.selection_criteria(any_member()).await }).await?;
        let records = stream::unfold(Some((self.clone(), cursor)), |state| async move {
            let (engine, mut cursor) = state?;
            match engine.within(cursor.try_next()).await {
                Ok(Some(document)) => {
                    let record = document::holodule(&document).map_err(|document::UnreadableDocument(id)| id);
                    Some((Ok(record), Some((engine, cursor))))
                }
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(records.boxed())
    }

    /// Deletes all documents of a holodule; older data may have several.
    pub(in crate::store) async fn delete_holodule(&self, id: &Identifier) -> Result<bool, StoreError> {
        let (engine, id, touched) = (self.clone(), id.clone(), TouchedDays::none(&self.changed));
        run_to_completion(async move { engine.delete_found(&id, &touched).await }).await
    }

    pub(in crate::store) async fn upsert(&self, entries: Vec<ValidHolodule>) -> Result<Vec<Upserted>, StoreError> {
        self.indexes_settled().await?;
        let (engine, touched) = (self.clone(), TouchedDays::none(&self.changed));
        run_to_completion(async move { engine.upsert_all(&entries, &touched).await }).await
    }

    async fn delete_found(&self, id: &Identifier, touched: &TouchedDays) -> Result<bool, StoreError> {
        let mut any = false;
        for _ in 0..ATTEMPTS {
            let found = match id {
                Identifier::VideoId(_) => {
                    let find = self.holodules.find(filter(id)).projection(doc! { "datetime": 1 });
                    let find = async { find.max_time(self.timeout).await?.try_collect().await };
                    let documents: Vec<RawDocumentBuf> = self.within(find).await?;
                    documents.iter().filter_map(|document| FoundHolodule::read(document)).collect()
                }
                Identifier::Key(_) => self.find_all([id]).await?.remove(id).into_iter().collect::<Vec<_>>(),
            };
            if found.is_empty() {
                return Ok(any);
            }
            let deleted = self.delete_unchanged(id, &found, touched).await?;
            if deleted >= found.len() as u64 {
                return Ok(true);
            }
            any |= deleted > 0;
        }
        Err(conflict())
    }

    /// Deletes those of the found documents that have not changed, and returns their number.
    pub(super) async fn delete_unchanged(
        &self,
        id: &Identifier,
        found: &[FoundHolodule],
        touched: &TouchedDays,
    ) -> Result<u64, StoreError> {
        found.iter().for_each(|found| found.touch(touched));
        let filters: Vec<Document> = found.iter().map(|found| found.filter(id)).collect();
        let delete = self.holodules.delete_many(doc! { "$or": filters });
        Ok(self.within(async { delete.await }).await?.deleted_count)
    }

    async fn upsert_all(&self, entries: &[ValidHolodule], touched: &TouchedDays) -> Result<Vec<Upserted>, StoreError> {
        let mut outcomes = Vec::with_capacity(entries.len());
        let mut rest = entries;
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(independent(rest));
            let mut found = self.find_all(chunk.iter().map(ValidHolodule::identifier)).await?;
            // Collected, because the compiler cannot prove that a future holding the closure is Send.
            let writes: Vec<_> =
                chunk.iter().map(|entry| self.upsert_one(entry, found.remove(entry.identifier()), touched)).collect();
            outcomes.extend(stream::iter(writes).buffered(WRITERS).try_collect::<Vec<_>>().await?);
            rest = later;
        }
        Ok(outcomes)
    }

    /// Writes an entry over the found document, and looks it up again after a concurrent change.
    async fn upsert_one(
        &self,
        entry: &ValidHolodule,
        mut found: Option<FoundHolodule>,
        touched: &TouchedDays,
    ) -> Result<Upserted, StoreError> {
        for _ in 0..ATTEMPTS {
            if let Some(outcome) = self.try_upsert(entry, found, touched).await? {
                return Ok(outcome);
            }
            found = self.find_all([entry.identifier()]).await?.remove(entry.identifier());
        }
        Err(conflict())
    }

    /// `None` if the found document has changed.
    pub(super) async fn try_upsert(
        &self,
        entry: &ValidHolodule,
        found: Option<FoundHolodule>,
        touched: &TouchedDays,
    ) -> Result<Option<Upserted>, StoreError> {
        let id = entry.identifier();
        let set = |old: &Holodule, new: &Holodule| {
            document::changes(old, new).map_err(|error| StoreError::Failed(error.to_string()))
        };
        let (write, outcome) = match found {
            Some(found) => {
                // An unreadable document differs in every field.
                let stored = found.holodule.clone().unwrap_or_default();
                let updated = entry.merged_into(&stored);
                let mut update = Document::new();
                let changes = set(&stored, &updated)?;
                if !changes.is_empty() {
                    update.insert("$set", changes);
                }
                if stored.code.is_some() && updated.code.is_none() {
                    update.insert("$unset", doc! { "code": "" });
                }
                if update.is_empty() {
                    return Ok(Some(Upserted::Unchanged));
                }
                found.touch(touched);
                touched.touch(updated.datetime.as_deref());
                let update = self.holodules.update_one(found.filter(id), update);
                (update, Upserted::Updated)
            }
            None => {
                touched.touch(entry.holodule().datetime.as_deref());
                let whole = set(&Holodule::default(), entry.holodule())?;
                let update = self.holodules.update_one(filter(id), doc! { "$setOnInsert": whole }).upsert(true);
                (update, Upserted::Inserted)
            }
        };
        let write = async {
            match write.await {
                Ok(result) => Ok(Some(result)),
                Err(error) if error::is_duplicate_key(&error) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let Some(result) = self.within(write).await? else { return Ok(None) };
        let written = match outcome {
            Upserted::Inserted => result.upserted_id.is_some(),
            Upserted::Updated | Upserted::Unchanged => result.matched_count > 0,
        };
        Ok(written.then_some(outcome))
    }

    /// The document of each identifier: by key, one without a video is preferred; then the one with the lowest `_id`.
    async fn find_all<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a Identifier>,
    ) -> Result<HashMap<Identifier, FoundHolodule>, StoreError> {
        let (mut video_ids, mut keys) = (HashSet::new(), HashSet::new());
        for id in ids {
            match id {
                Identifier::VideoId(id) => video_ids.insert(id.as_str()),
                Identifier::Key(key) => keys.insert(key.as_str()),
            };
        }
        let filter = doc! { "$or": [
            { "video_id": { "$in": video_ids.iter().copied().collect::<Vec<_>>() } },
            { "key": { "$in": keys.iter().copied().collect::<Vec<_>>() } },
        ] };
        let find = self.holodules.find(filter).sort(doc! { "_id": 1 }).max_time(self.timeout);
        let documents: Vec<RawDocumentBuf> = self.within(async { find.await?.try_collect().await }).await?;

        let mut found: HashMap<Identifier, FoundHolodule> = HashMap::new();
        let mut with_video: HashMap<Identifier, FoundHolodule> = HashMap::new();
        for document in &documents {
            let Some(read) = FoundHolodule::read(document) else { continue };
            let text = |name| document.get_str(name).unwrap_or_default();
            let (video_id, key) = (text("video_id"), text("key"));
            if video_ids.contains(video_id)
                && let Ok(video_id @ Identifier::VideoId(_)) = Identifier::parse(video_id)
            {
                found.entry(video_id).or_insert_with(|| read.clone());
            }
            if keys.contains(key) {
                let by_key = if video_id.is_empty() { &mut found } else { &mut with_video };
                by_key.entry(Identifier::Key(key.to_owned())).or_insert(read);
            }
        }
        for (id, document) in with_video {
            found.entry(id).or_insert(document);
        }
        Ok(found)
    }
}

/// The holodules of a day. A cursor is not a snapshot: a document whose time changes during the read may appear twice,
/// and its first version is used.
fn listing(documents: &[RawDocumentBuf]) -> DayListing {
    let mut seen = HashSet::new();
    let mut listing = DayListing::default();
    for document in documents {
        if document::id_bytes(document).is_some_and(|id| !seen.insert(id)) {
            continue;
        }
        match document::holodule(document) {
            Ok(holodule) => listing.holodules.push(holodule),
            Err(document::UnreadableDocument(id)) => listing.unreadable.push(id),
        }
    }
    listing.sort();
    listing
}

/// The number of leading entries that share no name and can be written in any order: at least one, at most [`CHUNK`].
fn independent(entries: &[ValidHolodule]) -> usize {
    let mut seen = HashSet::new();
    let again = entries.iter().take(CHUNK).position(|entry| {
        let Holodule { key, video_id, .. } = entry.holodule();
        let mut names = [key, video_id].into_iter().flatten().filter(|name| !name.is_empty());
        names.any(|name| !seen.insert(name.as_str()))
    });
    again.unwrap_or(CHUNK).clamp(1, entries.len().max(1))
}

pub(super) fn filter(id: &Identifier) -> Document {
    match id {
        Identifier::VideoId(id) => doc! { "video_id": id.as_str() },
        Identifier::Key(key) => doc! { "key": key },
    }
}

/// Runs a write to completion even if the caller is dropped: the days it touches are published when it ends, and not
/// before.
pub(super) async fn run_to_completion<T: Send + 'static>(
    write: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::spawn(write).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Failed("a write panicked".to_owned())),
    }
}

pub(super) fn conflict() -> StoreError {
    StoreError::Unavailable("the same holodule is changed by other writers".to_owned())
}

#[cfg(test)]
mod tests {
    use mongodb::bson::rawdoc;

    use super::*;

    #[test]
    fn a_repeated_document_is_yielded_once() {
        let of = |id: &str, hour: &str| rawdoc! { "_id": id, "datetime": format!("20201209 {hour}0000") };
        let unreadable = || rawdoc! { "_id": 7, "datetime": "20201209 120000", "title": 1 };
        let documents = [of("a", "10"), unreadable(), of("b", "11"), of("a", "23"), unreadable()];
        let listing = listing(&documents);
        let times: Vec<_> = listing.holodules.iter().map(|holodule| holodule.datetime.as_deref().unwrap()).collect();
        assert_eq!(times, ["20201209 110000", "20201209 100000"]);
        assert_eq!(listing.unreadable.len(), 1);
    }

    #[test]
    fn documents_are_distinguished_by_ids_of_any_type() {
        let same = || rawdoc! { "datetime": "20201209 230000" };
        let with = |id: Bson| RawDocumentBuf::try_from(&doc! { "_id": id, "datetime": "20201209 230000" }).unwrap();
        let documents =
            [with("1".into()), with(1.into()), with(Bson::Null), with(doc! { "a": 1 }.into()), same(), same()];
        assert_eq!(listing(&documents).holodules.len(), documents.len(), "all ids are different");
    }

    fn entry(key: &str, video_id: &str) -> ValidHolodule {
        ValidHolodule::new(Holodule {
            key: Some(key.into()),
            video_id: Some(video_id.into()),
            datetime: Some("20201209 230000".into()),
            ..Holodule::default()
        })
        .unwrap()
    }

    #[test]
    fn entries_that_share_a_name_are_not_written_together() {
        let (k1, k2) = ("HL0001_20201209_230000", "HL0002_20201209_230000");
        let (v1, v2) = ("aaaaaaaaaaa", "bbbbbbbbbbb");
        assert_eq!(independent(&[entry(k1, v1), entry(k2, v2)]), 2);
        assert_eq!(independent(&[entry(k1, v1), entry(k2, v1)]), 1);
        assert_eq!(independent(&[entry(k1, v1), entry(k1, "")]), 1);
        assert_eq!(independent(&[entry("", v1), entry("", v2)]), 2);
        assert_eq!(independent(&[entry(k1, v1)]), 1);
        assert_eq!(independent(&vec![entry(k1, v1); 2 * CHUNK]), 1);
    }
}
