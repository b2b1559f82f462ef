//! The identities that somebody has asked about, and what was last seen of each. Pure: the
//! time is an argument.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::store::Fingerprint;

/// A table of bounded size: where it is full, the identity leaves that was asked about least recently.
#[derive(Debug)]
pub(super) struct WatchedAccounts {
    entries: HashMap<Arc<str>, WatchedAccount>,
    /// By when it was asked about, the least recent first.
    order: BTreeMap<u64, Arc<str>>,
    turn: u64,
    capacity: usize,
    idle: Duration,
}

#[derive(Debug)]
struct WatchedAccount {
    turn: u64,
    asked: Instant,
    /// `None` where the next look is to be taken as it is.
    sighting: Option<Fingerprint>,
}

/// What a look at one identity means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Observation {
    /// Nothing has changed since the look before it, or there was none.
    Same,
    /// It has, or another look crossed this one.
    Differs,
    /// The identity had left in the meantime, so that a change may have been missed.
    Missing,
}

impl WatchedAccounts {
    /// An empty table for `capacity` identities, each leaving when nobody asks for `idle`.
    pub(super) fn new(capacity: usize, idle: Duration) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), turn: 0, capacity, idle }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Every identity.
    pub(super) fn identities(&self) -> Vec<Arc<str>> {
        self.entries.keys().cloned().collect()
    }

    /// Somebody asks about `identity`. The one that has to leave for it, if any.
    pub(super) fn ask(&mut self, identity: &str, now: Instant) -> Option<Arc<str>> {
        self.turn += 1;
        let turn = self.turn;
        if let Some((identity, entry)) =
            self.entries.get_key_value(identity).map(|(key, entry)| (Arc::clone(key), entry))
        {
            self.order.remove(&entry.turn);
            self.order.insert(turn, Arc::clone(&identity));
            if let Some(entry) = self.entries.get_mut(&identity) {
                (entry.turn, entry.asked) = (turn, now);
            }
            return None;
        }
        let leaves = if self.entries.len() >= self.capacity { self.order.pop_first() } else { None };
        let leaves = leaves.map(|(_, identity)| identity);
        if let Some(leaves) = &leaves {
            self.entries.remove(leaves);
        }
        let identity: Arc<str> = identity.into();
        self.order.insert(turn, Arc::clone(&identity));
        self.entries.insert(identity, WatchedAccount { turn, asked: now, sighting: None });
        leaves
    }

    /// What the look that [`WatchedAccounts::ask`] came before has seen.
    pub(super) fn saw(&mut self, identity: &str, sighting: Fingerprint) -> Observation {
        match self.entries.get_mut(identity) {
            None => Observation::Missing,
            Some(entry) => match entry.sighting.replace(sighting) {
                Some(before) if before != sighting => Observation::Differs,
                _ => Observation::Same,
            },
        }
    }

    /// `identity` has changed: the next look is of what became of it. Whether it is watched.
    pub(super) fn changed(&mut self, identity: &str) -> bool {
        let Some(entry) = self.entries.get_mut(identity) else { return false };
        entry.sighting = None;
        true
    }

    /// Anything may have changed.
    pub(super) fn changed_all(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.sighting = None);
    }

    /// What a look at many has seen. Those that differ from the look before it.
    pub(super) fn saw_many(&mut self, sightings: HashMap<Arc<str>, Fingerprint>) -> Vec<Arc<str>> {
        let mut changed = Vec::new();
        for (identity, sighting) in sightings {
            if self.saw(&identity, sighting) == Observation::Differs {
                changed.push(identity);
            }
        }
        changed
    }

    /// Those that nobody has asked about for too long. They leave.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Arc<str>> {
        let mut gone = Vec::new();
        while let Some(oldest) = self.order.first_entry() {
            let asked = self.entries.get(oldest.get()).map(|entry| entry.asked);
            if asked.is_some_and(|asked| now.saturating_duration_since(asked) < self.idle) {
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

    fn sighting(number: u64) -> Fingerprint {
        Fingerprint::from_number(number)
    }

    fn many(seen: &[(&str, u64)]) -> HashMap<Arc<str>, Fingerprint> {
        seen.iter().map(|(identity, number)| ((*identity).into(), sighting(*number))).collect()
    }

    #[test]
    fn the_least_recently_used_identity_is_evicted() {
        let mut watched = WatchedAccounts::new(2, IDLE);
        let now = Instant::now();
        assert_eq!(watched.ask("a", now), None);
        assert_eq!(watched.ask("b", now), None);
        assert_eq!(watched.ask("a", now), None);
        assert_eq!(watched.ask("c", now).as_deref(), Some("b"));
        assert_eq!(watched.saw("b", sighting(1)), Observation::Missing);
        assert_eq!(watched.ask("d", now).as_deref(), Some("a"));
        assert_eq!((watched.len(), watched.order.len()), (2, 2));
    }

    #[test]
    fn a_million_identities_stay_within_the_capacity() {
        let mut watched = WatchedAccounts::new(1000, IDLE);
        let now = Instant::now();
        let left = (0..1_000_000).filter(|number| watched.ask(&format!("user{number}"), now).is_some()).count();
        assert_eq!((left, watched.len(), watched.order.len()), (999_000, 1000, 1000));
    }

    #[test]
    fn idle_identities_expire() {
        let mut watched = WatchedAccounts::new(10, IDLE);
        let start = Instant::now();
        watched.ask("a", start);
        watched.ask("b", start);
        watched.ask("a", start + IDLE / 2);
        assert!(watched.expire(start + IDLE / 2).is_empty());
        assert_eq!(watched.expire(start + IDLE).iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["b"]);
        assert_eq!(watched.expire(start + IDLE * 2).iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["a"]);
        assert_eq!((watched.len(), watched.order.len()), (0, 0));
    }

    #[test]
    fn a_changed_fingerprint_is_reported_in_either_order() {
        let mut watched = WatchedAccounts::new(10, IDLE);
        watched.ask("a", Instant::now());
        assert_eq!(watched.saw("a", sighting(1)), Observation::Same, "the first look has nothing before it");
        assert!(watched.saw_many(many(&[("a", 1)])).is_empty());
        assert_eq!(watched.saw_many(many(&[("a", 2), ("b", 9)])).len(), 1, "only who is watched");
        assert_eq!(watched.saw("a", sighting(1)), Observation::Differs, "an older look that comes late");
        assert!(watched.changed("a") && !watched.changed("b"));
        assert_eq!(watched.saw("a", sighting(3)), Observation::Same, "told already");
        assert_eq!(watched.saw_many(many(&[("a", 3)])).len(), 0);
    }
}
