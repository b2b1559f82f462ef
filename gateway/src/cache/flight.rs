//! One question to the backend for all who want the same answer at the same time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HeaderName;
use http::request::Parts;

use super::fetch::{Fetched, Keep, Question, fetch};
use super::generation::{Generation, Worth};
use super::policy::{self, Standing};
use super::{Cache, Entry, Key, Source};
use crate::single_flight::SingleFlight;
use crate::upstream::{Public, Unanswered};

/// After the backend failed, how long an answer that may stand in for it does so at once.
const PAUSE: Duration = Duration::from_secs(1);

/// The questions under way. What was asked before a purge is of another generation.
pub(super) type Flights = SingleFlight<(Key, Generation), Landed>;

/// What a question came to.
#[derive(Clone)]
pub(super) enum Landed {
    /// An answer for all who wait.
    Shared(Arc<Entry>, Source),
    /// An answer for the one who asked.
    Single(Arc<Entry>),
    /// Each is to ask by itself.
    Pass,
    /// There is no answer for anybody.
    Failed(Unanswered),
}

/// A question under way.
pub(super) struct Flight {
    pub(super) cache: Cache,
    pub(super) key: Key,
    pub(super) generation: Generation,
    pub(super) declared: Arc<[HeaderName]>,
    pub(super) old: Option<Arc<Entry>>,
    /// Whether the backend is told who asks.
    pub(super) has_identity: bool,
    /// The host that was asked for.
    pub(super) host: String,
    pub(super) is_host_passed_on: bool,
}

impl Flight {
    pub(super) async fn fly(self, parts: Parts) -> Landed {
        let inner = &self.cache.0;
        let question = Question {
            parts,
            declared: &self.declared,
            old: self.old.as_deref(),
            max_body: inner.settings.max_body_bytes,
            generation: self.generation,
            public: Public { authority: &self.host, is_passed_on: self.is_host_passed_on },
        };
        match fetch(&inner.api, question).await {
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
        }
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

#[cfg(test)]
mod tests {
    use super::super::generation::Generations;
    use super::super::key::Parts;
    use super::*;
    use crate::single_flight::Completion;

    #[tokio::test]
    async fn a_request_after_a_purge_does_not_join_an_earlier_fetch() {
        let key = Key::new(Parts { host: "a", target: "/a", identity: None }, std::iter::empty());
        let (flights, generations) = (SingleFlight::new(0), Generations::new());
        let join = || flights.join(&(key.clone(), generations.current("/a")));
        let (before, older) = join();
        generations.purge("/a");
        let (after, newer) = join();
        let newer = newer.expect("a new flight");
        older.expect("a new flight").complete(|_| Completion::Share(1));
        assert_eq!(before.result().await, Some(1));
        assert!(join().1.is_none(), "a third flight");
        newer.complete(|_| Completion::Share(2));
        assert_eq!(after.result().await, Some(2));
    }
}
