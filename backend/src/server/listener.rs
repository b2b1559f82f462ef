//! Binding and accepting, alike for TCP and Unix sockets.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::address::Address;

/// Who may connect to a Unix socket: its owner and group. The gateway's user is put in that group.
const SOCKET_MODE: u32 = 0o660;

/// A bound listener. A Unix socket's path goes when it is dropped.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener, SocketPath),
}

/// An accepted connection.
#[derive(Debug)]
pub(super) enum AcceptedStream {
    /// Over TCP, and the peer's IP address.
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

impl Listener {
    /// Binds `address`. A socket file that no process listens on any more is replaced.
    ///
    /// # Errors
    /// [`BindError`] where the address is taken, not ours, or not permitted.
    pub async fn bind(address: &Address) -> Result<Self, BindError> {
        let bound = match address {
            Address::Tcp(tcp) => TcpListener::bind(tcp).await.map(Kind::Tcp),
            Address::Unix(path) => bind_unix(path).await,
        };
        bound.map(Self).map_err(|source| BindError { address: address.clone(), source })
    }

    /// Where it listens, the port chosen.
    ///
    /// # Errors
    /// A socket that the system no longer knows.
    pub fn address(&self) -> io::Result<Address> {
        match &self.0 {
            Kind::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Kind::Unix(_, path) => Ok(Address::Unix(path.0.clone())),
        }
    }

    /// The next connection. Safe to cancel.
    pub(super) async fn accept(&self) -> io::Result<AcceptedStream> {
        match &self.0 {
            Kind::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Answers are written whole; waiting for more to send only delays them.
                stream.set_nodelay(true)?;
                Ok(AcceptedStream::Tcp(stream, peer.ip().to_canonical().to_string()))
            }
            Kind::Unix(listener, _) => Ok(AcceptedStream::Unix(listener.accept().await?.0)),
        }
    }
}

async fn bind_unix(path: &Path) -> io::Result<Kind> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    // Left behind by a process that was killed: nobody answers there.
    if is_socket && UnixStream::connect(path).await.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let path = SocketPath(path.to_owned());
    std::fs::set_permissions(&path.0, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(Kind::Unix(listener, path))
}

/// Removes the socket file when the listener is done with it.
#[derive(Debug)]
struct SocketPath(PathBuf);

impl Drop for SocketPath {
    fn drop(&mut self) {
        // Nothing to be done where someone else has removed it.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let address = Address::Unix(path.clone());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "as a killed process leaves it");
        let listener = Listener::bind(&address).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        let error = Listener::bind(&address).await.unwrap_err();
        assert!(error.to_string().contains("admin.sock"), "{error}");
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        std::fs::write(&path, "kept").unwrap();
        assert!(Listener::bind(&Address::Unix(path.clone())).await.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
    }

    #[tokio::test]
    async fn a_port_in_use_is_reported() {
        let first = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.address().unwrap();
        let error = Listener::bind(&address).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot listen on {address}")), "{error}");
    }
}
