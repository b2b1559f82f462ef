//! The drain: from the request to stop until the last connection has ended.
//!
//! Requests complete. What has no end of its own is ended by the gateway, each at another moment of the window, so that
//! clients that reconnect do not return all at once: endless responses and WebSocket connections. Idle connections remain
//! for one more request until the end of the window.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The time at the end of the drain timeout in which what was ended may complete, unless the timeout is shorter than twice
/// this time.
const ENDING: Duration = Duration::from_secs(2);

/// Begins the drain. If this is dropped, the drain begins as well.
#[derive(Debug)]
pub struct DrainTrigger(watch::Sender<Option<Instant>>);

/// Whether the gateway drains, and for how long.
#[derive(Clone, Debug)]
pub struct Draining {
    began: watch::Receiver<Option<Instant>>,
    /// In milliseconds.
    window: Arc<AtomicU64>,
}

/// Creates a drain within `timeout` that has not begun.
pub fn drain(timeout: Duration) -> (DrainTrigger, Draining) {
    let (trigger, began) = watch::channel(None);
    let draining = Draining { began, window: Arc::default() };
    draining.set_timeout(timeout);
    (DrainTrigger(trigger), draining)
}

impl DrainTrigger {
    /// Begins the drain. Further calls have no effect.
    pub fn begin(&self) {
        self.0.send_if_modified(|began| {
            let is_first = began.is_none();
            began.get_or_insert_with(Instant::now);
            is_first
        });
    }
}

impl Draining {
    /// Changes the timeout of a drain that has not begun.
    pub fn set_timeout(&self, timeout: Duration) {
        let window = timeout.saturating_sub(ENDING.min(timeout / 2));
        self.window.store(u64::try_from(window.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn window(&self) -> Duration {
        Duration::from_millis(self.window.load(Ordering::Relaxed))
    }

    /// Whether the drain has begun.
    pub fn has_begun(&self) -> bool {
        self.began.borrow().is_some()
    }

    /// Waits until the drain begins, and returns when it did.
    pub async fn begun(&mut self) -> Instant {
        let began = self.began.wait_for(Option::is_some).await.ok();
        began.and_then(|began| *began).unwrap_or_else(Instant::now)
    }

    /// Waits until the end of the window, when idle connections are closed.
    pub async fn window_ended(&mut self) {
        let began = self.begun().await;
        // Boxed, so that connections do not reserve memory for the timer of a drain.
        Box::pin(sleep_until(began + self.window())).await;
    }

    /// Waits until a moment of the window that is chosen at random, when one endless response or connection is ended.
    pub async fn turn(&mut self) {
        let began = self.begun().await;
        Box::pin(sleep_until(began + self.window().mul_f64(random_share()))).await;
    }
}

/// A random number from 0 to 1. The standard library keys each hasher at random.
fn random_share() -> f64 {
    let random = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or_default();
    f64::from(random) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_are_spread_over_the_window() {
        let (trigger, draining) = drain(Duration::from_secs(10));
        let turns: Vec<_> = (0..1000)
            .map(|_| {
                let mut draining = draining.clone();
                tokio::spawn(async move {
                    draining.turn().await;
                    Instant::now()
                })
            })
            .collect();
        advance(Duration::from_secs(60)).await;
        assert!(!draining.has_begun());
        let began = Instant::now();
        trigger.begin();
        let mut seconds = [0; 9];
        for turn in turns {
            let moment = turn.await.unwrap() - began;
            seconds[usize::try_from(moment.as_secs()).unwrap()] += 1;
        }
        // 125 are expected in each of the eight seconds of the window, with a standard deviation of 10.
        assert!(seconds[..8].iter().all(|count| (60..190).contains(count)), "{seconds:?}");
        assert!(seconds[8] <= 10, "only by rounding of timers: {seconds:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_window_ends_before_the_timeout() {
        for (timeout_seconds, window) in [(10.0, 8.0), (4.0, 2.0), (1.0, 0.5), (0.0, 0.0)] {
            let (trigger, mut draining) = drain(Duration::from_secs_f64(timeout_seconds));
            let began = Instant::now();
            trigger.begin();
            advance(Duration::from_millis(10)).await;
            trigger.begin();
            draining.window_ended().await;
            let lasted = began.elapsed().as_secs_f64();
            assert!((window..window + 0.02).contains(&lasted), "{timeout_seconds}: {lasted}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_timeout_can_be_changed() {
        let (trigger, draining) = drain(Duration::from_secs(10));
        let mut other = draining.clone();
        draining.set_timeout(Duration::from_secs(20));
        let began = Instant::now();
        trigger.begin();
        other.window_ended().await;
        assert_eq!(began.elapsed().as_secs(), 18);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_trigger_begins_the_drain() {
        let (trigger, mut draining) = drain(Duration::from_secs(2));
        assert!(timeout(Duration::from_secs(3600), draining.begun()).await.is_err());
        drop(trigger);
        draining.begun().await;
        draining.turn().await;
    }
}
