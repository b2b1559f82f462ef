//! Connection limits: in total and per client.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// Counts the open connections. The limits are arguments, since they may change; connections that are open remain.
///
/// The table has entries for open connections only, so it never exceeds the total limit. Its hash function is
/// keyed at random, so that clients cannot provoke collisions.
#[derive(Default)]
pub(super) struct Admission {
    open: AtomicU32,
    /// Notified when the last connection has ended.
    is_empty: Notify,
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
    /// Without connections.
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Counts a connection until the permit is dropped; `None` if there are `max_connections` already.
    pub(super) fn try_acquire(self: &Arc<Self>, max_connections: u32) -> Option<Permit> {
        let one_more = |open: u32| open.checked_add(1).filter(|open| *open <= max_connections);
        self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(Permit(Arc::clone(self)))
    }

    /// Counts a connection for `client` until the guard is dropped; `None` if it has `max_connections` already.
    pub(super) fn count(self: &Arc<Self>, client: IpAddr, max_connections: u32) -> Option<Counted> {
        let network = network(client);
        let mut table = self.table();
        let count = table.entry(network).or_default();
        if *count >= max_connections {
            // A limit is at least 1, so that the entry has connections.
            return None;
        }
        *count += 1;
        Some(Counted { admission: Arc::clone(self), network })
    }

    /// Waits for the last connection to end. Returns whether that happened within `drain_timeout`.
    pub(super) async fn wait_until_empty(&self, drain_timeout: Duration) -> bool {
        let empty = async {
            loop {
                let notified = self.is_empty.notified();
                if self.open.load(Ordering::Acquire) == 0 {
                    return;
                }
                notified.await;
            }
        };
        timeout(drain_timeout, empty).await.is_ok()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        // Each update is atomic under the lock, so the table is consistent after a panic.
        self.per_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Guard of a connection.
pub(super) struct Permit(Arc<Admission>);

impl Drop for Permit {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.is_empty.notify_waiters();
        }
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
        let admission = Admission::new();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let _guards = ["192.0.2.1", "2001:db8:0:1::1"].map(|text| admission.count(address(text), 1).unwrap());
        for (text, is_same) in [
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8:0:1:ffff::", true),
            ("2001:db8:0:2::1", false),
            // The bits of 192.0.2.1 in an IPv6 address.
            ("::c000:201", false),
        ] {
            assert_eq!(admission.count(address(text), 1).is_none(), is_same, "{text}");
        }
    }

    #[tokio::test]
    async fn closed_connections_are_no_longer_counted() {
        let admission = Admission::new();
        let client = IpAddr::from([192, 0, 2, 1]);
        let permits = [admission.try_acquire(2).unwrap(), admission.try_acquire(2).unwrap()];
        assert!(admission.try_acquire(2).is_none());
        let counted = [admission.count(client, 2).unwrap(), admission.count(client, 2).unwrap()];
        assert!(admission.count(client, 2).is_none(), "the newest is refused");
        assert!(!admission.wait_until_empty(Duration::ZERO).await);
        let waiting = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.wait_until_empty(Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        drop((permits, counted));
        assert!(waiting.await.unwrap());
        assert!(admission.try_acquire(2).is_some());
        assert!(admission.table().is_empty());
    }

    #[test]
    fn limits_apply_to_new_connections_as_they_change() {
        let admission = Admission::new();
        let client = IpAddr::from([192, 0, 2, 1]);
        let mut held: Vec<_> =
            (0..3).map(|_| (admission.try_acquire(3).unwrap(), admission.count(client, 3))).collect();
        assert!(admission.try_acquire(1).is_none() && admission.count(client, 1).is_none());
        assert!(admission.try_acquire(4).is_some() && admission.count(client, 4).is_some());
        held.truncate(1);
        assert!(admission.try_acquire(1).is_none());
        assert!(admission.try_acquire(2).is_some());
    }

    #[test]
    fn a_refused_client_leaves_no_entry() {
        let admission = Admission::new();
        let guard = admission.count(IpAddr::from([192, 0, 2, 1]), 1);
        assert!(admission.count(IpAddr::from([192, 0, 2, 1]), 1).is_none());
        drop(guard);
        assert!(admission.table().is_empty());
    }
}
