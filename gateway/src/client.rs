//! Who is calling: the address that logs, limits and forwarded headers speak of.
//!
//! Pure. No proxy is trusted, so it is the peer's own address, whatever a header says.

mod prefix;

use std::net::{IpAddr, SocketAddr};

pub use prefix::Prefix;

/// The address of whoever opened the connection. An IPv4 address that came in by an IPv6
/// socket (RFC 4291, section 2.5.5.2) is the IPv4 address it is.
pub fn address(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_ipv4() {
        let peer: SocketAddr = "[::ffff:192.0.2.1]:1".parse().unwrap();
        assert_eq!(address(peer).to_string(), "192.0.2.1");
    }
}
