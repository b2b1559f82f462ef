//! Accepts the connections of one listener, and owns them.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Phase;
use super::connection::{self, ConnectionContext, Idle};
use super::listener::{AcceptedStream, BoundListener};
use crate::record::Listener;

/// The pause after a failed accept, usually for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An open connection on which no request is in flight.
#[derive(Debug)]
pub struct OpenConnection {
    listener: Listener,
    stream: AcceptedStream,
    buffered: Bytes,
}

impl OpenConnection {
    /// A connection that another process has left.
    ///
    /// # Errors
    /// The socket is not a connection.
    pub fn new(listener: Listener, socket: OwnedFd, buffered: Bytes) -> io::Result<Self> {
        Ok(Self { listener, stream: AcceptedStream::from_socket(socket)?, buffered })
    }

    /// The listener that accepted it.
    pub fn listener(&self) -> Listener {
        self.listener
    }

    /// The socket, and the beginning of the next request, if it was read.
    ///
    /// # Errors
    /// If the system cannot change the socket's mode.
    pub fn into_parts(self) -> io::Result<(OwnedFd, Bytes)> {
        Ok((self.stream.into_socket()?, self.buffered))
    }
}

/// What a listener does, and how many connections it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) phase: Phase,
    pub(super) open: usize,
}

/// The task of a listener.
pub(super) struct Acceptor {
    listener: BoundListener,
    context: ConnectionContext,
    /// Timeout of the last requests.
    drain: Duration,
    permits: Arc<Semaphore>,
    connections: JoinSet<Option<OpenConnection>>,
    /// Connections that were set aside.
    idle: Vec<OpenConnection>,
    /// From another process.
    adopted: mpsc::UnboundedReceiver<OpenConnection>,
    /// For another process.
    leave: mpsc::UnboundedSender<OpenConnection>,
    status: watch::Sender<Status>,
}

impl Acceptor {
    pub(super) fn new(
        listener: BoundListener,
        context: ConnectionContext,
        drain: Duration,
        (adopted, leave): (mpsc::UnboundedReceiver<OpenConnection>, mpsc::UnboundedSender<OpenConnection>),
    ) -> (Self, watch::Receiver<Status>) {
        let permits = Arc::new(Semaphore::new(context.limits.max_connections));
        let (status, statuses) = watch::channel(Status { phase: Phase::Serve, open: 0 });
        let (connections, idle) = (JoinSet::new(), Vec::new());
        (Self { listener, context, drain, permits, connections, idle, adopted, leave, status }, statuses)
    }

    /// Accepts connections until the drain, and returns how many connections had to be closed.
    pub(super) async fn run(mut self) -> usize {
        let mut phase = self.context.phase.clone();
        loop {
            let now = *phase.borrow_and_update();
            match now {
                Phase::Serve => self.resume_idle(),
                Phase::Pause => {}
                Phase::Leave | Phase::Drain => return self.end(now).await,
            }
            self.report(now);
            let permits = Arc::clone(&self.permits);
            // The permit comes first: a connection that is accepted but not served looks alive to its client.
            let accepted = async {
                let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
                Ok::<_, io::Error>((permit, self.listener.accept().await?))
            };
            tokio::select! {
                // Without a sender, the server was dropped.
                changed = phase.changed() => if changed.is_err() { return self.end(Phase::Drain).await },
                Some(ended) = self.connections.join_next() => self.idle.extend(ended.ok().flatten()),
                Some(connection) = self.adopted.recv() => self.idle.push(connection),
                accepted = accepted, if now == Phase::Serve => match accepted {
                    Ok((permit, stream)) => self.serve(permit, stream, None),
                    Err(error) => {
                        tracing::warn!(listener = self.context.listener.as_str(), %error, "accepting a connection failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn report(&self, phase: Phase) {
        let now = Status { phase, open: self.connections.len() };
        self.status.send_if_modified(|status| std::mem::replace(status, now) != now);
    }

    /// Serves the connections that were set aside.
    fn resume_idle(&mut self) {
        while let Some(OpenConnection { stream, buffered, .. }) = self.idle.pop() {
            // Without a permit, they are more than the limit, which another process had accepted: the oldest clients
            // would otherwise lose their connections.
            let permit = Arc::clone(&self.permits).try_acquire_owned().ok();
            self.serve(permit, stream, Some(buffered));
        }
    }

    fn serve(
        &mut self,
        permit: impl Into<Option<OwnedSemaphorePermit>>,
        stream: AcceptedStream,
        buffered: Option<Bytes>,
    ) {
        let (permit, context) = (permit.into(), self.context.clone());
        let open = context.app.metrics().connection_open(context.listener);
        self.connections.spawn(async move {
            let listener = context.listener;
            let idle = match stream {
                AcceptedStream::Tcp(stream, peer) => {
                    let idle = serve(context, stream, peer.clone(), buffered).await;
                    idle.map(|idle| (AcceptedStream::Tcp(idle.stream, peer), idle.buffered))
                }
                AcceptedStream::Unix(stream) => {
                    let idle = serve(context, stream, "unix".to_owned(), buffered).await;
                    idle.map(|idle| (AcceptedStream::Unix(idle.stream), idle.buffered))
                }
            };
            drop((open, permit));
            idle.map(|(stream, buffered)| OpenConnection { listener, stream, buffered })
        });
    }

    /// Waits for the last requests, and returns how many connections had to be closed.
    async fn end(mut self, phase: Phase) -> usize {
        let deadline = Instant::now() + self.drain;
        if phase == Phase::Leave {
            self.listener.leave();
        } else {
            // Without another process, a connection that was set aside is closed.
            self.idle.clear();
        }
        // Closing the listener refuses new connections, so that clients go elsewhere at once.
        drop(self.listener);
        loop {
            for connection in self.idle.drain(..) {
                // Without a receiver, the server was dropped.
                let _ = self.leave.send(connection);
            }
            tokio::select! {
                ended = self.connections.join_next() => match ended {
                    Some(ended) => self.idle.extend(ended.ok().flatten()),
                    None => return 0,
                },
                Some(connection) = self.adopted.recv(), if phase == Phase::Leave => self.idle.push(connection),
                () = sleep_until(deadline) => break,
            }
        }
        let cut = self.connections.len();
        self.connections.shutdown().await;
        cut
    }
}

async fn serve<S>(context: ConnectionContext, stream: S, peer: String, buffered: Option<Bytes>) -> Option<Idle<S>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    match buffered {
        None => connection::serve(context, stream, peer).await,
        Some(buffered) => connection::resume(context, Idle { stream, buffered }, peer).await,
    }
}
