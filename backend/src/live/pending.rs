//! The changed days that a stream has not read again yet.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::model::Days;

/// Changed days. They are collected from before the first read on, so that no change is missed.
#[derive(Debug, Default)]
pub(super) struct PendingDays {
    days: Mutex<Days>,
    some: Notify,
}

impl PendingDays {
    pub(super) fn add(&self, days: Days) {
        self.days().extend(days);
        self.some.notify_one();
    }

    /// Waits until there may be some.
    pub(super) async fn some(&self) {
        while self.days().is_empty() {
            self.some.notified().await;
        }
    }

    /// Removes and returns all of them.
    pub(super) fn take(&self) -> Days {
        mem::take(&mut *self.days())
    }

    fn days(&self) -> MutexGuard<'_, Days> {
        self.days.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
