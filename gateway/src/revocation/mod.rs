//! Whether the user behind a good token is still one: not deleted, not disabled, without a new
//! password since, and this token not logged out.
//!
//! The backend is asked once for each identity, and what it says is kept. Its feed then names
//! whatever changes of what that very process was asked about (so what another one says is used
//! once, and not kept), so that a change is heard of within a second; what a broken feed could not
//! tell is asked for again as soon as it is whole. Until then what is remembered serves, as long
//! as [`Settings::max_age`] allows: the loss of a backend is no loss of its users. Where nothing
//! has been heard of for too long, nobody knows, and that is never taken for a yes or a no.

#[doc(hidden)] // Public for the fuzz targets.
pub mod feed;
mod standing;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::single_flight::Leader;
use crate::token::Verified;
use crate::upstream::{Client, Outgoing};
use feed::{Event, Lines};
pub use standing::RevocationReason;
use standing::{Standing, Told};
use table::{Answer, Keep, Table, settle};

/// The most that is read of an answer about one identity, in bytes: a thousand logged-out tokens
/// at their longest.
const MAX_ANSWER_BYTES: usize = 512 * 1024;

/// How often an answer that a change overtook is asked for again.
const ATTEMPTS: usize = 3;

/// A feed that is silent for so long is broken: it beats eight times as often.
const SILENCE: Duration = Duration::from_secs(2);

/// Between a feed that ended and the next attempt.
const RECONNECT: Duration = Duration::from_millis(100);

/// What metrics call a token that was revoked.
pub const REVOKED: &str = "revoked";

/// What is done where nothing has been heard of revocations for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenStale {
    /// Nobody is let through until something is heard.
    Refuse,
    /// A good token opens the door by itself, as if nothing could be revoked.
    ServeOn,
}

/// How revocations are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long what was heard last is good for. 300 s by default.
    pub max_age: Duration,
    /// What comes after that. [`WhenStale::Refuse`] by default.
    pub when_stale: WhenStale,
    /// Identities that are remembered. 100,000 by default, about 200 bytes each.
    pub capacity: usize,
}

/// What the feed tells besides revocations: of the answers that the backend gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// What is served under this path has changed.
    Path(&'a str),
    /// Everything may have.
    All,
    /// Changes may have been missed.
    Missed,
}

/// Why a good token does not open the door.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It was revoked, or its user was.
    #[error("revoked")]
    Revoked(RevocationReason),
    /// Nobody knows just now. The text is for the log.
    #[error("{0}")]
    Unknown(String),
}

/// What is known of revocations. A clone knows the same.
#[derive(Clone)]
pub struct Revocation(Arc<Inner>);

struct Inner {
    settings: Settings,
    /// Asks about identities.
    backend: Client,
    table: Table,
    started: Instant,
    /// When the feed last beat, in milliseconds from `started`; [`NEVER`] before it did.
    beat: AtomicU64,
    /// The feed that is followed, or was last.
    followed: ArcSwap<String>,
    /// Whether the log has been told that another backend answers than the one that is followed.
    told_of_others: AtomicBool,
    /// Becomes true with the first beat.
    heard: watch::Sender<bool>,
}

const NEVER: u64 = u64::MAX;

impl Revocation {
    /// Nothing is known yet; `backend` will be asked.
    pub fn new(backend: Client, settings: Settings) -> Self {
        let table = Table::new(settings.capacity);
        Self(Arc::new(Inner {
            settings,
            backend,
            table,
            started: Instant::now(),
            beat: AtomicU64::new(NEVER),
            followed: ArcSwap::default(),
            told_of_others: AtomicBool::new(false),
            heard: watch::Sender::new(false),
        }))
    }

    /// Whether `token`, which is good, still opens the door.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn check(&self, token: &Verified) -> Result<(), Refusal> {
        let is_fresh = self.is_fresh();
        let serves_on = self.0.settings.when_stale == WhenStale::ServeOn;
        if !is_fresh && !serves_on {
            return Err(Refusal::Unknown("nothing has been heard of revocations for too long".to_owned()));
        }
        match self.standing(&token.identity).await {
            Ok(standing) => standing.check(token).map_err(Refusal::Revoked),
            Err(_) if !is_fresh && serves_on => Ok(()),
            Err(reason) => Err(Refusal::Unknown(reason.to_string())),
        }
    }

    /// Ends `token`: once this returns, the backend has stored it.
    ///
    /// # Errors
    /// It could not be stored, or nobody knows whether it was. The text is for the log.
    pub async fn log_out(&self, token: &Verified, request_id: &str) -> Result<(), String> {
        let body = json!({"identity": &*token.identity, "token": &*token.id, "expires_at": token.expires_at});
        let request = post("/revocation/logout", &body, Some(request_id)).map_err(|error| error.to_string())?;
        let answer = self.0.backend.send(request, MAX_ANSWER_BYTES).await.map_err(|error| error.to_string())?;
        // Here it holds at once; the feed tells the others.
        self.0.table.remove(&token.identity);
        match answer.status() {
            StatusCode::NO_CONTENT => Ok(()),
            status => Err(self.0.backend.upstream().unexpected(status)),
        }
    }

    /// How long ago the feed last beat; `None` before it did.
    pub fn age(&self) -> Option<Duration> {
        let beat = self.0.beat.load(Ordering::Relaxed);
        (beat != NEVER).then(|| self.0.started.elapsed().saturating_sub(Duration::from_millis(beat)))
    }

    /// Whether the feed beat within [`Settings::max_age`].
    pub fn is_fresh(&self) -> bool {
        self.age().is_some_and(|age| age <= self.0.settings.max_age)
    }

    /// Waits until the feed has beaten once.
    pub async fn first_beat(&self) {
        // The sender is ours, so that there is one.
        let _ = self.0.heard.subscribe().wait_for(|heard| *heard).await;
    }

    /// How many identities are remembered.
    pub fn remembered(&self) -> usize {
        self.0.table.len()
    }

    /// Follows the feed by `backend` for as long as it is polled. What it tells besides revocations
    /// goes to `tell`.
    pub async fn follow(&self, backend: &Client, tell: impl Fn(Change<'_>)) {
        let mut was_heard = None;
        loop {
            let broken = self.listen(backend, &tell, &mut was_heard).await;
            if was_heard != Some(false) {
                tracing::warn!(reason = broken, "revocations are not heard of");
                was_heard = Some(false);
            }
            sleep(RECONNECT).await;
        }
    }

    /// Listens to one feed until it breaks, and tells why.
    async fn listen(&self, backend: &Client, tell: &impl Fn(Change<'_>), was_heard: &mut Option<bool>) -> String {
        let request = match Request::get("/revocation/feed").body(()) {
            Ok(request) => request.into_parts().0,
            Err(error) => return error.to_string(),
        };
        let opened =
            timeout(backend.upstream().settings.read_timeout, backend.open(request, Outgoing::default())).await;
        let mut body = match opened {
            Ok(Ok(response)) if response.status() == StatusCode::OK => response.into_body(),
            Ok(Ok(response)) => return backend.upstream().unexpected(response.status()),
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "no answer in time".to_owned(),
        };
        let mut lines = Lines::default();
        let mut has_begun = false;
        // Whether changes may have been missed that were told to nobody here.
        let mut in_doubt = true;
        loop {
            let piece = match timeout(SILENCE, body.frame()).await {
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Ok(Some(Err(error))) => return error.to_string(),
                Ok(None) => return "it ended".to_owned(),
                Err(_) => return "it fell silent".to_owned(),
            };
            let Ok(events) = lines.take(&piece) else { return "it is none".to_owned() };
            for event in events {
                if !has_begun && !matches!(event, Event::Begins(_)) {
                    return "it has no beginning".to_owned();
                }
                has_begun = true;
                match event {
                    Event::Begins(id) => {
                        self.0.followed.store(Arc::new(id));
                        self.0.told_of_others.store(false, Ordering::Relaxed);
                        in_doubt = true;
                        tell(Change::Missed);
                    }
                    Event::Reset => {
                        in_doubt = true;
                        tell(Change::Missed);
                    }
                    Event::Changed(identity) => self.0.table.remove(identity.as_str()),
                    Event::Purge(path) => tell(Change::Path(&path)),
                    Event::PurgeAll => tell(Change::All),
                    Event::Beat => {
                        // Only now can everybody be asked about again.
                        if std::mem::take(&mut in_doubt) {
                            self.0.table.clear();
                        }
                        self.note_beat(was_heard);
                    }
                }
            }
        }
    }

    fn note_beat(&self, was_heard: &mut Option<bool>) {
        let elapsed = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(NEVER - 1);
        self.0.beat.store(elapsed, Ordering::Relaxed);
        self.0.heard.send_if_modified(|heard| !std::mem::replace(heard, true));
        if was_heard.replace(true) != Some(true) {
            tracing::info!("revocations are heard of");
        }
    }

    /// What the backend says of `identity`, or said before.
    async fn standing(&self, identity: &Arc<str>) -> Result<Arc<Standing>, Arc<str>> {
        for _ in 0..ATTEMPTS {
            let (joined, leader) = self.0.table.join(identity);
            if let Some(leader) = leader {
                let (asker, identity) = (self.clone(), Arc::clone(identity));
                // A task of its own: others wait for the answer, and this client may leave.
                tokio::spawn(async move { asker.ask(&identity, leader).await });
            }
            match joined.result().await {
                Some(Answer::Told(standing)) => return Ok(standing),
                Some(Answer::Untold(reason)) => return Err(reason),
                Some(Answer::Overtaken) | None => {}
            }
        }
        Err("what the backend says changes too fast".into())
    }

    async fn ask(&self, identity: &Arc<str>, leader: Leader<Arc<str>, Answer>) {
        let told = match post("/revocation/check", &json!({"identity": &**identity}), None) {
            Ok(request) => self.0.backend.send(request, MAX_ANSWER_BYTES).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let told = told.and_then(|answer| match answer.status() {
            StatusCode::OK => {
                let Told { standing, feed } =
                    Told::parse(answer.body(), identity).ok_or_else(|| "an odd answer".to_owned())?;
                Ok((Arc::new(standing), self.keep(&feed)))
            }
            // What it says of an identity that could be no user's.
            StatusCode::BAD_REQUEST => Ok((Arc::new(Standing::nobody()), Keep::Yes)),
            status => Err(self.0.backend.upstream().unexpected(status)),
        });
        settle(leader, told.map_err(Arc::from));
    }

    /// Whether an answer is kept that holds until `feed` says otherwise. Where several backends
    /// stand behind one address, the one that was asked need not be the one that is followed.
    fn keep(&self, feed: &str) -> Keep {
        if **self.0.followed.load() == *feed {
            return Keep::Yes;
        }
        if !self.0.told_of_others.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "another backend answers than the one whose feed is followed: nothing it says is remembered"
            );
        }
        Keep::No
    }
}

fn post(path: &'static str, body: &serde_json::Value, request_id: Option<&str>) -> http::Result<Request<Bytes>> {
    let request = Request::post(path).header(CONTENT_TYPE, "application/json");
    let request = request_id.into_iter().fold(request, |request, id| request.header("X-Request-Id", id));
    request.body(Bytes::from(body.to_string()))
}
