//! How many connections there may be: in all, and of one client.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The connections that are open.
///
/// The table holds open connections alone, so it never has more entries than there may be
/// connections in all; its hashes are keyed by the process, so that no stranger can choose them.
pub(super) struct Admission {
    max_connections: u32,
    max_per_address: u32,
    free: Arc<Semaphore>,
    per_address: Mutex<HashMap<IpAddr, u32>>,
}

/// What counts as one client: an IPv4 address, or the /64 that one IPv6 customer is given.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

impl Admission {
    /// At most `max_connections`, and of one client at most `max_per_address`.
    pub(super) fn new(max_connections: u32, max_per_address: u32) -> Arc<Self> {
        let free = Semaphore::new(usize::try_from(max_connections).unwrap_or(Semaphore::MAX_PERMITS));
        Arc::new(Self { max_connections, max_per_address, free: Arc::new(free), per_address: Mutex::default() })
    }

    /// Takes a place for as long as the permit is held, where there is one.
    pub(super) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// Counts a connection of `client` until the guard is dropped, unless it has its share.
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

    /// Waits for the last connection to end, and tells whether it did within `drain_timeout`.
    pub(super) async fn wait_until_empty(&self, drain_timeout: Duration) -> bool {
        timeout(drain_timeout, self.free.acquire_many(self.max_connections)).await.is_ok()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        // Each change is whole, so a thread that panicked left nothing half done.
        self.per_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that counts for its client.
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
        let _held = ["192.0.2.1", "2001:db8:0:1::1"].map(|text| admission.count(address(text)).unwrap());
        for (text, is_same) in [
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8:0:1:ffff::", true),
            ("2001:db8:0:2::1", false),
            // The same bits in the other family.
            ("::c000:201", false),
        ] {
            assert_eq!(admission.count(address(text)).is_none(), is_same, "{text}");
        }
    }

    #[test]
    fn what_ends_gives_its_place_back_and_leaves_nothing() {
        let admission = Admission::new(2, 2);
        let client = IpAddr::from([192, 0, 2, 1]);
        let places = [admission.enter().unwrap(), admission.enter().unwrap()];
        assert!(admission.enter().is_none());
        let counted = [admission.count(client).unwrap(), admission.count(client).unwrap()];
        assert!(admission.count(client).is_none(), "the newest is refused");
        drop((places, counted));
        assert!(admission.enter().is_some());
        assert!(admission.table().is_empty());
    }

    #[test]
    fn a_refused_client_leaves_no_entry() {
        let admission = Admission::new(1, 1);
        let held = admission.count(IpAddr::from([192, 0, 2, 1]));
        assert!(admission.count(IpAddr::from([192, 0, 2, 1])).is_none());
        drop(held);
        assert!(admission.table().is_empty());
    }
}
