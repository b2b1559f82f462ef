//! Answers that may be given again, without asking the backend: a shared cache (RFC 9111) behind
//! the token check, with stale answers while the backend is asked or is down (RFC 5861).
//!
//! Only a GET or HEAD gets here that was let in and whose route may be cached. What is sent to the
//! backend on behalf of all who want the same has nothing in it but what the [`Key`] has, so that
//! nobody's request can colour the answer of another. The backend is asked once, however many
//! wait. What is kept is bounded in bytes; a purge holds from the moment it is made, for answers
//! under way too.

mod entry;
mod fetch;
mod flight;
mod generation;
mod key;
pub mod policy;
mod store;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HeaderName;
use http::request;
use tokio::time::timeout;

pub use entry::Entry;
use flight::{Flight, Flights, Landed};
use generation::{Generations, Worth};
pub use key::{Key, Parts};
use policy::Standing;
use store::{Kept, Store};

use crate::single_flight::{Completion, Joined};
use crate::upstream::{Client, Public, Unanswered};

/// How much is kept, and how long is waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What is kept in all, in bytes, with what it takes to keep it. 64 MiB by default.
    pub max_bytes: u64,
    /// The largest body that is kept, in bytes. 1 MiB by default.
    pub max_body_bytes: usize,
    /// How long a request waits for an answer that is being asked for: then it gets a stale one
    /// where there is one that may stand in, and else asks by itself. 2 s by default.
    pub wait_timeout: Duration,
}

/// What is kept, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Keys of which something is known.
    pub entries: usize,
    /// What they take, in bytes.
    pub bytes: u64,
    /// What had to go for want of room, since the start.
    pub evictions: u64,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It was there, and fresh.
    Hit,
    /// The backend was asked for it.
    Miss,
    /// It was there, and may be given although it is no longer fresh.
    Stale,
    /// It was there, and the backend said that it still holds.
    Revalidated,
}

impl Source {
    /// All of them, and what is said of a request that the cache does not answer.
    pub const LABELS: [&str; 5] = ["hit", "miss", "stale", "revalidated", PASS];

    /// What metrics, logs and `X-Cache` call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
        }
    }
}

/// What metrics and logs call a request that the cache does not answer.
pub const PASS: &str = "pass";

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It has an answer.
    Served(Arc<Entry>, Source),
    /// It is to be forwarded by itself.
    Pass,
    /// The backend did not answer, and nothing may stand in for it.
    Failed(Unanswered),
}

/// What a request asks for, besides its key.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The canonical path and the declared query.
    pub target: &'a str,
    /// How clients name the service: by the host that is in the key.
    pub public: Public<'a>,
    /// The request fields that are in the key.
    pub declared: &'a Arc<[HeaderName]>,
    /// Whether an identity is in the key; the backend is then told it.
    pub has_identity: bool,
}

/// What the cache says at once.
pub enum Found {
    /// There is nothing to wait for.
    Now(Outcome),
    /// The backend is being asked.
    Later(Waiting),
}

/// The cache. Clones share what is kept.
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

struct Inner {
    settings: Settings,
    api: Client,
    store: Store,
    flights: Flights,
    generations: Generations,
}

/// A request that waits for an answer.
pub struct Waiting {
    landed: Joined<Landed>,
    is_first: bool,
    stand_in: Option<Arc<Entry>>,
    wait_timeout: Duration,
}

impl Waiting {
    /// Waits for the outcome. Whoever asked first for an answer that nothing may stand in for
    /// waits as long as the backend is given.
    pub async fn outcome(self) -> Outcome {
        let landed = self.landed.result();
        let landed = if self.is_first && self.stand_in.is_none() {
            landed.await
        } else {
            timeout(self.wait_timeout, landed).await.ok().flatten()
        };
        match landed {
            Some(Landed::Shared(entry, source)) => Outcome::Served(entry, source),
            Some(Landed::Single(entry)) if self.is_first => Outcome::Served(entry, Source::Miss),
            Some(Landed::Failed(error)) => Outcome::Failed(error),
            Some(Landed::Single(_) | Landed::Pass) => Outcome::Pass,
            None => self.stand_in.map_or(Outcome::Pass, |entry| Outcome::Served(entry, Source::Stale)),
        }
    }
}

impl Cache {
    /// A cache of the answers of `api`.
    pub fn new(api: Client, settings: Settings) -> Self {
        let store = Store::new(settings.max_bytes);
        Self(Arc::new(Inner { settings, api, store, flights: Flights::new(0), generations: Generations::new() }))
    }

    /// The answer of `key`, where `asked` for. Where the backend has to be asked, `question` says what.
    pub fn find(&self, key: &Key, asked: Asked<'_>, question: impl FnOnce() -> http::Result<request::Parts>) -> Found {
        let now = Instant::now();
        let old = match self.0.store.get(key) {
            Some(Kept::Entry(entry)) => match self.standing(&entry, now) {
                Some(Standing::Fresh) => return Found::Now(Outcome::Served(entry, Source::Hit)),
                Some(standing) => Some((entry, standing)),
                None => None,
            },
            Some(Kept::Pass { until, generation })
                if now < until && self.0.generations.worth(&generation) == Worth::Full =>
            {
                return Found::Now(Outcome::Pass);
            }
            _ => None,
        };
        let may_stand_in = |standing: Standing| standing != Standing::Expired;
        if let Some((entry, standing)) = &old
            && may_stand_in(*standing)
            && entry.is_paused(now)
        {
            return Found::Now(Outcome::Served(Arc::clone(entry), Source::Stale));
        }
        let generation = self.0.generations.current(asked.target);
        // A request after a purge does not wait for what was asked before it.
        let (landed, leader) = self.0.flights.join(&(key.clone(), generation));
        let is_first = leader.is_some();
        if let Some(leader) = leader {
            // What cannot be asked here is told by asking it elsewhere.
            let Ok(parts) = question() else { return Found::Now(Outcome::Pass) };
            let flight = Flight {
                cache: self.clone(),
                key: key.clone(),
                generation,
                declared: Arc::clone(asked.declared),
                old: old.as_ref().map(|(entry, _)| Arc::clone(entry)),
                has_identity: asked.has_identity,
                host: asked.public.authority.to_owned(),
                is_host_passed_on: asked.public.is_passed_on,
            };
            // A task of its own: others wait for the answer, and this client may leave.
            tokio::spawn(async move {
                let landed = flight.fly(parts).await;
                leader.complete(|_| Completion::Share(landed));
            });
        }
        match old {
            Some((entry, Standing::StaleWhileRevalidate)) => Found::Now(Outcome::Served(entry, Source::Stale)),
            old => {
                let stand_in = old.filter(|(_, standing)| may_stand_in(*standing)).map(|(entry, _)| entry);
                Found::Later(Waiting { landed, is_first, stand_in, wait_timeout: self.0.settings.wait_timeout })
            }
        }
    }

    /// What `entry` is good for at `now`; `None` where it was purged.
    fn standing(&self, entry: &Entry, now: Instant) -> Option<Standing> {
        let standing = entry.standing(now);
        match self.0.generations.worth(entry.generation()) {
            Worth::Full => Some(standing),
            Worth::Doubtful if standing == Standing::Expired => Some(standing),
            // What an answer allows while the backend is asked, it allows of a change of a few
            // seconds ago, not of one that was missed.
            Worth::Doubtful => Some(Standing::StaleIfError),
            Worth::None => None,
        }
    }

    /// Forgets what is kept under the path of `target`, whatever its host, query and user.
    pub fn purge(&self, target: &str) {
        self.0.generations.purge(target);
    }

    /// Forgets everything.
    pub fn purge_all(&self) {
        self.0.generations.purge_all();
        self.0.store.clear();
    }

    /// Whatever is kept may have changed: the backend is asked before it is given again, unless it
    /// does not answer.
    pub fn doubt(&self) {
        self.0.generations.doubt();
    }

    /// What is kept now.
    pub fn figures(&self) -> Figures {
        self.0.store.figures()
    }
}
