//! `host:port`, or the path of a Unix socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a backend listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port.
    Inet(SocketAddr),
    /// A DNS name and a port.
    Name(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// A socket address of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UpstreamPeer {
    /// Over TCP.
    Inet(SocketAddr),
    /// Over a Unix socket.
    Unix(PathBuf),
    #[cfg(test)]
    Memory(super::memory::Network),
}

/// Why a text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No port.
    #[error("must be host:port or unix:/path")]
    Form,
    /// A port that is 0 or not a number.
    #[error("the port must be from 1 to 65535")]
    Port,
    /// A Unix path that is relative or too long for a socket.
    #[error("a Unix socket needs an absolute path of at most 107 bytes")]
    Path,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:").or_else(|| text.starts_with('/').then_some(text)) {
            // sun_path has 108 bytes, the last of them 0 (unix(7)).
            let usable = path.starts_with('/') && path.len() <= 107 && !path.contains('\0');
            return if usable { Ok(Self::Unix(path.into())) } else { Err(AddressError::Path) };
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return if address.port() == 0 { Err(AddressError::Port) } else { Ok(Self::Inet(address)) };
        }
        let (name, port) = text.rsplit_once(':').ok_or(AddressError::Form)?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(AddressError::Form);
        }
        match port.parse() {
            Ok(0) | Err(_) => Err(AddressError::Port),
            Ok(port) => Ok(Self::Name(name.to_owned(), port)),
        }
    }
}

impl Address {
    /// The host, or the path of the socket, and the port, if it has one.
    pub(super) fn host_and_port(&self) -> (String, Option<u16>) {
        match self {
            Self::Inet(address) => (address.ip().to_string(), Some(address.port())),
            Self::Name(name, port) => (name.clone(), Some(*port)),
            Self::Unix(path) => (path.display().to_string(), None),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// The `Host` of requests to it (RFC 9110, section 7.2); `localhost` for a Unix socket.
    pub fn host(&self) -> String {
        match self {
            Self::Unix(_) => "localhost".to_owned(),
            other => other.to_string(),
        }
    }

    /// The peer; `None` if a name has to be resolved.
    pub(super) fn literal(&self) -> Option<UpstreamPeer> {
        match self {
            Self::Inet(address) => Some(UpstreamPeer::Inet(*address)),
            Self::Unix(path) => Some(UpstreamPeer::Unix(path.clone())),
            Self::Name(..) => None,
        }
    }

    /// The addresses of a name, in the order of RFC 6724; `None` for other addresses.
    ///
    /// # Errors
    /// The name cannot be resolved, or has no address.
    pub(super) async fn resolve(&self) -> std::io::Result<Option<Vec<UpstreamPeer>>> {
        let Self::Name(name, port) = self else { return Ok(None) };
        let found: Vec<_> = tokio::net::lookup_host((name.as_str(), *port)).await?.map(UpstreamPeer::Inet).collect();
        if found.is_empty() { Err(std::io::Error::other("the name has no address")) } else { Ok(Some(found)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_three_forms() {
        let read = |text: &str| text.parse::<Address>().unwrap();
        assert_eq!(read("127.0.0.1:8080"), Address::Inet("127.0.0.1:8080".parse().unwrap()));
        assert_eq!(read("[::1]:8080").host(), "[::1]:8080");
        assert_eq!(read("backend.internal:80"), Address::Name("backend.internal".to_owned(), 80));
        assert_eq!(read("unix:/run/b.sock"), read("/run/b.sock"));
        assert_eq!(read("/run/b.sock").host(), "localhost");
    }

    #[test]
    fn rejects_other_forms() {
        for text in ["", "a", "a:", "a:0", "a:65536", ":80", "127.0.0.1:0", "unix:", "unix:a", "http://a:80", "a b:80"]
        {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        assert_eq!(format!("/{}", "a".repeat(107)).parse::<Address>(), Err(AddressError::Path));
    }
}
