//! The table of watched identities with the last fingerprint of each. Pure: the time is an argument.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::store::Fingerprint;

/// A bounded table that evicts the least recently checked identity when it is full.
#[derive(Debug)]
pub(super) struct WatchedAccounts {
    entries: HashMap<Arc<str>, WatchedAccount>,
    /// Identities by their last check, the oldest first.
    order: BTreeMap<u64, Arc<str>>,
    turn: u64,
    capacity: usize,
    idle: Duration,
}

#[derive(Debug)]
struct WatchedAccount {
    turn: u64,
    last_used: Instant,
    /// `None` if the next fingerprint is to be stored without a comparison.
    fingerprint: Option<Fingerprint>,
}

/// The result of comparing a fingerprint with the previous one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Observation {
    /// It is the same, or the first.
    Unchanged,
    /// It differs, or an older read completed later.
    Changed,
    /// The identity was evicted meanwhile, so that a change may have been missed.
    Evicted,
}

impl WatchedAccounts {
    /// An empty table for `capacity` identities, each of which expires after `idle` without a check.
    pub(super) fn new(capacity: usize, idle: Duration) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), turn: 0, capacity, idle }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All identities.
    pub(super) fn identities(&self) -> Vec<Arc<str>> {
        self.entries.keys().cloned().collect()
    }

    /// Records a check of `identity` and returns the identity that is evicted for it, if any.
    pub(super) fn watch(&mut self, identity: &str, now: Instant) -> Option<Arc<str>> {
        self.turn += 1;
        let turn = self.turn;
        if let Some((identity, entry)) =
            self.entries.get_key_value(identity).map(|(key, entry)| (Arc::clone(key), entry))
        {
            self.order.remove(&entry.turn);
            self.order.insert(turn, Arc::clone(&identity));
            if let Some(entry) = self.entries.get_mut(&identity) {
                (entry.turn, entry.last_used) = (turn, now);
            }
            return None;
        }
        let evicted = if self.entries.len() >= self.capacity { self.order.pop_first() } else { None };
        let evicted = evicted.map(|(_, identity)| identity);
        if let Some(evicted) = &evicted {
            self.entries.remove(evicted);
        }
        let identity: Arc<str> = identity.into();
        self.order.insert(turn, Arc::clone(&identity));
        self.entries.insert(identity, WatchedAccount { turn, last_used: now, fingerprint: None });
        evicted
    }

    /// Stores the fingerprint of a read that followed [`WatchedAccounts::watch`].
    pub(super) fn observe(&mut self, identity: &str, fingerprint: Fingerprint) -> Observation {
        match self.entries.get_mut(identity) {
            None => Observation::Evicted,
            Some(entry) => match entry.fingerprint.replace(fingerprint) {
                Some(before) if before != fingerprint => Observation::Changed,
                _ => Observation::Unchanged,
            },
        }
    }

    /// Forgets the fingerprint of `identity` after a change. Returns whether it is watched.
    pub(super) fn invalidate(&mut self, identity: &str) -> bool {
        let Some(entry) = self.entries.get_mut(identity) else { return false };
        entry.fingerprint = None;
        true
    }

    /// Forgets all fingerprints.
    pub(super) fn invalidate_all(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.fingerprint = None);
    }

    /// Stores many fingerprints and returns the identities whose fingerprint changed.
    pub(super) fn observe_all(&mut self, fingerprints: HashMap<Arc<str>, Fingerprint>) -> Vec<Arc<str>> {
        let mut changed = Vec::new();
        for (identity, fingerprint) in fingerprints {
            if self.observe(&identity, fingerprint) == Observation::Changed {
                changed.push(identity);
            }
        }
        changed
    }

    /// Removes and returns the identities that were not checked for too long.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Arc<str>> {
        let mut gone = Vec::new();
        while let Some(oldest) = self.order.first_entry() {
            let last_used = self.entries.get(oldest.get()).map(|entry| entry.last_used);
            if last_used.is_some_and(|last_used| now.saturating_duration_since(last_used) < self.idle) {
                break;
            }
            let identity = oldest.remove();
            self.entries.remove(&identity);
            gone.push(identity);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(10);

    fn fingerprint(number: u64) -> Fingerprint {
        Fingerprint::from_number(number)
    }

    fn many(seen: &[(&str, u64)]) -> HashMap<Arc<str>, Fingerprint> {
        seen.iter().map(|(identity, number)| ((*identity).into(), fingerprint(*number))).collect()
    }

    #[test]
    fn the_least_recently_used_identity_is_evicted() {
        let mut watched = WatchedAccounts::new(2, IDLE);
        let now = Instant::now();
        assert_eq!(watched.watch("a", now), None);
        assert_eq!(watched.watch("b", now), None);
        assert_eq!(watched.watch("a", now), None);
        assert_eq!(watched.watch("c", now).as_deref(), Some("b"));
        assert_eq!(watched.observe("b", fingerprint(1)), Observation::Evicted);
        assert_eq!(watched.watch("d", now).as_deref(), Some("a"));
        assert_eq!((watched.len(), watched.order.len()), (2, 2));
    }

    #[test]
    fn a_million_identities_stay_within_the_capacity() {
        let mut watched = WatchedAccounts::new(1000, IDLE);
        let now = Instant::now();
        let left = (0..1_000_000).filter(|number| watched.watch(&format!("user{number}"), now).is_some()).count();
        assert_eq!((left, watched.len(), watched.order.len()), (999_000, 1000, 1000));
    }

    #[test]
    fn idle_identities_expire() {
        let mut watched = WatchedAccounts::new(10, IDLE);
        let start = Instant::now();
        watched.watch("a", start);
        watched.watch("b", start);
        watched.watch("a", start + IDLE / 2);
        assert!(watched.expire(start + IDLE / 2).is_empty());
        assert_eq!(watched.expire(start + IDLE).iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["b"]);
        assert_eq!(watched.expire(start + IDLE * 2).iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["a"]);
        assert_eq!((watched.len(), watched.order.len()), (0, 0));
    }

    #[test]
    fn a_changed_fingerprint_is_reported_in_either_order() {
        let mut watched = WatchedAccounts::new(10, IDLE);
        watched.watch("a", Instant::now());
        assert_eq!(
            watched.observe("a", fingerprint(1)),
            Observation::Unchanged,
            "the first fingerprint has no predecessor"
        );
        assert!(watched.observe_all(many(&[("a", 1)])).is_empty());
        assert_eq!(watched.observe_all(many(&[("a", 2), ("b", 9)])).len(), 1, "only watched identities");
        assert_eq!(watched.observe("a", fingerprint(1)), Observation::Changed, "an older read that completes later");
        assert!(watched.invalidate("a") && !watched.invalidate("b"));
        assert_eq!(watched.observe("a", fingerprint(3)), Observation::Unchanged, "published already");
        assert_eq!(watched.observe_all(many(&[("a", 3)])).len(), 0);
    }
}
