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
use fetch::{Fetched, Keep, Question, fetch};
use flight::{Awaited, Boarded, Flights, Ticket};
use generation::{Generation, Generations, Worth};
pub use key::{Key, Parts};
use policy::Standing;
use store::{Kept, Store};

use crate::upstream::{Client, Public, Unanswered};

/// After the backend failed, how long an answer that may stand in for it does so at once.
const PAUSE: Duration = Duration::from_secs(1);

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
    flights: Flights<Landed>,
    generations: Generations,
}

/// What a question came to.
#[derive(Clone)]
enum Landed {
    /// An answer for all who wait.
    Shared(Arc<Entry>, Source),
    /// An answer for the one who asked.
    Single(Arc<Entry>),
    /// Each is to ask by itself.
    Pass,
    /// There is no answer for anybody.
    Failed(Unanswered),
}

/// A request that waits for an answer.
pub struct Waiting {
    awaited: Awaited<Landed>,
    is_first: bool,
    stand_in: Option<Arc<Entry>>,
    wait_timeout: Duration,
}

impl Waiting {
    /// Waits for the outcome. Whoever asked first for an answer that nothing may stand in for
    /// waits as long as the backend is given.
    pub async fn outcome(mut self) -> Outcome {
        let landed = self.awaited.wait_for(Option::is_some);
        let landed = if self.is_first && self.stand_in.is_none() {
            landed.await.ok()
        } else {
            timeout(self.wait_timeout, landed).await.ok().and_then(Result::ok)
        };
        let landed = landed.and_then(|landed| landed.clone());
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
        Self(Arc::new(Inner { settings, api, store, flights: Flights::new(), generations: Generations::new() }))
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
        let (awaited, is_first) = match self.0.flights.board(key, generation) {
            Boarded::Joined(awaited) => (awaited, false),
            Boarded::First(ticket, awaited) => {
                // What cannot be asked here is told by asking it elsewhere.
                let Ok(parts) = question() else { return Found::Now(Outcome::Pass) };
                let flight = Flight {
                    cache: self.clone(),
                    key: key.clone(),
                    ticket,
                    generation,
                    declared: Arc::clone(asked.declared),
                    old: old.as_ref().map(|(entry, _)| Arc::clone(entry)),
                    has_identity: asked.has_identity,
                    host: asked.public.authority.to_owned(),
                    is_host_passed_on: asked.public.is_passed_on,
                };
                // A task of its own: others wait for the answer, and this client may leave.
                tokio::spawn(flight.fly(parts));
                (awaited, true)
            }
        };
        match old {
            Some((entry, Standing::StaleWhileRevalidate)) => Found::Now(Outcome::Served(entry, Source::Stale)),
            old => {
                let stand_in = old.filter(|(_, standing)| may_stand_in(*standing)).map(|(entry, _)| entry);
                Found::Later(Waiting { awaited, is_first, stand_in, wait_timeout: self.0.settings.wait_timeout })
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

/// A question under way.
struct Flight {
    cache: Cache,
    key: Key,
    ticket: Ticket<Landed>,
    generation: Generation,
    declared: Arc<[HeaderName]>,
    old: Option<Arc<Entry>>,
    /// Whether the backend is told who asks.
    has_identity: bool,
    /// The host that was asked for.
    host: String,
    is_host_passed_on: bool,
}

impl Flight {
    async fn fly(self, parts: request::Parts) {
        let inner = &self.cache.0;
        let question = Question {
            parts,
            declared: &self.declared,
            old: self.old.as_deref(),
            max_body: inner.settings.max_body_bytes,
            generation: self.generation,
            public: Public { authority: &self.host, is_passed_on: self.is_host_passed_on },
        };
        let landed = match fetch(&inner.api, question).await {
            Ok(Fetched::Whole(entry, _)) if policy::may_cover(entry.status()) => {
                // Told to all who wait: each would ask a backend again that has enough to do.
                self.stand_in().unwrap_or_else(|| match entry.sets_cookie() {
                    true => self.personal(entry),
                    false => Landed::Shared(entry, Source::Miss),
                })
            }
            Ok(Fetched::Whole(entry, Keep::Yes)) => self.keep(entry, Source::Miss),
            Ok(Fetched::Confirmed(entry, Keep::Yes)) => self.keep(entry, Source::Revalidated),
            Ok(Fetched::Whole(entry, Keep::No) | Fetched::Confirmed(entry, Keep::No)) => {
                self.pass();
                Landed::Single(entry)
            }
            Ok(Fetched::Whole(entry, Keep::Personal) | Fetched::Confirmed(entry, Keep::Personal)) => {
                self.pass();
                self.personal(entry)
            }
            Ok(Fetched::TooLarge) => {
                self.pass();
                Landed::Pass
            }
            Err(error) => self.stand_in().unwrap_or(Landed::Failed(error)),
        };
        inner.flights.land(&self.ticket, landed);
    }

    fn keep(&self, entry: Arc<Entry>, source: Source) -> Landed {
        // Of what was purged meanwhile a newer answer may be there already.
        if self.cache.0.generations.worth(&self.generation) != Worth::None {
            self.cache.0.store.keep(&self.key, Arc::clone(&entry));
        }
        Landed::Shared(entry, source)
    }

    /// What becomes of an answer that may depend on who asks. Where it was fetched for all users, without
    /// an identity, each request has to be forwarded with its own.
    fn personal(&self, entry: Arc<Entry>) -> Landed {
        if self.has_identity { Landed::Single(entry) } else { Landed::Pass }
    }

    /// Takes the place of whatever was kept.
    fn pass(&self) {
        self.cache.0.store.pass(&self.key, Instant::now(), self.generation);
    }

    /// What may be given in place of a failure.
    fn stand_in(&self) -> Option<Landed> {
        let now = Instant::now();
        let old = self.old.as_ref()?;
        let standing = self.cache.standing(old, now)?;
        old.pause(now, PAUSE);
        (standing != Standing::Expired).then(|| Landed::Shared(Arc::clone(old), Source::Stale))
    }
}
