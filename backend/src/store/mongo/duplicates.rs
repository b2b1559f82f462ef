//! Documents that share a `video_id`.

use futures_util::TryStreamExt;
use mongodb::bson::{Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::holodules::{ATTEMPTS, FoundHolodule, conflict, run_to_completion};
use super::{Mongo, document};
use crate::hex;
use crate::model::DuplicateDocument;
use crate::store::changed::TouchedDays;
use crate::store::{DuplicateDeleted, StoreError};

impl Mongo {
    pub(in crate::store) async fn duplicate_videos(&self, limit: u32) -> Result<Vec<(String, u64)>, StoreError> {
        // Without duplicates there is a unique index, and nothing to read.
        if self.duplicate_video_ids() == 0 {
            return Ok(Vec::new());
        }
        let pipeline = [
            doc! { "$match": { "video_id": { "$gt": "" } } },
            doc! { "$group": { "_id": "$video_id", "documents": { "$sum": 1_i64 } } },
            doc! { "$match": { "documents": { "$gt": 1 } } },
            doc! { "$sort": { "_id": 1 } },
            doc! { "$limit": i64::from(limit) },
        ];
        let groups = async {
            let groups = self.holodules.aggregate(pipeline).allow_disk_use(true).max_time(self.timeout).await?;
            groups.try_collect::<Vec<Document>>().await
        };
        let groups = self.within(groups).await?;
        let read = |group: &Document| {
            let documents = u64::try_from(group.get_i64("documents").ok()?).ok()?;
            Some((group.get_str("_id").ok()?.to_owned(), documents))
        };
        Ok(groups.iter().filter_map(read).collect())
    }

    pub(in crate::store) async fn duplicates_of(
        &self,
        video_id: &str,
        limit: u32,
    ) -> Result<Vec<DuplicateDocument>, StoreError> {
        let find = self.holodules.find(doc! { "video_id": video_id }).sort(doc! { "_id": 1 }).limit(i64::from(limit));
        let documents: Vec<RawDocumentBuf> =
            self.within(async { find.max_time(self.timeout).await?.try_collect().await }).await?;
        let read = |document: &RawDocumentBuf| {
            Some(DuplicateDocument { id: id_of(document)?, holodule: document::holodule(document).ok() })
        };
        Ok(documents.iter().filter_map(read).collect())
    }

    pub(in crate::store) async fn delete_duplicate(
        &self,
        video_id: &str,
        id: &str,
    ) -> Result<DuplicateDeleted, StoreError> {
        let (engine, video_id, id) = (self.clone(), video_id.to_owned(), id.to_owned());
        let touched = TouchedDays::none(&self.changed);
        run_to_completion(async move { engine.delete_one_of(&video_id, &id, &touched).await }).await
    }

    async fn delete_one_of(
        &self,
        video_id: &str,
        id: &str,
        touched: &TouchedDays,
    ) -> Result<DuplicateDeleted, StoreError> {
        let with_video = doc! { "video_id": video_id };
        for _ in 0..ATTEMPTS {
            let find = self.holodules.find(with_video.clone()).projection(doc! { "datetime": 1 });
            let find = async { find.max_time(self.timeout).await?.try_collect().await };
            let documents: Vec<RawDocumentBuf> = self.within(find).await?;
            let chosen = documents.iter().find(|document| id_of(document).as_deref() == Some(id));
            let Some(found) = chosen.and_then(|document| FoundHolodule::read(document)) else {
                return Ok(DuplicateDeleted::NoSuchDocument);
            };
            if documents.len() == 1 {
                return Ok(DuplicateDeleted::OnlyDocument);
            }
            found.touch(touched);
            let delete = self.holodules.find_one_and_delete(found.unchanged(with_video.clone()));
            let Some(deleted) = self.within(async { delete.await }).await? else { continue };
            // Concurrent requests may each delete another document of the video.
            let others = self.holodules.count_documents(with_video.clone()).limit(1);
            if self.within(async { others.max_time(self.timeout).await }).await? == 0 {
                self.within(async { self.holodules.insert_one(deleted).await }).await?;
                return Ok(DuplicateDeleted::OnlyDocument);
            }
            if documents.len() == 2 {
                // The unique index may be possible now.
                self.indexes.again.notify_one();
            }
            return Ok(DuplicateDeleted::Done);
        }
        Err(conflict())
    }
}

/// [`DuplicateDocument::id`]; `None` without an `_id`.
fn id_of(document: &RawDocument) -> Option<String> {
    match document.get("_id") {
        Ok(Some(RawBsonRef::ObjectId(id))) => Some(id.to_hex()),
        _ => document::id_bytes(document).map(|bytes| format!("x{}", hex::encode(&bytes))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use mongodb::bson::oid::ObjectId;
    use mongodb::bson::{Bson, rawdoc};

    use super::*;

    #[test]
    fn ids_of_any_type_are_different() {
        let object = ObjectId::new();
        let text = object.to_hex();
        assert_eq!(id_of(&rawdoc! { "_id": object }), Some(text.clone()));
        let ids = [Bson::from(object), text.into(), "1".into(), 1.into(), 1_i64.into(), 1.0.into(), Bson::Null];
        let documents = ids.map(|id| RawDocumentBuf::try_from(&doc! { "_id": id }).unwrap());
        let different: HashSet<_> = documents.iter().map(|document| id_of(document).unwrap()).collect();
        assert_eq!(different.len(), documents.len());
        assert_eq!(id_of(&rawdoc! { "title": "t" }), None);
    }
}
