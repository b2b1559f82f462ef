//! Which address of a service a request goes to: the policies, and the health of each address. Nothing here connects to
//! one.

mod address;
mod ring;
mod schedule;
mod sticky;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use tokio::time::Instant;

pub(super) use address::AddressState;
pub use address::{AddressFigures, Ejection};
use ring::Ring;
use schedule::Schedule;
use sticky::Sticky;
pub use sticky::StickyCookie;

/// The maximum number of addresses of a service: one bit each in the set of those that a request has tried.
pub const MAX_ADDRESSES: usize = 64;

/// The maximum weight of an address. The ring of a consistent hash has 160 points for each unit.
pub const MAX_WEIGHT: u32 = 100;

/// How the address of a request is chosen among the healthy ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The one that was reached last, until it fails.
    #[default]
    Failover,
    /// Each in turn, as often as its weight says.
    RoundRobin,
    /// The one with the fewest requests in flight in relation to its weight.
    LeastConnections,
    /// The one that a hash of the request selects, so that few requests move when addresses change.
    ConsistentHash(HashBy),
    /// The one in a cookie with this name, otherwise each in turn.
    Sticky(String),
}

/// What a consistent hash is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashBy {
    /// The identity; the client address on a route without one.
    Identity,
    /// The path that is forwarded, without the query.
    Path,
}

/// How requests are distributed over the addresses of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balancing {
    /// How an address is chosen.
    pub policy: Policy,
    /// The weight of each address, at most [`MAX_WEIGHT`]; missing ones are 1. An address with weight 0 gets no new
    /// requests, but those whose cookie names it.
    pub weights: Vec<u32>,
    /// When an address is ejected because of failures.
    pub ejection: Ejection,
    /// The maximum number of requests that wait for a connection; `None` for no limit.
    pub max_queue: Option<usize>,
}

/// The addresses of one service.
#[derive(Debug)]
pub(super) struct Balancer {
    policy: Policy,
    weights: Box<[u32]>,
    addresses: Box<[Arc<AddressState>]>,
    ejection: Ejection,
    /// Held from the count of unavailable addresses until one more is ejected.
    ejecting: Mutex<()>,
    schedule: Schedule,
    ring: Option<Ring>,
    sticky: Option<Sticky>,
    /// The address that was reached last, for [`Policy::Failover`].
    preferred: AtomicUsize,
    /// The zero of the times of ejections.
    started: Instant,
}

/// What decides the address of a request besides the state of the addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Any address.
    Any,
    /// The address that the hash of these bytes selects.
    Hashed(Box<[u8]>),
    /// The address at this position.
    Place(usize),
}

/// How a request to an address failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A connection was refused or failed otherwise.
    Connect,
    /// There was no connection in time.
    Silent,
    /// The connection failed before a response.
    Closed,
    /// The response was late, invalid or a server error.
    Response,
}

/// The addresses for one request, in the order in which they are tried.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    balancer: &'a Balancer,
    wanted: Wanted,
    tried: u64,
    /// The addresses that no other request may try.
    claimed: u64,
}

impl Balancer {
    /// The balancer of the service `name` at `addresses`, as text.
    pub(super) fn new(name: &str, addresses: &[String], balancing: &Balancing) -> Self {
        let weight = |place: usize| balancing.weights.get(place).copied().unwrap_or(1).min(MAX_WEIGHT);
        let weights: Box<[u32]> = (0..addresses.len()).map(weight).collect();
        let is_hashed = matches!(balancing.policy, Policy::ConsistentHash(_));
        let sticky = match &balancing.policy {
            Policy::Sticky(cookie) => Some(Sticky::new(cookie, name, addresses)),
            _ => None,
        };
        Self {
            policy: balancing.policy.clone(),
            addresses: addresses.iter().map(|_| Arc::default()).collect(),
            ejection: balancing.ejection,
            ejecting: Mutex::new(()),
            schedule: Schedule::new(&weights),
            ring: is_hashed.then(|| Ring::new(addresses, &weights)),
            sticky,
            weights,
            preferred: AtomicUsize::new(0),
            started: Instant::now(),
        }
    }

    /// Takes over the state of addresses from `earlier`: `places` has the position there of each address that it has too.
    pub(super) fn succeed(&mut self, earlier: &Self, places: &[Option<usize>]) {
        for (address, place) in self.addresses.iter_mut().zip(places) {
            if let Some(state) = place.and_then(|place| earlier.addresses.get(place)) {
                *address = Arc::clone(state);
            }
        }
        self.started = earlier.started;
        let preferred = earlier.preferred.load(Ordering::Relaxed);
        if let Some(place) = places.iter().position(|place| *place == Some(preferred)) {
            self.preferred = AtomicUsize::new(place);
        }
    }

    /// The addresses for a request with the head `parts`, from which the cookie of this gateway is removed.
    pub(super) fn choose(&self, parts: &mut Parts) -> Choice<'_> {
        let wanted = match (&self.policy, &self.sticky) {
            (Policy::ConsistentHash(by), _) => Wanted::Hashed(hashed(*by, parts).into()),
            (_, Some(sticky)) => sticky.take(&mut parts.headers).map_or(Wanted::Any, Wanted::Place),
            _ => Wanted::Any,
        };
        Choice { balancer: self, wanted, tried: 0, claimed: 0 }
    }

    /// Removes the cookie of this gateway from `headers`.
    pub(super) fn remove_cookie(&self, headers: &mut HeaderMap) {
        if let Some(sticky) = &self.sticky {
            sticky.take(headers);
        }
    }

    /// Any address.
    #[cfg(test)]
    pub(super) fn any(&self) -> Choice<'_> {
        Choice { balancer: self, wanted: Wanted::Any, tried: 0, claimed: 0 }
    }

    /// The cookie for a response of the address at `place`; `None` if the request had it already.
    pub(super) fn cookie(&self, choice: &Choice<'_>, place: usize) -> Option<StickyCookie> {
        let sticky = self.sticky.as_ref()?;
        if choice.wanted == Wanted::Place(place) { None } else { sticky.cookie(place) }
    }

    /// The state of the address at `place`.
    pub(super) fn address(&self, place: usize) -> Option<&AddressState> {
        self.addresses.get(place).map(|address| &**address)
    }

    /// Whether a request whose idle connection was closed should rather stay at its address than go to another.
    pub(super) fn has_affinity(&self) -> bool {
        self.addresses.len() == 1 || !matches!(self.policy, Policy::RoundRobin | Policy::LeastConnections)
    }

    /// Records that a connection to the address at `place` was opened within `duration`.
    pub(super) fn connected(&self, place: usize, duration: Duration) {
        if self.preferred.load(Ordering::Relaxed) != place {
            self.preferred.store(place, Ordering::Relaxed);
        }
        if let Some(address) = self.address(place) {
            address.connected(duration);
        }
    }

    /// Records that the address at `place` responded.
    pub(super) fn succeeded(&self, place: usize) {
        if let Some(address) = self.address(place) {
            address.succeeded();
        }
    }

    /// Records a failure of the address at `place`, and ejects it after the configured number in a row, unless half of
    /// the addresses are unavailable already.
    pub(super) fn failed(&self, place: usize, failure: Failure) {
        // One that is only slow remains the preferred one: connections to another would not be faster.
        if failure != Failure::Response && self.preferred.load(Ordering::Relaxed) == place {
            self.preferred.store((place + 1) % self.addresses.len().max(1), Ordering::Relaxed);
        }
        let Some(address) = self.address(place) else { return };
        if failure == Failure::Silent {
            address.silent();
        }
        if !address.failed(self.ejection.after) {
            return;
        }
        let _ejecting = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        let others = self.addresses.iter().enumerate().filter(|(other, _)| *other != place);
        let unavailable = others.filter(|(_, other)| !other.is_healthy(now)).count();
        if (unavailable + 1) * 2 <= self.addresses.len() {
            address.eject(now, &self.ejection, matches!(failure, Failure::Connect | Failure::Silent));
        }
    }

    /// Whether responses with a status of 500 or above count as failures.
    pub(super) fn counts_server_errors(&self) -> bool {
        self.ejection.on_server_error
    }

    /// Records the verdict of the health check of the address at `place`. `is_request` says that the check sent a
    /// request; one that only connects does not end an ejection for other reasons.
    pub(super) fn checked(&self, place: usize, is_up: bool, is_request: bool) {
        if let Some(address) = self.address(place) {
            address.checked(is_up, is_request);
        }
    }

    /// The epoch of the connections to the address at `place`. Those of an earlier one are not reused.
    pub(super) fn epoch(&self, place: usize) -> u64 {
        self.address(place).map_or(0, AddressState::epoch)
    }

    /// The figures of each address.
    pub(super) fn figures(&self) -> Vec<AddressFigures> {
        let now = self.now();
        self.addresses.iter().map(|address| address.figures(now)).collect()
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The address for `wanted` among those for which `may_use` holds; `is_first` says that it is the first one of a
    /// request.
    fn find(&self, wanted: &Wanted, is_first: bool, may_use: impl Fn(usize) -> bool) -> Option<usize> {
        match (wanted, &self.ring, &self.policy) {
            (Wanted::Place(place), ..) if may_use(*place) => Some(*place),
            (Wanted::Hashed(key), Some(ring), _) => ring.find(key, may_use),
            (.., Policy::Failover) => {
                let first = self.preferred.load(Ordering::Relaxed);
                (0..self.addresses.len())
                    .map(|step| (first + step) % self.addresses.len())
                    .find(|&place| may_use(place))
            }
            (.., Policy::LeastConnections) => self.least_connections(may_use),
            _ if is_first => self.schedule.find(may_use),
            _ => self.schedule.peek(may_use),
        }
    }

    /// The address with the fewest requests in flight for its weight. Between equals, the schedule decides.
    fn least_connections(&self, may_use: impl Fn(usize) -> bool) -> Option<usize> {
        let load = |place: usize| {
            let in_flight = self.address(place).map_or(0, AddressState::in_flight);
            (in_flight, self.weights.get(place).copied().unwrap_or(0))
        };
        let candidates = (0..self.addresses.len()).filter(|&place| load(place).1 > 0 && may_use(place));
        // a/b < c/d, without fractions.
        let is_less = |(a, b): (u64, u32), (c, d): (u64, u32)| a.saturating_mul(d.into()) < c.saturating_mul(b.into());
        let least = candidates.map(load).reduce(|least, other| if is_less(other, least) { other } else { least })?;
        self.schedule.find(|place| may_use(place) && !is_less(least, load(place)))
    }
}

impl Choice<'_> {
    /// The next address to try: a healthy one, otherwise any other. `None` if each was tried, or if all are down and
    /// other requests wait already for those that do not respond.
    pub(super) fn next(&mut self) -> Option<usize> {
        loop {
            let place = self.find()?;
            self.tried |= bit(place);
            match self.balancer.address(place).map_or(Some(false), AddressState::claim) {
                Some(true) => self.claimed |= bit(place),
                Some(false) => {}
                None => continue,
            }
            return Some(place);
        }
    }

    fn find(&self) -> Option<usize> {
        let balancer = self.balancer;
        let is_first = self.tried == 0;
        let is_new = |place: usize| {
            self.tried & bit(place) == 0 && balancer.address(place).is_some_and(|address| !address.is_hopeless())
        };
        if balancer.addresses.len() == 1 {
            return is_new(0).then_some(0);
        }
        let now = balancer.now();
        let is_healthy = |place: usize| balancer.address(place).is_some_and(|address| address.is_healthy(now));
        let healthy = balancer.find(&self.wanted, is_first, |place| is_new(place) && is_healthy(place));
        healthy.or_else(|| balancer.find(&self.wanted, is_first, is_new))
    }

    /// Allows the address at `place` to be tried again.
    pub(super) fn allow_again(&mut self, place: usize) {
        self.tried &= !bit(place);
    }

    /// Records that the address at `used` is tried instead of that at `chosen`.
    pub(super) fn replace(&mut self, chosen: usize, used: usize) {
        self.allow_again(chosen);
        self.tried |= bit(used);
    }

    /// The number of addresses that were not tried.
    pub(super) fn untried(&self) -> usize {
        self.balancer.addresses.len().saturating_sub(self.tried.count_ones() as usize)
    }

    /// Whether a connection to any address will do, while none is free.
    pub(super) fn takes_any(&self) -> bool {
        self.wanted == Wanted::Any && self.tried.count_ones() <= 1
    }
}

impl Drop for Choice<'_> {
    fn drop(&mut self) {
        if self.claimed != 0 {
            let claimed =
                self.balancer.addresses.iter().enumerate().filter(|(place, _)| self.claimed & bit(*place) != 0);
            claimed.for_each(|(_, address)| address.release());
        }
    }
}

/// The bit of an address in a set. Further addresses than [`MAX_ADDRESSES`] share one.
fn bit(place: usize) -> u64 {
    1 << (place % MAX_ADDRESSES)
}

/// The bytes of a request that its address depends on. Only the gateway sets the fields.
fn hashed(by: HashBy, parts: &Parts) -> &[u8] {
    const FIELDS: [HeaderName; 2] =
        [HeaderName::from_static("x-auth-identity"), HeaderName::from_static("x-forwarded-for")];
    let client = || FIELDS.iter().find_map(|name| parts.headers.get(name)).map(HeaderValue::as_bytes);
    let client = if by == HashBy::Identity { client() } else { None };
    client.unwrap_or_else(|| parts.uri.path().as_bytes())
}

#[cfg(test)]
mod tests;
