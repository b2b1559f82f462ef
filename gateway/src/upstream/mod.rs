//! The client of the backend: addresses, connections, deadlines, and the rules for header fields. Login, revocation, the
//! cache and forwarding use it.

mod address;
mod balance;
mod budget;
mod caller;
mod chunk;
mod claims;
mod client;
mod connection;
mod deadlines;
mod error;
mod exchange;
mod header;
mod http2;
mod interim;
mod location;
#[cfg(test)]
mod memory;
mod pool;
mod references;
mod replay;
mod request_body;
mod slots;
mod stream;
mod succession;
mod tls;
mod trace;
mod tunnel;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use address::UpstreamPeer;
pub use address::{Address, AddressError};
use balance::Balancer;
pub use balance::{AddressFigures, Balancing, Ejection, HashBy, MAX_ADDRESSES, MAX_WEIGHT, Policy, StickyCookie};
use budget::RetryBudget;
pub use caller::{Caller, Event, Interim};
pub use chunk::{BodyAborted, BodyChunk};
pub use claims::{can_carry_claim, identity_in, remove_spellings};
pub use client::UpstreamClient;
use connection::Connection;
pub use deadlines::{Deadlines, Timeouts};
pub use error::UpstreamError;
pub use exchange::ResponseBody;
pub(crate) use header::is_hop_by_hop;
pub use header::{
    ForwardingInfo, for_client, for_upstream, is_forwarded, is_settable_in_requests, is_settable_in_responses,
    request_trailers, trailers_for_client,
};
use http2::Multiplexer;
pub use interim::hints_for_client;
pub use location::PublicAuthority;
pub use request_body::{RequestBody, Upload};
use slots::Slots;
pub use stream::is_event_stream;
pub use tls::{Tls, TlsSettings};
pub use trace::Traced;
pub use tunnel::Tunnel;

/// Timeouts and limits of the connections to a backend. The timeouts of clients are separate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For a new connection. 1 s by default.
    pub connect_timeout: Duration,
    /// For the whole head of a response, and for each read of its body. 10 s by default.
    pub read_timeout: Duration,
    /// For a whole response, from the start of the request to its last byte. 30 s by default.
    pub request_timeout: Duration,
    /// How long an idle connection stays open: less than at the backend, so that few are closed when they are needed.
    /// 30 s by default.
    pub idle_timeout: Duration,
    /// The maximum number of connections to one backend, including idle ones. Other requests wait for a connection
    /// within the connect timeout. 1,024 by default.
    pub max_connections: u32,
}

/// One backend.
#[derive(Debug)]
pub struct Upstream {
    /// Its name in metrics and logs: `api`, `admin`, or that of a service.
    pub name: &'static str,
    /// Its configured addresses, at least one, each with the `Host` of a request to it alone.
    addresses: Box<[(Address, String)]>,
    /// The `Host` of requests to it: that of the first address.
    pub host: String,
    /// Its timeouts and limits.
    pub settings: Settings,
    /// The resolved addresses, of each name the one that was reached last first, so that no request waits for DNS; each
    /// with the position of its configured address. Empty until a name is resolved.
    resolved: RwLock<Vec<(usize, UpstreamPeer)>>,
    /// Limits retries on another address; `None` if there is only one.
    budget: Option<RetryBudget>,
    /// Chooses among the addresses.
    balancer: Balancer,
    /// TLS on its connections, if any.
    tls: Option<Arc<Tls>>,
    /// The connections over HTTP/2 to each address, if it has that.
    multiplexers: Option<Box<[Multiplexer]>>,
    up: AtomicBool,
    reached: AtomicBool,
    checked: AtomicBool,
    /// The connections to it.
    slots: Arc<Slots<Connection>>,
}

/// The name of a backend has not been resolved yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream's name has not been resolved yet")]
pub struct Unresolved;

impl Upstream {
    /// A backend that has not been reached yet.
    pub fn new(name: &'static str, address: Address, settings: Settings) -> Self {
        Self::with_addresses(name, vec![address], settings)
    }

    /// A backend with several `addresses`, which has not been reached yet. Connections go to the first that is
    /// reachable, and then to that one until it fails.
    pub fn with_addresses(name: &'static str, addresses: Vec<Address>, settings: Settings) -> Self {
        Self::balanced(name, addresses, settings, &Balancing::default())
    }

    /// A backend whose requests are distributed over several `addresses`, which has not been reached yet.
    pub fn balanced(name: &'static str, addresses: Vec<Address>, settings: Settings, balancing: &Balancing) -> Self {
        let literal = |(place, address): (usize, &Address)| Some((place, address.literal()?));
        let resolved = RwLock::new(addresses.iter().enumerate().filter_map(literal).collect());
        let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let with_host = |address: Address| {
            let host = address.host();
            (address, host)
        };
        let addresses: Box<[_]> = addresses.into_iter().map(with_host).collect();
        let host = addresses.first().map(|(_, host)| host.clone()).unwrap_or_default();
        Self {
            name,
            budget: (addresses.len() > 1).then(RetryBudget::default),
            balancer: Balancer::new(name, &texts, balancing),
            addresses,
            host,
            settings,
            resolved,
            tls: None,
            multiplexers: None,
            up: AtomicBool::new(false),
            reached: AtomicBool::new(false),
            checked: AtomicBool::new(false),
            slots: Slots::new(&settings, balancing.max_queue.unwrap_or(usize::MAX)),
        }
    }

    /// The same backend with `tls` on its connections, and HTTP/2 instead of HTTP/1.1 if `is_http2`.
    pub fn with_protocol(self, tls: Option<Arc<Tls>>, is_http2: bool) -> Self {
        let multiplexer = || self.addresses.iter().map(|_| Multiplexer::new(tls.is_some())).collect();
        let multiplexers = is_http2.then(multiplexer);
        Self { tls, multiplexers, ..self }
    }

    /// Resolves the addresses that are names again. After an error, the previous results remain.
    ///
    /// # Errors
    /// A name cannot be resolved. The others have been.
    pub async fn resolve(&self) -> std::io::Result<()> {
        let mut result = Ok(());
        for (place, (address, _)) in self.addresses.iter().enumerate() {
            match address.resolve().await {
                Ok(Some(found)) => self.replace(place, found),
                Ok(None) => {}
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// Replaces the resolved addresses of the configured one at `place` by `found`. Connections to one that is no longer
    /// among them are not reused.
    fn replace(&self, place: usize, found: Vec<UpstreamPeer>) {
        let mut resolved = self.resolved.write().unwrap_or_else(PoisonError::into_inner);
        let before: Vec<_> = resolved.iter().filter(|(own, _)| *own == place).map(|(_, peer)| peer).collect();
        let is_gone = before.iter().any(|peer| !found.contains(peer));
        // The order of the same addresses remains: the one that was reached last is first.
        if is_gone || found.len() != before.len() {
            resolved.retain(|(own, _)| *own != place);
            resolved.extend(found.into_iter().map(|peer| (place, peer)));
        }
        drop(resolved);
        if is_gone {
            self.close_connections(place);
        }
    }

    /// Closes the idle connections to the address at `place`, and those in use at the end of their request.
    fn close_connections(&self, place: usize) {
        if let Some(address) = self.balancer.address(place) {
            address.forget_connections();
        }
        self.slots.close_idle_to(place);
    }

    /// The resolved addresses, each with the position of its configured address.
    ///
    /// # Errors
    /// [`Unresolved`] if no name has been resolved.
    fn peers(&self) -> Result<Vec<(usize, UpstreamPeer)>, Unresolved> {
        let resolved = self.resolved.read().unwrap_or_else(PoisonError::into_inner);
        if resolved.is_empty() { Err(Unresolved) } else { Ok(resolved.clone()) }
    }

    /// What the configured address at `place` was resolved to, in the order in which to connect.
    ///
    /// # Errors
    /// [`Unresolved`] if the name has never been resolved.
    fn peers_of(&self, place: usize) -> Result<Vec<UpstreamPeer>, Unresolved> {
        let resolved = self.resolved.read().unwrap_or_else(PoisonError::into_inner);
        let peers: Vec<_> = resolved.iter().filter(|(own, _)| *own == place).map(|(_, peer)| peer.clone()).collect();
        if peers.is_empty() { Err(Unresolved) } else { Ok(peers) }
    }

    /// Moves `peer` to the front, since it was reached and those before it were not.
    fn prefer(&self, peer: &UpstreamPeer) {
        let mut resolved = self.resolved.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = resolved.iter().position(|(_, other)| other == peer)
            && let Some(before) = resolved.get_mut(..=place)
        {
            before.rotate_right(1);
        }
    }

    /// Records the verdict of the health check of the address at `place`. `is_request` says that the check sent a
    /// request. After a failure, connections to it are not reused.
    pub fn note_check(&self, place: usize, is_up: bool, is_request: bool) {
        self.balancer.checked(place, is_up, is_request);
        if !is_up {
            self.slots.close_idle_to(place);
        }
    }

    /// The figures of each address.
    pub fn figures(&self) -> Vec<AddressFigures> {
        let with_queue = |(place, figures): (usize, AddressFigures)| {
            let queued = u64::try_from(self.slots.count_waiting(place)).unwrap_or(u64::MAX);
            AddressFigures { queued, ..figures }
        };
        self.balancer.figures().into_iter().enumerate().map(with_queue).collect()
    }

    /// Connects to its first address and closes the connection, within the connect timeout.
    ///
    /// # Errors
    /// The address cannot be reached.
    pub async fn check_connection(&self) -> std::io::Result<()> {
        let within = self.settings.connect_timeout;
        let connecting = async {
            let socket = connection::connect(self, 0, within).await?;
            if self.multiplexers.is_some() {
                drop(http2::handshake(socket).await?);
            }
            Ok(())
        };
        let connected = tokio::time::timeout(within, connecting).await;
        connected.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut)))
    }

    /// The deadlines of a request that `started` then.
    pub fn deadlines(&self, started: Instant) -> Deadlines {
        self.deadlines_with(started, &Timeouts::default())
    }

    /// The same, where `timeouts` take precedence over those of the upstream.
    pub fn deadlines_with(&self, started: Instant, timeouts: &Timeouts) -> Deadlines {
        Deadlines::of(self.name, &self.settings, timeouts, started)
    }

    /// The deadline `end` and no other.
    pub fn deadline(&self, end: Instant) -> Deadlines {
        Deadlines::new(self.name, end.saturating_duration_since(Instant::now()), end)
            .connecting_within(self.settings.connect_timeout)
    }

    /// The deadlines for a response that does not end: `read` for its head and for each read.
    pub fn endless(&self, read: Duration) -> Deadlines {
        Deadlines::endless(self.name, read).connecting_within(self.settings.connect_timeout)
    }

    /// The text for the log about an unexpected status.
    pub fn unexpected(&self, status: StatusCode) -> String {
        if status == StatusCode::MISDIRECTED_REQUEST {
            return format!(
                "status 421: the backend does not accept the Host {:?}; its admin.allowed_hosts must list the name",
                self.host
            );
        }
        format!("status {}", status.as_u16())
    }

    /// Records whether it responded to the last probe.
    pub fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
        self.checked.store(true, Ordering::Relaxed);
        if up {
            self.reached.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it responded to the last probe.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Whether it was probed.
    pub fn was_checked(&self) -> bool {
        self.checked.load(Ordering::Relaxed)
    }

    /// Whether it has ever responded.
    pub fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }
}
