//! Documents that share a `video_id`, for administrators. Only MongoDB can have them: other programs may have stored them
//! before its unique index existed. The embedded store has one record of each video.

use super::{Engine, Store, StoreError};
use crate::model::DuplicateDocument;

/// The result of [`Store::delete_duplicate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DuplicateDeleted {
    /// The document was deleted, and another with the same `video_id` remains.
    Done,
    /// There is no such document.
    NoSuchDocument,
    /// No other document has the `video_id`, so that the document was not deleted.
    OnlyDocument,
}

impl Store {
    /// The first `limit` `video_id`s in several documents, with the number of documents. Every `video_id` is read.
    ///
    /// # Errors
    /// If the store cannot be read within the operation timeout.
    pub async fn duplicate_videos(&self, limit: u32) -> Result<Vec<(String, u64)>, StoreError> {
        match &self.engine {
            Engine::Mongo(engine) => engine.duplicate_videos(limit).await,
            Engine::Embedded(_) => Ok(Vec::new()),
        }
    }

    /// The first `limit` documents with a `video_id` of any form, by `_id`.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn duplicates_of(&self, video_id: &str, limit: u32) -> Result<Vec<DuplicateDocument>, StoreError> {
        match &self.engine {
            Engine::Mongo(engine) => engine.duplicates_of(video_id, limit).await,
            Engine::Embedded(_) => Ok(Vec::new()),
        }
    }

    /// Deletes the document `id` ([`DuplicateDocument::id`]) of a video, if another document of the video remains.
    /// Completes even if the caller is dropped.
    ///
    /// # Errors
    /// If it is unknown whether the document was deleted.
    pub async fn delete_duplicate(&self, video_id: &str, id: &str) -> Result<DuplicateDeleted, StoreError> {
        match &self.engine {
            Engine::Mongo(engine) => engine.delete_duplicate(video_id, id).await,
            Engine::Embedded(_) => Ok(DuplicateDeleted::NoSuchDocument),
        }
    }
}
