//! The state of the service: for probes, Prometheus and administrators.

use holodule_telemetry::Tracer;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use super::{App, HandlerResult, STORE_RETRY};
use crate::record::{Gauges, SearchCache};
use crate::respond::{self, HttpError};
use crate::store::StoreError;

#[derive(Serialize)]
struct StatusBody {
    status: &'static str,
}

#[derive(Serialize)]
struct StatusCounts {
    holodules: u64,
    users: u64,
    duplicate_video_ids: u64,
}

/// `200` while the process is alive.
pub(crate) fn healthz() -> HandlerResult {
    Ok(respond::no_store(respond::json(StatusCode::OK, &StatusBody { status: "alive" })))
}

/// `200` if the store responds and grants all needed rights, otherwise `503`.
pub(crate) async fn readyz(app: &App) -> HandlerResult {
    app.store.check_ready().await.map_err(|error| {
        app.store_failed(&error);
        let reason = match error {
            StoreError::Unavailable(_) => "the store is unavailable",
            _ => "the store cannot be used; see the log",
        };
        HttpError::unavailable(reason, STORE_RETRY)
    })?;
    Ok(respond::no_store(respond::json(StatusCode::OK, &StatusBody { status: "ready" })))
}

/// `200` with the numbers of holodules and users.
pub(crate) async fn status(app: &App) -> HandlerResult {
    let failed = |error| app.store_failed(&error);
    let holodules = app.store.count_holodules().await.map_err(failed)?;
    let users = app.store.users().await.map_err(failed)?.len() as u64;
    let duplicate_video_ids = app.store.duplicate_video_ids();
    Ok(respond::no_store(respond::json(StatusCode::OK, &StatusCounts { holodules, users, duplicate_video_ids })))
}

/// `200` with the state of upgrades in place, which the command `upgrade` reads.
pub(crate) fn upgrades(app: &App) -> HandlerResult {
    Ok(respond::no_store(respond::json(StatusCode::OK, &app.history.page())))
}

/// `200` with the metrics in the Prometheus text format, version 0.0.4.
pub(crate) fn metrics(app: &App) -> HandlerResult {
    app.metrics.in_place().draining(app.history.draining().len());
    let load = app.hasher.load();
    let (feed, live, search) = (app.feed.stats(), app.live.stats(), app.store.search_cache());
    let page = app.metrics.render(Gauges {
        hashing_running: load.running,
        hashing_waiting: load.waiting,
        duplicate_video_ids: app.store.duplicate_video_ids(),
        undated_holodules: app.store.undated_holodules(),
        restored_indexes: app.store.restored_indexes(),
        watched_identities: feed.watched,
        subscribers: feed.subscribers,
        identity_events: feed.identities,
        reset_events: feed.resets,
        purge_events: feed.purges,
        purge_all_events: feed.purges_of_all,
        beat_events: feed.beats,
        cut_off_subscribers: feed.cut_off,
        poll_age: feed.poll_age,
        stream_queries: live.queries,
        stream_subscribers: live.subscribers,
        search_cache: SearchCache { bytes: search.bytes, hits: search.hits, misses: search.misses },
        log_lines_dropped: (app.log_lines_dropped)(),
        spans: app.tracer.as_ref().map(Tracer::figures),
    });
    let page = page.map_err(|error| {
        tracing::error!(%error, "the metrics could not be encoded");
        HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be encoded")
    })?;
    let mut response = respond::with(StatusCode::OK, respond::full(page));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    Ok(respond::no_store(response))
}
