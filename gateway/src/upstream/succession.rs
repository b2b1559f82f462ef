//! What the backend of a new configuration takes over from that of the previous one, while the gateway serves.

use std::sync::atomic::AtomicBool;
use std::sync::{PoisonError, RwLock};

use super::Upstream;

impl Upstream {
    /// The same backend with the state of each address that `earlier` has too: what its name was resolved to, its health,
    /// its ejection and its figures. Connections are not taken over: those of `earlier` are closed at the end of their
    /// request, or when they have been idle.
    pub fn succeeding(mut self, earlier: &Self) -> Self {
        let text =
            |upstream: &Self| upstream.addresses.iter().map(|(address, _)| address.to_string()).collect::<Vec<_>>();
        let (own, others) = (text(&self), text(earlier));
        let places: Vec<_> = own.iter().map(|address| others.iter().position(|other| other == address)).collect();
        let mut resolved = earlier.resolved.read().unwrap_or_else(PoisonError::into_inner).clone();
        resolved.retain_mut(|(place, _)| match places.iter().position(|other| *other == Some(*place)) {
            Some(new) => {
                *place = new;
                true
            }
            None => false,
        });
        let is_new = |place: usize| places.get(place).is_none_or(Option::is_none);
        let literals = self.resolved.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..);
        resolved.extend(literals.filter(|(place, _)| is_new(*place)));
        self.resolved = RwLock::new(resolved);
        self.balancer.succeed(&earlier.balancer, &places);
        self.up = AtomicBool::new(earlier.is_up());
        self.reached = AtomicBool::new(earlier.was_reached());
        self.checked = AtomicBool::new(earlier.was_checked());
        self
    }

    /// Whether each of its names has been resolved.
    pub fn is_resolved(&self) -> bool {
        let resolved = self.resolved.read().unwrap_or_else(PoisonError::into_inner);
        (0..self.addresses.len()).all(|place| resolved.iter().any(|(own, _)| *own == place))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Address, Balancing, Policy, Settings};
    use super::*;

    fn upstream(addresses: &[&str]) -> Upstream {
        let second = Duration::from_secs(1);
        let settings = Settings {
            connect_timeout: second,
            read_timeout: second,
            request_timeout: second,
            idle_timeout: second,
            max_connections: 4,
        };
        let balancing = Balancing { policy: Policy::RoundRobin, ..Balancing::default() };
        let addresses = addresses.iter().map(|text| text.parse::<Address>().unwrap()).collect();
        Upstream::balanced("app", addresses, settings, &balancing)
    }

    #[test]
    fn addresses_that_remain_keep_their_health_and_figures() {
        let earlier = upstream(&["127.0.0.1:1", "127.0.0.1:2", "name.example:3"]);
        earlier.note_check(1, false, true);
        earlier.balancer.failed(0, super::super::balance::Failure::Response);
        earlier.set_up(true);
        let found = earlier.peers_of(0).unwrap();
        earlier.replace(2, found.clone());
        let later = upstream(&["127.0.0.1:4", "name.example:3", "127.0.0.1:2", "127.0.0.1:1"]).succeeding(&earlier);
        let failures: Vec<_> = later.figures().iter().map(|figures| figures.failures).collect();
        assert_eq!(failures, [0, 0, 0, 1]);
        assert!(later.is_up() && later.was_reached() && later.is_resolved());
        assert_eq!(later.peers_of(1).unwrap(), found);
        for place in 0..4 {
            assert_eq!(later.peers_of(place).unwrap().len(), 1, "{place}");
        }
        // The one that is down is never the first choice.
        for _ in 0..8 {
            assert_ne!(later.balancer.any().next(), Some(2));
        }
        assert!(!upstream(&["other.example:1"]).is_resolved());
    }
}
