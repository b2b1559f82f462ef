//! Deletes the calendar feeds of users who were disabled directly in the database.

use std::time::Duration;

use tokio::sync::mpsc;

use super::detection::every;
use crate::store::{DisabledUser, Store, StoreError};

/// The interval at which all disabled users are read. Changes that the store streams are handled at once.
const INTERVAL: Duration = Duration::from_secs(5);
/// The maximum number of changes in the queue. If it is full, a user who is still disabled at the next interval is
/// found then.
const QUEUE: usize = 1024;

pub(super) fn queue() -> (mpsc::Sender<DisabledUser>, mpsc::Receiver<DisabledUser>) {
    mpsc::channel(QUEUE)
}

/// Runs until it is aborted.
pub(super) async fn end_feeds(store: &Store, mut disabled: mpsc::Receiver<DisabledUser>) {
    let mut ticks = every(INTERVAL);
    // Those whose feeds could not be deleted: until they are, the feeds are served again if the user is enabled.
    let mut failed: Vec<DisabledUser> = Vec::new();
    loop {
        tokio::select! {
            Some(user) = disabled.recv() => {
                if !end_feeds_of(store, &user).await && failed.len() < QUEUE {
                    failed.push(user);
                }
            }
            _ = ticks.tick() => {
                for user in std::mem::take(&mut failed) {
                    if !end_feeds_of(store, &user).await {
                        failed.push(user);
                    }
                }
                log(store.end_calendars_of_disabled().await);
            }
        }
    }
}

/// Whether the feeds of this user were deleted.
async fn end_feeds_of(store: &Store, user: &DisabledUser) -> bool {
    log(store.end_calendars(user).await)
}

/// Whether it succeeded.
fn log(ended: Result<u64, StoreError>) -> bool {
    match ended {
        Ok(0) => true,
        Ok(feeds) => {
            tracing::info!(feeds, "calendar feeds of disabled users were deleted");
            true
        }
        // No feed is served while its user is disabled.
        Err(error) => {
            tracing::debug!(%error, "calendar feeds of disabled users could not be deleted yet");
            false
        }
    }
}
