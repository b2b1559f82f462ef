//! The revisions of the events of a feed.
//!
//! A feed is compared with the events that it has delivered, not with the history of the stored holodules. So the cause
//! of a change does not matter: a write that bypassed the backend, or another group of a streamer, is a change or a
//! cancellation in the feeds that it affects, and in no other.
//!
//! `SEQUENCE` is the number of seconds from the creation of the feed to the change, or one more than before, if that is
//! greater. So it also increases if the stored state was lost.

use std::collections::BTreeSet;
use std::ops::Range;

use super::event::{Event, shortened};
use crate::model::{Delivered, DeliveredEvent, SEQUENCE_LIMIT};

/// How long a cancelled event is delivered, in seconds: a week.
pub const CANCELLED_FOR: i64 = 7 * 24 * 3600;
/// The maximum number of events in the stored state. The latest cancellations remain.
pub const DELIVERED_LIMIT: usize = 2000;

/// The longest summary of a cancelled event, in characters.
const SUMMARY_LIMIT: usize = 80;

/// The times for which the events of a feed are known, in seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// The range of the feed.
    pub window: Range<i64>,
    /// The part of it for which all events were read. An event outside it may exist.
    pub complete: Range<i64>,
}

/// An event of a feed with its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revised {
    /// The UID.
    pub uid: String,
    /// `SEQUENCE`.
    pub sequence: i64,
    /// `LAST-MODIFIED`, in seconds since the Unix epoch.
    pub modified: i64,
    /// The state.
    pub status: Status,
}

/// The state of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It takes place.
    Scheduled(Event),
    /// It has left the feed.
    Cancelled {
        /// The last start, in seconds since the Unix epoch.
        starts_at: i64,
        /// The beginning of the last summary.
        summary: String,
    },
}

/// The result of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revisions {
    /// The events to deliver: those of the feed in their order, then the cancelled ones by UID.
    pub events: Vec<Revised>,
    /// The state to store.
    pub delivered: Delivered,
    /// Whether it differs from the stored one in more than entries that have expired.
    pub changed: bool,
}

impl Revisions {
    /// Compares `events`, those of a feed created at `created_at`, with the delivered ones. `duration` is the
    /// assumed duration of an event; all times are in seconds. Of several events with the same UID, the first counts.
    pub fn of(
        events: Vec<Event>,
        mut delivered: Delivered,
        coverage: &Coverage,
        created_at: i64,
        duration: i64,
        now: i64,
    ) -> Self {
        let (mut changed, mut revised, mut listed) = (false, Vec::with_capacity(events.len()), BTreeSet::new());
        for event in events {
            if !listed.insert(event.uid.clone()) {
                continue;
            }
            let digest = event.digest(duration);
            let known = delivered.events.get(&event.uid);
            let (sequence, modified) = match known {
                Some(known) if known.cancelled_at.is_none() && known.digest == digest => {
                    (known.sequence, known.modified)
                }
                known => {
                    changed = true;
                    let next = next(known, created_at, now);
                    let summary = shortened(&event.summary, SUMMARY_LIMIT);
                    let (sequence, modified) = next;
                    let starts_at = event.starts_at.unix();
                    let state = DeliveredEvent { digest, sequence, modified, starts_at, summary, cancelled_at: None };
                    delivered.events.insert(event.uid.clone(), state);
                    next
                }
            };
            revised.push(Revised { uid: event.uid.clone(), sequence, modified, status: Status::Scheduled(event) });
        }
        delivered.events.retain(|_, event| coverage.window.contains(&event.starts_at));
        for (_, event) in delivered.events.iter_mut().filter(|(uid, _)| !listed.contains(*uid)) {
            if event.cancelled_at.is_none() && coverage.complete.contains(&event.starts_at) {
                changed = true;
                (event.sequence, event.modified) = next(Some(event), created_at, now);
                event.cancelled_at = Some(now);
            }
        }
        let expired = |event: &DeliveredEvent| event.cancelled_at.is_some_and(|at| at <= now - CANCELLED_FOR);
        delivered.events.retain(|_, event| !expired(event));
        bound(&mut delivered, &listed);
        let cancelled = delivered.events.iter().filter(|(_, event)| event.cancelled_at.is_some());
        revised.extend(cancelled.map(|(uid, event)| Revised {
            uid: uid.clone(),
            sequence: event.sequence,
            modified: event.modified,
            status: Status::Cancelled { starts_at: event.starts_at, summary: event.summary.clone() },
        }));
        Self { events: revised, delivered, changed }
    }
}

/// `SEQUENCE` and `LAST-MODIFIED` of a change.
fn next(known: Option<&DeliveredEvent>, created_at: i64, now: i64) -> (i64, i64) {
    let elapsed = now.saturating_sub(created_at).clamp(0, SEQUENCE_LIMIT);
    match known {
        // A clock that was set back does not matter.
        Some(known) => {
            let sequence = elapsed.max(known.sequence.saturating_add(1)).min(SEQUENCE_LIMIT);
            (sequence, now.max(known.modified))
        }
        None => (elapsed, now),
    }
}

/// Removes entries beyond [`DELIVERED_LIMIT`], first those that were cancelled or seen first.
fn bound(delivered: &mut Delivered, listed: &BTreeSet<String>) {
    let excess = delivered.events.len().saturating_sub(DELIVERED_LIMIT);
    if excess == 0 {
        return;
    }
    let unlisted = delivered.events.iter().filter(|(uid, _)| !listed.contains(*uid));
    let mut unlisted: Vec<_> = unlisted.map(|(uid, event)| (event.modified, uid.clone())).collect();
    unlisted.sort_unstable();
    for (_, uid) in unlisted.into_iter().take(excess) {
        delivered.events.remove(&uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::WallClock;

    const CREATED: i64 = 1_800_000_000;
    const START: i64 = CREATED + 3600;
    const DAY: i64 = 24 * 3600;

    fn event(uid: &str, summary: &str) -> Event {
        Event {
            uid: uid.into(),
            starts_at: WallClock::at_unix(START).unwrap(),
            summary: summary.into(),
            description: String::new(),
            url: None,
            categories: Vec::new(),
        }
    }

    fn coverage(now: i64) -> Coverage {
        let window = now - 31 * DAY..now + 366 * DAY;
        Coverage { complete: window.clone(), window }
    }

    fn compare(events: Vec<Event>, delivered: &Delivered, now: i64) -> Revisions {
        Revisions::of(events, delivered.clone(), &coverage(now), CREATED, 7200, now)
    }

    /// `(uid, sequence, modified, cancelled)`
    fn shown(revisions: &Revisions) -> Vec<(&str, i64, i64, bool)> {
        let cancelled = |event: &Revised| matches!(event.status, Status::Cancelled { .. });
        revisions.events.iter().map(|e| (e.uid.as_str(), e.sequence, e.modified, cancelled(e))).collect()
    }

    #[test]
    fn an_unchanged_event_is_delivered_as_before() {
        let first = compare(vec![event("a", "x")], &Delivered::default(), CREATED);
        assert_eq!((shown(&first), first.changed), (vec![("a", 0, CREATED, false)], true));
        let second = compare(vec![event("a", "x")], &first.delivered, CREATED + 100);
        assert_eq!((&second.events, &second.delivered, second.changed), (&first.events, &first.delivered, false));
    }

    #[test]
    fn a_change_increases_the_sequence_even_if_the_clock_is_set_back() {
        let first = compare(vec![event("a", "x")], &Delivered::default(), CREATED + 5);
        let second = compare(vec![event("a", "y")], &first.delivered, CREATED + 100);
        assert_eq!((shown(&second), second.changed), (vec![("a", 100, CREATED + 100, false)], true));
        let third = compare(vec![event("a", "z")], &second.delivered, CREATED - 100);
        assert_eq!(shown(&third), [("a", 101, CREATED + 100, false)]);
    }

    #[test]
    fn an_event_that_left_the_feed_is_cancelled_for_a_week() {
        let first = compare(vec![event("a", "x"), event("b", "y")], &Delivered::default(), CREATED);
        let gone = compare(vec![event("b", "y")], &first.delivered, CREATED + 10);
        assert_eq!(shown(&gone), [("b", 0, CREATED, false), ("a", 10, CREATED + 10, true)]);
        assert!(gone.changed);
        let later = compare(vec![event("b", "y")], &gone.delivered, CREATED + 9 + CANCELLED_FOR);
        assert_eq!((shown(&later), later.changed), (shown(&gone), false));
        let expired = compare(vec![event("b", "y")], &gone.delivered, CREATED + 10 + CANCELLED_FOR);
        assert_eq!((shown(&expired), expired.changed), (vec![("b", 0, CREATED, false)], false));
        assert_eq!(expired.delivered.events.len(), 1);
    }

    #[test]
    fn an_event_that_returns_is_no_longer_cancelled() {
        let first = compare(vec![event("a", "x")], &Delivered::default(), CREATED);
        let gone = compare(vec![], &first.delivered, CREATED + 10);
        let back = compare(vec![event("a", "x")], &gone.delivered, CREATED + 10);
        assert_eq!((shown(&back), back.changed), (vec![("a", 11, CREATED + 10, false)], true));
    }

    #[test]
    fn the_past_is_forgotten_and_not_cancelled() {
        let first = compare(vec![event("a", "x")], &Delivered::default(), CREATED);
        let later = compare(vec![], &first.delivered, START + 31 * DAY + 1);
        assert_eq!((shown(&later), later.changed, later.delivered.events.len()), (vec![], false, 0));
    }

    #[test]
    fn what_was_not_read_is_not_cancelled() {
        let first = compare(vec![event("a", "x")], &Delivered::default(), CREATED);
        let part = Coverage { complete: CREATED - DAY..START, ..coverage(CREATED) };
        let second = Revisions::of(vec![], first.delivered.clone(), &part, CREATED, 7200, CREATED + 5);
        assert_eq!((shown(&second), second.changed), (vec![], false));
        assert_eq!(second.delivered, first.delivered, "its revision is not forgotten");
    }

    #[test]
    fn a_lost_state_does_not_decrease_the_sequence() {
        let first = compare(vec![event("a", "x")], &Delivered::default(), CREATED + 5);
        let changed = compare(vec![event("a", "y")], &first.delivered, CREATED + 100);
        let lost = compare(vec![event("a", "y")], &Delivered::default(), CREATED + 101);
        assert!(lost.events[0].sequence > changed.events[0].sequence);
    }

    #[test]
    fn the_state_is_bounded_and_the_latest_cancellations_remain() {
        let many: Vec<Event> = (0..1000).map(|n| event(&format!("old{n:04}"), "x")).collect();
        let mut state = compare(many, &Delivered::default(), CREATED).delivered;
        for round in 1..=3 {
            let next = (0..1000).map(|n| event(&format!("{round}-{n:04}"), "x")).collect();
            state = compare(next, &state, CREATED + round).delivered;
            assert!(state.events.len() <= DELIVERED_LIMIT);
        }
        assert!(!state.events.contains_key("old0000") && !state.events.contains_key("1-0000"));
        assert!(state.events["2-0000"].cancelled_at.is_some() && state.events["3-0999"].cancelled_at.is_none());
    }

    #[test]
    fn a_uid_is_delivered_once() {
        let both = compare(vec![event("a", "x"), event("a", "y")], &Delivered::default(), CREATED);
        assert_eq!(shown(&both), [("a", 0, CREATED, false)]);
        let again = compare(vec![event("a", "x"), event("a", "y")], &both.delivered, CREATED + 1);
        assert!(!again.changed);
    }
}
