//! The subscribers of the feed, and the delivery of events.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::mpsc;

use super::event::Event;

/// The maximum number of subscribers.
pub const SUBSCRIBER_LIMIT: usize = 64;
/// The maximum number of lines queued for a subscriber: about 50 bytes each, 7 KB for the longest name.
pub const QUEUE_LIMIT: usize = 1024;

/// Why a subscription is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// [`SUBSCRIBER_LIMIT`] is reached.
    #[error("the feed has too many subscribers")]
    Full,
    /// The service is stopping.
    #[error("the service is stopping")]
    Ended,
}

/// Counts of published events since the start.
#[derive(Debug, Default)]
pub(super) struct EventCounts {
    pub(super) identities: AtomicU64,
    pub(super) resets: AtomicU64,
    pub(super) purges: AtomicU64,
    pub(super) purges_of_all: AtomicU64,
    pub(super) beats: AtomicU64,
    pub(super) cut_off: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Subscribers {
    /// The first line of each subscription.
    opening: Bytes,
    open: Mutex<Open>,
    pub(super) counts: EventCounts,
}

#[derive(Debug, Default)]
struct Open {
    senders: Vec<mpsc::Sender<Bytes>>,
    ended: bool,
}

impl Subscribers {
    pub(super) fn new(id: &str) -> Self {
        let opening = Event::Feed { feed: id }.bytes();
        Self { opening, open: Mutex::default(), counts: EventCounts::default() }
    }

    /// Subscribes to all events from now on.
    pub(super) fn subscribe(&self) -> Result<Subscription, SubscribeError> {
        let mut open = self.open();
        if open.ended {
            return Err(SubscribeError::Ended);
        }
        open.senders.retain(|sender| !sender.is_closed());
        if open.senders.len() >= SUBSCRIBER_LIMIT {
            return Err(SubscribeError::Full);
        }
        let (sender, lines) = mpsc::channel(QUEUE_LIMIT);
        // A new queue has capacity.
        let _ = sender.try_send(self.opening.clone());
        open.senders.push(sender);
        Ok(Subscription { lines })
    }

    /// Publishes an event to all subscribers. Those that left are removed, those that do not read are disconnected.
    pub(super) fn publish(&self, line: &Event<'_>) {
        let count = match line {
            Event::Identity { .. } => Some(&self.counts.identities),
            Event::Reset { .. } => Some(&self.counts.resets),
            Event::Purge { .. } => Some(&self.counts.purges),
            Event::PurgeAll { .. } => Some(&self.counts.purges_of_all),
            Event::Beat { .. } => Some(&self.counts.beats),
            Event::Feed { .. } => None,
        };
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let line = line.bytes();
        self.open().senders.retain(|sender| match sender.try_send(line.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.counts.cut_off.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("a subscriber does not read the feed and is disconnected");
                false
            }
        });
    }

    /// Ends all subscriptions and refuses new ones.
    pub(super) fn end(&self) {
        *self.open() = Open { senders: Vec::new(), ended: true };
    }

    /// Accepts subscribers again.
    pub(super) fn resume(&self) {
        self.open().ended = false;
    }

    pub(super) fn count(&self) -> usize {
        self.open().senders.iter().filter(|sender| !sender.is_closed()).count()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lines for one subscriber, each ending with a line feed. The stream ends when the service stops, or when
/// [`QUEUE_LIMIT`] lines are unread.
#[derive(Debug)]
pub struct Subscription {
    lines: mpsc::Receiver<Bytes>,
}

impl Stream for Subscription {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        Poll::Ready(ready!(self.lines.poll_recv(cx)))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn only_a_subscriber_that_does_not_read_is_disconnected() {
        let subscribers = Subscribers::new("id");
        let (mut slow, mut quick) = (subscribers.subscribe().unwrap(), subscribers.subscribe().unwrap());
        for beat in 0..QUEUE_LIMIT as u64 {
            assert!(quick.next().await.is_some());
            subscribers.publish(&Event::Beat { beat });
        }
        assert_eq!((subscribers.count(), subscribers.counts.cut_off.load(Ordering::Relaxed)), (1, 1));
        let mut lines = 0;
        while slow.next().await.is_some() {
            lines += 1;
        }
        assert_eq!(lines, QUEUE_LIMIT, "then it ends");
        assert_eq!(quick.next().await.unwrap(), format!("{{\"beat\":{}}}\n", QUEUE_LIMIT - 1));
    }

    #[tokio::test]
    async fn a_subscriber_that_leaves_frees_its_place() {
        let subscribers = Subscribers::new("id");
        let mut all: Vec<_> = (0..SUBSCRIBER_LIMIT).map(|_| subscribers.subscribe().unwrap()).collect();
        assert_eq!(subscribers.subscribe().unwrap_err(), SubscribeError::Full);
        all.pop();
        assert_eq!(subscribers.count(), SUBSCRIBER_LIMIT - 1);
        all.push(subscribers.subscribe().unwrap());
        subscribers.end();
        assert_eq!(subscribers.subscribe().unwrap_err(), SubscribeError::Ended);
        subscribers.resume();
        assert!(subscribers.subscribe().is_ok());
        for mut subscription in all {
            assert_eq!(subscription.next().await.unwrap(), "{\"feed\":\"id\"}\n");
            assert_eq!(subscription.next().await, None);
        }
    }
}
