//! Shared by the watchers: finding out how the store detects changes, and regular ticks.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

use crate::store::{ChangeDetection, Store, StoreError};

/// Retries at each tick until the store is available.
pub(super) async fn detect(
    store: &Store,
    ticks: &mut Interval,
    mut log_failure: impl FnMut(&StoreError),
) -> ChangeDetection {
    loop {
        ticks.tick().await;
        match store.change_detection().await {
            Ok(detection) => return detection,
            Err(error) => log_failure(&error),
        }
    }
}

pub(super) fn every(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
