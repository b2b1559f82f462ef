//! Limits and deadlines of the public listener.

use std::time::Duration;

use ipnet::IpNet;

/// How connections are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For the whole TLS handshake. 10 s by default.
    pub handshake_timeout: Duration,
    /// For the whole head of an HTTP/1 request, and for the preface of HTTP/2: the first from
    /// the end of the handshake, later ones from their first byte. 10 s by default.
    pub header_timeout: Duration,
    /// How long an unused connection is kept. 60 s by default.
    pub keepalive_timeout: Duration,
    /// For each read of a request's body over HTTP/1. 10 s by default.
    pub read_timeout: Duration,
    /// How long a client may take nothing of what is written to it. 30 s by default.
    pub write_timeout: Duration,
    /// Connections at once, over which the newest is closed. 15,000 by default.
    pub max_connections: u32,
    /// Connections of one client at once, over which the newest is closed; a client being an
    /// IPv4 address or the /64 of an IPv6 address. 2,000 by default. Those that come from a
    /// trusted proxy count for the client it tells of by the PROXY protocol, or for none.
    pub max_connections_per_address: u32,
    /// Whether every connection has to come from a trusted proxy and to begin with a header of
    /// the PROXY protocol, the deadline of the handshake counting for it.
    pub proxy_protocol: bool,
    /// Where connections that carry many clients come from.
    pub trusted_proxies: Vec<IpNet>,
    /// Worker threads.
    pub workers: usize,
    /// How long a stop waits for what is under way.
    pub drain_timeout: Duration,
}
