//! Days in memory: a bounded number of bytes, the least recently used evicted first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::day::DayTexts;
use crate::model::{Day, Days};
use crate::store::changed::ChangedDays;

/// How long a day remains while changes by other processes are not detected: as long as a gateway may serve a list
/// from its cache.
const AGE_LIMIT: Duration = Duration::from_secs(30);
/// How long a day remains at most. A failover can undo a write without an event.
const WATCHED_AGE_LIMIT: Duration = Duration::from_secs(600);
/// What a day occupies besides its texts.
const SLOT_BYTES: usize = 256;

/// A day in memory.
#[derive(Clone)]
pub(in crate::store::mongo) enum CachedDay {
    Texts(Arc<DayTexts>),
    /// It cannot be represented or is too large, and must be read from the server.
    Unsuitable,
}

impl CachedDay {
    fn bytes(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.bytes() + SLOT_BYTES,
            Self::Unsuitable => SLOT_BYTES,
        }
    }
}

struct Slot {
    cached: CachedDay,
    bytes: usize,
    /// When it was last used, as a number.
    used: u64,
    /// Before it was read.
    since: Instant,
}

/// The days.
pub(super) struct DayCache {
    capacity: usize,
    slots: HashMap<Day, Slot>,
    /// The days by their last use.
    by_use: BTreeMap<u64, Day>,
    bytes: usize,
    uses: u64,
    /// Changes up to this version have been applied.
    version: u64,
}

impl DayCache {
    pub(super) fn new(capacity: usize) -> Self {
        let (slots, by_use) = (HashMap::new(), BTreeMap::new());
        Self { capacity, slots, by_use, bytes: 0, uses: 0, version: 0 }
    }

    /// The maximum size of a day.
    pub(super) fn day_limit(&self) -> usize {
        self.capacity / 8
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A day that has not changed since it was read, as far as is known at `now`.
    pub(super) fn get(&mut self, day: Day, now: Instant, changed: &ChangedDays) -> Option<CachedDay> {
        self.discard_changed(changed);
        let limit = if changed.is_watched() { WATCHED_AGE_LIMIT } else { AGE_LIMIT };
        let slot = self.slots.get_mut(&day)?;
        if now.saturating_duration_since(slot.since) > limit {
            self.remove(day);
            return None;
        }
        self.uses += 1;
        self.by_use.remove(&slot.used);
        slot.used = self.uses;
        self.by_use.insert(slot.used, day);
        Some(slot.cached.clone())
    }

    /// Stores a day whose read began at `since` and `version`, unless it has changed meanwhile.
    pub(super) fn insert(&mut self, day: Day, cached: CachedDay, since: Instant, version: u64, changed: &ChangedDays) {
        self.discard_changed(changed);
        let has_changed = match changed.since(version) {
            Days::Named(days) => days.contains(&day),
            Days::All => true,
        };
        let bytes = cached.bytes();
        if has_changed || bytes > self.capacity {
            return;
        }
        self.remove(day);
        self.uses += 1;
        self.slots.insert(day, Slot { cached, bytes, used: self.uses, since });
        self.by_use.insert(self.uses, day);
        self.bytes += bytes;
        while self.bytes > self.capacity
            && let Some((_, oldest)) = self.by_use.first_key_value()
        {
            let oldest = *oldest;
            self.remove(oldest);
        }
    }

    pub(super) fn remove(&mut self, day: Day) {
        if let Some(slot) = self.slots.remove(&day) {
            self.by_use.remove(&slot.used);
            self.bytes -= slot.bytes;
        }
    }

    pub(super) fn discard_changed(&mut self, changed: &ChangedDays) {
        // Read first: a later change is applied again.
        let version = changed.version();
        match changed.since(self.version) {
            Days::Named(days) => days.into_iter().for_each(|day| self.remove(day)),
            Days::All => {
                self.slots.clear();
                self.by_use.clear();
                self.bytes = 0;
            }
        }
        self.version = version;
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::rawdoc;

    use super::super::day::DayBuilder;
    use super::*;

    fn day(number: u32) -> Day {
        Day::parse(&format!("202012{number:02}")).unwrap()
    }

    /// A day of about `bytes`.
    fn cached(bytes: usize) -> CachedDay {
        let mut builder = DayBuilder::new(usize::MAX);
        builder.push(&rawdoc! { "datetime": "20201209 230000", "title": "x".repeat(bytes) }).unwrap();
        CachedDay::Texts(Arc::new(builder.build()))
    }

    fn has(days: &mut DayCache, number: u32, changed: &ChangedDays) -> bool {
        days.get(day(number), Instant::now(), changed).is_some()
    }

    #[test]
    fn the_least_recently_used_day_is_evicted_and_the_bound_is_never_exceeded() {
        let changed = ChangedDays::default();
        let mut days = DayCache::new(40_000);
        for number in 1..=3 {
            days.insert(day(number), cached(10_000), Instant::now(), 0, &changed);
        }
        assert!(has(&mut days, 1, &changed));
        days.insert(day(4), cached(10_000), Instant::now(), 0, &changed);
        assert_eq!([1, 2, 3, 4].map(|number| has(&mut days, number, &changed)), [true, false, true, true]);
        days.insert(day(5), cached(50_000), Instant::now(), 0, &changed);
        assert!(!has(&mut days, 5, &changed), "larger than the bound");
        for number in 1..=31 {
            days.insert(day(number), cached(1000 * number as usize), Instant::now(), 0, &changed);
            assert!(days.bytes() <= 40_000);
            assert_eq!(days.bytes(), days.slots.values().map(|slot| slot.bytes).sum::<usize>());
            assert_eq!(days.by_use.len(), days.slots.len());
        }
    }

    #[test]
    fn a_changed_day_is_discarded_and_others_remain() {
        let changed = ChangedDays::default();
        let mut days = DayCache::new(1 << 20);
        for number in 1..=2 {
            days.insert(day(number), cached(10), Instant::now(), changed.version(), &changed);
        }
        changed.changed(Days::from_iter([day(1)]));
        assert_eq!([1, 2].map(|number| has(&mut days, number, &changed)), [false, true]);
        changed.changed(Days::All);
        assert!(!has(&mut days, 2, &changed) && days.bytes() == 0);
    }

    #[test]
    fn a_read_that_began_before_a_change_is_not_stored() {
        let changed = ChangedDays::default();
        let mut days = DayCache::new(1 << 20);
        let version = changed.version();
        changed.changed(Days::from_iter([day(1)]));
        for number in 1..=2 {
            days.insert(day(number), cached(10), Instant::now(), version, &changed);
        }
        assert_eq!([1, 2].map(|number| has(&mut days, number, &changed)), [false, true]);
    }

    #[test]
    fn the_age_is_limited_and_less_where_changes_are_not_detected() {
        let changed = ChangedDays::default();
        let mut days = DayCache::new(1 << 20);
        let start = Instant::now();
        for (is_watched, limit) in [(false, AGE_LIMIT), (true, WATCHED_AGE_LIMIT)] {
            if is_watched {
                changed.watch_begins();
            }
            days.insert(day(1), cached(10), start, changed.version(), &changed);
            assert!(days.get(day(1), start + limit, &changed).is_some());
            assert!(days.get(day(1), start + limit + Duration::from_millis(1), &changed).is_none());
        }
    }
}
