//! Binds and accepts, on TCP and Unix sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::address::Address;

/// The mode of a Unix socket: its owner and group may connect. The gateway's user belongs in that group.
const SOCKET_MODE: u32 = 0o660;

/// A bound socket. The path of a Unix socket is removed when it is dropped.
#[derive(Debug)]
pub struct BoundListener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener, SocketPath),
}

/// An accepted connection.
#[derive(Debug)]
pub(super) enum AcceptedStream {
    /// Over TCP, with the peer's IP address.
    Tcp(TcpStream, String),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl AcceptedStream {
    fn tcp(stream: TcpStream, peer: SocketAddr) -> io::Result<Self> {
        // Responses are written at once; Nagle's algorithm would only delay them.
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream, peer.ip().to_canonical().to_string()))
    }

    /// A connection that another process has accepted.
    ///
    /// # Errors
    /// It is not a connected socket.
    pub(super) fn from_socket(socket: OwnedFd) -> io::Result<Self> {
        let stream = std::net::TcpStream::from(socket);
        stream.set_nonblocking(true)?;
        // Only a TCP socket has an IP address.
        match stream.peer_addr() {
            Ok(peer) => Self::tcp(TcpStream::from_std(stream)?, peer),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Err(error),
            Err(_) => {
                let stream = std::os::unix::net::UnixStream::from(OwnedFd::from(stream));
                stream.peer_addr()?;
                Ok(Self::Unix(UnixStream::from_std(stream)?))
            }
        }
    }

    /// The socket, for another process.
    ///
    /// # Errors
    /// If the system cannot change its mode.
    pub(super) fn into_socket(self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(stream, _) => Ok(stream.into_std()?.into()),
            Self::Unix(stream) => Ok(stream.into_std()?.into()),
        }
    }
}

/// An address that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    address: Address,
    source: io::Error,
}

impl BindError {
    /// The address.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl BoundListener {
    /// Binds `address`. A stale Unix socket, on which no process listens, is replaced.
    ///
    /// # Errors
    /// [`BindError`] if the address is in use, not local, or not permitted.
    pub async fn bind(address: &Address) -> Result<Self, BindError> {
        let bound = match address {
            Address::Tcp(tcp) => TcpListener::bind(tcp).await.map(Kind::Tcp),
            Address::Unix(path) => bind_unix(path).await,
        };
        bound.map(Self).map_err(|source| BindError { address: address.clone(), source })
    }

    /// The bound address, with the chosen port.
    ///
    /// # Errors
    /// If the system cannot return it.
    pub fn address(&self) -> io::Result<Address> {
        match &self.0 {
            Kind::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Kind::Unix(_, path) => Ok(Address::Unix(path.0.clone().unwrap_or_default())),
        }
    }

    /// The listening socket for another process.
    ///
    /// # Errors
    /// If the system cannot duplicate it.
    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        match &self.0 {
            Kind::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Kind::Unix(listener, _) => listener.as_fd().try_clone_to_owned(),
        }
    }

    /// A listening socket of another process, if it is bound to `address`. A port of 0 accepts any.
    ///
    /// # Errors
    /// It is not a listening socket.
    pub fn adopt(socket: OwnedFd, address: &Address) -> io::Result<Option<Self>> {
        match address {
            Address::Tcp(wanted) => {
                let listener = std::net::TcpListener::from(socket);
                let Ok(bound) = listener.local_addr() else { return Ok(None) };
                if bound.ip() != wanted.ip() || ![0, bound.port()].contains(&wanted.port()) {
                    return Ok(None);
                }
                listener.set_nonblocking(true)?;
                Ok(Some(Self(Kind::Tcp(TcpListener::from_std(listener)?))))
            }
            Address::Unix(path) => {
                let listener = std::os::unix::net::UnixListener::from(socket);
                let bound = listener.local_addr().ok();
                if bound.as_ref().and_then(|bound| bound.as_pathname()) != Some(path) {
                    return Ok(None);
                }
                listener.set_nonblocking(true)?;
                Ok(Some(Self(Kind::Unix(UnixListener::from_std(listener)?, SocketPath(Some(path.clone()))))))
            }
        }
    }

    /// Leaves the file of a Unix socket to another process.
    pub(super) fn leave(&mut self) {
        if let Kind::Unix(_, path) = &mut self.0 {
            path.0 = None;
        }
    }

    /// Accepts a connection. Cancellation safe.
    pub(super) async fn accept(&self) -> io::Result<AcceptedStream> {
        match &self.0 {
            Kind::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                AcceptedStream::tcp(stream, peer)
            }
            Kind::Unix(listener, _) => Ok(AcceptedStream::Unix(listener.accept().await?.0)),
        }
    }
}

async fn bind_unix(path: &Path) -> io::Result<Kind> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    // A process that was killed left the socket behind.
    if is_socket && UnixStream::connect(path).await.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let removed_later = SocketPath(Some(path.to_owned()));
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(Kind::Unix(listener, removed_later))
}

/// Removes the socket file when it is dropped, unless the path was taken.
#[derive(Debug)]
struct SocketPath(Option<PathBuf>);

impl Drop for SocketPath {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // It may have been removed by others.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let address = Address::Unix(path.clone());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "as a killed process leaves it");
        let listener = BoundListener::bind(&address).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        let error = BoundListener::bind(&address).await.unwrap_err();
        assert!(error.to_string().contains("admin.sock"), "{error}");
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_not_a_socket_is_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        std::fs::write(&path, "kept").unwrap();
        assert!(BoundListener::bind(&Address::Unix(path.clone())).await.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
    }

    #[tokio::test]
    async fn a_port_in_use_is_reported() {
        let first = BoundListener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.address().unwrap();
        let error = BoundListener::bind(&address).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot listen on {address}")), "{error}");
    }
}
