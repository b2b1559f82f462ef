//! A header of the PROXY protocol. An accepted header is what a proxy writes for the parsed source.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use holodule_gateway::listener::proxy::header::{MAX_V1_BYTES, V2_HEAD_BYTES, V2Head, parse_v1, parse_v2};

/// The first bytes of version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Checks the header that `data` begins with.
pub fn check(data: &[u8]) {
    if let Some(rest) = data.strip_prefix(SIGNATURE) {
        check_v2(rest);
    } else {
        let end = data.iter().take(MAX_V1_BYTES).position(|&byte| byte == b'\n').map_or(data.len(), |end| end + 1);
        check_v1(&data[..end]);
    }
}

fn check_v1(line: &[u8]) {
    let Ok(source) = parse_v1(line) else { return };
    let text = std::str::from_utf8(line).unwrap().strip_suffix("\r\n").expect("a line ends in CRLF");
    let words: Vec<&str> = text.split(' ').collect();
    let Some(source) = source else {
        assert_eq!(words[..2], ["PROXY", "UNKNOWN"]);
        return;
    };
    let [proxy, family, from, to, from_port, to_port] = words[..] else { panic!("{text:?} has six words") };
    assert_eq!((proxy, family), ("PROXY", if source.is_ipv4() { "TCP4" } else { "TCP6" }));
    let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
    assert_eq!(to.is_ipv4(), source.is_ipv4());
    let port = |word: &str| word.parse::<u16>().unwrap();
    assert_eq!(SocketAddr::new(from, port(from_port)), source);
    let written = format!("PROXY {family} {from} {to} {} {}\r\n", port(from_port), port(to_port));
    // Only an IPv6 address has several spellings.
    assert!(source.is_ipv6() || written.as_bytes() == line, "{text:?}");
    assert_eq!(parse_v1(written.as_bytes()), Ok(Some(source)));
}

fn check_v2(rest: &[u8]) {
    let Some((&head, rest)) = rest.split_first_chunk::<V2_HEAD_BYTES>() else { return };
    let Ok(parsed) = V2Head::parse(head) else { return };
    assert_eq!(parsed.length, usize::from(u16::from_be_bytes([head[2], head[3]])));
    let Some(block) = rest.get(..parsed.length) else { return };
    let Ok(source) = parse_v2(parsed, block) else { return };
    let Some(source) = source else {
        assert!(head[0] == 0x20 || matches!(head[1], 0x00 | 0x31), "{head:?}");
        return;
    };
    assert_eq!(head[0], 0x21);
    let (octets, transport) = match source.ip() {
        IpAddr::V4(address) => (address.octets().to_vec(), 0x11),
        IpAddr::V6(address) => (address.octets().to_vec(), 0x21),
    };
    assert_eq!(head[1], transport);
    let n = octets.len();
    assert_eq!((&block[..n], &block[2 * n..2 * n + 2]), (&octets[..], &source.port().to_be_bytes()[..]));
    // Written again without extensions, it gives the same source.
    let written = &block[..2 * n + 4];
    let length = u16::try_from(written.len()).unwrap().to_be_bytes();
    let head = V2Head::parse([0x21, transport, length[0], length[1]]).unwrap();
    assert_eq!(parse_v2(head, written), Ok(Some(source)));
    assert_eq!(n, if source.is_ipv4() { Ipv4Addr::BITS } else { Ipv6Addr::BITS } as usize / 8);
}
