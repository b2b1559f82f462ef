//! A deadline that moves with each request.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// Waits until a deadline, again and again. A timer is set and unset under a lock that all
/// connections share; this one is left to run while the deadline moves away, and set anew where it
/// ends too early.
pub(super) struct DeadlineTimer(Option<Pin<Box<Sleep>>>);

impl DeadlineTimer {
    pub(super) fn new() -> Self {
        Self(None)
    }

    /// Waits for `event` until `deadline`; `None` where it does not come.
    pub(super) async fn wait<T>(&mut self, deadline: Instant, event: impl Future<Output = T>) -> Option<T> {
        let mut event = std::pin::pin!(event);
        poll_fn(|cx| {
            if let Poll::Ready(event) = event.as_mut().poll(cx) {
                return Poll::Ready(Some(event));
            }
            self.poll_end(deadline, cx).map(|()| None)
        })
        .await
    }

    fn poll_end(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
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
    async fn each_wait_has_its_own_end() {
        let mut timer = DeadlineTimer::new();
        assert_eq!(timer.wait(Instant::now() + SHORT, ready(1)).await, Some(1));
        for _ in 0..2 {
            let end = Instant::now() + SHORT;
            assert_eq!(timer.wait(end, pending::<()>()).await, None);
            assert!(Instant::now() >= end);
        }
    }

    #[tokio::test]
    async fn an_end_that_moves_away_or_nearer_is_kept() {
        let mut timer = DeadlineTimer::new();
        let soon = sleep_until(Instant::now() + SHORT);
        assert_eq!(timer.wait(Instant::now() + SHORT / 2, sleep_until(Instant::now())).await, Some(()));
        assert_eq!(timer.wait(Instant::now() + Duration::from_secs(3600), soon).await, Some(()));
        assert_eq!(timer.wait(Instant::now() + SHORT, pending::<()>()).await, None);
    }
}
