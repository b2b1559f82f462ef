//! Logins that fail: how many there may be of one address, and of one name.
//!
//! An attempt is let through only where it could fail and still be within every limit, those
//! that are under way counted as if they failed: however many come at once, no more fail
//! than may. Where only those under way stand against it, it is [`Throttled::Busy`], and can
//! be asked for again when they have ended; so logins that go well are never refused.
//!
//! A pair of a name and an address that has logged in before has failures of its own, and
//! those of its name from elsewhere are not held against it: else anybody could lock anybody
//! out. From an address where it has not, a name can be kept waiting by whoever fails for
//! it, for as long as they do.
//!
//! Whether a name exists makes no difference here, nor does the password of an attempt that
//! is refused, which nobody has looked at.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::time::Duration;

use super::backoff::{self, Backoff};
use super::known::Known;
use super::table::Table;
use super::window::{self, Window};
use super::{Refused, nanoseconds};

/// Addresses whose failures are told apart at once.
pub const LOGIN_ADDRESSES: usize = 8 * 1024;

/// Names whose failures are told apart at once.
pub const LOGIN_NAMES: usize = 32 * 1024;

/// Pairs that are known to have logged in.
pub const LOGIN_PAIRS: usize = 64 * 1024;

/// What is taken of logins that fail. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginSettings {
    /// Of one address: IPv4 /32, IPv6 /64.
    pub address: Option<Window>,
    /// Of one name.
    pub name: Option<Backoff>,
}

/// Why an attempt is not let through now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Throttled {
    /// Too many failed from this address; so long until one more may.
    #[error("too many logins from this address failed")]
    Address(Duration),
    /// Too many failed for this name; so long until one more may.
    #[error("too many logins for this name failed")]
    Name(Duration),
    /// Too many are under way that could fail.
    #[error("too many logins are under way")]
    Busy,
}

/// The failures of each address and each name, in tables of fixed size.
///
/// At the defaults they take 6 MiB when they are made, and nothing after: 1.7 MiB for
/// [`LOGIN_ADDRESSES`] (8 bytes more for each, and for each failure that the window takes),
/// 1 MiB for [`LOGIN_NAMES`] and 3 MiB for [`LOGIN_PAIRS`]. A newcomer that displaces another
/// begins with what that one had done; where more addresses or names than there is room for
/// fail at once, newcomers are refused sooner, and none later, than they should be.
pub struct Throttle {
    addresses: Option<(Window, Table<window::Failures>)>,
    names: Option<Names>,
    hasher: RandomState,
}

struct Names {
    backoff: Backoff,
    strangers: Table<backoff::Failures>,
    known: Known,
}

impl Throttle {
    /// No failure so far.
    pub fn new(settings: &LoginSettings) -> Self {
        let addresses =
            settings.address.map(|window| (window, Table::new(LOGIN_ADDRESSES, &window::Failures::none(&window))));
        let names = settings.name.map(|backoff| Names {
            backoff,
            strangers: Table::new(LOGIN_NAMES, &backoff::Failures::default()),
            known: Known::new(LOGIN_PAIRS),
        });
        Self { addresses, names, hasher: RandomState::new() }
    }

    /// Begins an attempt from `address` for `name` at `now`.
    ///
    /// # Errors
    /// [`Throttled`], of the address first. A refused attempt changes nothing.
    pub fn begin(&self, address: &impl Hash, name: &str, now: Duration) -> Result<Attempt<'_>, Throttled> {
        let now = nanoseconds(now);
        let (by_address, by_name) = (self.hasher.hash_one(address), self.hasher.hash_one(name));
        let pair = self.hasher.hash_one((name, address));
        let throttled = |told: fn(Duration) -> Throttled| {
            move |refused| match refused {
                Refused::Wait(wait) => told(Duration::from_nanos(wait)),
                Refused::Busy => Throttled::Busy,
            }
        };
        if let Some((_, addresses)) = &self.addresses {
            let begun = addresses.with(by_address, now, |failures| failures.begin(now));
            begun.unwrap_or(Err(Refused::Busy)).map_err(throttled(Throttled::Address))?;
        }
        let holder = Holder::Nobody;
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
    fn begin(&self, name: u64, pair: u64, now: u64) -> Result<Holder, Refused> {
        if let Some(begun) = self.known.with(name, pair, |failures| failures.begin(&self.backoff, now)) {
            return begun.map(|()| Holder::Pair);
        }
        let begun = self.strangers.with(name, now, |failures| failures.begin(&self.backoff, now));
        begun.unwrap_or(Err(Refused::Busy)).map(|()| Holder::Name)
    }
}

/// Whose failure an attempt would be, besides its address's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// Names are not limited.
    Nobody,
    /// The name's, for all addresses from which it has not logged in.
    Name,
    /// The pair's own.
    Pair,
}

/// An attempt that was let through. One that is dropped without a word has failed: nobody
/// knows what became of it.
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

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The credentials are right.
    Succeeded,
    /// They are wrong.
    Failed,
    /// Nobody could tell.
    Unknown,
}

impl Attempt<'_> {
    /// Ends it at `now`. A login that went well takes no earlier failure back: else whoever
    /// has a name of their own could fail for others without end.
    pub fn ended(mut self, ending: Ending, now: Duration) {
        let now = nanoseconds(now);
        self.end((ending == Ending::Failed).then_some(now));
        if let (Ending::Succeeded, Some(names)) = (ending, &self.throttle.names) {
            names.known.learn(self.name, self.pair, now);
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
            let end = |failures: &mut backoff::Failures| failures.end(&names.backoff, failed_at);
            match self.holder {
                Holder::Nobody => None,
                Holder::Name => names.strangers.with(self.name, at, end),
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
