//! The state of the service, duplicates, and the view of imports and exports.

use holodule_settings::VERSION;
use http::request::Parts;

use super::super::holodules::Duplicates;
use super::super::{App, HandlerResult};
use super::request::{SILENCE, no_response, respond, respond_from_store};
use crate::page::{self, Health};
use crate::store::StoreError;

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
        let Duplicates { duplicates, more } = app.duplicates().await?;
        Ok(page::duplicates(&view, &duplicates, more))
    })
    .await
}

/// `200` with the view of imports and exports.
pub(crate) async fn transfer(parts: &Parts) -> HandlerResult {
    respond(parts, &[], async |_, view| Ok(page::transfer(&view))).await
}
