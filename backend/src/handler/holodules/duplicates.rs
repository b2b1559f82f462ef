//! Lists and resolves documents that share a `video_id`.

use futures_util::stream::{self, StreamExt, TryStreamExt};
use http::StatusCode;
use serde::Serialize;

use super::super::{App, HandlerResult};
use crate::model::DuplicateVideo;
use crate::respond::{self, HttpError};
use crate::store::DuplicateDeleted;

/// The maximum number of videos in a response.
const VIDEOS: u32 = 100;
/// The maximum number of documents of each video in a response.
const DOCUMENTS: u32 = 10;
/// Videos whose documents are read at the same time.
const CONCURRENT: usize = 4;

/// The response to `GET /duplicates`, and the content of the view.
#[derive(Serialize)]
pub(in crate::handler) struct Duplicates {
    /// By `video_id`.
    pub(in crate::handler) duplicates: Vec<DuplicateVideo>,
    /// Whether there are further videos.
    pub(in crate::handler) more: bool,
}

/// `200` with the videos in several documents, at most 100, and the first 10 documents of each.
pub(crate) async fn list(app: &App) -> HandlerResult {
    Ok(respond::no_store(respond::json(StatusCode::OK, &app.duplicates().await?)))
}

/// `204`: the document `id` of the video was deleted, and no other one. `404` where there is no such document, `409` if
/// no other document of the video would remain.
pub(crate) async fn delete(app: &App, video_id: &str, id: &str) -> HandlerResult {
    match app.store.delete_duplicate(video_id, id).await.map_err(|error| app.store_failed(&error))? {
        DuplicateDeleted::Done => Ok(respond::no_content()),
        DuplicateDeleted::NoSuchDocument => Err(HttpError::not_found("no such duplicate")),
        DuplicateDeleted::OnlyDocument => {
            Err(HttpError::new(StatusCode::CONFLICT, "no other document has this video_id"))
        }
    }
}

impl App {
    /// The videos in several documents.
    ///
    /// # Errors
    /// `503` or `500` if the store cannot be read.
    pub(in crate::handler) async fn duplicates(&self) -> Result<Duplicates, HttpError> {
        let failed = |error| self.store_failed(&error);
        let mut videos = self.store.duplicate_videos(VIDEOS + 1).await.map_err(failed)?;
        let more = videos.len() > VIDEOS as usize;
        videos.truncate(VIDEOS as usize);
        let read = async |(video_id, total): (String, u64)| {
            let documents = self.store.duplicates_of(&video_id, DOCUMENTS).await.map_err(failed)?;
            Ok::<_, HttpError>(DuplicateVideo { video_id, total, documents })
        };
        let duplicates = stream::iter(videos).map(read).buffered(CONCURRENT).try_collect().await?;
        Ok(Duplicates { duplicates, more })
    }
}
