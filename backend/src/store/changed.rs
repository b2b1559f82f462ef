//! Records which days may have changed: by the writes of this process, and by others as far as they are detected.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::model::{Day, Days};

/// The number of changes that [`ChangedDays::since`] can name.
const RECENT_LIMIT: usize = 64;

/// The changed days that were not taken yet, and a version that increases with each change.
#[derive(Debug, Default)]
pub(super) struct ChangedDays {
    /// Days changed by this process.
    days: Mutex<Days>,
    notify: Notify,
    log: Mutex<Log>,
    is_watched: AtomicBool,
}

/// The last changes by any process.
#[derive(Debug, Default)]
struct Log {
    /// The number of changes so far.
    version: u64,
    /// The last of them, at most [`RECENT_LIMIT`].
    recent: VecDeque<Days>,
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
        self.log().version
    }

    /// Increases the version after a change of these days by any process.
    pub(super) fn changed(&self, days: Days) {
        let mut log = self.log();
        log.version += 1;
        log.recent.push_back(days);
        if log.recent.len() > RECENT_LIMIT {
            log.recent.pop_front();
        }
    }

    /// The days changed since `version`; all if that is unknown.
    pub(super) fn since(&self, version: u64) -> Days {
        let log = self.log();
        let count = log.version.checked_sub(version).and_then(|count| usize::try_from(count).ok());
        let Some(first) = count.and_then(|count| log.recent.len().checked_sub(count)) else { return Days::All };
        let mut days = Days::default();
        log.recent.iter().skip(first).for_each(|changed| days.extend(changed.clone()));
        days
    }

    /// Whether all changes by other processes are reported here as they happen.
    pub(super) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::SeqCst)
    }

    /// A stream that reports all changes by other processes has begun. What was changed before is unknown.
    pub(super) fn watch_begins(&self) {
        self.changed(Days::All);
        self.is_watched.store(true, Ordering::SeqCst);
    }

    /// That stream has failed or ended.
    pub(super) fn watch_ends(&self) {
        self.is_watched.store(false, Ordering::SeqCst);
        self.changed(Days::All);
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
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
            self.changed.changed(days.clone());
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

    #[test]
    fn changes_since_a_version_are_named_or_all() {
        let changed = ChangedDays::default();
        let day = |day: u32| Days::from_iter([Day::parse(&format!("202012{day:02}")).unwrap()]);
        let start = changed.version();
        assert_eq!(changed.since(start), Days::default());
        for number in 1..=3 {
            changed.changed(day(number));
        }
        assert_eq!(changed.since(start + 2), day(3));
        assert_eq!(
            changed.since(start + 1),
            [day(2), day(3)].into_iter().fold(Days::default(), |mut all, day| {
                all.extend(day);
                all
            })
        );
        for _ in 0..RECENT_LIMIT {
            changed.changed(day(4));
        }
        assert_eq!((changed.since(start + 3), changed.since(start + 2)), (day(4), Days::All), "one is forgotten");
        assert_eq!(changed.since(changed.version() + 1), Days::All, "not a version so far");
    }

    #[test]
    fn a_watch_says_nothing_of_what_was_before_or_after_it() {
        let changed = ChangedDays::default();
        for (is_watched, act) in
            [(true, ChangedDays::watch_begins as fn(&ChangedDays)), (false, ChangedDays::watch_ends)]
        {
            let version = changed.version();
            act(&changed);
            assert_eq!((changed.is_watched(), changed.since(version)), (is_watched, Days::All));
        }
    }
}
