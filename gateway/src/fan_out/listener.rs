//! A listener of a shared stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::watch;

use super::Hub;
use super::stream::{FirstResponse, ListenerState, Next, Stream};

/// A comment, which clients ignore. It shows them that the connection works.
const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

/// A listener. Dropping it removes it from the stream.
pub struct Listener {
    hub: Arc<Hub>,
    stream: Arc<Stream>,
    state: ListenerState,
    changes: watch::Receiver<()>,
}

impl Listener {
    /// A listener of `stream` whose last event had the id `last`; `None` if the stream has ended.
    pub(super) fn new(hub: &Arc<Hub>, stream: &Arc<Stream>, last: Option<&[u8]>) -> Option<Self> {
        let changes = stream.changes.subscribe();
        let state = stream.add(last)?;
        hub.listeners.fetch_add(1, Ordering::Relaxed);
        Some(Self { hub: Arc::clone(hub), stream: Arc::clone(stream), state, changes })
    }

    /// Waits for the response of the service to the first request for the stream. Cancel-safe.
    pub async fn first_response(&mut self) -> FirstResponse {
        loop {
            // Before the state is read, so that a change after that is noticed.
            self.changes.mark_unchanged();
            if let Some(response) = self.stream.first_response() {
                return response;
            }
            // Never fails: the sender is part of the stream.
            let _ = self.changes.changed().await;
        }
    }

    /// Waits for the next block, or for a heartbeat; `None` at the end of the stream. Cancel-safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.changes.mark_unchanged();
            match self.stream.next(&mut self.state) {
                Next::Block(block) => return Some(block),
                Next::Heartbeat => return Some(HEARTBEAT),
                Next::Nothing => {}
                Next::Ended => return None,
                Next::TooSlow => {
                    self.hub.slow.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
            }
            let _ = self.changes.changed().await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stream.remove();
        self.hub.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}
