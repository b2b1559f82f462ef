//! The consistent hash: pingora's ketama ring over our addresses.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use pingora::lb::Backend;
use pingora::lb::selection::{BackendIter as _, BackendSelection as _, Consistent};

/// The points of the ring for each unit of weight.
const POINTS: usize = 160;

/// The addresses on a ring, on which the hash of a request is a point.
pub(super) struct Ring {
    ring: Arc<Consistent>,
    /// The number of points, an upper bound.
    points: usize,
    /// The set of the addresses on it.
    places: u64,
}

/// The position of an address, attached to its backend.
#[derive(Clone, Copy)]
struct Place(usize);

impl Ring {
    /// The ring of these addresses. Those without a weight are not on it.
    ///
    /// Ketama hashes an IP address and a port. For an address that is a name it is one that follows from the text, since
    /// the ring must not change with DNS, and must be the same at every gateway.
    pub(super) fn new(addresses: &[String], weights: &[u32]) -> Self {
        let weighted = addresses.iter().zip(weights).enumerate().filter(|(_, (_, weight))| **weight > 0);
        let backend = |(place, (address, weight)): (usize, (&String, &u32))| {
            let socket = address.parse().unwrap_or_else(|_| substitute(address));
            let mut backend = Backend::new_with_weight(&socket.to_string(), usize::try_from(*weight).ok()?).ok()?;
            backend.ext.insert(Place(place));
            Some(backend)
        };
        let places = weighted.clone().fold(0, |places, (place, _)| places | super::bit(place));
        let backends: BTreeSet<_> = weighted.filter_map(backend).collect();
        let total: u32 = weights.iter().sum();
        let points = POINTS.saturating_mul(usize::try_from(total).unwrap_or(usize::MAX));
        Self { ring: Arc::new(Consistent::build(&backends)), points, places }
    }

    /// The first address after the hash of `key` for which `may_use` holds.
    pub(super) fn find(&self, key: &[u8], may_use: impl Fn(usize) -> bool) -> Option<usize> {
        let mut backends = self.ring.iter(key);
        let mut refused = 0_u64;
        for _ in 0..self.points {
            let Place(place) = *backends.next()?.ext.get()?;
            let bit = super::bit(place);
            if refused & bit == 0 && may_use(place) {
                return Some(place);
            }
            refused |= bit;
            // The rest of the points, of which there may be a million, belong to the same addresses.
            if refused == self.places {
                break;
            }
        }
        None
    }
}

/// An address of the local range (RFC 4193) that follows from `text`.
fn substitute(text: &str) -> SocketAddr {
    let digest = digest(&SHA256, text.as_bytes());
    let mut octets = [0; 16];
    octets.iter_mut().zip(digest.as_ref()).for_each(|(octet, byte)| *octet = *byte);
    let [first, ..] = &mut octets;
    *first = 0xFD;
    (Ipv6Addr::from(octets), 1).into()
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("points", &self.points).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(addresses: &[&str], weights: &[u32]) -> Ring {
        Ring::new(&addresses.iter().map(|&address| address.to_owned()).collect::<Vec<_>>(), weights)
    }

    fn found(ring: &Ring, may_use: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..10_000).filter_map(|number| ring.find(format!("/path/{number}").as_bytes(), &may_use)).collect()
    }

    #[test]
    fn keys_are_spread_by_weight() {
        let found = found(&ring(&["10.0.0.1:80", "app.internal:80", "10.0.0.3:80"], &[1, 2, 0]), |_| true);
        let share = |place| found.iter().filter(|other| **other == place).count();
        assert!((2500..4200).contains(&share(0)) && (5800..7500).contains(&share(1)), "{} {}", share(0), share(1));
        assert_eq!(share(2), 0);
    }

    #[test]
    fn only_keys_of_an_unusable_or_removed_address_move() {
        let three = ring(&["10.0.0.1:80", "b.internal:80", "c.internal:80"], &[1, 1, 1]);
        let two = ring(&["10.0.0.1:80", "c.internal:80"], &[1, 1]);
        let (before, without, removed) =
            (found(&three, |_| true), found(&three, |place| place != 1), found(&two, |_| true));
        assert!(before.contains(&1));
        for ((before, without), removed) in before.into_iter().zip(without).zip(removed) {
            assert_eq!(without, removed * 2);
            assert!(before == 1 || before == without);
        }
    }

    #[test]
    fn a_search_without_a_result_ends_once_every_address_was_refused() {
        let addresses: Vec<_> = (1..=20).map(|number| format!("10.0.0.{number}:80")).collect();
        let ring = Ring::new(&addresses, &[100; 20]);
        let began = std::time::Instant::now();
        for number in 0..2000_u32 {
            assert_eq!(ring.find(&number.to_be_bytes(), |_| false), None);
        }
        // All points of each search would be 640 million.
        assert!(began.elapsed() < std::time::Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(ring.find(b"a", |place| place == 7), Some(7));
    }

    #[test]
    fn an_empty_ring_and_unusable_addresses_have_no_result() {
        assert_eq!(ring(&["10.0.0.1:80"], &[0]).find(b"a", |_| true), None);
        assert_eq!(ring(&["10.0.0.1:80", "10.0.0.2:80"], &[1, 1]).find(b"a", |_| false), None);
    }
}
