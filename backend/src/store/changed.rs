//! Records which days the writes of this process may have changed.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::model::{Day, Days};

/// The changed days that were not taken yet, and a version that increases with each change.
#[derive(Debug, Default)]
pub(super) struct ChangedDays {
    days: Mutex<Days>,
    notify: Notify,
    version: AtomicU64,
}

impl ChangedDays {
    /// The changed days since the last call; waits if there are none. For a single caller.
    pub(super) async fn take(&self) -> Days {
        loop {
            let days = mem::take(&mut *self.days());
            if !days.is_empty() {
                return days;
            }
            self.notify.notified().await;
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// Increases the version after a change by any process.
    pub(super) fn increment_version(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    fn days(&self) -> MutexGuard<'_, Days> {
        self.days.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The days that a write in progress may change. They are published when this is dropped, after the write is durable or
/// its result is unknown.
#[derive(Debug)]
pub(super) struct TouchedDays {
    days: Mutex<Days>,
    changed: Arc<ChangedDays>,
}

impl TouchedDays {
    pub(super) fn none(changed: &Arc<ChangedDays>) -> Self {
        Self { days: Mutex::default(), changed: Arc::clone(changed) }
    }

    /// Adds the day of this `datetime`, before the write. A `datetime` without a day is in no response.
    pub(super) fn touch(&self, datetime: Option<&str>) {
        if let Some(day) = datetime.and_then(Day::holding) {
            self.days.lock().unwrap_or_else(PoisonError::into_inner).insert(day);
        }
    }
}

impl TouchedDays {
    /// Adds all days.
    pub(super) fn touch_all(&self) {
        *self.days.lock().unwrap_or_else(PoisonError::into_inner) = Days::All;
    }
}

impl Drop for TouchedDays {
    fn drop(&mut self) {
        let days = mem::take(&mut *self.days.lock().unwrap_or_else(PoisonError::into_inner));
        if !days.is_empty() {
            // The version is increased first: a request after the publication must not get an earlier read.
            self.changed.increment_version();
            self.changed.days().extend(days);
            self.changed.notify.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_days_of_a_write_are_published_when_it_ends() {
        let changed = Arc::new(ChangedDays::default());
        let touched = TouchedDays::none(&changed);
        for datetime in [Some("20201209 230000"), Some("20201210 000000"), Some("soon"), None] {
            touched.touch(datetime);
        }
        assert!(changed.days().is_empty());
        assert_eq!(changed.version(), 0);
        drop(touched);
        assert_eq!(changed.version(), 1);
        let days = ["20201209", "20201210"].map(|day| Day::parse(day).unwrap());
        assert_eq!(changed.take().await, days.into_iter().collect());
        assert!(changed.days().is_empty());
        drop(TouchedDays::none(&changed));
        assert_eq!(changed.version(), 1, "nothing was changed");
    }
}
