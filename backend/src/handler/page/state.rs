//! The state of the service, duplicates, and the view of imports and exports.

use futures_util::stream::{self, StreamExt, TryStreamExt};
use holodule_settings::VERSION;
use http::request::Parts;

use super::super::{App, HandlerResult};
use super::request::{SILENCE, no_response, respond, respond_from_store};
use crate::model::Identifier;
use crate::page::{self, Duplicate, Health};
use crate::respond::HttpError;
use crate::store::StoreError;

/// The maximum number of duplicate videos in the view.
const DUPLICATES: u32 = 100;
/// The maximum number of documents of each video in the view.
const DOCUMENTS: usize = 10;
/// Videos whose documents are read at the same time.
const CONCURRENT: usize = 4;

/// `200` with the state, also if the store is unavailable, and within [`SILENCE`] if it does not respond.
pub(crate) async fn health(app: &App, parts: &Parts) -> HandlerResult {
    respond(parts, &[], async |_, view| {
        let reads =
            async { futures_util::join!(app.store.check_ready(), app.store.count_holodules(), app.store.users()) };
        let (not_ready, stored) = match tokio::time::timeout(SILENCE, reads).await {
            Ok((ready, holodules, users)) => {
                let reason = |error| {
                    app.store_failed(&error);
                    match error {
                        StoreError::Unavailable(_) => "the store is unavailable",
                        StoreError::Failed(_) | StoreError::Unusable(_) => "the store cannot be used; see the log",
                    }
                };
                (ready.err().map(reason), holodules.ok().zip(users.ok()))
            }
            Err(_) => {
                app.store_failed(&no_response());
                (Some("the store does not respond"), None)
            }
        };
        let stored = stored.map(|(holodules, users)| (holodules, users.len() as u64));
        let (feed, load) = (app.feed.stats(), app.hasher.load());
        let health = Health {
            not_ready,
            engine: app.store.engine_name(),
            stored,
            duplicates: app.store.duplicate_video_ids(),
            undated: app.store.undated_holodules(),
            version: VERSION,
            subscribers: feed.subscribers,
            poll_age: feed.poll_age.map(|age| age.as_secs_f64()),
            hashing: (load.running, load.waiting),
            draining: app.history.draining().len(),
        };
        Ok(page::health(&view, &health))
    })
    .await
}

/// `200` with the videos in several documents.
pub(crate) async fn duplicates(app: &App, parts: &Parts) -> HandlerResult {
    respond_from_store(app, parts, &[], async |_, view| {
        let failed = |error| app.store_failed(&error);
        let mut videos = app.store.duplicate_videos(DUPLICATES + 1).await.map_err(failed)?;
        let more = videos.len() > DUPLICATES as usize;
        videos.truncate(DUPLICATES as usize);
        let read = async |(video_id, documents): (String, u64)| {
            let found = match Identifier::parse(&video_id) {
                Ok(id @ Identifier::VideoId(_)) => app.store.find_holodules(&id).await.map_err(failed)?,
                // An older value of another form: its documents cannot be read by it.
                Ok(Identifier::Key(_)) | Err(_) => Vec::new(),
            };
            let holodules = found.into_iter().filter_map(|found| found.holodule).take(DOCUMENTS).collect();
            Ok::<_, HttpError>(Duplicate { video_id, documents, holodules })
        };
        let duplicates: Vec<_> = stream::iter(videos).map(read).buffered(CONCURRENT).try_collect().await?;
        Ok(page::duplicates(&view, &duplicates, more))
    })
    .await
}

/// `200` with the view of imports and exports.
pub(crate) async fn transfer(parts: &Parts) -> HandlerResult {
    respond(parts, &[], async |_, view| Ok(page::transfer(&view))).await
}
