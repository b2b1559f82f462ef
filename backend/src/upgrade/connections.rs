//! Passes open connections to another process: packets with one descriptor each, over an anonymous socket pair.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use bytes::Bytes;
use rustix::cmsg_space;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::record::Listener;
use crate::server::OpenConnection;

/// The maximum size of a packet, in bytes: the longest header that a listener may accept, and the listener.
const MAX_BYTES: usize = 64 * 1024 + 1;

/// The sending end.
#[derive(Debug)]
pub struct Sender(OwnedFd);

/// The receiving end.
#[derive(Debug)]
pub struct Receiver(OwnedFd);

/// A new pair.
///
/// # Errors
/// No descriptors are left.
pub fn pair() -> io::Result<(Sender, Receiver)> {
    let (sender, receiver) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((Sender(sender), Receiver(receiver)))
}

impl Sender {
    /// Sends a connection. Blocks while the receiver has many to receive.
    ///
    /// # Errors
    /// The receiver is closed. The connection is closed then.
    pub fn send(&self, connection: OpenConnection) -> io::Result<()> {
        let listener = [number(connection.listener())];
        let (socket, buffered) = connection.into_parts()?;
        let packet = [IoSlice::new(&listener), IoSlice::new(&buffered)];
        let sockets = [socket.as_fd()];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(io::Error::other("no space for a descriptor"));
        }
        retry_on_intr(|| sendmsg(&self.0, &packet, &mut control, SendFlags::NOSIGNAL))?;
        Ok(())
    }
}

impl Receiver {
    /// The end that another process has passed to this one.
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// The socket, for another process.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Receives a connection; `None` when the sender is closed. Blocks. Needs a runtime, in which the connection is used.
    ///
    /// # Errors
    /// What was received is not a connection.
    pub fn receive(&self) -> io::Result<Option<OpenConnection>> {
        let mut packet = vec![0; MAX_BYTES];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = retry_on_intr(|| {
            recvmsg(&self.0, &mut [IoSliceMut::new(&mut packet)], &mut control, RecvFlags::CMSG_CLOEXEC)
        });
        let received = match received {
            Ok(received) if received.bytes > 0 => received,
            Ok(_) | Err(Errno::CONNRESET) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let is_whole = !received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
        packet.truncate(received.bytes);
        let mut sockets = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        });
        let socket = sockets.next().and_then(|mut sockets| sockets.next());
        let mut packet = Bytes::from(packet);
        let number_of_listener = packet.split_to(1);
        let listeners = [Listener::Api, Listener::Admin];
        let listener = listeners.into_iter().find(|listener| number_of_listener[..] == [number(*listener)]);
        match (socket, listener) {
            (Some(socket), Some(listener)) if is_whole => OpenConnection::new(listener, socket, packet).map(Some),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not a connection")),
        }
    }
}

fn number(listener: Listener) -> u8 {
    match listener {
        Listener::Api => 0,
        Listener::Admin => 1,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn connections_arrive_with_what_was_read_of_them() {
        let (sender, receiver) = pair().unwrap();
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connect = tokio::net::TcpStream::connect(server.local_addr().unwrap());
        let (mut client, accepted) = (connect.await.unwrap(), server.accept().await.unwrap().0);
        let socket: OwnedFd = accepted.into_std().unwrap().into();
        let sent = OpenConnection::new(Listener::Admin, socket, Bytes::from_static(b"GET /")).unwrap();
        sender.send(sent).unwrap();
        drop(sender);
        let received = receiver.receive().unwrap().unwrap();
        assert_eq!(received.listener(), Listener::Admin);
        let (socket, buffered) = received.into_parts().unwrap();
        assert_eq!(buffered, "GET /");
        rustix::io::write(&socket, b"a").unwrap();
        drop(socket);
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "a");
        assert!(receiver.receive().unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_not_a_connection_is_an_error() {
        let (sender, receiver) = pair().unwrap();
        for packet in [&b"\0"[..], b"\x07"] {
            rustix::io::write(&sender.0, packet).unwrap();
            assert!(receiver.receive().is_err());
        }
        drop(receiver);
        let (client, _server) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(sender.send(OpenConnection::new(Listener::Api, client.into(), Bytes::new()).unwrap()).is_err());
    }
}
