//! The client of the backend: addresses, connections, deadlines, and the rules for header fields. Login, revocation, the
//! cache and forwarding use it.

mod address;
mod chunk;
mod claims;
mod client;
mod connection;
mod deadlines;
mod error;
mod exchange;
mod header;
mod location;
#[cfg(test)]
mod memory;
mod pool;
mod references;
mod replay;
mod request_body;
mod slots;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use address::UpstreamPeer;
pub use address::{Address, AddressError};
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
};
pub use location::PublicAuthority;
pub use request_body::{RequestBody, Upload};
use slots::Slots;

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
    /// Its name in metrics and logs: `api` or `admin`.
    pub name: &'static str,
    /// Its configured address.
    pub address: Address,
    /// The `Host` of requests to it.
    pub host: String,
    /// Its timeouts and limits.
    pub settings: Settings,
    /// The resolved addresses, the one that was reached last first, so that no request waits for DNS. Empty until the
    /// name is resolved.
    resolved: RwLock<Vec<UpstreamPeer>>,
    up: AtomicBool,
    reached: AtomicBool,
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
        let resolved = RwLock::new(address.literal().into_iter().collect());
        let host = address.host();
        Self {
            name,
            address,
            host,
            settings,
            resolved,
            up: AtomicBool::new(false),
            reached: AtomicBool::new(false),
            slots: Slots::new(&settings),
        }
    }

    /// Resolves the address again, if it is a name. After an error, the previous addresses remain.
    ///
    /// # Errors
    /// The name cannot be resolved.
    pub async fn resolve(&self) -> std::io::Result<()> {
        let Some(found) = self.address.resolve().await? else { return Ok(()) };
        let mut resolved = self.resolved.write().unwrap_or_else(PoisonError::into_inner);
        // The order of the same addresses remains: the one that was reached last is first.
        if found.len() != resolved.len() || !found.iter().all(|peer| resolved.contains(peer)) {
            *resolved = found;
        }
        Ok(())
    }

    /// The addresses to connect to, in order.
    ///
    /// # Errors
    /// [`Unresolved`] if the name has never been resolved.
    fn peers(&self) -> Result<Vec<UpstreamPeer>, Unresolved> {
        let resolved = self.resolved.read().unwrap_or_else(PoisonError::into_inner);
        if resolved.is_empty() { Err(Unresolved) } else { Ok(resolved.clone()) }
    }

    /// Moves `peer` to the front, since it was reached and those before it were not.
    fn prefer(&self, peer: &UpstreamPeer) {
        let mut resolved = self.resolved.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = resolved.iter().position(|other| other == peer)
            && let Some(before) = resolved.get_mut(..=place)
        {
            before.rotate_right(1);
        }
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
        if up {
            self.reached.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it responded to the last probe.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Whether it has ever responded.
    pub fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }
}
