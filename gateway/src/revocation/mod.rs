//! Whether a valid token was revoked: its user was deleted, disabled or given a new password, or it was logged out.
//!
//! The backend is queried once for each identity, and the account status is stored. The backend's feed then names
//! each identity that changed, so that a change takes effect within a second. A backend process reports only changes
//! of the identities that it was queried about; the status from another process is therefore used once, and not
//! stored. After the feed was interrupted, all identities are queried again. The roles of a user are part of the status.
//!
//! While the feed is disconnected, stored statuses are used for up to [`Settings::max_age`], so that requests are
//! served while a backend restarts. So are those from before a reset if the query that should replace one fails. After that the revocation of a token is unknown, which is an error of its own:
//! [`RevocationError::Unavailable`].

mod account;
mod account_watch;
mod changes;
#[doc(hidden)] // Public for the fuzz targets.
pub mod feed;
mod former;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep};

use crate::scope::Scopes;
use crate::single_flight::Leader;
use crate::token::Verified;
use crate::upstream::{RequestBody, UpstreamClient, UpstreamError};
pub use account::RevocationReason;
use account::{AccountStatus, CheckResponse};
pub use account_watch::AccountWatch;
use changes::Changes;
use feed::{FeedDecoder, FeedEvent};
use former::FormerStatuses;
use table::{FeedOrigin, StatusResult, StatusTable, complete};

/// The maximum size of a response about one identity, in bytes: a thousand logged-out tokens of maximum length.
const MAX_RESPONSE_BYTES: usize = 512 * 1024;

/// How often a status is requested if the account changes during each request.
const ATTEMPTS: usize = 3;

/// A feed without data for this long counts as disconnected. The backend sends eight beats in this time.
const FEED_TIMEOUT: Duration = Duration::from_secs(2);

/// The delay before a feed is requested again.
const RECONNECT_DELAY: Duration = Duration::from_millis(100);

/// The metric label of a revoked token.
pub const REVOKED: &str = "revoked";

/// What happens while revocation data is older than [`Settings::max_age`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenStale {
    /// All tokens are refused.
    Refuse,
    /// A token whose status is neither stored nor can be requested is accepted.
    ServeOn,
}

/// Settings of the revocation check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long tokens are accepted without a beat of the feed. 300 s by default.
    pub max_age: Duration,
    /// What happens after that. [`WhenStale::Refuse`] by default.
    pub when_stale: WhenStale,
    /// The maximum number of identities with a stored status. 100,000 by default, about 200 bytes each and the user's
    /// roles, which are at most [`MAX_SCOPES_BYTES`](crate::scope::MAX_SCOPES_BYTES).
    pub capacity: usize,
}

/// Cached responses that the feed invalidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidation<'a> {
    /// The responses of this path changed.
    Path(&'a str),
    /// All responses may have changed.
    All,
    /// Changes may have been missed.
    Unknown,
}

/// Why a valid token is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    /// The token was revoked, or its user's account is not active.
    #[error("revoked")]
    Revoked(RevocationReason),
    /// Whether it was revoked is unknown. The text is for the log.
    #[error("{0}")]
    Unavailable(String),
}

/// The roles that the backend returned with the status of an account.
#[derive(Clone, Debug, Default)]
pub struct Roles(Option<Arc<AccountStatus>>);

impl Roles {
    /// The current roles, which replace those of the token; `None` if they are unknown: the status is unknown, or the
    /// backend is of an older version.
    pub fn scopes(&self) -> Option<&Scopes> {
        self.0.as_ref()?.roles()
    }
}

/// The revocation check. Clones share one state.
#[derive(Clone)]
pub struct Revocation(Arc<Inner>);

struct Inner {
    settings: Settings,
    /// For queries about identities.
    backend: UpstreamClient,
    statuses: StatusTable,
    /// Used while an identity cannot be queried after a reset.
    former: FormerStatuses,
    started: Instant,
    /// The time of the last beat, in milliseconds since `started`; [`NEVER`] before the first.
    last_beat: AtomicU64,
    /// The id of the current feed, or of the last one.
    followed: ArcSwap<String>,
    /// Whether a warning about responses of another backend was logged for this feed.
    warned_of_other_backend: AtomicBool,
    /// Becomes true with the first beat.
    has_beaten: watch::Sender<bool>,
    /// Notifies the watchers of accounts.
    changes: Changes,
    /// Limits the checks of the watchers.
    watchers: Semaphore,
}

const NEVER: u64 = u64::MAX;

impl Revocation {
    /// A check without stored statuses, which queries `backend`.
    pub fn new(backend: UpstreamClient, settings: Settings) -> Self {
        let statuses = StatusTable::new(settings.capacity);
        Self(Arc::new(Inner {
            settings,
            backend,
            statuses,
            former: FormerStatuses::new(settings.capacity, settings.max_age),
            started: Instant::now(),
            last_beat: AtomicU64::new(NEVER),
            followed: ArcSwap::default(),
            warned_of_other_backend: AtomicBool::new(false),
            has_beaten: watch::Sender::new(false),
            changes: Changes::new(),
            watchers: Semaphore::new(account_watch::CHECKS_AT_ONCE),
        }))
    }

    /// Checks that a valid `token` was not revoked, and returns the roles of its user.
    ///
    /// # Errors
    /// [`RevocationError`].
    pub async fn check(&self, token: &Verified) -> Result<Roles, RevocationError> {
        let is_fresh = self.is_fresh();
        let serves_on = self.serves_on();
        if !is_fresh && !serves_on {
            return Err(RevocationError::Unavailable("revocation data is older than revocation.max_age".to_owned()));
        }
        match self.account_status(&token.identity).await {
            Ok(status) => match status.check(token) {
                Ok(()) => Ok(Roles(Some(status))),
                Err(reason) => Err(RevocationError::Revoked(reason)),
            },
            Err(reason) => match self.0.former.get(&token.identity, Instant::now()) {
                Some(status) => status.check(token).map(|()| Roles(Some(status))).map_err(RevocationError::Revoked),
                None if !is_fresh && serves_on => Ok(Roles::default()),
                None => Err(RevocationError::Unavailable(reason.to_string())),
            },
        }
    }

    /// Revokes `token`. When this returns without an error, the backend has stored the logout.
    ///
    /// # Errors
    /// The logout could not be stored, or it is unknown whether it was. The text is for the log.
    pub async fn log_out(&self, token: &Verified, request_id: &str) -> Result<(), String> {
        let body = json!({"identity": &*token.identity, "token": &*token.id, "expires_at": token.expires_at});
        let request = post("/revocation/logout", &body, Some(request_id)).map_err(|error| error.to_string())?;
        let response = self.0.backend.send(request, MAX_RESPONSE_BYTES).await.map_err(|error| error.to_string())?;
        // It takes effect here at once; the feed notifies other gateways.
        self.account_changed(&token.identity);
        match response.status() {
            StatusCode::NO_CONTENT => Ok(()),
            status => Err(self.0.backend.upstream().unexpected(status)),
        }
    }

    /// The time since the last beat of the feed; `None` before the first.
    pub fn age(&self) -> Option<Duration> {
        let last_beat = self.0.last_beat.load(Ordering::Relaxed);
        (last_beat != NEVER).then(|| self.0.started.elapsed().saturating_sub(Duration::from_millis(last_beat)))
    }

    /// Whether the last beat is at most [`Settings::max_age`] old.
    pub fn is_fresh(&self) -> bool {
        self.age().is_some_and(|age| age <= self.0.settings.max_age)
    }

    /// Waits for the first beat of the feed.
    pub async fn first_beat(&self) {
        // It cannot fail, since `self` has the sender.
        let _ = self.0.has_beaten.subscribe().wait_for(|has_beaten| *has_beaten).await;
    }

    /// The number of identities with a stored status or a query in progress.
    pub fn accounts(&self) -> usize {
        self.0.statuses.len()
    }

    /// Follows the feed over `backend` until the future is dropped. Invalidated responses go to `invalidate`.
    pub async fn follow(&self, backend: &UpstreamClient, invalidate: impl Fn(Invalidation<'_>)) {
        // Whether the feed is connected, as logged last.
        let mut logged = None;
        loop {
            let reason = self.read_feed(backend, &invalidate, &mut logged).await;
            if logged != Some(false) {
                tracing::warn!(reason, "revocation feed disconnected");
                logged = Some(false);
            }
            sleep(RECONNECT_DELAY).await;
        }
    }

    /// Reads one feed until it is disconnected, and returns the reason.
    async fn read_feed(
        &self,
        backend: &UpstreamClient,
        invalidate: &impl Fn(Invalidation<'_>),
        logged: &mut Option<bool>,
    ) -> String {
        let request = match Request::get("/revocation/feed").body(()) {
            Ok(request) => request.into_parts().0,
            Err(error) => return error.to_string(),
        };
        let upstream = backend.upstream();
        let deadlines = upstream.endless(upstream.settings.read_timeout);
        let mut body = match backend.open_within(request, RequestBody::default(), deadlines).await {
            Ok(response) if response.status() == StatusCode::OK => response.into_body(),
            Ok(response) => return upstream.unexpected(response.status()),
            Err(error) => return error.to_string(),
        };
        let deadlines = upstream.endless(FEED_TIMEOUT);
        let mut decoder = FeedDecoder::default();
        let mut has_started = false;
        // Whether changes may have been missed since the statuses were stored.
        let mut may_have_missed = true;
        loop {
            let piece = match body.data_within(deadlines).await {
                Ok(Some(piece)) => piece,
                Ok(None) => return "the backend closed the feed".to_owned(),
                Err(UpstreamError::TimedOut(_)) => return "timeout: no data from the feed".to_owned(),
                Err(error) => return error.to_string(),
            };
            let Ok(events) = decoder.decode(&piece) else { return "malformed line in the feed".to_owned() };
            for event in events {
                if !has_started && !matches!(event, FeedEvent::Start(_)) {
                    return "the first line of the feed is not its id".to_owned();
                }
                has_started = true;
                match event {
                    FeedEvent::Start(id) => {
                        self.0.followed.store(Arc::new(id));
                        self.0.warned_of_other_backend.store(false, Ordering::Relaxed);
                        may_have_missed = true;
                        invalidate(Invalidation::Unknown);
                    }
                    FeedEvent::Reset => {
                        may_have_missed = true;
                        invalidate(Invalidation::Unknown);
                    }
                    FeedEvent::AccountChanged(identity) => self.account_changed(&identity),
                    FeedEvent::Purge(path) => invalidate(Invalidation::Path(&path)),
                    FeedEvent::PurgeAll => invalidate(Invalidation::All),
                    FeedEvent::Beat => {
                        // Not earlier, since only a beat shows that the backend can be queried again.
                        let is_reset = std::mem::take(&mut may_have_missed);
                        if is_reset {
                            self.reset_statuses();
                        }
                        self.record_beat(logged);
                        if is_reset {
                            self.0.changes.all();
                        }
                    }
                }
            }
        }
    }

    /// Requires a query about each identity, since changes may have been missed.
    fn reset_statuses(&self) {
        let stored = self.0.statuses.take().into_iter().filter_map(|(identity, result)| match result {
            StatusResult::Known(status) => Some((identity, status)),
            StatusResult::Failed(_) | StatusResult::Superseded => None,
        });
        if let Some(age) = self.age() {
            let now = Instant::now();
            self.0.former.extend(stored, now.checked_sub(age).unwrap_or(now), now);
        }
    }

    fn account_changed(&self, identity: &str) {
        self.0.former.remove(identity);
        self.0.statuses.remove(identity);
        self.0.changes.account(identity);
    }

    /// Whether tokens are accepted although revocation data is too old.
    fn serves_on(&self) -> bool {
        self.0.settings.when_stale == WhenStale::ServeOn
    }

    fn record_beat(&self, logged: &mut Option<bool>) {
        let elapsed = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(NEVER - 1);
        self.0.last_beat.store(elapsed, Ordering::Relaxed);
        self.0.has_beaten.send_if_modified(|has_beaten| !std::mem::replace(has_beaten, true));
        if logged.replace(true) != Some(true) {
            tracing::info!("revocation feed connected");
        }
    }

    /// The status of the account `identity`, stored or requested from the backend.
    async fn account_status(&self, identity: &Arc<str>) -> Result<Arc<AccountStatus>, Arc<str>> {
        for _ in 0..ATTEMPTS {
            let (joined, leader) = self.0.statuses.join(identity);
            if let Some(leader) = leader {
                let (revocation, identity) = (self.clone(), Arc::clone(identity));
                // A separate task, since other requests wait for the result and this client may disconnect.
                tokio::spawn(async move { revocation.request_status(&identity, leader).await });
            }
            match joined.result().await {
                Some(StatusResult::Known(status)) => return Ok(status),
                Some(StatusResult::Failed(reason)) => return Err(reason),
                Some(StatusResult::Superseded) | None => {}
            }
        }
        Err("the account changed during each query".into())
    }

    async fn request_status(&self, identity: &Arc<str>, leader: Leader<Arc<str>, StatusResult>) {
        let response = match post("/revocation/check", &json!({"identity": &**identity}), None) {
            Ok(request) => self.0.backend.send(request, MAX_RESPONSE_BYTES).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let result = response.and_then(|response| match response.status() {
            StatusCode::OK => {
                let CheckResponse { status, feed } =
                    CheckResponse::parse(response.body(), identity).ok_or_else(|| "malformed response".to_owned())?;
                Ok((Arc::new(status), self.origin(&feed)))
            }
            // The identity is not a valid user name.
            StatusCode::BAD_REQUEST => Ok((Arc::new(AccountStatus::no_user()), FeedOrigin::Followed)),
            status => Err(self.0.backend.upstream().unexpected(status)),
        });
        if let Ok((status, _)) = &result {
            self.0.former.refresh(identity, status);
        }
        complete(leader, result.map_err(Arc::from));
    }

    /// Whether a response that names `feed` is from the backend process whose feed is followed. Several processes may
    /// share one address.
    fn origin(&self, feed: &str) -> FeedOrigin {
        if **self.0.followed.load() == *feed {
            return FeedOrigin::Followed;
        }
        if !self.0.warned_of_other_backend.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "revocation queries are answered by a backend whose feed is not followed; its answers are not stored"
            );
        }
        FeedOrigin::Other
    }
}

fn post(path: &'static str, body: &serde_json::Value, request_id: Option<&str>) -> http::Result<Request<Bytes>> {
    let request = Request::post(path).header(CONTENT_TYPE, "application/json");
    let request = request_id.into_iter().fold(request, |request, id| request.header("X-Request-Id", id));
    request.body(Bytes::from(body.to_string()))
}
