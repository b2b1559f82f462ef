//! Events of connections, as counted by the metrics.

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandshakeFailure {
    /// The handshake timed out.
    Timeout,
    /// The client sent something other than TLS, or an unsupported version or cipher suite.
    Protocol,
    /// A trusted proxy sent no valid PROXY header.
    ProxyHeader,
    /// There is no certificate yet: the first one is still to be obtained by ACME.
    NoCertificate,
    /// The connection failed.
    Disconnected,
}

impl HandshakeFailure {
    /// All variants.
    pub const ALL: [Self; 5] =
        [Self::Timeout, Self::Protocol, Self::ProxyHeader, Self::NoCertificate, Self::Disconnected];

    /// The value of the metric's `reason` label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::ProxyHeader => "proxy_header",
            Self::NoCertificate => "no_certificate",
            Self::Disconnected => "disconnected",
        }
    }
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionRefused {
    /// The limit on all connections is reached.
    MaxConnections,
    /// The limit on connections of one client is reached.
    PerAddress,
    /// The connection does not come from a trusted proxy.
    UntrustedProxy,
}

impl ConnectionRefused {
    /// All variants.
    pub const ALL: [Self; 3] = [Self::MaxConnections, Self::PerAddress, Self::UntrustedProxy];

    /// The value of the metric's `reason` label.
    pub fn label(self) -> &'static str {
        match self {
            Self::MaxConnections => "max_connections",
            Self::PerAddress => "per_address",
            Self::UntrustedProxy => "untrusted_proxy",
        }
    }
}

/// Why a connection was closed without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionReaped {
    /// A request head was not complete in time.
    Header,
    /// The connection was idle for too long.
    Keepalive,
    /// More than 1 MiB without a request over HTTP/2, or too many frames without content.
    Flood,
}

impl ConnectionReaped {
    /// All variants.
    pub const ALL: [Self; 3] = [Self::Header, Self::Keepalive, Self::Flood];

    /// The value of the metric's `reason` label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Header => "header_timeout",
            Self::Keepalive => "keepalive_timeout",
            Self::Flood => "flood",
        }
    }
}

/// Receives connection events, for example to count them.
pub trait Observe: Send + Sync + 'static {
    /// A connection was accepted.
    fn opened(&self);
    /// A connection ended.
    fn closed(&self);
    /// A connection was refused.
    fn refused(&self, refused: ConnectionRefused);
    /// A handshake succeeded, with this version (one of [`VERSIONS`](crate::tls::VERSIONS)).
    fn handshake_succeeded(&self, version: &'static str);
    /// A CA validated a name by a tls-alpn-01 challenge, which is no request of a client.
    fn validated(&self);
    /// A handshake failed.
    fn handshake_failed(&self, failure: HandshakeFailure);
    /// A connection was closed because of a timeout or a flood.
    fn reaped(&self, reaped: ConnectionReaped);
    /// A request was refused because of too many concurrent requests on its HTTP/2 connection.
    fn stream_refused(&self);
}
