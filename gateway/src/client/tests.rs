use http::HeaderValue;

use super::*;

const HEADER: HeaderName = HeaderName::from_static("x-forwarded-for");

fn proxies() -> Proxies {
    let trusted = ["10.0.0.0/8", "2001:db8:ff::/48"].map(|text| parse_network(text).unwrap());
    Proxies { trusted: trusted.into(), header: Some(HEADER) }
}

/// The client address of a request with these fields through `peer`.
fn client(proxies: &Proxies, peer: &str, fields: &[&str]) -> String {
    let mut headers = HeaderMap::new();
    for field in fields {
        headers.append(HEADER, HeaderValue::from_bytes(field.as_bytes()).unwrap());
    }
    proxies.client(SocketAddr::new(peer.parse().unwrap(), 1), &headers).to_string()
}

#[test]
fn without_a_trusted_proxy_the_client_is_the_peer() {
    for peer in ["192.0.2.1", "::ffff:192.0.2.1"] {
        assert_eq!(client(&proxies(), peer, &["198.51.100.1"]), "192.0.2.1");
        assert_eq!(client(&Proxies::default(), peer, &["198.51.100.1"]), "192.0.2.1");
    }
    assert_eq!(client(&proxies(), "2001:db8:fe::1", &["198.51.100.1"]), "2001:db8:fe::1");
}

#[test]
fn the_header_is_read_as_far_as_proxies_are_trusted() {
    let rows: [(&[&str], &str); 23] = [
        (&[], "10.0.0.1"),
        (&["192.0.2.1"], "192.0.2.1"),
        (&["192.0.2.9, 192.0.2.1"], "192.0.2.1"),
        (&["192.0.2.9,\t192.0.2.1 ,10.9.9.9"], "192.0.2.1"),
        (&["192.0.2.9", "192.0.2.1", "10.9.9.9"], "192.0.2.1"),
        (&["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
        (&["::ffff:192.0.2.1"], "192.0.2.1"),
        (&["::ffff:10.2.2.2"], "10.2.2.2"),
        (&["192.0.2.1:4711"], "192.0.2.1"),
        (&["[2001:db8::1]:4711"], "2001:db8::1"),
        (&["2001:db8::1, 2001:db8:ff::2"], "2001:db8::1"),
        // An invalid entry ends the search; entries to its left are ignored.
        (&["192.0.2.1, unknown"], "10.0.0.1"),
        (&["192.0.2.1, 999.0.2.1, 10.2.2.2"], "10.2.2.2"),
        (&["192.0.2.1, [192.0.2.2]"], "10.0.0.1"),
        (&["192.0.2.1, [2001:db8::1"], "10.0.0.1"),
        (&["192.0.2.1, [[2001:db8::1]]"], "10.0.0.1"),
        (&["[2001:db8::1]"], "2001:db8::1"),
        (&["[::ffff:192.0.2.1], [2001:db8:ff::2]"], "192.0.2.1"),
        // Empty elements are skipped.
        (&["192.0.2.1,"], "192.0.2.1"),
        (&["192.0.2.1, ", "\t"], "192.0.2.1"),
        (&["192.0.2.1,,10.2.2.2"], "192.0.2.1"),
        (&[",, ,"], "10.0.0.1"),
        (&["192.0.2.1, \u{ff11}0.1.1.1"], "10.0.0.1"),
    ];
    for (fields, expected) in rows {
        assert_eq!(client(&proxies(), "10.0.0.1", fields), expected, "{fields:?}");
    }
}

#[test]
fn no_header_is_read_if_none_is_configured() {
    let without_header = Proxies { header: None, ..proxies() };
    assert_eq!(client(&without_header, "10.0.0.1", &["192.0.2.1"]), "10.0.0.1");
}

#[test]
fn parses_networks_and_reports_errors() {
    for (text, written) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("127.0.0.1", "127.0.0.1/32"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
    ] {
        assert_eq!(parse_network(text).unwrap().to_string(), written);
    }
    for (text, error) in [
        ("", NotANetwork::Malformed),
        ("localhost", NotANetwork::Malformed),
        ("10.0.0.0/33", NotANetwork::Malformed),
        ("10.0.0.0/-1", NotANetwork::Malformed),
        ("10.0/8", NotANetwork::Malformed),
        ("10.0.0.1/8", NotANetwork::HostBits),
        ("0.0.0.0/0", NotANetwork::Everyone),
        ("::/0", NotANetwork::Everyone),
        ("::ffff:10.0.0.0/104", NotANetwork::Mapped),
        ("::ffff:10.0.0.1", NotANetwork::Mapped),
    ] {
        assert_eq!(parse_network(text), Err(error), "{text:?}");
    }
}
