//! How much one client may ask for: a token bucket for each address and each identity, and
//! how many logins of an address or a name may fail.
//!
//! Pure: the time is an argument, counted from any one moment. Every table has a fixed size,
//! whoever calls: what is kept, and what it costs where that is not enough, stands with
//! [`Limiter`] and [`Throttle`]. Keys are hashed with SipHash under a key that is random for each
//! table, so that no stranger can choose keys that meet.

mod backoff;
mod bucket;
mod known;
mod login;
mod table;
mod window;

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::time::Duration;

pub use backoff::Backoff;
use bucket::Bucket;
pub use bucket::Quota;
pub use login::{Attempt, Ending, LOGIN_ADDRESSES, LOGIN_NAMES, LOGIN_PAIRS, LoginSettings, Throttle, Throttled};
use table::Table;
pub use window::Window;

/// The keys that a [`Limiter`] can tell apart at once.
pub const ENTRIES: usize = 64 * 1024;

/// What is limited, and how much. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The requests of an address: IPv4 /32, IPv6 /64.
    pub address: Option<Quota>,
    /// The requests of an identity.
    pub identity: Option<Quota>,
    /// Logins that fail.
    pub login: LoginSettings,
}

/// The limits that are in force.
pub struct Limits {
    /// The requests of each address.
    pub address: Option<Limiter>,
    /// The requests of each identity.
    pub identity: Option<Limiter>,
    /// Logins that fail.
    pub logins: Throttle,
}

impl Limits {
    /// Every value of the label that tells which limit refused a request.
    pub const LABELS: [&str; 4] = [ADDRESS, IDENTITY, LOGIN_ADDRESS, LOGIN_NAME];

    /// Tables for what the settings limit, all empty.
    pub fn new(settings: &Settings) -> Self {
        Self {
            address: settings.address.map(Limiter::new),
            identity: settings.identity.map(Limiter::new),
            logins: Throttle::new(&settings.login),
        }
    }
}

/// The name of the limit on the requests of an address.
pub const ADDRESS: &str = "address";

/// The name of the limit on the requests of an identity.
pub const IDENTITY: &str = "identity";

/// The name of the limit on the logins of an address that fail.
pub const LOGIN_ADDRESS: &str = "login_address";

/// The name of the limit on the logins for a name that fail.
pub const LOGIN_NAME: &str = "login_name";

/// Why an attempt cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// For so many nanoseconds.
    Wait(u64),
    /// Until others have ended.
    Busy,
}

/// Over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("over {} requests at once and {} a second", quota.burst, quota.rate)]
pub struct Exceeded {
    /// The limit.
    pub quota: Quota,
    /// How long until a request would be let through. Refused attempts do not prolong it.
    pub wait: Duration,
}

impl Quota {
    /// How long an empty bucket takes to fill.
    pub fn window(self) -> Duration {
        Duration::from_nanos(self.refill())
    }
}

/// A token bucket for each key, in a table of [`ENTRIES`].
///
/// It takes 1.2 MiB when it is made, and nothing after. A key that has its bucket full needs
/// no entry, so keys compete only while they ask. Where more of them ask at once than there
/// are entries, a newcomer takes over the bucket of whoever had used the least: nobody is let
/// through more often than the quota says, and a newcomer finds tokens missing only where
/// all entries of its set ask for more than the rate.
pub struct Limiter {
    quota: Quota,
    buckets: Table<Bucket>,
    hasher: RandomState,
}

impl Limiter {
    /// All buckets full.
    pub fn new(quota: Quota) -> Self {
        Self { quota, buckets: Table::new(ENTRIES, &Bucket::default()), hasher: RandomState::new() }
    }

    /// Takes a token of `key` at `now`.
    ///
    /// # Errors
    /// [`Exceeded`], where the bucket is empty.
    pub fn take(&self, key: &impl Hash, now: Duration) -> Result<(), Exceeded> {
        let now = nanoseconds(now);
        let taken = self.buckets.with(self.hasher.hash_one(key), now, |bucket| bucket.take(self.quota, now));
        // No bucket is ever pinned, so there always is an entry.
        taken
            .unwrap_or(Err(self.quota.refill()))
            .map_err(|wait| Exceeded { quota: self.quota, wait: Duration::from_nanos(wait) })
    }
}

/// A time for the tables; they end with the year 2554.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_let_through_again_when_it_was_told() {
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
}
