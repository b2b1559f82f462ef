//! What the service does for each route. A handler reads its request, asks the store
//! or the hasher, and answers; which handler, and in which order the checks come, is
//! [`route`](crate::route)'s business.

mod backup;
mod body;
mod credentials;
mod defence;
mod holodules;
mod revocation;
mod status;
mod users;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use tokio::sync::Semaphore;

pub(crate) use backup::{back_up, restore};
pub(crate) use credentials::verify;
pub(crate) use defence::defend;
pub(crate) use holodules::{day, delete, export, put, upload};
pub(crate) use revocation::{check, feed, log_out};
pub(crate) use status::{healthz, metrics, readyz, status};
pub(crate) use users::{change_password, create, delete as delete_user, list, set_disabled};

use crate::coalesce::Coalescer;
use crate::feed::Feed;
use crate::model::Day;
use crate::password::{Busy, Hasher};
use crate::record::Metrics;
use crate::respond::{Body, HttpError};
use crate::store::{Store, StoreError};

/// After how many seconds to try again where the store does not answer.
const STORE_RETRY: u32 = 5;
/// After how many seconds to try again where too much is going on at once.
const BUSY_RETRY: u32 = 1;

/// What every handler gives back.
pub(crate) type HandlerResult = Result<Response<Body>, HttpError>;

/// The limits of the handlers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Names that the admin side may be called by besides IP literals and `localhost`, in lower case.
    pub allowed_hosts: Vec<String>,
    /// Whether the log names the users whose logins are refused.
    pub login_names: bool,
    /// The largest upload, in bytes.
    pub body_limit: usize,
    /// How long a whole request body may take to come.
    pub body_timeout: Duration,
    /// Uploads handled at once.
    pub concurrent_uploads: u32,
    /// Where backups are written and read; none where there is no folder.
    pub backup_folder: Option<PathBuf>,
}

/// What the handlers share: the store, the hasher, the metrics and their limits.
pub struct App {
    store: Store,
    hasher: Hasher,
    metrics: Arc<Metrics>,
    settings: Settings,
    feed: Feed,
    /// The reads of days that are going on, each by the store's version that it began at: who asks
    /// after a change was acknowledged or told shares no read from before it.
    reads: Coalescer<(Day, u64), holodules::Read>,
    uploads: Semaphore,
    /// Backups and restores: one at a time.
    backups: Semaphore,
    log_lines_dropped: Box<dyn Fn() -> usize + Send + Sync>,
}

impl App {
    /// Brings the parts together. `log_lines_dropped` is read at each scrape.
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
        Self { store, hasher, metrics, settings, feed, reads, uploads, backups, log_lines_dropped }
    }

    /// Names that the admin side may be called by, besides IP literals and `localhost`.
    pub(crate) fn allowed_hosts(&self) -> &[String] {
        &self.settings.allowed_hosts
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Ends what would otherwise have no end, because the service is stopping.
    pub(crate) fn stop(&self) {
        self.feed.end();
    }

    /// Runs a change of what decides over `identity`'s tokens, then tells of it, whatever became
    /// of it. Both happen even where the client leaves before.
    async fn change<T: Send + 'static>(
        &self,
        identity: &str,
        change: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, HttpError> {
        let (feed, identity) = (self.feed.clone(), identity.to_owned());
        let changing = tokio::spawn(async move {
            let changed = change.await;
            feed.account_changed(&identity);
            changed
        });
        changing.await.map_err(|_| {
            self.metrics.panicked();
            HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be handled")
        })
    }

    fn store_failed(&self, error: &StoreError) -> HttpError {
        store_failed(&self.metrics, error)
    }

    /// Refuses what the hasher had no place for.
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

/// Tells of a store's failure in the log and the metrics, and refuses the request.
fn store_failed(metrics: &Metrics, error: &StoreError) -> HttpError {
    let unavailable = matches!(error, StoreError::Unavailable(_));
    metrics.store_failed(unavailable);
    if unavailable {
        tracing::warn!(%error, "the store does not answer");
        return HttpError::unavailable("the store does not answer", STORE_RETRY);
    }
    tracing::error!(%error, "the store failed");
    HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "the store failed")
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("settings", &self.settings).finish_non_exhaustive()
    }
}
