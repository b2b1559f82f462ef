//! Connection limits: in total and per client.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Counts the open connections.
///
/// The table has entries for open connections only, so it never exceeds the total limit. Its hash function is
/// keyed at random, so that clients cannot provoke collisions.
pub(super) struct Admission {
    max_connections: u32,
    max_per_address: u32,
    free: Arc<Semaphore>,
    per_address: Mutex<HashMap<IpAddr, u32>>,
}

/// Returns what counts as one client: an IPv4 address, or an IPv6 /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

impl Admission {
    /// Allows `max_connections` in total, and `max_per_address` per client.
    pub(super) fn new(max_connections: u32, max_per_address: u32) -> Arc<Self> {
        let free = Semaphore::new(usize::try_from(max_connections).unwrap_or(Semaphore::MAX_PERMITS));
        Arc::new(Self { max_connections, max_per_address, free: Arc::new(free), per_address: Mutex::default() })
    }

    /// Reserves a connection until the permit is dropped; `None` if the limit is reached.
    pub(super) fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// Counts a connection for `client` until the guard is dropped; `None` if the limit per client is reached.
    pub(super) fn count(self: &Arc<Self>, client: IpAddr) -> Option<Counted> {
        let network = network(client);
        let mut table = self.table();
        let count = table.entry(network).or_default();
        if *count >= self.max_per_address {
            return None;
        }
        *count += 1;
        Some(Counted { admission: Arc::clone(self), network })
    }

    /// Waits for the last connection to end. Returns whether that happened within `drain_timeout`.
    pub(super) async fn wait_until_empty(&self, drain_timeout: Duration) -> bool {
        timeout(drain_timeout, self.free.acquire_many(self.max_connections)).await.is_ok()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        // Each update is atomic under the lock, so the table is consistent after a panic.
        self.per_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Guard of a connection counted for its client.
pub(super) struct Counted {
    admission: Arc<Admission>,
    network: IpAddr,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut table = self.admission.table();
        if let Some(count) = table.get_mut(&self.network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                table.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_is_an_ipv4_address_or_an_ipv6_network_of_64_bits() {
        let admission = Admission::new(10, 1);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let _guards = ["192.0.2.1", "2001:db8:0:1::1"].map(|text| admission.count(address(text)).unwrap());
        for (text, is_same) in [
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8:0:1:ffff::", true),
            ("2001:db8:0:2::1", false),
            // The bits of 192.0.2.1 in an IPv6 address.
            ("::c000:201", false),
        ] {
            assert_eq!(admission.count(address(text)).is_none(), is_same, "{text}");
        }
    }

    #[test]
    fn closed_connections_are_no_longer_counted() {
        let admission = Admission::new(2, 2);
        let client = IpAddr::from([192, 0, 2, 1]);
        let permits = [admission.try_acquire().unwrap(), admission.try_acquire().unwrap()];
        assert!(admission.try_acquire().is_none());
        let counted = [admission.count(client).unwrap(), admission.count(client).unwrap()];
        assert!(admission.count(client).is_none(), "the newest is refused");
        drop((permits, counted));
        assert!(admission.try_acquire().is_some());
        assert!(admission.table().is_empty());
    }

    #[test]
    fn a_refused_client_leaves_no_entry() {
        let admission = Admission::new(1, 1);
        let guard = admission.count(IpAddr::from([192, 0, 2, 1]));
        assert!(admission.count(IpAddr::from([192, 0, 2, 1])).is_none());
        drop(guard);
        assert!(admission.table().is_empty());
    }
}
