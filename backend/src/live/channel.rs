//! One stream: its state, its log and its subscribers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::timeout;

use super::event::{HEARTBEAT, block, opening};
use super::log::Log;
use super::permits::Permit;
use super::state::{Change, State, StateId};

/// The longest time without an event or a comment.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// A stream that subscribers share.
#[derive(Debug)]
pub(super) struct Channel {
    shared: Mutex<Shared>,
    /// Changes with each event, and at the end.
    changes: watch::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    state: State,
    log: Log,
    /// The block of the current state, once a subscriber has needed it.
    snapshot: Option<Bytes>,
    subscribers: usize,
    /// When the last subscriber left.
    idle_since: Instant,
    has_ended: bool,
}

impl Channel {
    pub(super) fn new(state: State) -> Self {
        let log = Log::new(state.id());
        let (snapshot, subscribers, idle_since, has_ended) = (None, 0, Instant::now(), false);
        let shared = Mutex::new(Shared { state, log, snapshot, subscribers, idle_since, has_ended });
        Self { shared, changes: watch::Sender::new(()) }
    }

    /// Changes the state and publishes how it has changed.
    pub(super) fn update(&self, update: impl FnOnce(&mut State) -> Vec<Change>) {
        let mut shared = self.shared();
        let changes = update(&mut shared.state);
        if changes.is_empty() {
            return;
        }
        shared.snapshot = None;
        for Change { name, id, data } in changes {
            shared.log.push(id, block(name, id, &data));
        }
        drop(shared);
        self.changes.send_replace(());
    }

    /// Reads from the state.
    pub(super) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.shared().state)
    }

    /// Ends all subscriptions.
    pub(super) fn end(&self) {
        self.end_if(|_| true);
    }

    /// Ends all subscriptions if `condition` returns true for whether there are none. Returns its result.
    pub(super) fn end_if(&self, condition: impl FnOnce(bool) -> bool) -> bool {
        let mut shared = self.shared();
        shared.has_ended |= condition(shared.subscribers == 0);
        let has_ended = shared.has_ended;
        drop(shared);
        self.changes.send_replace(());
        has_ended
    }

    /// How long it has had no subscribers; `None` while it has some.
    pub(super) fn idle(&self) -> Option<Duration> {
        let shared = self.shared();
        (shared.subscribers == 0).then(|| shared.idle_since.elapsed())
    }

    /// The events after the state `last`, or a snapshot and the events after it if that state is not in the log. Returns
    /// the permit if the stream has ended.
    pub(super) fn subscribe(self: &Arc<Self>, last: Option<StateId>, permit: Permit) -> Result<Subscription, Permit> {
        let mut shared = self.shared();
        if shared.has_ended {
            return Err(permit);
        }
        let (first, position) = match last.and_then(|last| shared.log.after(last)) {
            Some(position) => (vec![opening()], position),
            None => (vec![shared.snapshot(), opening()], shared.log.end()),
        };
        shared.subscribers += 1;
        let changes = self.changes.subscribe();
        Ok(Subscription { channel: Arc::clone(self), first, position, changes, _permit: permit })
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn snapshot(&mut self) -> Bytes {
        let state = &self.state;
        self.snapshot.get_or_insert_with(|| block("snapshot", state.id(), &state.snapshot())).clone()
    }
}

/// One subscriber of a stream.
#[derive(Debug)]
pub(crate) struct Subscription {
    channel: Arc<Channel>,
    /// The blocks before the events of the log, in reverse.
    first: Vec<Bytes>,
    /// The position of the next event.
    position: u64,
    changes: watch::Receiver<()>,
    _permit: Permit,
}

impl Subscription {
    /// The next block, at the latest after [`HEARTBEAT_INTERVAL`]. `None` when the stream has ended, or if the subscriber
    /// is so slow that its next event is no longer in the log.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        self.next_within(HEARTBEAT_INTERVAL).await
    }

    /// [`Subscription::next`] with another interval.
    async fn next_within(&mut self, interval: Duration) -> Option<Bytes> {
        if let Some(first) = self.first.pop() {
            return Some(first);
        }
        loop {
            // Before the log is read, so that a later event marks it as changed again.
            self.changes.mark_unchanged();
            match self.read() {
                Err(Ended) => return None,
                Ok(Some(block)) => return Some(block),
                Ok(None) => {}
            }
            match timeout(interval, self.changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => return Some(HEARTBEAT),
            }
        }
    }

    fn read(&mut self) -> Result<Option<Bytes>, Ended> {
        let shared = self.channel.shared();
        if shared.has_ended {
            return Err(Ended);
        }
        let next = shared.log.get(self.position).map_err(|_| Ended)?;
        self.position += u64::from(next.is_some());
        Ok(next)
    }
}

/// The stream has ended for a subscriber.
struct Ended;

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut shared = self.channel.shared();
        shared.subscribers -= 1;
        shared.idle_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::EVENTS_LIMIT;
    use super::super::permits::Permits;
    use super::*;

    fn channel() -> (Arc<Channel>, Permits) {
        (Arc::new(Channel::new(State::default())), Permits::new(2))
    }

    fn changes(count: usize) -> Vec<Change> {
        let change = |number| {
            let id = StateId::parse(&format!("{number:032x}")).unwrap();
            Change { name: "upsert", id, data: Bytes::from_static(b"{}") }
        };
        (1..=count).map(change).collect()
    }

    #[tokio::test]
    async fn a_comment_is_sent_when_nothing_happens() {
        let (channel, permits) = channel();
        let mut subscription = channel.subscribe(None, permits.take().unwrap()).unwrap();
        assert_eq!(subscription.next().await.unwrap(), "retry: 2000\n\n");
        assert!(subscription.next().await.unwrap().starts_with(b"event: snapshot\nid: 0"));
        assert_eq!(subscription.next_within(Duration::from_millis(10)).await.unwrap(), HEARTBEAT);
        channel.update(|_| changes(1));
        let event = "event: upsert\nid: 00000000000000000000000000000001\ndata: {}\n\n";
        assert_eq!(subscription.next().await.unwrap(), event);
        channel.end();
        assert_eq!(subscription.next().await, None);
        assert!(channel.subscribe(None, permits.take().unwrap()).is_err());
    }

    #[tokio::test]
    async fn only_a_subscriber_that_is_too_slow_is_ended() {
        let (channel, permits) = channel();
        let subscribe = || channel.subscribe(Some(StateId::default()), permits.take().unwrap()).unwrap();
        let (mut slow, mut quick) = (subscribe(), subscribe());
        assert!(permits.take().is_none());
        for subscription in [&mut slow, &mut quick] {
            assert_eq!(subscription.next().await, Some(opening()), "no snapshot: it has this state");
        }
        for change in changes(EVENTS_LIMIT + 1) {
            channel.update(|_| vec![change]);
            assert!(quick.next().await.is_some());
        }
        assert_eq!(slow.next().await, None);
        channel.update(|_| changes(1));
        assert!(quick.next().await.is_some() && channel.idle().is_none());
        drop((slow, quick));
        assert!(permits.taken() == 0 && channel.idle().is_some());
    }
}
