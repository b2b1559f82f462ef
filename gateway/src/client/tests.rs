use http::HeaderValue;

use super::*;

const HEADER: HeaderName = HeaderName::from_static("x-forwarded-for");

fn proxies() -> Proxies {
    let trusted = ["10.0.0.0/8", "2001:db8:ff::/48"].map(|text| parse_network(text).unwrap());
    Proxies { trusted: trusted.into(), header: Some(HEADER) }
}

/// Whom a request with these fields through `peer` is from.
fn client(proxies: &Proxies, peer: &str, fields: &[&str]) -> String {
    let mut headers = HeaderMap::new();
    for field in fields {
        headers.append(HEADER, HeaderValue::from_bytes(field.as_bytes()).unwrap());
    }
    proxies.client(SocketAddr::new(peer.parse().unwrap(), 1), &headers).to_string()
}

#[test]
fn it_is_the_peer_where_that_is_no_listed_proxy() {
    for peer in ["192.0.2.1", "::ffff:192.0.2.1"] {
        assert_eq!(client(&proxies(), peer, &["198.51.100.1"]), "192.0.2.1");
        assert_eq!(client(&Proxies::default(), peer, &["198.51.100.1"]), "192.0.2.1");
    }
    assert_eq!(client(&proxies(), "2001:db8:fe::1", &["198.51.100.1"]), "2001:db8:fe::1");
}

#[test]
fn a_listed_proxy_is_believed_as_far_as_the_chain_of_listed_proxies_goes() {
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
        // What does not parse ends the walk, and nothing left of it counts.
        (&["192.0.2.1, unknown"], "10.0.0.1"),
        (&["192.0.2.1, 999.0.2.1, 10.2.2.2"], "10.2.2.2"),
        (&["192.0.2.1, [192.0.2.2]"], "10.0.0.1"),
        (&["192.0.2.1, [2001:db8::1"], "10.0.0.1"),
        (&["192.0.2.1, [[2001:db8::1]]"], "10.0.0.1"),
        (&["[2001:db8::1]"], "2001:db8::1"),
        (&["[::ffff:192.0.2.1], [2001:db8:ff::2]"], "192.0.2.1"),
        // Empty elements are none.
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
fn no_header_is_read_where_none_is_named() {
    let silent = Proxies { header: None, ..proxies() };
    assert_eq!(client(&silent, "10.0.0.1", &["192.0.2.1"]), "10.0.0.1");
}

#[test]
fn networks_are_read_and_mistakes_told() {
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
