//! Which of the answers that are kept still count, told by counters: what is purged is not
//! looked for, it is of an older generation from that moment. An answer that was asked for before
//! a purge and comes after it is too.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of paths. Two paths that share one are purged together, which costs a question to the
/// backend and is never wrong.
const COUNTERS: usize = 4096;

/// The generation that is current.
#[derive(Debug)]
pub(super) struct Generations {
    all: AtomicU64,
    doubt: AtomicU64,
    paths: Box<[AtomicU64]>,
    hasher: RandomState,
}

/// The generation that an answer is of: the one that was current before it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Generation {
    all: u64,
    doubt: u64,
    path: u64,
    counter: usize,
}

/// What an answer of some generation is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// All that its age leaves it.
    Full,
    /// Nobody knows whether it has changed: it is good for asking whether it has, and for when
    /// the backend cannot be asked.
    Doubtful,
    /// It was purged.
    None,
}

impl Generations {
    pub(super) fn new() -> Self {
        Self {
            all: AtomicU64::new(0),
            doubt: AtomicU64::new(0),
            paths: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// The generation of what is asked for from now on, under `target`.
    pub(super) fn current(&self, target: &str) -> Generation {
        let counter = self.counter(target);
        Generation {
            all: self.all.load(Ordering::Acquire),
            doubt: self.doubt.load(Ordering::Acquire),
            path: self.path(counter),
            counter,
        }
    }

    /// What an answer of `generation` is worth now.
    pub(super) fn worth(&self, generation: &Generation) -> Worth {
        let is_purged =
            self.path(generation.counter) != generation.path || self.all.load(Ordering::Acquire) != generation.all;
        if is_purged {
            Worth::None
        } else if self.doubt.load(Ordering::Acquire) != generation.doubt {
            Worth::Doubtful
        } else {
            Worth::Full
        }
    }

    /// Purges what is kept under the path of `target`, whatever its query.
    pub(super) fn purge(&self, target: &str) {
        if let Some(path) = self.paths.get(self.counter(target)) {
            path.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Purges everything.
    pub(super) fn purge_all(&self) {
        self.all.fetch_add(1, Ordering::AcqRel);
    }

    /// Makes everything doubtful.
    pub(super) fn doubt(&self) {
        self.doubt.fetch_add(1, Ordering::AcqRel);
    }

    fn path(&self, counter: usize) -> u64 {
        self.paths.get(counter).map_or(0, |path| path.load(Ordering::Acquire))
    }

    fn counter(&self, target: &str) -> usize {
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        let hash = self.hasher.hash_one(path) % COUNTERS as u64;
        usize::try_from(hash).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_ends_what_was_asked_for_before_it() {
        let generations = Generations::new();
        let before = generations.current("/a?b=c");
        assert_eq!(generations.worth(&before), Worth::Full);
        generations.purge("/a");
        assert_eq!(generations.worth(&before), Worth::None);
        let after = generations.current("/a?b=c");
        assert_eq!(generations.worth(&after), Worth::Full);
        generations.purge_all();
        assert_eq!(generations.worth(&after), Worth::None);
    }

    #[test]
    fn doubt_ends_nothing_and_is_no_cure() {
        let generations = Generations::new();
        let (one, other) = (generations.current("/a"), generations.current("/b"));
        generations.doubt();
        assert_eq!((generations.worth(&one), generations.worth(&other)), (Worth::Doubtful, Worth::Doubtful));
        assert_eq!(generations.worth(&generations.current("/a")), Worth::Full);
        generations.purge("/a");
        assert_eq!(generations.worth(&one), Worth::None);
    }

    #[test]
    fn most_paths_have_a_counter_of_their_own() {
        let generations = Generations::new();
        let kept: Vec<_> = (0..100).map(|path| generations.current(&format!("/{path}"))).collect();
        generations.purge("/x");
        let purged = kept.iter().filter(|generation| generations.worth(generation) == Worth::None).count();
        assert!(purged < 5, "{purged}");
    }
}
