//! The client address, as used in logs, limits and forwarded headers.
//!
//! Pure. It is the address of the peer, unless the peer is a trusted proxy; then the configured header has the
//! client address. Each proxy appends the address of its own peer to that header, so the header is read from
//! the right, and only as far as the proxies are trusted: anything further left may be forged.

mod networks;
mod prefix;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::syntax::list_members;

pub use networks::Networks;
pub use prefix::Prefix;

/// The proxies trusted to report client addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Networks of the trusted proxies; none by default.
    pub trusted: Vec<IpNet>,
    /// The header with the list of addresses, in the format of `X-Forwarded-For`; `None` if proxies use the
    /// PROXY protocol and no header is read.
    pub header: Option<HeaderName>,
}

impl Proxies {
    /// Returns whether `address` belongs to a trusted proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Returns whether this peer forwards requests of other clients and reports their addresses in a header.
    pub fn forwards_for_clients(&self, peer: IpAddr) -> bool {
        self.header.is_some() && self.trusts(peer)
    }

    /// Returns the address of the client that sent a request with `headers` through `peer`: the rightmost
    /// address that is not a trusted proxy. If an entry is not an address, or all are trusted proxies, it is
    /// the last trusted proxy found. Empty entries are skipped.
    ///
    /// IPv4-mapped IPv6 addresses (RFC 4291, section 2.5.5.2) are converted to IPv4.
    pub fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.ip().to_canonical();
        let Some(header) = self.header.as_ref().filter(|_| self.trusts(client)) else { return client };
        let mut entries = list_members(headers, header).rev();
        while self.trusts(client) {
            match entries.next().and_then(parse_entry) {
                Some(address) => client = address,
                None => break,
            }
        }
        client
    }
}

/// Parses an entry: an address, optionally with a port, or with brackets if it is IPv6.
fn parse_entry(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?;
    let address = match entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']')) {
        Some(bare) => bare.parse::<Ipv6Addr>().map(IpAddr::from),
        None => entry.parse::<IpAddr>().or_else(|_| entry.parse::<SocketAddr>().map(|address| address.ip())),
    };
    address.ok().map(|address| address.to_canonical())
}

/// Why a text is not a network of proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotANetwork {
    /// It is not an address or a network.
    #[error("must be an IP address, or a network such as 10.0.0.0/8")]
    Malformed,
    /// It has host bits set, so either the address or the network may have been intended.
    #[error("has bits set behind its prefix")]
    HostBits,
    /// It is an IPv4-mapped IPv6 network, which never matches a client address.
    #[error("is an IPv4 network: write it as one")]
    Mapped,
    /// It covers all addresses.
    #[error("would let everyone forge an address")]
    Everyone,
}

/// Parses a network of trusted proxies: not all addresses.
///
/// # Errors
/// [`NotANetwork`] if the text is invalid.
pub fn parse_network(text: &str) -> Result<IpNet, NotANetwork> {
    let network = parse_client_network(text)?;
    if network.prefix_len() == 0 { Err(NotANetwork::Everyone) } else { Ok(network) }
}

/// Parses a network in CIDR notation (RFC 4632, section 3.1), or a single address.
///
/// # Errors
/// [`NotANetwork`] if the text is invalid.
pub fn parse_client_network(text: &str) -> Result<IpNet, NotANetwork> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| NotANetwork::Malformed)?,
    };
    if network.addr() != network.network() {
        return Err(NotANetwork::HostBits);
    }
    if network.addr().to_canonical() != network.addr() {
        return Err(NotANetwork::Mapped);
    }
    Ok(network)
}

#[cfg(test)]
mod tests;
