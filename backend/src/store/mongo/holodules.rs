//! Holodules in the collection of the same name.

use std::collections::{HashMap, HashSet};

use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};

use super::{Mongo, any_member, document, error};
use crate::model::{Day, Entry, Holodule, Identifier};
use crate::store::{DayListing, Exported, StoreError, Upserted};

/// Entries of an upload that are looked up at once.
const CHUNK: usize = 256;
/// Writes of an upload that are under way at once.
const WRITERS: usize = 16;
/// How often a write is tried that other writers keep overtaking.
const ATTEMPTS: usize = 5;

/// A document that is there: its `_id`, and its content where it can be read.
type Found = (Bson, Option<Holodule>);

impl Mongo {
    pub(in crate::store) async fn day(&self, day: Day) -> Result<DayListing, StoreError> {
        let range = day.datetimes();
        let filter = doc! { "datetime": { "$gte": range.start, "$lt": range.end } };
        let find = self.holodules.find(filter).selection_criteria(any_member()).max_time(self.timeout);
        let documents: Vec<RawDocumentBuf> = self.within(async { find.await?.try_collect().await }).await?;
        let mut listing = DayListing::default();
        for document in &documents {
            match document::holodule(document) {
                Ok(holodule) => listing.holodules.push(holodule),
                Err(document::Unreadable(id)) => listing.unreadable.push(id),
            }
        }
        listing.sort();
        Ok(listing)
    }

    pub(in crate::store) async fn count_holodules(&self) -> Result<u64, StoreError> {
        let estimate = self.holodules.estimated_document_count().selection_criteria(any_member());
        match self.within(async { estimate.await }).await? {
            // After an unclean stop the estimate may be wrong; that there are none must be right.
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
                    let record = document::holodule(&document).map_err(|document::Unreadable(id)| id);
                    Some((Ok(record), Some((engine, cursor))))
                }
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(records.boxed())
    }

    /// A holodule that stands in several documents, as older data may have it, goes
    /// with all of them.
    pub(in crate::store) async fn delete_holodule(&self, id: &Identifier) -> Result<bool, StoreError> {
        let filter = match id {
            Identifier::VideoId(_) => filter(id),
            Identifier::Key(_) => match self.find_all([id]).await?.remove(id) {
                Some((document_id, _)) => with_id(&document_id, id),
                None => return Ok(false),
            },
        };
        let delete = self.holodules.delete_many(filter);
        Ok(self.within(async { delete.await }).await?.deleted_count > 0)
    }

    pub(in crate::store) async fn upsert(&self, entries: Vec<Entry>) -> Result<Vec<Upserted>, StoreError> {
        self.indexes_settled().await?;
        let mut outcomes = Vec::with_capacity(entries.len());
        let mut rest = entries.as_slice();
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(independent(rest));
            let found = self.find_all(chunk.iter().map(Entry::identifier)).await?;
            // Collected, for the compiler cannot see that a future which holds the closure is Send.
            let writes: Vec<_> =
                chunk.iter().map(|entry| self.upsert_one(entry, found.get(entry.identifier()).cloned())).collect();
            outcomes.extend(stream::iter(writes).buffered(WRITERS).try_collect::<Vec<_>>().await?);
            rest = later;
        }
        Ok(outcomes)
    }

    /// Writes one entry over what was found of it. Where another writer came in
    /// between, it looks again.
    async fn upsert_one(&self, entry: &Entry, mut found: Option<Found>) -> Result<Upserted, StoreError> {
        for _ in 0..ATTEMPTS {
            if let Some(outcome) = self.try_upsert(entry, found).await? {
                return Ok(outcome);
            }
            found = self.find_all([entry.identifier()]).await?.remove(entry.identifier());
        }
        Err(StoreError::Unavailable("other writers keep changing the same holodule".to_owned()))
    }

    /// `None` where what was found is not what is there.
    async fn try_upsert(&self, entry: &Entry, found: Option<Found>) -> Result<Option<Upserted>, StoreError> {
        let id = entry.identifier();
        let set = |old: &Holodule, new: &Holodule| {
            document::changes(old, new).map_err(|error| StoreError::Failed(error.to_string()))
        };
        let (write, outcome) = match found {
            Some((document_id, stored)) => {
                // What cannot be read differs in every field.
                let stored = stored.unwrap_or_default();
                let changes = set(&stored, &stored.updated_by(entry))?;
                if changes.is_empty() {
                    return Ok(Some(Upserted::Unchanged));
                }
                let update = self.holodules.update_one(with_id(&document_id, id), doc! { "$set": changes });
                (update, Upserted::Updated)
            }
            None => {
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

    /// The document of each identifier that has one: by key, one without a video is
    /// preferred; then the one with the lowest `_id`.
    async fn find_all<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a Identifier>,
    ) -> Result<HashMap<Identifier, Found>, StoreError> {
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

        let mut found: HashMap<Identifier, Found> = HashMap::new();
        let mut with_video: HashMap<Identifier, Found> = HashMap::new();
        for document in &documents {
            let Some(id) = document::id(document) else { continue };
            let holodule = document::holodule(document).ok();
            let text = |name| document.get_str(name).unwrap_or_default();
            let (video_id, key) = (text("video_id"), text("key"));
            if video_ids.contains(video_id)
                && let Ok(video_id @ Identifier::VideoId(_)) = Identifier::parse(video_id)
            {
                found.entry(video_id).or_insert_with(|| (id.clone(), holodule.clone()));
            }
            if keys.contains(key) {
                let by_key = if video_id.is_empty() { &mut found } else { &mut with_video };
                by_key.entry(Identifier::Key(key.to_owned())).or_insert((id, holodule));
            }
        }
        for (id, document) in with_video {
            found.entry(id).or_insert(document);
        }
        Ok(found)
    }
}

/// How many of the first entries have nothing to do with each other, and so can be
/// written in any order: at least one, at most [`CHUNK`].
fn independent(entries: &[Entry]) -> usize {
    let mut seen = HashSet::new();
    let again = entries.iter().take(CHUNK).position(|entry| {
        let Holodule { key, video_id, .. } = entry.holodule();
        let mut names = [key, video_id].into_iter().flatten().filter(|name| !name.is_empty());
        names.any(|name| !seen.insert(name.as_str()))
    });
    again.unwrap_or(CHUNK).clamp(1, entries.len().max(1))
}

fn filter(id: &Identifier) -> Document {
    match id {
        Identifier::VideoId(id) => doc! { "video_id": id.as_str() },
        Identifier::Key(key) => doc! { "key": key },
    }
}

/// The document with this `_id`, as long as it is still the one that was looked for.
fn with_id(document_id: &Bson, id: &Identifier) -> Document {
    let mut filter = filter(id);
    filter.insert("_id", document_id);
    filter
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, video_id: &str) -> Entry {
        Entry::new(Holodule {
            key: Some(key.into()),
            video_id: Some(video_id.into()),
            datetime: Some("20201209 230000".into()),
            ..Holodule::default()
        })
        .unwrap()
    }

    #[test]
    fn entries_that_touch_are_not_written_together() {
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
