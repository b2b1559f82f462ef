//! Who is calling: the address that logs, limits and forwarded headers speak of.
//!
//! Pure. It is the peer's own address, unless the peer is a proxy that the configuration
//! lists: then the one header that the configuration names tells whom that proxy speaks for.
//! Every proxy appends whom it heard to what it was sent, so the header is read from the
//! right, and only as far as each speaker is trusted: what stands further left may be forged.

mod prefix;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

pub use prefix::Prefix;

/// The proxies whose word on a client's address is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Where they call from; none is trusted where it is empty.
    pub trusted: Vec<IpNet>,
    /// The list of addresses by which they tell it, in the form of `X-Forwarded-For`; `None`
    /// where they tell it before the first byte of TLS, and headers say nothing.
    pub header: Option<HeaderName>,
}

impl Proxies {
    /// Whether `address` is a listed proxy's.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Whether the requests of this peer are others', as their headers tell.
    pub fn speaks_for_others(&self, peer: IpAddr) -> bool {
        self.header.is_some() && self.trusts(peer)
    }

    /// The address of whoever sent a request with these `headers` through `peer`: the right-most
    /// one that is no listed proxy's. An entry that is no address ends the walk, and so does
    /// the left end: then it is the address of the last proxy. Empty entries do not count.
    ///
    /// An IPv4 address that is written as IPv6 (RFC 4291, section 2.5.5.2) is the IPv4 address
    /// it is, the peer's among them.
    pub fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.ip().to_canonical();
        let Some(header) = &self.header else { return client };
        // Several fields of one name are one list (RFC 9110, section 5.3).
        let fields = headers.get_all(header).iter().rev();
        let entries = fields.flat_map(|field| field.as_bytes().rsplit(|&byte| byte == b','));
        // Empty elements of a list say nothing (RFC 9110, section 5.6.1.2).
        let mut entries = entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty());
        while self.trusts(client) {
            match entries.next().and_then(parse_entry) {
                Some(address) => client = address,
                None => break,
            }
        }
        client
    }
}

/// One entry of the list: an address, which some proxies write with a port, or in brackets where it is
/// of IPv6.
fn parse_entry(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?;
    let address = match entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']')) {
        Some(bare) => bare.parse::<Ipv6Addr>().map(IpAddr::from),
        None => entry.parse::<IpAddr>().or_else(|_| entry.parse::<SocketAddr>().map(|address| address.ip())),
    };
    address.ok().map(|address| address.to_canonical())
}

/// Why a text names no network of proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotANetwork {
    /// It cannot be read.
    #[error("must be an IP address, or a network such as 10.0.0.0/8")]
    Malformed,
    /// It is an address within a network, so that either may have been meant.
    #[error("has bits set behind its prefix")]
    HostBits,
    /// It is IPv4 written as IPv6, which no client's address is.
    #[error("is an IPv4 network: write it as one")]
    Mapped,
    /// It is the whole Internet.
    #[error("would let everyone forge an address")]
    Everyone,
}

/// Reads a network in CIDR notation (RFC 4632, section 3.1), or a single address.
///
/// # Errors
/// [`NotANetwork`].
pub fn parse_network(text: &str) -> Result<IpNet, NotANetwork> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| NotANetwork::Malformed)?,
    };
    if network.prefix_len() == 0 {
        return Err(NotANetwork::Everyone);
    }
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
