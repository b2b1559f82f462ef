//! A timer whose deadline moves with each request.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// A reusable timeout. Creating and cancelling a timer takes a lock that all connections share, so the timer
/// keeps running when the deadline moves later, and is reset when it fires early.
pub(super) struct DeadlineTimer(Option<Pin<Box<Sleep>>>);

impl DeadlineTimer {
    pub(super) fn new() -> Self {
        Self(None)
    }

    /// Waits for `event` until `deadline`; `None` if the deadline passes first.
    pub(super) async fn wait<T>(&mut self, deadline: Instant, event: impl Future<Output = T>) -> Option<T> {
        let mut event = std::pin::pin!(event);
        poll_fn(|cx| {
            if let Poll::Ready(event) = event.as_mut().poll(cx) {
                return Poll::Ready(Some(event));
            }
            self.poll_deadline(deadline, cx).map(|()| None)
        })
        .await
    }

    fn poll_deadline(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Duration;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn each_wait_has_its_own_deadline() {
        let mut timer = DeadlineTimer::new();
        assert_eq!(timer.wait(Instant::now() + SHORT, ready(1)).await, Some(1));
        for _ in 0..2 {
            let end = Instant::now() + SHORT;
            assert_eq!(timer.wait(end, pending::<()>()).await, None);
            assert!(Instant::now() >= end);
        }
    }

    #[tokio::test]
    async fn a_deadline_can_move_later_or_earlier() {
        let mut timer = DeadlineTimer::new();
        let soon = sleep_until(Instant::now() + SHORT);
        assert_eq!(timer.wait(Instant::now() + SHORT / 2, sleep_until(Instant::now())).await, Some(()));
        assert_eq!(timer.wait(Instant::now() + Duration::from_secs(3600), soon).await, Some(()));
        assert_eq!(timer.wait(Instant::now() + SHORT, pending::<()>()).await, None);
    }
}
