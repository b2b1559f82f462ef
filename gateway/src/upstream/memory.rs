//! A network in memory for tests. It depends only on the clock, which can be paused, and not on the system.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::sleep;

/// The buffer of each direction of a connection, in bytes.
const BUFFER_BYTES: usize = 16 * 1024;

/// How long it takes to connect.
const LATENCY: Duration = Duration::from_micros(200);

/// Where a backend in memory listens.
#[derive(Clone, Debug)]
pub(super) struct Network {
    accepted: mpsc::UnboundedSender<DuplexStream>,
    open: Arc<AtomicUsize>,
    most_open: Arc<AtomicUsize>,
}

/// The client's end of a connection.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: DuplexStream,
    open: Arc<AtomicUsize>,
}

impl Network {
    /// A network, and the connections that the backend accepts.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<DuplexStream>) {
        let (accepted, listener) = mpsc::unbounded_channel();
        (Self { accepted, open: Arc::default(), most_open: Arc::default() }, listener)
    }

    pub(super) async fn connect(&self) -> std::io::Result<Wire> {
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_open.fetch_max(open, Ordering::SeqCst);
        let (stream, far) = duplex(BUFFER_BYTES);
        let wire = Wire { stream, open: Arc::clone(&self.open) };
        sleep(LATENCY).await;
        self.accepted.send(far).map_err(|_| std::io::Error::from(std::io::ErrorKind::ConnectionRefused))?;
        Ok(wire)
    }

    /// The client's connections, including those being opened.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// The maximum of [`open`](Self::open) so far.
    pub(super) fn most_open(&self) -> usize {
        self.most_open.load(Ordering::SeqCst)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl PartialEq for Network {
    fn eq(&self, other: &Self) -> bool {
        self.accepted.same_channel(&other.accepted)
    }
}

impl Eq for Network {}
