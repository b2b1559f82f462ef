//! The collection `streamers`, which the author's later service shares.

use std::collections::HashSet;

use futures_util::TryStreamExt;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::holodules::run_to_completion;
use super::users::{id, text};
use super::{Mongo, any_member, document, primary};
use crate::model::{Streamer, Streamers};
use crate::store::changed::TouchedDays;
use crate::store::{StoreError, StreamersStored};

impl Mongo {
    pub(in crate::store) async fn streamers(&self) -> Result<Streamers, StoreError> {
        let find = self.streamers.find(doc! {}).sort(doc! { "code": 1, "_id": 1 }).selection_criteria(any_member());
        let documents: Vec<RawDocumentBuf> =
            self.within(async { find.max_time(self.timeout).await?.try_collect().await }).await?;
        Ok(documents.iter().map(|document| streamer(document)).collect())
    }

    pub(in crate::store) async fn store_streamers(
        &self,
        streamers: Vec<Streamer>,
    ) -> Result<StreamersStored, StoreError> {
        let (engine, touched) = (self.clone(), TouchedDays::none(&self.changed));
        run_to_completion(async move {
            let mut stored = StreamersStored::default();
            for streamer in &streamers {
                engine.store_streamer(streamer, Document::new(), &touched, &mut stored).await?;
            }
            Ok(stored)
        })
        .await
    }

    /// Stores the streamers of a backup. A new one has its id, unless another one has it.
    pub(super) async fn restore_streamers(
        &self,
        streamers: &[Streamer],
        touched: &TouchedDays,
    ) -> Result<(), StoreError> {
        if streamers.is_empty() {
            return Ok(());
        }
        let find = self.streamers.find(doc! {}).projection(doc! { "id": 1 }).selection_criteria(primary());
        let find = async { find.max_time(self.timeout).await?.try_collect::<Vec<RawDocumentBuf>>().await };
        let stored = self.within(find).await?;
        let mut taken: HashSet<String> =
            stored.iter().flat_map(|document| id(document).into_iter().chain([document::shown_id(document)])).collect();
        for streamer in streamers {
            let ids = if streamer.id.is_empty() || !taken.insert(streamer.id.clone()) {
                Document::new()
            } else if let Ok(id) = ObjectId::parse_str(&streamer.id) {
                doc! { "_id": id }
            } else {
                doc! { "id": &streamer.id }
            };
            self.store_streamer(streamer, ids, touched, &mut StreamersStored::default()).await?;
        }
        Ok(())
    }

    /// `ids` are the additional fields of a new one.
    async fn store_streamer(
        &self,
        streamer: &Streamer,
        ids: Document,
        touched: &TouchedDays,
        stored: &mut StreamersStored,
    ) -> Result<(), StoreError> {
        let by_code = doc! { "code": &streamer.code };
        let find = self.streamers.find_one(by_code.clone()).sort(doc! { "_id": 1 }).max_time(self.timeout);
        let found = self.within(async { find.await }).await?;
        let old = found.as_deref().map(self::streamer).unwrap_or_default();
        let changes = changes(&old, streamer);
        let (write, count) = match found.as_deref().and_then(document::id) {
            Some(_) if changes.is_empty() => {
                stored.unchanged += 1;
                return Ok(());
            }
            Some(id) => {
                let filter = doc! { "_id": { "$eq": id } };
                (self.streamers.update_one(filter, doc! { "$set": changes }), &mut stored.updated)
            }
            None => {
                let update = doc! { "$setOnInsert": changes.into_iter().chain(ids).collect::<Document>() };
                (self.streamers.update_one(by_code, update).upsert(true), &mut stored.inserted)
            }
        };
        touched.touch_all();
        self.within(async { write.await }).await?;
        *count += 1;
        Ok(())
    }
}

/// Reads a streamer. A value of another type is missing.
pub(super) fn streamer(document: &RawDocument) -> Streamer {
    let owned = |name| text(document, name).map(str::to_owned);
    let affiliations = document.get_array("affiliations").into_iter().flatten();
    Streamer {
        code: owned("code").unwrap_or_default(),
        id: id(document).unwrap_or_else(|| document::shown_id(document)),
        name: owned("name"),
        group: owned("group"),
        affiliations: affiliations
            .filter_map(|affiliation| match affiliation {
                Ok(RawBsonRef::String(affiliation)) => Some(affiliation.to_owned()),
                _ => None,
            })
            .collect(),
        image_name: owned("image_name"),
        channel_id: owned("channel_id"),
        is_retired: document.get_bool("is_retired").ok(),
    }
}

/// The fields that `new` has and in which it differs from `old`.
fn changes(old: &Streamer, new: &Streamer) -> Document {
    let mut changes = Document::new();
    let texts = [
        ("name", &old.name, &new.name),
        ("group", &old.group, &new.group),
        ("image_name", &old.image_name, &new.image_name),
        ("channel_id", &old.channel_id, &new.channel_id),
    ];
    for (name, old, new) in texts {
        if let Some(new) = new.as_ref().filter(|_| old != new) {
            changes.insert(name, new);
        }
    }
    if old.code != new.code {
        changes.insert("code", &new.code);
    }
    if !new.affiliations.is_empty() && old.affiliations != new.affiliations {
        changes.insert("affiliations", &new.affiliations);
    }
    if let Some(is_retired) = new.is_retired.filter(|_| old.is_retired != new.is_retired) {
        changes.insert("is_retired", Bson::from(is_retired));
    }
    changes
}
