//! Counts requests in progress, to find a moment without long ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The requests in progress, in two generations: those before and after the last call of [`Requests::earlier_ended`].
#[derive(Debug, Default)]
pub(super) struct Requests {
    generation: AtomicUsize,
    counts: [AtomicUsize; 2],
    ended: Notify,
}

/// A request in progress, until it is dropped.
#[derive(Debug)]
pub(super) struct Running {
    requests: Arc<Requests>,
    generation: usize,
}

impl Requests {
    pub(super) fn begin(self: &Arc<Self>) -> Running {
        let generation = self.generation.load(Ordering::SeqCst) % 2;
        self.count(generation).fetch_add(1, Ordering::SeqCst);
        Running { requests: Arc::clone(self), generation }
    }

    /// Waits until the requests before this call have ended, and perhaps some that began during it. For a single
    /// caller.
    pub(super) async fn earlier_ended(&self) {
        // Of the generation before the last one, all have ended, unless the last caller did not wait for it.
        let earlier = self.generation.fetch_add(1, Ordering::SeqCst) % 2;
        loop {
            let ended = self.ended.notified();
            if self.count(earlier).load(Ordering::SeqCst) == 0 {
                return;
            }
            ended.await;
        }
    }

    fn count(&self, generation: usize) -> &AtomicUsize {
        let [even, odd] = &self.counts;
        if generation.is_multiple_of(2) { even } else { odd }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.requests.count(self.generation).fetch_sub(1, Ordering::SeqCst) == 1 {
            self.requests.ended.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn only_earlier_requests_are_waited_for() {
        let requests = Arc::new(Requests::default());
        assert!(requests.earlier_ended().now_or_never().is_some());
        let (first, second) = (requests.begin(), requests.begin());
        let mut ended = Box::pin(requests.earlier_ended());
        assert!((&mut ended).now_or_never().is_none());
        drop(first);
        let later = requests.begin();
        assert!((&mut ended).now_or_never().is_none());
        drop(second);
        ended.await;
        drop(later);
        assert!(requests.earlier_ended().now_or_never().is_some());
    }
}
