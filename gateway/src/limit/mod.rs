//! Rate limits: a token bucket per address and per identity, and limits on failed logins per address and per
//! name.
//!
//! Pure: the time is an argument, measured from any fixed moment. Every table has a fixed size; [`Limiter`] and
//! [`Throttle`] document what it costs when one is full. Keys are hashed by SipHash with a random key per
//! table, so that clients cannot choose keys that collide.

mod backoff;
mod bucket;
mod known;
mod login;
mod table;
mod window;

use std::fmt;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::time::Duration;

pub use backoff::Backoff;
use bucket::Bucket;
pub use bucket::Quota;
pub use login::{Attempt, Ending, LOGIN_ADDRESSES, LOGIN_NAMES, LOGIN_PAIRS, LoginSettings, Throttle, Throttled};
use table::Table;
pub use window::Window;

/// Number of keys a [`Limiter`] can track at once.
pub const ENTRIES: usize = 64 * 1024;

/// Number of keys that the [`Limiter`] of one route can track at once: 0.3 MiB.
pub const ROUTE_ENTRIES: usize = 16 * 1024;

/// The configured limits. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Requests per address: IPv4 /32, IPv6 /64.
    pub address: Option<Quota>,
    /// Requests per identity.
    pub identity: Option<Quota>,
    /// Failed logins.
    pub login: LoginSettings,
}

/// The limits in effect.
pub struct Limits {
    /// Requests per address.
    pub address: Option<Limiter>,
    /// Requests per identity.
    pub identity: Option<Limiter>,
    /// Failed logins.
    pub logins: Throttle,
}

impl Limits {
    /// All values of the metric's `limit` label.
    pub const LABELS: [&str; 5] = [ADDRESS, IDENTITY, ROUTE, LOGIN_ADDRESS, LOGIN_NAME];

    /// Creates empty tables for the configured limits.
    pub fn new(settings: &Settings) -> Self {
        Self {
            address: settings.address.map(Limiter::new),
            identity: settings.identity.map(Limiter::new),
            logins: Throttle::new(&settings.login),
        }
    }

    /// These limits as `settings` configure them, with the counts that there are at `now`. A limit that was disabled
    /// begins without counts.
    pub fn with_settings(&self, settings: &Settings, now: Duration) -> Self {
        let limiter = |before: &Option<Limiter>, quota: Option<Quota>| {
            let quota = quota?;
            Some(before.as_ref().map_or_else(|| Limiter::new(quota), |before| before.with_quota(quota, now)))
        };
        Self {
            address: limiter(&self.address, settings.address),
            identity: limiter(&self.identity, settings.identity),
            logins: self.logins.with_settings(&settings.login),
        }
    }
}

/// Label of the limit on requests per address.
pub const ADDRESS: &str = "address";

/// Label of the limit on requests per identity.
pub const IDENTITY: &str = "identity";

/// Label of the limits on requests of one route. The reason `route` of the access log is another.
pub const ROUTE: &str = "route_limit";

/// Label of the limit on failed logins per address.
pub const LOGIN_ADDRESS: &str = "login_address";

/// Label of the limit on failed logins per name.
pub const LOGIN_NAME: &str = "login_name";

/// Why a login attempt is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AttemptRefused {
    /// For this many nanoseconds.
    Wait(u64),
    /// Until concurrent attempts have ended.
    Busy,
}

/// The limit is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("over {} requests at once and {} a second", quota.burst, quota.rate)]
pub struct Exceeded {
    /// The limit that is exceeded.
    pub quota: Quota,
    /// Time until the next request is accepted. Refused requests do not extend it.
    pub wait: Duration,
}

impl Quota {
    /// Time in which an empty bucket fills.
    pub fn window(self) -> Duration {
        Duration::from_nanos(self.refill())
    }
}

/// Token buckets, in a table of fixed size.
///
/// With [`ENTRIES`] it allocates 1.2 MiB on creation and nothing later. A key with a full bucket needs no entry, so only active
/// keys compete for entries. If there are more active keys than entries, a new key takes over the fullest
/// bucket of its set. No key is ever accepted more often than its quota, and a new key finds its bucket partly
/// empty only if all entries of its set exceed the rate.
pub struct Limiter {
    quota: Quota,
    buckets: Table<Bucket>,
    hasher: RandomState,
}

impl Limiter {
    /// Creates a limiter with all buckets full.
    pub fn new(quota: Quota) -> Self {
        Self::with_entries(quota, ENTRIES)
    }

    /// Creates a limiter for the requests of one route.
    pub fn of_route(quota: Quota) -> Self {
        Self::with_entries(quota, ROUTE_ENTRIES)
    }

    fn with_entries(quota: Quota, entries: usize) -> Self {
        Self { quota, buckets: Table::new(entries, &Bucket::default()), hasher: RandomState::new() }
    }

    /// The same buckets with `quota`, each with as many requests spent as at `now`. The limiter that this replaces may
    /// still be used for a moment; it then counts in the same buckets.
    pub fn with_quota(&self, quota: Quota, now: Duration) -> Self {
        if quota != self.quota {
            let now = nanoseconds(now);
            self.buckets.for_each(|bucket| bucket.change_quota(self.quota, quota, now));
        }
        Self { quota, buckets: self.buckets.clone(), hasher: self.hasher.clone() }
    }

    /// Spends one request of `key`'s quota at `now`.
    ///
    /// # Errors
    /// [`Exceeded`] if the bucket is empty.
    pub fn take(&self, key: &impl Hash, now: Duration) -> Result<(), Exceeded> {
        let now = nanoseconds(now);
        let taken = self.buckets.with(self.hasher.hash_one(key), now, |bucket| bucket.take(self.quota, now));
        // Buckets are never pinned, so there always is an entry.
        taken
            .unwrap_or(Err(self.quota.refill()))
            .map_err(|wait| Exceeded { quota: self.quota, wait: Duration::from_nanos(wait) })
    }

    /// Returns a token that [`Limiter::take`] has spent for `key`. Without effect if the key was displaced since.
    pub fn refund(&self, key: &impl Hash) {
        self.buckets.update(self.hasher.hash_one(key), |bucket| bucket.refund(self.quota));
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("quota", &self.quota).finish_non_exhaustive()
    }
}

/// Converts a time for the tables, up to the year 2554.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_accepted_again_after_the_returned_wait() {
        let limiter = Limiter::new(Quota { rate: 3, burst: 2 });
        let now = Duration::from_secs(9);
        assert_eq!(limiter.take(&"a", now), Ok(()));
        assert_eq!(limiter.take(&"a", now), Ok(()));
        let wait = limiter.take(&"a", now).unwrap_err().wait;
        assert!(wait > Duration::from_millis(333) && wait < Duration::from_millis(334), "{wait:?}");
        assert!(limiter.take(&"a", now + wait - Duration::from_nanos(1)).is_err());
        assert_eq!(limiter.take(&"b", now), Ok(()), "another key has a bucket of its own");
        assert_eq!(limiter.take(&"a", now + wait), Ok(()));
    }

    #[test]
    fn a_refunded_request_can_be_taken_again() {
        let limiter = Limiter::new(Quota { rate: 1, burst: 2 });
        let now = Duration::from_secs(9);
        limiter.refund(&"a");
        assert!(limiter.take(&"a", now).is_ok() && limiter.take(&"a", now).is_ok() && limiter.take(&"a", now).is_err());
        limiter.refund(&"a");
        assert!(limiter.take(&"a", now).is_ok() && limiter.take(&"a", now).is_err(), "one request");
        for _ in 0..9 {
            limiter.refund(&"a");
        }
        let accepted = (0..9).filter(|_| limiter.take(&"a", now).is_ok()).count();
        assert_eq!(accepted, 2, "never more than a full bucket");
        limiter.refund(&"b");
        assert!(limiter.take(&"a", now).is_err(), "another key");
    }

    #[test]
    fn guessed_keys_use_up_the_quota_of_no_other_key() {
        let limiter = Limiter::of_route(Quota { rate: 1, burst: 30 });
        let mut guesses = (0..).map(|number| format!("guess {number}"));
        let mut now = Duration::ZERO;
        let mut guess = |count, now| {
            for key in guesses.by_ref().take(count) {
                // Refused or not.
                let _ = limiter.take(&key, now);
            }
        };
        // The default limit of an address: 2,000 at once, then 500 a second.
        guess(2_000, now);
        for feed in 0..1_000 {
            for _ in 0..30 {
                guess(1, now);
                now += Duration::from_millis(2);
            }
            let accepted = (0..30).filter(|_| limiter.take(&feed, now).is_ok()).count();
            assert_eq!(accepted, 30, "feed {feed}");
        }
    }

    #[test]
    fn the_table_of_a_route_is_bounded() {
        let limiter = Limiter::of_route(Quota { rate: 1, burst: 1 });
        let before = limiter.buckets.bytes();
        for key in 0..100_000 {
            let _ = limiter.take(&key, Duration::ZERO);
        }
        assert_eq!(limiter.buckets.bytes(), before);
        assert!(before <= 320 * 1024, "{before} bytes");
    }
}
