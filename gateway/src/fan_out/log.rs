//! The events of a stream that listeners can still receive, by position.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::parser::Event;

/// The number of events after a snapshot above which the log is full.
pub(super) const EVENTS_LIMIT: usize = 1024;
/// The size of the events after a snapshot above which the log is full, in bytes.
pub(super) const BYTES_LIMIT: usize = 4 << 20;

/// A log of events.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The position of the first event. Each further event has the next position.
    first: u64,
    events: VecDeque<Event>,
    bytes: usize,
    /// The size of the snapshot with which the log begins.
    snapshot: Option<usize>,
    /// Whether that snapshot is the state after the event before it, because both have the same id.
    is_contiguous: bool,
    /// The id of the last event, which need not be in the log any more.
    last: Bytes,
}

/// The progress of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The position of its next event.
    position: u64,
    /// Whether it has received everything before that position.
    is_current: bool,
}

/// The listener is too slow: its next event was removed from the log, which has no snapshot to continue with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lagged;

impl Log {
    /// The size of all events, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The id of the last event; empty if there is none.
    pub(super) fn last_id(&self) -> Bytes {
        self.last.clone()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether a new snapshot is needed. A log that does not begin with a snapshot is never full: its first events are
    /// removed instead.
    pub(super) fn is_full(&self) -> bool {
        let Some(snapshot) = self.snapshot else { return false };
        self.events.len() > EVENTS_LIMIT || self.bytes - snapshot > BYTES_LIMIT
    }

    /// Adds an event. A snapshot replaces the events before it.
    pub(super) fn push(&mut self, event: Event) {
        if event.is_snapshot {
            self.is_contiguous = !event.id.is_empty() && event.id == self.last;
            self.clear();
            self.snapshot = Some(event.block.len());
        }
        self.last = event.id.clone();
        self.bytes += event.block.len();
        self.events.push_back(event);
        while self.snapshot.is_none() && (self.events.len() > EVENTS_LIMIT || self.bytes > BYTES_LIMIT) {
            let Some(event) = self.events.pop_front() else { return };
            self.bytes -= event.block.len();
            self.first += 1;
        }
    }

    /// Removes all events.
    pub(super) fn clear(&mut self) {
        self.first += self.events.len() as u64;
        self.events.clear();
        (self.bytes, self.snapshot) = (0, None);
    }

    /// Where a listener starts that has received the event with the id `last`: after that event if it is in the log, or
    /// else at the first event.
    pub(super) fn start(&self, last: Option<&[u8]>) -> Cursor {
        let known = last.filter(|last| !last.is_empty());
        match known.and_then(|last| self.events.iter().rposition(|event| event.id == last)) {
            Some(index) => Cursor { position: self.first + index as u64 + 1, is_current: true },
            None => Cursor { position: self.first, is_current: false },
        }
    }

    /// Returns the next event at `cursor`, and advances it.
    ///
    /// # Errors
    /// [`Lagged`].
    pub(super) fn next(&self, cursor: &mut Cursor) -> Result<Option<Bytes>, Lagged> {
        if cursor.position < self.first {
            if self.snapshot.is_none() {
                return Err(Lagged);
            }
            *cursor = Cursor { position: self.first, is_current: false };
        }
        if cursor.position == self.first && cursor.is_current && self.snapshot.is_some() && self.is_contiguous {
            cursor.position += 1;
        }
        loop {
            let index = usize::try_from(cursor.position - self.first).map_err(|_| Lagged)?;
            let Some(event) = self.events.get(index) else { return Ok(None) };
            *cursor = Cursor { position: cursor.position + 1, is_current: true };
            let has_expired = event.expires_at.is_some_and(|at| at <= Instant::now());
            match has_expired {
                false => return Ok(Some(event.block.clone())),
                true if event.id.is_empty() => {}
                // Only the id, so that the client can resume after this event.
                true => return Ok(Some([b"id: ", &event.id[..], b"\n\n"].concat().into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn event(id: &str, is_snapshot: bool) -> Event {
        let block = Bytes::from(format!("{id}{}", if is_snapshot { " snapshot" } else { "" }));
        Event { id: Bytes::copy_from_slice(id.as_bytes()), is_snapshot, expires_at: None, block }
    }

    fn log(events: &[(&str, bool)]) -> Log {
        let mut log = Log::default();
        events.iter().for_each(|(id, is_snapshot)| log.push(event(id, *is_snapshot)));
        log
    }

    /// All further events of a listener.
    fn rest(log: &Log, cursor: &mut Cursor) -> Vec<String> {
        std::iter::from_fn(|| log.next(cursor).unwrap()).map(|block| String::from_utf8(block.into()).unwrap()).collect()
    }

    fn all(log: &Log, last: Option<&str>) -> Vec<String> {
        rest(log, &mut log.start(last.map(str::as_bytes)))
    }

    #[test]
    fn a_log_begins_with_the_last_snapshot() {
        let log = log(&[("0", false), ("1", true), ("2", false), ("3", true), ("4", false), ("5", false)]);
        assert_eq!(all(&log, None), ["3 snapshot", "4", "5"]);
        assert_eq!(all(&log, Some("3")), ["4", "5"]);
        assert_eq!(all(&log, Some("5")), [""; 0]);
        for unknown in ["2", "", "x"] {
            assert_eq!(all(&log, Some(unknown)), ["3 snapshot", "4", "5"]);
        }
    }

    #[test]
    fn a_listener_that_is_current_does_not_get_a_contiguous_snapshot() {
        let mut log = log(&[("1", true), ("2", false)]);
        let (mut current, mut slow) = (log.start(None), log.start(None));
        rest(&log, &mut current);
        log.next(&mut slow).unwrap();
        log.push(event("2", true));
        let mut new = log.start(None);
        assert_eq!(rest(&log, &mut current), [""; 0]);
        assert_eq!(rest(&log, &mut slow), ["2 snapshot"]);
        assert_eq!(rest(&log, &mut new), ["2 snapshot"]);
        log.push(event("3", false));
        for cursor in [&mut current, &mut slow, &mut new] {
            assert_eq!(rest(&log, cursor), ["3"]);
        }
        log.push(event("5", true));
        for cursor in [&mut current, &mut slow, &mut new] {
            assert_eq!(rest(&log, cursor), ["5 snapshot"], "it has missed 4");
        }
    }

    #[test]
    fn of_an_event_that_has_expired_only_the_id_is_sent() {
        let now = Instant::now();
        let mut log = log(&[("1", true)]);
        for (id, expires_at) in [("2", now), ("", now), ("3", now + Duration::from_secs(600))] {
            log.push(Event { expires_at: Some(expires_at), ..event(id, false) });
        }
        assert_eq!(all(&log, None), ["1 snapshot", "id: 2\n\n", "3"]);
        assert_eq!(all(&log, Some("2")), ["3"]);
    }

    #[test]
    fn without_ids_no_snapshot_is_contiguous() {
        let mut log = log(&[("", true)]);
        let mut cursor = log.start(None);
        assert_eq!(rest(&log, &mut cursor), [" snapshot"]);
        log.push(event("", true));
        assert_eq!(rest(&log, &mut cursor), [" snapshot"]);
    }

    #[test]
    fn a_log_with_a_snapshot_is_full_and_one_without_drops_the_first_events() {
        let mut with = log(&[("1", true)]);
        let mut without = log(&[("1", false)]);
        let (mut listener, mut lagged) = (with.start(None), without.start(None));
        for _ in 0..EVENTS_LIMIT {
            assert!(!with.is_full());
            with.push(event("2", false));
            without.push(event("2", false));
        }
        assert!(with.is_full() && !without.is_full());
        assert_eq!(rest(&with, &mut listener).len(), EVENTS_LIMIT + 1);
        assert_eq!(without.next(&mut lagged), Err(Lagged));
        assert_eq!(all(&without, None).len(), EVENTS_LIMIT);
        let large = Event { block: vec![0; BYTES_LIMIT + 1].into(), ..event("3", false) };
        without.push(large.clone());
        assert_eq!((without.bytes(), without.is_empty(), without.last_id()), (0, true, Bytes::from_static(b"3")));
        let mut with = log(&[("1", true)]);
        with.push(large);
        assert!(with.is_full());
        with.push(event("4", true));
        assert!(!with.is_full() && with.bytes() == "4 snapshot".len());
    }
}
