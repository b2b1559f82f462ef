//! Listener addresses: an IP address and port, or the path of a Unix socket.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// The longest path of a Unix socket, in bytes: Linux's `sun_path` without the trailing NUL.
const UNIX_PATH_LIMIT: usize = 107;

/// An address to listen on, written `host:port` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and port; the system chooses a port for 0.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// The text is not an [`Address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAddress {
    /// Neither form.
    #[error("must be an IP address with a port, as in 127.0.0.1:8080 or [::1]:8080, or unix:/path")]
    Form,
    /// The path is not absolute.
    #[error("the path of a Unix socket must be absolute")]
    Relative,
    /// The path is too long for the system.
    #[error("the path of a Unix socket has at most {UNIX_PATH_LIMIT} bytes")]
    TooLong,
}

impl Address {
    /// Whether the address may be reachable from outside: neither loopback, private (RFC 1918, RFC 4193) nor
    /// link-local. The unspecified address is public, since it includes all interfaces.
    pub fn is_public(&self) -> bool {
        let Self::Tcp(address) = self else { return false };
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_private() || ip.is_link_local()),
            IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
        }
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(path) = text.strip_prefix("unix:") else {
            return text.parse().map(Self::Tcp).map_err(|_| NotAnAddress::Form);
        };
        match path {
            _ if !path.starts_with('/') => Err(NotAnAddress::Relative),
            _ if path.len() > UNIX_PATH_LIMIT => Err(NotAnAddress::TooLong),
            _ => Ok(Self::Unix(PathBuf::from(path))),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_shown_alike() {
        for text in ["127.0.0.1:8080", "[::1]:0", "unix:/run/holodule/admin.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("localhost:8080".parse::<Address>(), Err(NotAnAddress::Form));
        assert_eq!("127.0.0.1".parse::<Address>(), Err(NotAnAddress::Form));
        assert_eq!("unix:admin.sock".parse::<Address>(), Err(NotAnAddress::Relative));
        assert_eq!(format!("unix:/{}", "x".repeat(107)).parse::<Address>(), Err(NotAnAddress::TooLong));
    }

    #[test]
    fn only_the_internal_network_is_not_public() {
        for text in
            ["127.0.0.1:1", "10.1.2.3:1", "172.16.0.1:1", "192.168.1.1:1", "169.254.1.1:1", "[::1]:1", "[fd00::1]:1"]
        {
            assert!(!text.parse::<Address>().unwrap().is_public(), "{text}");
        }
        assert!(!"[fe80::1]:1".parse::<Address>().unwrap().is_public());
        assert!(!"unix:/admin".parse::<Address>().unwrap().is_public());
        for text in ["0.0.0.0:1", "[::]:1", "8.8.8.8:1", "172.32.0.1:1", "[2001:db8::1]:1", "[::ffff:8.8.8.8]:1"] {
            assert!(text.parse::<Address>().unwrap().is_public(), "{text}");
        }
    }
}
