//! Settings of the public listener.

use std::time::Duration;

use ipnet::IpNet;

/// Limits and timeouts of the public listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Timeout for the whole TLS handshake. 10 s by default.
    pub handshake_timeout: Duration,
    /// Timeout for a complete HTTP/1 request head, and for the HTTP/2 preface. It starts at the end of the
    /// handshake for the first head, and at the first byte for later ones. 10 s by default.
    pub header_timeout: Duration,
    /// How long a connection may be idle. 60 s by default.
    pub keepalive_timeout: Duration,
    /// Timeout for each read of a request body. 10 s by default.
    pub read_timeout: Duration,
    /// How long a write may make no progress. 30 s by default.
    pub write_timeout: Duration,
    /// Maximum number of connections; further ones are closed. 15,000 by default.
    pub max_connections: u32,
    /// Maximum number of connections per client, an IPv4 address or an IPv6 /64; further ones are closed. 2,000
    /// by default. Connections from a trusted proxy count for the client named by the PROXY header, or not at
    /// all without one.
    pub max_connections_per_address: u32,
    /// Whether each connection must come from a trusted proxy and begin with a PROXY header. The handshake
    /// timeout covers the header.
    pub proxy_protocol: bool,
    /// Networks of trusted proxies.
    pub trusted_proxies: Vec<IpNet>,
    /// Number of worker threads.
    pub workers: usize,
    /// How long a shutdown waits for open connections.
    pub drain_timeout: Duration,
}
