//! Statuses from before changes may have been missed. A backend that crashes soon after each start resets the stored
//! statuses again and again; without the former ones, known users would be refused as long as it crashes.
//!
//! A former status is used only if a query fails, and for no longer than any other while the feed is disconnected:
//! the maximum age counts from the last beat that it was confirmed by.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::account::AccountStatus;

/// Former statuses by identity, each with the time of the last beat that confirmed it.
pub(super) struct FormerStatuses {
    capacity: usize,
    max_age: Duration,
    entries: Mutex<Entries>,
}

type Entries = HashMap<Arc<str>, (Arc<AccountStatus>, Instant)>;

impl FormerStatuses {
    /// At most `capacity` statuses, which are used until `max_age` after they were confirmed.
    pub(super) fn new(capacity: usize, max_age: Duration) -> Self {
        Self { capacity, max_age, entries: Mutex::default() }
    }

    /// Adds statuses that were confirmed by a beat at `confirmed`. Without room, later ones are not added: their
    /// identities have to be queried, as if they were unknown.
    pub(super) fn extend(
        &self,
        statuses: impl IntoIterator<Item = (Arc<str>, Arc<AccountStatus>)>,
        confirmed: Instant,
        now: Instant,
    ) {
        let mut entries = self.entries();
        entries.retain(|_, (_, confirmed)| self.is_usable(*confirmed, now));
        for (identity, status) in statuses {
            if entries.len() < self.capacity || entries.contains_key(&identity) {
                entries.insert(identity, (status, confirmed));
            }
        }
    }

    /// The status of `identity`, if it may be used at `now`.
    pub(super) fn get(&self, identity: &str, now: Instant) -> Option<Arc<AccountStatus>> {
        let entries = self.entries();
        let (status, confirmed) = entries.get(identity)?;
        self.is_usable(*confirmed, now).then(|| Arc::clone(status))
    }

    /// Replaces the status of `identity`, if there is one, by the result of a query. It is not removed: another reset may
    /// have superseded the query.
    pub(super) fn refresh(&self, identity: &str, status: &Arc<AccountStatus>) {
        if let Some((former, _)) = self.entries().get_mut(identity) {
            *former = Arc::clone(status);
        }
    }

    /// Removes the status of `identity`, which has changed.
    pub(super) fn remove(&self, identity: &str) {
        self.entries().remove(identity);
    }

    fn is_usable(&self, confirmed: Instant, now: Instant) -> bool {
        now.saturating_duration_since(confirmed) <= self.max_age
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // A panic leaves the map consistent: each change is one call on it.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Arc<AccountStatus> {
        Arc::new(AccountStatus::no_user())
    }

    #[test]
    fn a_status_is_used_until_it_is_too_old_or_removed() {
        let (former, start, second) =
            (FormerStatuses::new(10, Duration::from_secs(3)), Instant::now(), Duration::from_secs(1));
        former.extend([("a".into(), status()), ("b".into(), status())], start, start);
        former.extend([("b".into(), status())], start + second, start + second);
        former.remove("unknown");
        let is_usable = |identity, seconds| former.get(identity, start + seconds * second).is_some();
        assert!(is_usable("a", 3) && is_usable("b", 4) && !is_usable("c", 0));
        assert!(!is_usable("a", 4) && !is_usable("b", 5), "confirmed longer ago than the maximum age");
        let newer = status();
        former.refresh("b", &newer);
        assert!(Arc::ptr_eq(&former.get("b", start).unwrap(), &newer));
        former.remove("b");
        former.refresh("b", &newer);
        assert!(!is_usable("b", 1), "a change removes it, and a query from before the change does not bring it back");
    }

    #[test]
    fn a_million_identities_take_no_more_than_the_capacity() {
        let (former, start) = (FormerStatuses::new(100, Duration::from_secs(3)), Instant::now());
        for round in 0..100_u32 {
            let identities = (0..10_000).map(|number| (format!("{round} {number}").into(), status()));
            former.extend(identities, start, start);
        }
        assert_eq!(former.entries().len(), 100);
        let later = start + Duration::from_secs(4);
        former.extend([("new".into(), status())], later, later);
        assert_eq!(former.entries().len(), 1, "those that are too old make room");
    }
}
