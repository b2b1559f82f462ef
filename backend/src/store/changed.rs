//! Which days the writes of this process may have changed, for whoever tells of it.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::model::{Day, Days};

/// What was written and has not been taken yet, and a version that grows with each change.
#[derive(Debug, Default)]
pub(super) struct ChangedDays {
    days: Mutex<Days>,
    some: Notify,
    version: AtomicU64,
}

impl ChangedDays {
    /// The changes since the last call; waits for one. For one caller at a time.
    pub(super) async fn take(&self) -> Days {
        loop {
            let days = mem::take(&mut *self.days());
            if !days.is_empty() {
                return days;
            }
            self.some.notified().await;
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// Something is another from now on, by whatever hand.
    pub(super) fn renew(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    fn days(&self) -> MutexGuard<'_, Days> {
        self.days.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One write on its way: the days that it may change. Dropped once it is durable, or it can no
/// longer be known what became of it, it tells of them.
#[derive(Debug)]
pub(super) struct TouchedDays {
    days: Mutex<Days>,
    changed: Arc<ChangedDays>,
}

impl TouchedDays {
    pub(super) fn none(changed: &Arc<ChangedDays>) -> Self {
        Self { days: Mutex::default(), changed: Arc::clone(changed) }
    }

    /// The write is about to change what stands, or is to stand, at this `datetime`. One that
    /// lies on no day is in no answer.
    pub(super) fn touch(&self, datetime: Option<&str>) {
        if let Some(day) = datetime.and_then(Day::holding) {
            self.days.lock().unwrap_or_else(PoisonError::into_inner).insert(day);
        }
    }
}

impl TouchedDays {
    /// The write is about to change more days than can be named.
    pub(super) fn touch_all(&self) {
        *self.days.lock().unwrap_or_else(PoisonError::into_inner) = Days::All;
    }
}

impl Drop for TouchedDays {
    fn drop(&mut self) {
        let days = mem::take(&mut *self.days.lock().unwrap_or_else(PoisonError::into_inner));
        if !days.is_empty() {
            // Before anybody is told: whoever asks then must not be given what was read before.
            self.changed.renew();
            self.changed.days().extend(days);
            self.changed.some.notify_one();
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
