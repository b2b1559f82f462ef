//! Normalisation of the host of a request (RFC 3986, sections 3.2.2, 3.2.3 and 6.2).

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// The default port of `https` (RFC 9110, section 4.2.2).
const DEFAULT_PORT: u16 = 443;

/// A normalised authority without user information: the host as by [`normal_host`], and the port unless it is
/// empty or the default of `https`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    /// The host, and the port if it is not the default.
    pub(super) whole: Cow<'a, str>,
    /// Length of the host within `whole`, in bytes.
    pub(super) host_bytes: usize,
}

impl<'a> Authority<'a> {
    /// Parses an authority; `None` if it is ambiguous or has parts that no client needs.
    pub(super) fn parse(sent: &'a str) -> Option<Self> {
        if let Some(host_bytes) = normal_host_bytes(sent.as_bytes()) {
            return Some(Self { whole: Cow::Borrowed(sent), host_bytes });
        }
        Self::parse_any(sent)
    }

    fn parse_any(sent: &'a str) -> Option<Self> {
        // A host may contain colons only within brackets, which only a port may follow.
        let brackets = sent.starts_with('[').then(|| sent.find(']')).flatten();
        let end = brackets.map_or_else(|| sent.find(':'), |bracket| Some(bracket + 1));
        let (host, rest) = sent.split_at_checked(end.unwrap_or(sent.len()))?;
        let host = normal_host(host)?;
        let host_bytes = host.len();
        let port = match rest {
            "" | ":" => None,
            _ => Some(parse_port(rest.strip_prefix(':')?)?).filter(|&port| port != DEFAULT_PORT),
        };
        let whole = match (host, port) {
            (host, None) => host,
            (Cow::Borrowed(host), Some(_)) if host.len() + rest.len() == sent.len() && !rest.starts_with(":0") => {
                Cow::Borrowed(sent)
            }
            (host, Some(port)) => Cow::Owned(format!("{host}:{port}")),
        };
        Some(Self { whole, host_bytes })
    }
}

/// Returns the length of the host if `sent` is already normalised: a name in lower case with an optional port,
/// which nearly every client sends. `None` does not mean that it is invalid.
fn normal_host_bytes(sent: &[u8]) -> Option<usize> {
    let is_of_name = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_');
    let end = sent.iter().position(|byte| !is_of_name(byte)).unwrap_or(sent.len());
    let (name, port) = sent.split_at_checked(end)?;
    if matches!(name, [] | [.., b'.']) {
        return None;
    }
    match port {
        [] => Some(end),
        [b':', digits @ ..] if digits.len() <= 5 && digits.first() != Some(&b'0') && digits != b"443" => {
            let add = |port: u32, &digit: &u8| digit.is_ascii_digit().then(|| port * 10 + u32::from(digit - b'0'));
            digits.iter().try_fold(0, add).filter(|port| (1..=u32::from(u16::MAX)).contains(port)).map(|_| end)
        }
        _ => None,
    }
}

fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Normalises a host: lower case, without the trailing dot of an absolute name (RFC 1034, section 3.1), and
/// IPv6 addresses in brackets in the form of RFC 5952. `None` if it is neither a DNS name nor an address: the
/// other characters allowed by RFC 3986, including percent-encoding, only cause ambiguity.
pub fn normal_host(host: &str) -> Option<Cow<'_, str>> {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let normal = format!("[{}]", address.parse::<Ipv6Addr>().ok()?);
        return Some(if normal == host { Cow::Borrowed(host) } else { Cow::Owned(normal) });
    }
    let (mut is_name, mut has_capital) = (!host.is_empty(), false);
    for byte in host.bytes() {
        is_name &= byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        has_capital |= byte.is_ascii_uppercase();
    }
    let relative = host.strip_suffix('.').filter(|name| !name.is_empty() && !name.ends_with('.')).unwrap_or(host);
    let normal = if has_capital { Cow::Owned(relative.to_ascii_lowercase()) } else { Cow::Borrowed(relative) };
    is_name.then_some(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equivalent_authorities_have_the_same_form() {
        for (sent, whole, host) in [
            ("localhost", "localhost", "localhost"),
            ("LocalHost", "localhost", "localhost"),
            ("localhost.", "localhost", "localhost"),
            ("localhost:", "localhost", "localhost"),
            ("localhost.:", "localhost", "localhost"),
            ("localhost:443", "localhost", "localhost"),
            ("LOCALHOST.:0443", "localhost", "localhost"),
            ("localhost:8443", "localhost:8443", "localhost"),
            ("localhost.:8443", "localhost:8443", "localhost"),
            ("localhost:08443", "localhost:8443", "localhost"),
            ("localhost:0", "localhost:0", "localhost"),
            ("localhost:80", "localhost:80", "localhost"),
            ("1.2.3.4:5", "1.2.3.4:5", "1.2.3.4"),
            ("[::1]", "[::1]", "[::1]"),
            ("[::1]:443", "[::1]", "[::1]"),
            ("[0:0::0:1]:8443", "[::1]:8443", "[::1]"),
            ("[FE80::A]:8443", "[fe80::a]:8443", "[fe80::a]"),
            // Not a name, but well-formed.
            ("a..", "a..", "a.."),
            (".", ".", "."),
        ] {
            let authority = Authority::parse(sent).unwrap();
            assert_eq!((&*authority.whole, &authority.whole[..authority.host_bytes]), (whole, host), "{sent}");
            assert_eq!(Authority::parse(whole), Some(authority.clone()), "{sent}: its form is its own");
            assert_eq!(Authority::parse_any(sent), Some(authority), "{sent}");
        }
    }

    #[test]
    fn normalised_authorities_are_not_copied() {
        for sent in ["localhost", "localhost:8443", "localhost:443", "1.2.3.4", "[::1]:8443", "localhost."] {
            assert!(matches!(Authority::parse(sent).unwrap().whole, Cow::Borrowed(_)), "{sent}");
        }
    }

    #[test]
    fn the_fast_check_agrees_with_the_parser() {
        let hosts = ["", "a", "a.b-c_d", "1.2.3.4", "a.", "a..", ".", "A", "a b", "[::1]", "\u{e9}", "a:1"];
        let ports =
            ["", ":", ":0", ":1", ":08", ":80", ":443", ":0443", ":444", ":65535", ":65536", ":99999", ":100000"];
        let odd_ports = [":+1", ":-1", ": 1", ":1a", ":1:2", "/", "a", "@b"];
        let mut quick = 0;
        for sent in
            hosts.iter().flat_map(|host| ports.iter().chain(&odd_ports).map(move |port| format!("{host}{port}")))
        {
            assert_eq!(Authority::parse(&sent), Authority::parse_any(&sent), "{sent}");
            quick += usize::from(normal_host_bytes(sent.as_bytes()).is_some());
        }
        assert!(quick >= 15, "{quick} of them are in their normal form");
    }

    #[test]
    fn rejects_other_authorities() {
        for odd in [
            "",
            ":",
            ":443",
            "a b",
            "a@b",
            "a:x",
            "a:+1",
            "a:-1",
            "a: 1",
            "a:65536",
            "a:1:2",
            "a:443:",
            "[::1]1",
            "[::1].",
            "[::1",
            "::1",
            "a/b",
            "a%62",
            "a;b",
            "[a]",
            "[::1%25a]",
            "[v1.a]",
            "\u{e9}",
            "[]",
        ] {
            assert_eq!(Authority::parse(odd), None, "{odd:?}");
        }
    }
}
