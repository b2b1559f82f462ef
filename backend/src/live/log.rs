//! The last events of a stream, by position.

use std::collections::VecDeque;

use bytes::Bytes;

use super::state::StateId;

/// The maximum number of events in the log.
pub(super) const EVENTS_LIMIT: usize = 1024;
/// The maximum size of all events in the log, in bytes.
const BYTES_LIMIT: usize = 4 << 20;

/// A log of events. The first one has some position, and each further one the next.
#[derive(Debug)]
pub(super) struct Log {
    /// The position of the first event in the log.
    first: u64,
    /// The state before the first event.
    before: StateId,
    events: VecDeque<(StateId, Bytes)>,
    bytes: usize,
}

impl Log {
    /// An empty log of a stream in the state `id`.
    pub(super) fn new(id: StateId) -> Self {
        Self { first: 0, before: id, events: VecDeque::new(), bytes: 0 }
    }

    /// The position of the next event.
    pub(super) fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Adds an event after which the stream is in the state `id`, and removes the first ones above the limits.
    pub(super) fn push(&mut self, id: StateId, block: Bytes) {
        self.bytes += block.len();
        self.events.push_back((id, block));
        while self.events.len() > EVENTS_LIMIT || self.bytes > BYTES_LIMIT {
            let Some((id, block)) = self.events.pop_front() else { return };
            self.bytes -= block.len();
            self.before = id;
            self.first += 1;
        }
    }

    /// The event at `position`, `None` if that is the end; an error if it is no longer in the log.
    pub(super) fn get(&self, position: u64) -> Result<Option<Bytes>, Lagged> {
        let index = position.checked_sub(self.first).ok_or(Lagged)?;
        let index = usize::try_from(index).map_err(|_| Lagged)?;
        Ok(self.events.get(index).map(|(_, block)| block.clone()))
    }

    /// The position after the last event that led to the state `id`; `None` if that is not in the log.
    pub(super) fn after(&self, id: StateId) -> Option<u64> {
        match self.events.iter().rposition(|(event, _)| *event == id) {
            Some(index) => Some(self.first + index as u64 + 1),
            None => (self.before == id).then_some(self.first),
        }
    }
}

/// The event at the position was removed from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lagged;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> StateId {
        StateId::parse(&format!("{number:032x}")).unwrap()
    }

    fn block(number: usize) -> Bytes {
        Bytes::from(number.to_string())
    }

    #[test]
    fn a_log_has_the_last_events() {
        let mut log = Log::new(id(0));
        assert_eq!((log.end(), log.after(id(0)), log.after(id(1))), (0, Some(0), None));
        for number in 1..=EVENTS_LIMIT + 2 {
            log.push(id(number), block(number));
        }
        assert_eq!(log.end(), EVENTS_LIMIT as u64 + 2);
        assert_eq!((log.get(1), log.get(2), log.get(log.end())), (Err(Lagged), Ok(Some(block(3))), Ok(None)));
        assert_eq!((log.after(id(1)), log.after(id(2)), log.after(id(3))), (None, Some(2), Some(3)));
        assert_eq!(log.after(id(EVENTS_LIMIT + 2)), Some(log.end()));
    }

    #[test]
    fn a_state_that_was_reached_twice_continues_after_the_second_time() {
        let mut log = Log::new(id(1));
        for number in [2, 1, 3] {
            log.push(id(number), block(number));
        }
        assert_eq!(log.after(id(1)), Some(2));
    }

    #[test]
    fn the_size_of_all_events_is_bounded() {
        let mut log = Log::new(id(0));
        for number in 1..=3 {
            log.push(id(number), Bytes::from(vec![0; BYTES_LIMIT / 2]));
        }
        assert_eq!((log.after(id(1)), log.after(id(0))), (Some(1), None));
        log.push(id(4), Bytes::from(vec![0; BYTES_LIMIT + 1]));
        assert_eq!(log.get(log.end()), Ok(None));
        assert_eq!(log.after(id(4)), Some(log.end()));
    }
}
