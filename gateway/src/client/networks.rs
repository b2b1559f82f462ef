//! The networks whose clients may use a route.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks of clients. By default every client is permitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// If there are any, only their clients are permitted.
    pub allow: Vec<IpNet>,
    /// Their clients are not permitted, even if they are in `allow`.
    pub deny: Vec<IpNet>,
}

impl Networks {
    /// Whether the client at `address` is permitted. An IPv4-mapped IPv6 address counts as the IPv4 address.
    pub fn permit(&self, address: IpAddr) -> bool {
        if self.allow.is_empty() && self.deny.is_empty() {
            return true;
        }
        let address = address.to_canonical();
        let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
        !is_in(&self.deny) && (self.allow.is_empty() || is_in(&self.allow))
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_client_network;
    use super::*;

    fn permits(allow: &[&str], deny: &[&str], address: &str) -> bool {
        let parse = |texts: &[&str]| texts.iter().map(|text| parse_client_network(text).unwrap()).collect();
        Networks { allow: parse(allow), deny: parse(deny) }.permit(address.parse().unwrap())
    }

    #[test]
    fn a_client_must_be_allowed_and_not_denied() {
        for (allow, deny, address, expected) in [
            (&[][..], &[][..], "192.0.2.1", true),
            (&["192.0.2.0/24"], &[], "192.0.2.1", true),
            (&["192.0.2.0/24"], &[], "192.0.3.1", false),
            (&["192.0.2.0/24"], &[], "2001:db8::1", false),
            (&["192.0.2.0/24", "2001:db8::/32"], &[], "2001:db8::1", true),
            (&[], &["192.0.2.1"], "192.0.2.1", false),
            (&[], &["192.0.2.1"], "192.0.2.2", true),
            (&["192.0.2.0/24"], &["192.0.2.128/25"], "192.0.2.127", true),
            (&["192.0.2.0/24"], &["192.0.2.128/25"], "192.0.2.128", false),
            (&["192.0.2.1"], &["192.0.2.0/24"], "192.0.2.1", false),
            (&["0.0.0.0/0"], &[], "192.0.2.1", true),
            (&["0.0.0.0/0"], &[], "::1", false),
            (&[], &["::/0"], "192.0.2.1", true),
        ] {
            assert_eq!(permits(allow, deny, address), expected, "{allow:?} {deny:?} {address}");
        }
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        assert!(permits(&["192.0.2.0/24"], &[], "::ffff:192.0.2.1"));
        assert!(!permits(&["192.0.2.0/24"], &[], "::ffff:192.0.3.1"));
        assert!(!permits(&[], &["192.0.2.0/24"], "::ffff:192.0.2.1"));
        // Not a member of the IPv6 networks that contain the mapped form.
        assert!(!permits(&["::/0"], &[], "::ffff:192.0.2.1"));
    }
}
