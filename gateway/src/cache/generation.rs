//! Invalidates stored responses by counters. A purge increments a counter instead of searching the store: stored
//! responses and those being fetched belong to an older generation from then on.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of counters for paths. Paths that share a counter are purged together, which costs a backend request and
/// is never wrong.
const COUNTERS: usize = 4096;

/// The counters of the current generation.
#[derive(Debug)]
pub(super) struct Generations {
    all: AtomicU64,
    revalidation: AtomicU64,
    paths: Box<[AtomicU64]>,
    hasher: RandomState,
}

/// The generation of a response: the current one when it was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Generation {
    all: u64,
    revalidation: u64,
    path: u64,
    counter: usize,
}

/// The validity of a response of some generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validity {
    /// Valid for its lifetime.
    Valid,
    /// It may have changed: it is revalidated before it is served, or served if the backend fails.
    MustRevalidate,
    /// It was purged.
    Purged,
}

impl Generations {
    pub(super) fn new() -> Self {
        Self {
            all: AtomicU64::new(0),
            revalidation: AtomicU64::new(0),
            paths: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// The generation of a response that is requested now for `target`.
    pub(super) fn current(&self, target: &str) -> Generation {
        let counter = self.counter(target);
        Generation {
            all: self.all.load(Ordering::Acquire),
            revalidation: self.revalidation.load(Ordering::Acquire),
            path: self.path(counter),
            counter,
        }
    }

    /// The current validity of a response of `generation`.
    pub(super) fn validity(&self, generation: &Generation) -> Validity {
        let is_purged =
            self.path(generation.counter) != generation.path || self.all.load(Ordering::Acquire) != generation.all;
        if is_purged {
            Validity::Purged
        } else if self.revalidation.load(Ordering::Acquire) != generation.revalidation {
            Validity::MustRevalidate
        } else {
            Validity::Valid
        }
    }

    /// Purges the responses of the path of `target`, whatever the query.
    pub(super) fn purge(&self, target: &str) {
        if let Some(path) = self.paths.get(self.counter(target)) {
            path.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Purges all responses.
    pub(super) fn purge_all(&self) {
        self.all.fetch_add(1, Ordering::AcqRel);
    }

    /// Requires that all responses are revalidated.
    pub(super) fn require_revalidation(&self) {
        self.revalidation.fetch_add(1, Ordering::AcqRel);
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
    fn a_purge_invalidates_responses_requested_before_it() {
        let generations = Generations::new();
        let before = generations.current("/a?b=c");
        assert_eq!(generations.validity(&before), Validity::Valid);
        generations.purge("/a");
        assert_eq!(generations.validity(&before), Validity::Purged);
        let after = generations.current("/a?b=c");
        assert_eq!(generations.validity(&after), Validity::Valid);
        generations.purge_all();
        assert_eq!(generations.validity(&after), Validity::Purged);
    }

    #[test]
    fn required_revalidation_neither_purges_nor_undoes_a_purge() {
        let generations = Generations::new();
        let (one, other) = (generations.current("/a"), generations.current("/b"));
        generations.require_revalidation();
        assert_eq!(
            (generations.validity(&one), generations.validity(&other)),
            (Validity::MustRevalidate, Validity::MustRevalidate)
        );
        assert_eq!(generations.validity(&generations.current("/a")), Validity::Valid);
        generations.purge("/a");
        assert_eq!(generations.validity(&one), Validity::Purged);
    }

    #[test]
    fn few_paths_share_a_counter() {
        let generations = Generations::new();
        let kept: Vec<_> = (0..100).map(|path| generations.current(&format!("/{path}"))).collect();
        generations.purge("/x");
        let purged = kept.iter().filter(|generation| generations.validity(generation) == Validity::Purged).count();
        assert!(purged < 5, "{purged}");
    }
}
