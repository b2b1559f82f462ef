//! Limits on failed logins, per address and per name.
//!
//! An attempt is accepted only if it could fail without exceeding a limit. Pending attempts count as failures,
//! so concurrent attempts cannot exceed a limit. If an attempt is refused only because of pending ones, the
//! result is [`Throttled::Busy`], and the caller can retry once these have ended; so valid logins are never
//! refused.
//!
//! A pair of a name and an address with an earlier successful login has its own failure count, independent of
//! failures for that name from other addresses. Otherwise, anyone could lock out any user. From an unknown
//! address, a name can be blocked for as long as someone keeps failing to log in with it.
//!
//! Limits do not depend on whether the name exists, or on the password of a refused attempt, which is not
//! checked.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::time::Duration;

use super::backoff::{self, Backoff};
use super::known::KnownPairs;
use super::table::Table;
use super::window::{self, Window};
use super::{AttemptRefused, nanoseconds};

/// Number of addresses whose failures can be tracked at once.
pub const LOGIN_ADDRESSES: usize = 8 * 1024;

/// Number of names whose failures can be tracked at once.
pub const LOGIN_NAMES: usize = 32 * 1024;

/// Number of known pairs of name and address.
pub const LOGIN_PAIRS: usize = 64 * 1024;

/// The limits on failed logins. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginSettings {
    /// Per address: IPv4 /32, IPv6 /64.
    pub address: Option<Window>,
    /// Per name.
    pub name: Option<Backoff>,
}

/// Why an attempt is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Throttled {
    /// Too many failures from this address; the time until the next attempt is accepted.
    #[error("too many failed logins from this address")]
    Address(Duration),
    /// Too many failures for this name; the time until the next attempt is accepted.
    #[error("too many failed logins for this name")]
    Name(Duration),
    /// Too many attempts that could fail are pending.
    #[error("too many concurrent logins")]
    Busy,
}

/// The failures per address and per name, in tables of fixed size.
///
/// With the default settings they allocate 6 MiB on creation and nothing later: 1.7 MiB for [`LOGIN_ADDRESSES`]
/// (8 bytes more for each, and for each failure allowed per window), 1 MiB for [`LOGIN_NAMES`] and 3 MiB for
/// [`LOGIN_PAIRS`]. A new entry that displaces another starts with its failures; if more addresses or names
/// fail at once than fit, new ones are refused earlier than configured, but never later.
pub struct Throttle {
    addresses: Option<(Window, Table<window::AddressFailures>)>,
    names: Option<Names>,
    hasher: RandomState,
}

struct Names {
    backoff: Backoff,
    unknown: Table<backoff::NameFailures>,
    known: KnownPairs,
}

impl Throttle {
    /// Creates a throttle without failures.
    pub fn new(settings: &LoginSettings) -> Self {
        let addresses = settings
            .address
            .map(|window| (window, Table::new(LOGIN_ADDRESSES, &window::AddressFailures::none(&window))));
        let names = settings.name.map(|backoff| Names {
            backoff,
            unknown: Table::new(LOGIN_NAMES, &backoff::NameFailures::default()),
            known: KnownPairs::new(LOGIN_PAIRS),
        });
        Self { addresses, names, hasher: RandomState::new() }
    }

    /// The same failures with other limits. A limit that was disabled begins without failures. An attempt that is pending
    /// ends in the throttle in which it began, and counts in both.
    pub fn with_settings(&self, settings: &LoginSettings) -> Self {
        let addresses = settings.address.map(|window| {
            let Some((before, table)) = &self.addresses else {
                return (window, Table::new(LOGIN_ADDRESSES, &window::AddressFailures::none(&window)));
            };
            if before.failures != window.failures {
                table.for_each(|failures| failures.resize(&window));
            }
            (window, table.clone())
        });
        let names = settings.name.map(|backoff| match &self.names {
            Some(Names { unknown, known, .. }) => Names { backoff, unknown: unknown.clone(), known: known.clone() },
            None => Names {
                backoff,
                unknown: Table::new(LOGIN_NAMES, &backoff::NameFailures::default()),
                known: KnownPairs::new(LOGIN_PAIRS),
            },
        });
        Self { addresses, names, hasher: self.hasher.clone() }
    }

    /// Starts a login attempt from `address` for `name` at `now`.
    ///
    /// # Errors
    /// [`Throttled`]; the address is checked first. A refused attempt changes nothing.
    pub fn begin(&self, address: &impl Hash, name: &str, now: Duration) -> Result<Attempt<'_>, Throttled> {
        let now = nanoseconds(now);
        let (by_address, by_name) = (self.hasher.hash_one(address), self.hasher.hash_one(name));
        let pair = self.hasher.hash_one((name, address));
        let throttled = |variant: fn(Duration) -> Throttled| {
            move |refused| match refused {
                AttemptRefused::Wait(wait) => variant(Duration::from_nanos(wait)),
                AttemptRefused::Busy => Throttled::Busy,
            }
        };
        if let Some((_, addresses)) = &self.addresses {
            let result = addresses.with(by_address, now, |failures| failures.begin(now));
            result.unwrap_or(Err(AttemptRefused::Busy)).map_err(throttled(Throttled::Address))?;
        }
        let holder = Holder::None;
        let mut attempt =
            Attempt { throttle: self, address: by_address, name: by_name, pair, holder, began: now, is_open: true };
        match self.names.as_ref().map(|names| names.begin(by_name, pair, now)) {
            None => {}
            Some(Ok(holder)) => attempt.holder = holder,
            Some(Err(refused)) => {
                attempt.end(None);
                return Err(throttled(Throttled::Name)(refused));
            }
        }
        Ok(attempt)
    }
}

impl Names {
    fn begin(&self, name: u64, pair: u64, now: u64) -> Result<Holder, AttemptRefused> {
        if let Some(result) = self.known.with(name, pair, |failures| failures.begin(&self.backoff, now)) {
            return result.map(|()| Holder::Pair);
        }
        let result = self.unknown.with(name, now, |failures| failures.begin(&self.backoff, now));
        result.unwrap_or(Err(AttemptRefused::Busy)).map(|()| Holder::Name)
    }
}

/// Which count a failed attempt adds to, besides that of its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// Names are not limited.
    None,
    /// The name, shared by all addresses without a successful login.
    Name,
    /// The known pair of name and address.
    Pair,
}

/// An accepted attempt. If it is dropped without a result, it counts as failed.
#[must_use = "an attempt that is dropped has failed"]
pub struct Attempt<'a> {
    throttle: &'a Throttle,
    address: u64,
    name: u64,
    pair: u64,
    holder: Holder,
    began: u64,
    is_open: bool,
}

/// The result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The credentials are valid.
    Succeeded,
    /// The credentials are invalid.
    Failed,
    /// The credentials could not be checked.
    Unknown,
}

impl Attempt<'_> {
    /// Ends the attempt at `now`. Success does not reset earlier failures: otherwise, a client with a valid
    /// login of its own could try other names without limit.
    pub fn ended(mut self, ending: Ending, now: Duration) {
        let now = nanoseconds(now);
        self.end((ending == Ending::Failed).then_some(now));
        if let (Ending::Succeeded, Some(names)) = (ending, &self.throttle.names) {
            names.known.insert(self.name, self.pair, now);
        }
    }

    fn end(&mut self, failed_at: Option<u64>) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        let at = failed_at.unwrap_or(self.began);
        if let Some((window, addresses)) = &self.throttle.addresses {
            addresses.with(self.address, at, |failures| failures.end(window, failed_at));
        }
        if let Some(names) = &self.throttle.names {
            let end = |failures: &mut backoff::NameFailures| failures.end(&names.backoff, failed_at);
            match self.holder {
                Holder::None => None,
                Holder::Name => names.unknown.with(self.name, at, end),
                Holder::Pair => names.known.with(self.name, self.pair, end),
            };
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.end(Some(self.began));
    }
}

#[cfg(test)]
mod tests;
