//! The client address behind proxies, compared with a reference, and with forged lists of a client.

use std::net::{IpAddr, SocketAddr};

use holodule_gateway::client::{Proxies, parse_network};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::support::random::{self, Random};

const HEADER: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Addresses of proxies and of clients, and invalid entries.
const ENTRIES: [&str; 16] = [
    "10.0.0.1",
    "10.255.255.255",
    "::ffff:10.1.1.1",
    "2001:db8:ff::9",
    "192.0.2.1",
    "198.51.100.7:4711",
    "::ffff:203.0.113.5",
    "2001:db8:fe::1",
    "[2001:db8::2]:443",
    "[2001:db8::3]",
    "[2001:db8:ff::8]",
    "11.0.0.1",
    "unknown",
    "",
    "10.0.0",
    "\"10.0.0.1\"",
];

fn proxies() -> Proxies {
    let trusted = ["10.0.0.0/8", "2001:db8:ff::/48"].map(|text| parse_network(text).unwrap());
    Proxies { trusted: trusted.into(), header: Some(HEADER) }
}

fn peer(random: &mut Random) -> SocketAddr {
    let address = random.pick(&["10.0.0.9", "::ffff:10.0.0.9", "2001:db8:ff::1", "192.0.2.200", "2001:db8::99"]);
    SocketAddr::new(address.parse().unwrap(), 4711)
}

fn list(random: &mut Random, max: usize) -> Vec<&'static str> {
    (0..random.below(max + 1)).map(|_| random.pick(&ENTRIES)).collect()
}

/// The entries in any number of fields, with any separators.
fn fields(random: &mut Random, entries: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let (field, later) = rest.split_at(1 + random.below(rest.len()));
        let comma = *random.pick(&[&",", &", ", &" ,\t"]);
        headers.append(HEADER, HeaderValue::from_str(&field.join(comma)).unwrap());
        rest = later;
    }
    headers
}

/// The client is the last address that a trusted proxy has added, or the peer.
fn reference(peer: SocketAddr, entries: &[&str]) -> IpAddr {
    let read = |entry: &str| match entry.parse::<SocketAddr>() {
        Ok(address) => Some(address.ip().to_canonical()),
        Err(_) => entry.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|address| address.to_canonical()),
    };
    let is_proxy = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets()[0] == 10,
        IpAddr::V6(address) => address.segments()[..3] == [0x2001, 0xdb8, 0xff],
    };
    let mut hops = vec![peer.ip().to_canonical()];
    for entry in entries.iter().rev().filter(|entry| !entry.is_empty()) {
        match read(entry) {
            Some(address) if is_proxy(*hops.last().unwrap()) => hops.push(address),
            _ => break,
        }
    }
    hops.pop().unwrap()
}

#[test]
fn the_client_is_that_of_the_reference() {
    random::check("clients behind proxies", 50_000, |random| {
        let (peer, entries) = (peer(random), list(random, 6));
        let headers = fields(random, &entries);
        assert_eq!(proxies().client(peer, &headers), reference(peer, &entries), "{peer} {headers:?}");
    });
}

#[test]
fn a_forged_list_does_not_change_the_client() {
    random::check("forged lists", 50_000, |random| {
        let (peer, mut entries) = (peer(random), list(random, 6));
        // The proxies, of which the peer is the last, append their entries to those of the client.
        let client = *random.pick(&[&"192.0.2.1", &"2001:db8:fe::1", &"198.51.100.7:4711"]);
        let appended = [client].into_iter().chain((0..random.below(3)).map(|_| "10.0.0.1")).collect::<Vec<_>>();
        let honest = proxies().client(peer, &fields(random, &appended));
        entries.extend(&appended);
        assert_eq!(proxies().client(peer, &fields(random, &entries)), honest, "{peer} {entries:?}");
    });
}
