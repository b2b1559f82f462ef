//! URLs of the service in its own responses. A service that knows only its own address would send clients there.

use std::net::IpAddr;

use super::Upstream;
use super::address::{Address, UpstreamPeer};

/// The authority of the service as clients know it.
#[derive(Clone, Copy, Debug)]
pub struct PublicAuthority<'a> {
    /// The authority that the client requested.
    pub authority: &'a str,
    /// Whether the service received it in `Host`.
    pub is_forwarded: bool,
    /// Whether its answers need a token, so that no cache in front of the gateway may serve them without it.
    pub needs_token: bool,
    /// The prefix of the service's paths, and what clients have in its place, if the route changes it.
    pub prefixes: Option<(&'a str, &'a str)>,
}

impl PublicAuthority<'_> {
    /// `path`, perhaps with a query and a fragment, as clients name it; `None` if it is the same. A path that has the
    /// prefix of clients already is from a service that reads `X-Forwarded-Prefix`.
    pub(super) fn path(&self, path: &[u8]) -> Option<Vec<u8>> {
        let (own, public) = self.prefixes?;
        let after = |prefix: &str| {
            let rest = path.strip_prefix(prefix.as_bytes())?;
            matches!(rest.first(), None | Some(b'/' | b'?' | b'#')).then_some(rest)
        };
        if !public.is_empty() && after(public).is_some() {
            return None;
        }
        let rest = after(own)?;
        let slash: &[u8] = if rest.starts_with(b"/") { b"" } else { b"/" };
        Some([public.as_bytes(), slash, rest].concat())
    }
}

/// An absolute or scheme-relative URL in parts.
struct UrlReference<'a> {
    /// Whether the scheme is `https`.
    is_https: bool,
    host: &'a str,
    port: Option<u16>,
    /// What follows the authority.
    rest: &'a [u8],
}

/// `url` with the public authority in place of the service's own, and the public prefix of its path; `None` if it has
/// another authority, or neither an authority nor a path from the root.
pub(super) fn public_url(url: &[u8], upstream: &Upstream, public: &PublicAuthority<'_>) -> Option<Vec<u8>> {
    if url.starts_with(b"/") && !url.starts_with(b"//") {
        return public.path(url);
    }
    let reference = UrlReference::parse(url)?;
    let is_own = reference.names(upstream) || public.is_forwarded && reference.is_public(public.authority);
    if !is_own {
        return None;
    }
    // An empty port is none (RFC 3986, section 3.2.3).
    let authority = public.authority.trim_end_matches(':');
    let path = public.path(reference.rest);
    Some([b"https://", authority.as_bytes(), path.as_deref().unwrap_or(reference.rest)].concat())
}

/// Whether the authority of `upstream` occurs anywhere in `text`, which may be malformed: after `//`, or as
/// configured. Backslashes are ignored, since they escape characters in quoted strings.
pub(super) fn mentions(text: &[u8], upstream: &Upstream) -> bool {
    let text: Vec<_> = text.iter().copied().filter(|&byte| byte != b'\\').collect();
    let is_own = |url: &[u8]| {
        // Either scheme may precede it.
        UrlReference::parse(url).is_some_and(|url| UrlReference { is_https: true, ..url }.names(upstream))
    };
    let is_configured = |word: &[u8]| {
        let mut names = upstream.addresses.iter().filter(|(address, _)| !matches!(address, Address::Unix(_)));
        names.any(|(_, host)| word.windows(host.len()).any(|part| part.eq_ignore_ascii_case(host.as_bytes())))
    };
    text.split(|byte| byte.is_ascii_whitespace() || b"<>\"',;".contains(byte)).any(|word| {
        let mut slashes = word.windows(2).enumerate().filter(|(_, pair)| pair == b"//");
        is_configured(word) || slashes.any(|(start, _)| word.get(start..).is_some_and(is_own))
    })
}

impl<'a> UrlReference<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let (scheme, text) = match text.strip_prefix(b"//") {
            Some(text) => (&b""[..], text),
            None => {
                let colon = text.iter().position(|&byte| byte == b':')?;
                (text.get(..colon)?, text.get(colon..)?.strip_prefix(b"://")?)
            }
        };
        let is_https = scheme.eq_ignore_ascii_case(b"https");
        if !is_https && !scheme.is_empty() && !scheme.eq_ignore_ascii_case(b"http") {
            return None;
        }
        let end = text.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(text.len());
        let (authority, rest) = text.split_at_checked(end)?;
        let authority = std::str::from_utf8(authority).ok()?;
        let authority = authority.rsplit_once('@').map_or(authority, |(_, authority)| authority);
        let (host, port) = split(authority)?;
        Some(Self { is_https, host, port, rest })
    }

    /// Whether its authority is that of `upstream`.
    fn names(&self, upstream: &Upstream) -> bool {
        upstream.addresses.iter().any(|(address, host)| self.names_address(upstream, address, host))
    }

    /// Whether its authority is that of `address`, an address of `upstream` with this `host`.
    fn names_address(&self, upstream: &Upstream, address: &Address, host: &str) -> bool {
        match address {
            Address::Inet(address) => {
                let is_loopback = address.ip().to_canonical().is_loopback();
                self.has_port(address.port())
                    && (self.is_address(address.ip()) || is_loopback && is_same_name(self.host, "localhost"))
            }
            Address::Name(name, port) => {
                let is_resolved = |(_, peer): &(usize, UpstreamPeer)| matches!(peer, UpstreamPeer::Inet(address) if self.is_address(address.ip()));
                let resolved = || upstream.peers().is_ok_and(|peers| peers.iter().any(is_resolved));
                self.has_port(*port) && (is_same_name(self.host, name) || resolved())
            }
            Address::Unix(_) => self.has_port(80) && is_same_name(self.host, host),
        }
    }

    /// Whether it has `authority`, which the service received in `Host`, over HTTP.
    fn is_public(&self, authority: &str) -> bool {
        let Some((host, port)) = split(authority) else { return false };
        let is_same_port = self.port == port || port.is_none() && self.has_port(80);
        is_same_name(self.host, host) && is_same_port
    }

    /// Whether its port, or the default one, is `port`. A service that knows from `X-Forwarded-Proto` that clients use
    /// HTTPS may write that scheme before the authority it has over HTTP.
    fn has_port(&self, port: u16) -> bool {
        self.port.map_or(port == 80 || self.is_https && port == 443, |own| own == port)
    }

    fn is_address(&self, address: IpAddr) -> bool {
        let host = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(self.host);
        host.parse::<IpAddr>().is_ok_and(|own| own.to_canonical() == address.to_canonical())
    }
}

/// The host and the port of an authority; `None` if it has no host, or an invalid port.
fn split(authority: &str) -> Option<(&str, Option<u16>)> {
    let host_end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at_checked(host_end)?;
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some("") => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        _ => return None,
    };
    (!host.is_empty()).then_some((host, port))
}

/// Whether two names are equal, ignoring case and a trailing dot.
fn is_same_name(one: &str, other: &str) -> bool {
    let bare = |name: &'_ str| name.len() - usize::from(name.ends_with('.'));
    let (one, other) = (one.get(..bare(one)), other.get(..bare(other)));
    one.zip(other).is_some_and(|(one, other)| one.eq_ignore_ascii_case(other))
}

/// An upstream at `address`.
#[cfg(test)]
pub(super) fn upstream(address: &str) -> Upstream {
    let second = std::time::Duration::from_secs(1);
    let settings = super::Settings {
        connect_timeout: second,
        read_timeout: second,
        request_timeout: second,
        idle_timeout: second,
        max_connections: 4,
    };
    Upstream::new("api", address.parse().unwrap(), settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What clients get of `value` from the service at `address`.
    fn seen(address: &str, value: &str, is_forwarded: bool) -> String {
        let public = PublicAuthority { authority: "example.org:8443", is_forwarded, needs_token: true, prefixes: None };
        let seen = public_url(value.as_bytes(), &upstream(address), &public);
        seen.map_or(value.to_owned(), |url| String::from_utf8(url).unwrap())
    }

    #[test]
    fn urls_of_the_service_get_the_public_authority() {
        for (address, own) in [
            ("127.0.0.1:8080", &["http://127.0.0.1:8080", "https://127.0.0.1:8080", "//127.0.0.1:8080"][..]),
            ("127.0.0.1:8080", &["HTTP://127.0.0.1:8080", "http://localhost:8080", "http://user@127.0.0.1:8080"]),
            ("127.0.0.1:80", &["http://127.0.0.1", "http://127.0.0.1:80", "http://127.0.0.1:", "//127.0.0.1"]),
            ("127.0.0.1:80", &["https://127.0.0.1", "https://LOCALHOST."]),
            ("10.0.0.1:443", &["https://10.0.0.1", "http://10.0.0.1:443"]),
            ("[::1]:8080", &["http://[::1]:8080", "http://[0:0:0:0:0:0:0:1]:8080", "http://localhost:8080"]),
            ("[2001:DB8::1]:80", &["http://[2001:db8::1]", "//[2001:db8:0::1]:80"]),
            ("[::ffff:10.0.0.1]:8080", &["http://10.0.0.1:8080"]),
            ("backend.internal:8080", &["http://backend.internal:8080", "http://Backend.INTERNAL.:8080"]),
            ("backend.internal:80", &["http://backend.internal", "https://backend.internal"]),
            ("unix:/run/b.sock", &["http://localhost", "https://localhost", "http://localhost:80", "//localhost"]),
        ] {
            for own in own {
                for rest in ["", "/", "/a?b=c#d", "?b", "#d", "//x", "/%E3%83%9B?u=http://127.0.0.1:8080/"] {
                    let expected = format!("https://example.org:8443{rest}");
                    assert_eq!(seen(address, &format!("{own}{rest}"), false), expected, "{own}{rest}");
                }
            }
        }
    }

    #[test]
    fn other_urls_are_unchanged() {
        for (address, others) in [
            (
                "127.0.0.1:8080",
                &["", "/", "/a", "a", "?a", "#a", "//", "///a", "../a", "http:", "http:/a", "a:8080"][..],
            ),
            ("127.0.0.1:8080", &["http://127.0.0.1/a", "https://127.0.0.1/a", "http://127.0.0.1:80/a"]),
            ("127.0.0.1:8080", &["http://127.0.0.1:808/a", "http://127.0.0.1:80800/a", "http://127.0.0.1:+8080/a"]),
            (
                "127.0.0.1:8080",
                &["http://127.0.0.2:8080/a", "http://127.0.0.1.example:8080/a", "http://x/127.0.0.1:8080"],
            ),
            (
                "127.0.0.1:8080",
                &["http://127.0.0.1:8080@evil.example/a", "ftp://127.0.0.1:8080/a", "/a://127.0.0.1:8080"],
            ),
            ("10.0.0.1:8080", &["http://localhost:8080/a"]),
            ("127.0.0.1:443", &["http://127.0.0.1/a"]),
            ("[::1]:8080", &["http://[::2]:8080/a", "http://[::1/a", "http://[::1]8080/a", "http://::1:8080/a"]),
            (
                "backend.internal:8080",
                &["http://backend:8080/a", "http://internal:8080/a", "http://example.org:8443/a"],
            ),
            ("unix:/run/b.sock", &["http://localhost:8080/a", "http:///run/b.sock"]),
        ] {
            for other in others {
                assert_eq!(seen(address, other, false), *other);
            }
        }
    }

    #[test]
    fn the_public_authority_over_http_gets_https_if_it_is_forwarded() {
        for own in ["http://example.org:8443", "HTTP://EXAMPLE.org:8443", "//example.org:8443", "http://127.0.0.1:8080"]
        {
            assert_eq!(seen("127.0.0.1:8080", &format!("{own}/a"), true), "https://example.org:8443/a");
        }
        for other in ["http://example.org/a", "http://www.example.org:8443/a"] {
            assert_eq!(seen("127.0.0.1:8080", other, true), other);
        }
        let public =
            PublicAuthority { authority: "example.org:", is_forwarded: true, needs_token: true, prefixes: None };
        for own in ["http://example.org/a", "http://example.org:80/a", "https://example.org/a"] {
            let seen = public_url(own.as_bytes(), &upstream("127.0.0.1:8080"), &public);
            assert_eq!(seen.unwrap(), b"https://example.org/a");
        }
    }

    #[test]
    fn the_addresses_of_a_name_count_as_the_service() {
        let upstream = upstream("backend.internal:8080");
        upstream.replace(0, vec![UpstreamPeer::Inet("10.0.0.7:8080".parse().unwrap())]);
        let public =
            PublicAuthority { authority: "example.org", is_forwarded: false, needs_token: true, prefixes: None };
        assert_eq!(public_url(b"http://10.0.0.7:8080/a", &upstream, &public).unwrap(), b"https://example.org/a");
        assert_eq!(public_url(b"http://10.0.0.8:8080/a", &upstream, &public), None);
        assert!(mentions(b"a http://10.0.0.7:8080", &upstream) && mentions(b"Backend.Internal:8080", &upstream));
        assert!(!mentions(b"a http://10.0.0.8:8080", &upstream));
    }
    #[test]
    fn paths_get_the_public_prefix() {
        let seen = |prefixes, url: &str| {
            let public = PublicAuthority {
                authority: "example.org",
                is_forwarded: false,
                needs_token: true,
                prefixes: Some(prefixes),
            };
            let seen = public_url(url.as_bytes(), &upstream("127.0.0.1:8080"), &public);
            seen.map_or(url.to_owned(), |url| String::from_utf8(url).unwrap())
        };
        for (prefixes, url, expected) in [
            (("", "/app"), "/", "/app/"),
            (("", "/app"), "/a?b=/c#/d", "/app/a?b=/c#/d"),
            (("", "/app"), "http://127.0.0.1:8080/a", "https://example.org/app/a"),
            (("", "/app"), "http://127.0.0.1:8080", "https://example.org/app/"),
            (("", "/app"), "//localhost:8080?a", "https://example.org/app/?a"),
            (("", "/app"), "/apple", "/app/apple"),
            (("/v2", "/app"), "/v2/a", "/app/a"),
            (("/v2", "/app"), "/v2", "/app/"),
            (("/v2", "/app"), "/v2?a", "/app/?a"),
            (("/v2", ""), "/v2/a", "/a"),
            (("/v2", ""), "/v2", "/"),
            // Of a service that reads X-Forwarded-Prefix.
            (("", "/app"), "/app/a", "/app/a"),
            (("", "/app"), "/app", "/app"),
            (("", "/app"), "http://127.0.0.1:8080/app?a", "https://example.org/app?a"),
            // Outside of what the route forwards, and relative.
            (("/v2", "/app"), "/v3/a", "/v3/a"),
            (("/v2", "/app"), "/v22", "/v22"),
            (("/v2", "/app"), "http://127.0.0.1:8080/x", "https://example.org/x"),
            (("", "/app"), "a/b", "a/b"),
            (("", "/app"), "?a", "?a"),
            (("", "/app"), "", ""),
            (("", "/app"), "//elsewhere.example/a", "//elsewhere.example/a"),
            (("", "/app"), "https://example.org/a", "https://example.org/a"),
        ] {
            assert_eq!(seen(prefixes, url), expected, "{prefixes:?} {url}");
        }
    }
}
