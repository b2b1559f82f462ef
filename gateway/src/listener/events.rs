//! What happens to connections, as metrics count it.

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandshakeFailure {
    /// The handshake took too long.
    Timeout,
    /// The client spoke no TLS that we accept.
    Protocol,
    /// A proxy sent no PROXY header that we accept.
    ProxyHeader,
    /// The connection broke.
    Disconnected,
}

impl HandshakeFailure {
    /// Every failure.
    pub const ALL: [Self; 4] = [Self::Timeout, Self::Protocol, Self::ProxyHeader, Self::Disconnected];

    /// The value of the metric's `reason` label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::ProxyHeader => "proxy_header",
            Self::Disconnected => "disconnected",
        }
    }
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionRefused {
    /// There are too many.
    MaxConnections,
    /// There are too many of this client.
    PerAddress,
    /// It should be a trusted proxy's.
    UntrustedProxy,
}

impl ConnectionRefused {
    /// Every reason.
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

/// Why a connection was closed without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionReaped {
    /// The head of a request did not come within its deadline.
    Header,
    /// No further request came.
    Keepalive,
    /// Over 1 MiB came by HTTP/2 and no request, or too many frames without content.
    Flood,
}

impl ConnectionReaped {
    /// Every reason.
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

/// Receives the events of connections, for example to count them.
pub trait Observe: Send + Sync + 'static {
    /// A connection was accepted.
    fn opened(&self);
    /// A connection ended.
    fn closed(&self);
    /// A connection was refused.
    fn refused(&self, refused: ConnectionRefused);
    /// A handshake succeeded, with this version (one of [`VERSIONS`](crate::tls::VERSIONS)).
    fn handshake_succeeded(&self, version: &'static str);
    /// A handshake failed.
    fn handshake_failed(&self, failure: HandshakeFailure);
    /// A connection was closed because no request came, or not within its deadline.
    fn reaped(&self, reaped: ConnectionReaped);
    /// A request was refused because its HTTP/2 connection has too many at once.
    fn stream_refused(&self);
}
