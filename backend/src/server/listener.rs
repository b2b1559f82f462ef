//! Binds and accepts, on TCP and Unix sockets.

use std::io;
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
            Kind::Unix(_, path) => Ok(Address::Unix(path.0.clone())),
        }
    }

    /// Accepts a connection. Cancellation safe.
    pub(super) async fn accept(&self) -> io::Result<AcceptedStream> {
        match &self.0 {
            Kind::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Responses are written at once; Nagle's algorithm would only delay them.
                stream.set_nodelay(true)?;
                Ok(AcceptedStream::Tcp(stream, peer.ip().to_canonical().to_string()))
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
    let path = SocketPath(path.to_owned());
    std::fs::set_permissions(&path.0, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(Kind::Unix(listener, path))
}

/// Removes the socket file when it is dropped.
#[derive(Debug)]
struct SocketPath(PathBuf);

impl Drop for SocketPath {
    fn drop(&mut self) {
        // It may have been removed by others.
        let _ = std::fs::remove_file(&self.0);
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
