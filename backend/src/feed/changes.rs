//! The published days, for a consumer within this process.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::model::Days;

/// The days that were published since they were last taken.
#[derive(Debug, Default)]
pub(super) struct PublishedDays {
    days: Mutex<Days>,
    some: Notify,
}

impl PublishedDays {
    pub(super) fn add(&self, days: &Days) {
        if !days.is_empty() {
            self.days().extend(days.clone());
            self.some.notify_one();
        }
    }

    /// The days since the last call; waits if there are none. For a single caller.
    pub(super) async fn take(&self) -> Days {
        loop {
            let days = mem::take(&mut *self.days());
            if !days.is_empty() {
                return days;
            }
            self.some.notified().await;
        }
    }

    fn days(&self) -> MutexGuard<'_, Days> {
        self.days.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
