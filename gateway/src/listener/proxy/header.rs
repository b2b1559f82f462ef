//! Parsing of PROXY headers. Pure.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The first bytes of version 2.
pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Length of the fields after the signature, in bytes: version and command, family and transport, length.
pub const V2_HEAD_BYTES: usize = 4;

/// Maximum length of the addresses and extensions of version 2, in bytes. The longest extension in use is a
/// client certificate.
const MAX_V2_BLOCK_BYTES: usize = 4 * 1024;

/// The first bytes of version 1.
pub(super) const V1_START: &[u8] = b"PROXY ";

/// Maximum length of a version 1 header, including CRLF.
pub const MAX_V1_BYTES: usize = 107;

/// The bytes are not a valid PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed PROXY header")]
pub struct Malformed;

impl From<Malformed> for io::Error {
    fn from(malformed: Malformed) -> Self {
        Self::new(io::ErrorKind::InvalidData, malformed)
    }
}

/// Parses a version 1 header, from `PROXY` to CRLF, and returns the source address, if it has one.
///
/// # Errors
/// [`Malformed`] if the header is invalid.
pub fn parse_v1(line: &[u8]) -> Result<Option<SocketAddr>, Malformed> {
    let line = std::str::from_utf8(line).ok().and_then(|line| line.strip_suffix("\r\n")).ok_or(Malformed)?;
    let mut words = line.split(' ');
    if words.next() != Some("PROXY") {
        return Err(Malformed);
    }
    let source = match words.next() {
        // The rest of the line is to be ignored.
        Some("UNKNOWN") => return Ok(None),
        Some("TCP4") => parse_addresses::<Ipv4Addr>(&mut words)?,
        Some("TCP6") => parse_addresses::<Ipv6Addr>(&mut words)?,
        _ => return Err(Malformed),
    };
    if words.next().is_some() { Err(Malformed) } else { Ok(Some(source)) }
}

/// Parses source and destination with their ports, and returns the source.
fn parse_addresses<'a, A: FromStr + Into<IpAddr>>(
    words: &mut impl Iterator<Item = &'a str>,
) -> Result<SocketAddr, Malformed> {
    let mut address = || words.next().and_then(|word| word.parse::<A>().ok()).ok_or(Malformed);
    let (source, _) = (address()?, address()?);
    let mut port = || words.next().and_then(parse_port).ok_or(Malformed);
    let (source_port, _) = (port()?, port()?);
    Ok(SocketAddr::new(source.into(), source_port))
}

/// Parses a decimal port without sign or leading zeros.
fn parse_port(word: &str) -> Option<u16> {
    let is_canonical = word == "0" || word.starts_with(|first: char| matches!(first, '1'..='9'));
    word.parse().ok().filter(|_| is_canonical)
}

/// The fixed part of version 2 after the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct V2Head {
    /// The LOCAL command: a connection of the proxy itself, such as a health check.
    is_local: bool,
    family: Family,
    /// Number of bytes that follow.
    pub length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Inet,
    Inet6,
    /// Unspecified, or a Unix socket, which has no IP address.
    Other,
}

impl V2Head {
    /// Parses the bytes after the signature.
    ///
    /// # Errors
    /// [`Malformed`] if the header is invalid.
    pub fn parse([command, transport, high, low]: [u8; V2_HEAD_BYTES]) -> Result<Self, Malformed> {
        let is_local = match command {
            0x20 => true,
            0x21 => false,
            _ => return Err(Malformed),
        };
        let family = match transport {
            0x11 => Family::Inet,
            0x21 => Family::Inet6,
            0x00 | 0x31 => Family::Other,
            // The other transports are not streams.
            _ if is_local => Family::Other,
            _ => return Err(Malformed),
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > MAX_V2_BLOCK_BYTES {
            return Err(Malformed);
        }
        Ok(Self { is_local, family, length })
    }
}

/// Parses the addresses of version 2 and returns the source address, if it has one. Extensions after the
/// addresses are ignored.
///
/// # Errors
/// [`Malformed`] if the header is invalid.
pub fn parse_v2(head: V2Head, block: &[u8]) -> Result<Option<SocketAddr>, Malformed> {
    match head.family {
        _ if head.is_local => Ok(None),
        Family::Inet => parse_block::<4, Ipv4Addr>(block).map(Some),
        Family::Inet6 => parse_block::<16, Ipv6Addr>(block).map(Some),
        Family::Other => Ok(None),
    }
}

/// Parses source and destination of `N` bytes each with their ports, and returns the source.
fn parse_block<const N: usize, A: From<[u8; N]> + Into<IpAddr>>(block: &[u8]) -> Result<SocketAddr, Malformed> {
    let (source, rest) = block.split_first_chunk::<N>().ok_or(Malformed)?;
    let (_, rest) = rest.split_first_chunk::<N>().ok_or(Malformed)?;
    let (port, rest) = rest.split_first_chunk::<2>().ok_or(Malformed)?;
    rest.split_first_chunk::<2>().ok_or(Malformed)?;
    Ok(SocketAddr::new(A::from(*source).into(), u16::from_be_bytes(*port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_version_1() {
        for (line, source) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n", Some("192.0.2.1:4711")),
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Some("255.255.255.255:65535")),
            ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", Some("0.0.0.0:0")),
            ("PROXY TCP6 2001:db8::1 ::1 4711 443\r\n", Some("[2001:db8::1]:4711")),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 4711 443\r\n", Some("[::ffff:192.0.2.1]:4711")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ff:ff x y z\r\n", None),
        ] {
            assert_eq!(parse_v1(line.as_bytes()), Ok(source.map(|source| source.parse().unwrap())), "{line:?}");
        }
    }

    #[test]
    fn rejects_malformed_version_1() {
        for line in [
            "",
            "\r\n",
            "PROXY\r\n",
            "PROXY \r\n",
            "proxy TCP4 192.0.2.1 198.51.100.1 4711 443\r\n",
            "PROXY tcp4 192.0.2.1 198.51.100.1 4711 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 4711 443",
            "PROXY TCP4 192.0.2.1 198.51.100.1 4711 443 \r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 4711 443 9\r\n",
            "PROXY  TCP4 192.0.2.1 198.51.100.1 4711 443\r\n",
            "PROXY\tTCP4 192.0.2.1 198.51.100.1 4711 443\r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.1 4711 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 4711\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1\r\n",
            "PROXY TCP4 192.0.2.1 2001:db8::1 4711 443\r\n",
            "PROXY TCP4 2001:db8::1 2001:db8::1 4711 443\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.1 4711 443\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.1 4711 443\r\n",
            "PROXY TCP4 192.0.2 198.51.100.1 4711 443\r\n",
            "PROXY TCP4 192.0.2.256 198.51.100.1 4711 443\r\n",
            "PROXY TCP6 fe80::1%1 ::1 4711 443\r\n",
            "PROXY TCP6 [::1] ::1 4711 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +4711 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 04711 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 -1 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 4711 0x1b\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 4711 \u{0664}\r\n",
        ] {
            assert_eq!(parse_v1(line.as_bytes()), Err(Malformed), "{line:?}");
        }
        assert_eq!(parse_v1(b"PROXY UNKNOWN \xff\r\n"), Err(Malformed));
    }

    /// Parses a header of version 2.
    fn v2(command: u8, transport: u8, block: &[u8]) -> Result<Option<SocketAddr>, Malformed> {
        let [high, low] = u16::try_from(block.len()).unwrap().to_be_bytes();
        parse_v2(V2Head::parse([command, transport, high, low])?, block)
    }

    const INET: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0x12, 0x67, 0x01, 0xbb];

    fn inet6() -> Vec<u8> {
        let source = "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets();
        [&source[..], &Ipv6Addr::LOCALHOST.octets(), &[0x12, 0x67, 0x01, 0xbb]].concat()
    }

    #[test]
    fn parses_version_2() {
        let source = |text: &str| Ok(Some(text.parse::<SocketAddr>().unwrap()));
        assert_eq!(v2(0x21, 0x11, &INET), source("192.0.2.1:4711"));
        assert_eq!(v2(0x21, 0x21, &inet6()), source("[2001:db8::1]:4711"));
        // Extensions are ignored.
        assert_eq!(v2(0x21, 0x11, &[&INET[..], &[3, 0, 4, 1, 2, 3, 4]].concat()), source("192.0.2.1:4711"));
        assert_eq!(v2(0x21, 0x21, &[inet6(), vec![0xff; 999]].concat()), source("[2001:db8::1]:4711"));
    }

    #[test]
    fn local_and_unspecified_headers_have_no_address() {
        for transport in [0x00, 0x11, 0x12, 0x21, 0x31, 0xff] {
            assert_eq!(v2(0x20, transport, &INET), Ok(None), "LOCAL, {transport:#x}");
        }
        assert_eq!(v2(0x20, 0x00, &[]), Ok(None));
        assert_eq!(v2(0x21, 0x00, &[]), Ok(None), "UNSPEC");
        assert_eq!(v2(0x21, 0x31, &[0; 216]), Ok(None), "AF_UNIX");
    }

    #[test]
    fn rejects_malformed_version_2() {
        for command in [0x00, 0x11, 0x22, 0x2f, 0x31, 0xff] {
            assert_eq!(v2(command, 0x11, &INET), Err(Malformed), "{command:#x}");
        }
        for transport in [0x01, 0x02, 0x10, 0x12, 0x13, 0x22, 0x32, 0x41, 0xff] {
            assert_eq!(v2(0x21, transport, &inet6()), Err(Malformed), "{transport:#x}");
        }
        for length in 0..INET.len() {
            assert_eq!(v2(0x21, 0x11, &INET[..length]), Err(Malformed), "{length}");
        }
        for length in 0..inet6().len() {
            assert_eq!(v2(0x21, 0x21, &inet6()[..length]), Err(Malformed), "{length}");
        }
        assert_eq!(v2(0x21, 0x11, &[0; MAX_V2_BLOCK_BYTES + 1]), Err(Malformed));
        assert!(v2(0x21, 0x11, &[0; MAX_V2_BLOCK_BYTES]).is_ok());
    }
}
