//! PROXY headers: valid ones are parsed, and whatever is parsed is valid.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use holodule_gateway::listener::proxy::header::{V2_HEAD_BYTES, V2Head, parse_v1, parse_v2};

use crate::support::random::{self, Random};

fn ipv4(random: &mut Random) -> Ipv4Addr {
    Ipv4Addr::from(std::array::from_fn::<u8, 4, _>(|_| random.byte()))
}

fn ipv6(random: &mut Random) -> Ipv6Addr {
    // Zeros, for the abbreviated spellings.
    Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|_| if random.one_in(2) { 0 } else { random.byte() }))
}

fn port(random: &mut Random) -> u16 {
    u16::try_from(random.below(65_536)).unwrap()
}

fn pair<A: Into<IpAddr>>(random: &mut Random, address: impl Fn(&mut Random) -> A) -> [SocketAddr; 2] {
    [(); 2].map(|()| SocketAddr::new(address(random).into(), port(random)))
}

fn addresses(random: &mut Random) -> [SocketAddr; 2] {
    if random.one_in(2) { pair(random, ipv4) } else { pair(random, ipv6) }
}

fn line([source, destination]: [SocketAddr; 2]) -> String {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port())
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Changes, drops or adds some bytes.
fn change(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() + 1);
        let byte = if random.one_in(2) { random.byte() } else { b" \t\r\n.:0129aF+-P"[random.below(15)] };
        match random.below(3) {
            0 => bytes.insert(at, byte),
            1 if at < bytes.len() => bytes[at] = byte,
            _ if at < bytes.len() => drop(bytes.remove(at)),
            _ => {}
        }
    }
}

#[test]
fn a_line_of_version_1_is_parsed() {
    random::check("PROXY lines", 20_000, |random| {
        let addresses = addresses(random);
        let line = line(addresses);
        assert_eq!(parse_v1(line.as_bytes()), Ok(Some(addresses[0])), "{line:?}");
    });
}

#[test]
fn a_line_of_version_1_that_is_parsed_is_valid() {
    random::check("PROXY lines, changed", 50_000, |random| {
        let mut bytes = line(addresses(random)).into_bytes();
        change(random, &mut bytes);
        let Ok(Some(source)) = parse_v1(&bytes) else { return };
        // The line is canonical except for the spelling of IPv6 addresses.
        let text = String::from_utf8(bytes).unwrap();
        let words: Vec<_> = text.strip_suffix("\r\n").unwrap().split(' ').collect();
        let [proxy, family, from, to, from_port, to_port] = words[..] else { panic!("{text:?}") };
        assert_eq!((proxy, family), ("PROXY", if source.is_ipv4() { "TCP4" } else { "TCP6" }), "{text:?}");
        assert_eq!(from.parse::<IpAddr>().unwrap(), source.ip(), "{text:?}");
        assert_eq!(to.parse::<IpAddr>().unwrap().is_ipv4(), source.is_ipv4(), "{text:?}");
        assert_eq!(from_port, source.port().to_string(), "{text:?}");
        assert_eq!(to_port, to_port.parse::<u16>().unwrap().to_string(), "{text:?}");
    });
}

#[test]
fn a_block_of_version_2_is_parsed_with_any_bytes_after_the_addresses() {
    random::check("PROXY blocks", 20_000, |random| {
        let [source, destination] = addresses(random);
        let mut block = [octets(source.ip()), octets(destination.ip())].concat();
        block.extend(source.port().to_be_bytes());
        block.extend(destination.port().to_be_bytes());
        block.extend((0..random.below(40)).map(|_| random.byte()).collect::<Vec<_>>());
        let [high, low] = u16::try_from(block.len()).unwrap().to_be_bytes();
        let head = V2Head::parse([0x21, if source.is_ipv4() { 0x11 } else { 0x21 }, high, low]).unwrap();
        assert_eq!(head.length, block.len());
        assert_eq!(parse_v2(head, &block), Ok(Some(source)));
    });
}

#[test]
fn a_block_of_version_2_that_is_parsed_begins_with_the_source() {
    random::check("PROXY blocks of random bytes", 50_000, |random| {
        let mut head: [u8; V2_HEAD_BYTES] = std::array::from_fn(|_| random.byte());
        // Random bytes rarely have a valid version.
        if !random.one_in(4) {
            head = [0x20 | head[0] & 1, [0x00, 0x11, 0x21, 0x31][random.below(4)], 0, head[3]];
        }
        let block: Vec<u8> = (0..random.below(64)).map(|_| random.byte()).collect();
        let Ok(parsed) = V2Head::parse(head) else { return };
        let Ok(Some(source)) = parse_v2(parsed, &block) else { return };
        assert_eq!(head[0], 0x21, "only the PROXY command has a source");
        let address = octets(source.ip());
        assert_eq!(block[..address.len()], address);
        assert_eq!(block[2 * address.len()..][..2], source.port().to_be_bytes());
    });
}
