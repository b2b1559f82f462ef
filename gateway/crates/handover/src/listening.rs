//! Listening sockets.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The address of a listener, as configured: port 0 stands for any.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A listening socket that can be handed over.
///
/// It is a second descriptor of the socket on which the program accepts, so the socket is open, and queues connections,
/// until both are dropped.
#[derive(Debug)]
pub struct Listening {
    /// The name of the listener, usually its configuration key.
    pub name: String,
    /// The address in the configuration.
    pub address: Address,
    /// The socket.
    pub socket: OwnedFd,
}
