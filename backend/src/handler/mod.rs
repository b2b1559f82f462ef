//! The handlers, one for each operation. A handler reads its request, calls the store or the hasher, and builds the
//! response. [`route`](crate::route) selects the handler and orders the checks before it.

mod backup;
mod body;
mod calendar;
mod contract;
mod credentials;
mod csrf;
mod document;
mod holodules;
mod lists;
mod live;
mod page;
mod parameters;
mod precondition;
mod revocation;
mod roles;
mod status;
mod streamers;
mod tagged;
mod token_bucket;
mod users;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holodule_handover::History;
use holodule_telemetry::{Tracer, active, within};
use http::{Response, StatusCode};
use tokio::sync::Semaphore;

pub(crate) use backup::{back_up, restore};
pub(crate) use calendar::{
    create as create_calendar, delete as delete_calendar, delete_of_user as delete_calendar_of_user,
    list as list_calendars, list_of_user as list_calendars_of_user, read as read_calendar,
};
pub(crate) use credentials::verify;
pub(crate) use csrf::check as check_csrf;
#[cfg(test)]
pub(crate) use document::document;
pub(crate) use document::{docs, docs_redirect, docs_style, openapi};
pub(crate) use holodules::{day, delete, delete_duplicate, export, list_duplicates, put, upload};
pub use lists::{ListSettings, SearchSettings};
pub(crate) use lists::{
    holodules as list_holodules, now, of_streamer as list_of_streamer, schedule, schedules, streamer,
    streamers as list_streamers,
};
pub(crate) use live::stream;
pub(crate) use page::{
    asset, calendar as calendar_page, calendars as calendars_page, duplicates as duplicates_page,
    health as health_page, record, search as search_page, transfer as transfer_page, unknown as unknown_page,
    users as users_page,
};
pub(crate) use revocation::{check, feed, log_out};
pub(crate) use roles::{edit as edit_roles, list as list_roles, replace as replace_roles};
pub(crate) use status::{healthz, metrics, readyz, status, upgrades};
pub(crate) use streamers::{import as import_streamers, list as list_stored_streamers};
pub(crate) use users::{change_password, create, delete as delete_user, list, set_disabled};

use crate::clock;
use crate::coalesce::Coalescer;
use crate::feed::Feed;
use crate::live::Live;
use crate::model::Day;
use crate::password::{Busy, Hasher};
use crate::record::Metrics;
use crate::respond::{Body, HttpError};
use crate::store::{Store, StoreError};

/// `Retry-After` when the store is unavailable, in seconds.
const STORE_RETRY: u32 = 5;
/// `Retry-After` when a concurrency limit is reached, in seconds.
const BUSY_RETRY: u32 = 1;

/// The result of a handler.
pub(crate) type HandlerResult = Result<Response<Body>, HttpError>;

/// The settings of the handlers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether the admin listener has the page.
    pub page: bool,
    /// Host names that the admin listener accepts besides IP literals and `localhost`, in lower case.
    pub allowed_hosts: Vec<String>,
    /// Whether failed logins are logged with the username.
    pub login_names: bool,
    /// The largest upload, in bytes.
    pub body_limit: usize,
    /// Timeout for a complete request body.
    pub body_timeout: Duration,
    /// The maximum number of concurrent uploads.
    pub concurrent_uploads: u32,
    /// The folder of backups. Without one, backup and restore are disabled.
    pub backup_folder: Option<PathBuf>,
    /// Lists of holodules.
    pub lists: ListSettings,
}

/// State shared by all handlers.
pub struct App {
    store: Store,
    hasher: Hasher,
    metrics: Arc<Metrics>,
    settings: Settings,
    feed: Feed,
    live: Live,
    /// Coalesces reads of a day. The store's version is part of the key, so that a request after a change never joins a
    /// read that began before it.
    reads: Coalescer<(Day, u64), holodules::Read>,
    lists: lists::Lists,
    calendars: calendar::Calendars,
    clock: Box<dyn Fn() -> i64 + Send + Sync>,
    uploads: Semaphore,
    /// Allows one backup or restore at a time.
    backups: Semaphore,
    log_lines_dropped: Box<dyn Fn() -> usize + Send + Sync>,
    history: Arc<History>,
    tracer: Option<Tracer>,
}

impl App {
    /// Creates the state, in a Tokio runtime. `log_lines_dropped` is read at each scrape.
    pub fn new(
        store: Store,
        hasher: Hasher,
        feed: Feed,
        metrics: Arc<Metrics>,
        settings: Settings,
        log_lines_dropped: impl Fn() -> usize + Send + Sync + 'static,
    ) -> Self {
        let uploads = Semaphore::new(settings.concurrent_uploads as usize);
        let (reads, backups) = (Coalescer::new(), Semaphore::new(1));
        let log_lines_dropped = Box::new(log_lines_dropped);
        let history = Arc::new(History::new(None, Arc::default()));
        Self {
            lists: lists::Lists::new(&settings.lists),
            live: Live::start(store.clone(), feed.clone()),
            calendars: calendar::Calendars::new(),
            clock: Box::new(clock::now),
            tracer: None,
            store,
            hasher,
            metrics,
            settings,
            feed,
            reads,
            uploads,
            backups,
            log_lines_dropped,
            history,
        }
    }

    /// Takes the time from `clock`, in seconds since the Unix epoch, for lists and calendar feeds.
    pub fn with_clock(self, clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), ..self }
    }

    /// The time, in seconds since the Unix epoch.
    fn now(&self) -> i64 {
        (self.clock)()
    }

    /// The same with the upgrades that this process reports.
    pub fn with_history(self, history: Arc<History>) -> Self {
        Self { history, ..self }
    }

    /// Records spans with `tracer`, if traces are exported.
    pub fn with_tracer(self, tracer: Option<Tracer>) -> Self {
        Self { tracer, ..self }
    }

    /// Records spans; `None` if traces are not exported.
    pub(crate) fn tracer(&self) -> Option<&Tracer> {
        self.tracer.as_ref()
    }

    pub(crate) fn has_page(&self) -> bool {
        self.settings.page
    }

    pub(crate) fn allowed_hosts(&self) -> &[String] {
        &self.settings.allowed_hosts
    }

    /// The metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Ends the feed and the streams, which would otherwise keep connections open during shutdown.
    pub(crate) fn stop(&self) {
        self.feed.end();
        self.live.end();
    }

    /// Accepts subscribers again after [`App::stop`].
    pub(crate) fn resume(&self) {
        self.feed.resume();
        self.live.resume();
    }

    /// Applies a change to the account `identity`, then publishes it, whatever its result. Both complete even if the
    /// client disconnects.
    async fn change<T: Send + 'static>(
        &self,
        identity: &str,
        change: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, HttpError> {
        let (feed, identity) = (self.feed.clone(), identity.to_owned());
        // In the trace of this request, although in another task.
        let changing = tokio::spawn(within(active(), async move {
            let changed = change.await;
            feed.account_changed(&identity);
            changed
        }));
        changing.await.map_err(|_| {
            self.metrics.panicked();
            HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be handled")
        })
    }

    fn store_failed(&self, error: &StoreError) -> HttpError {
        store_failed(&self.metrics, error)
    }

    /// The response when the hasher is busy or failed.
    fn not_hashed(error: Busy) -> HttpError {
        match error {
            Busy::Full => HttpError::unavailable("too many passwords are being checked", BUSY_RETRY),
            Busy::Failed => {
                tracing::error!("a password could not be hashed");
                HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "the password could not be hashed")
            }
        }
    }
}

/// Logs and counts a failure of the store, and returns the response.
fn store_failed(metrics: &Metrics, error: &StoreError) -> HttpError {
    let unavailable = matches!(error, StoreError::Unavailable(_));
    metrics.store_failed(unavailable);
    if unavailable {
        tracing::warn!(%error, "the store is unavailable");
        return HttpError::unavailable("the store is unavailable", STORE_RETRY);
    }
    tracing::error!(%error, "the store failed");
    HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "the store failed")
}

/// `500`: the system clock is outside the years 0000 to 9999.
fn clock_error() -> HttpError {
    HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "the clock of the server is wrong")
}

/// Counts documents that could not be read, and logs their ids.
fn report_unreadable(metrics: &Metrics, ids: &[String]) {
    /// The maximum number of `_id`s in one log line.
    const NAMED: usize = 20;
    if !ids.is_empty() {
        metrics.unreadable(ids.len());
        let named: Vec<&str> = ids.iter().take(NAMED).map(String::as_str).collect();
        tracing::warn!(documents = ids.len(), ids = ?named, "unreadable documents were left out");
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("settings", &self.settings).finish_non_exhaustive()
    }
}
