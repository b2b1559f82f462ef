//! A listener of a shared stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::watch;

use super::stream::{FirstResponse, ListenerState, Next, Stream};
use super::{Full, Hub, lock};
use crate::client::Prefix;

/// A comment, which clients ignore. It shows them that the connection works.
const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

/// A listener. Dropping it removes it from the stream.
pub struct Listener {
    stream: Arc<Stream>,
    state: ListenerState,
    changes: watch::Receiver<()>,
    counted: Counted,
}

/// A listener that is counted in [`Hub::listeners`] until this is dropped.
pub(super) struct Counted {
    hub: Arc<Hub>,
    client: Prefix,
}

impl Counted {
    /// Counts a listener of `client`.
    ///
    /// # Errors
    /// [`Full`]: the limit on listeners is reached.
    pub(super) fn new(hub: &Arc<Hub>, client: Prefix, max: usize) -> Result<Self, Full> {
        lock(&hub.listeners).add(client, max)?;
        Ok(Self { hub: Arc::clone(hub), client })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        lock(&self.hub.listeners).remove(self.client);
    }
}

impl Listener {
    /// A listener of `stream`, which `state` was added to.
    pub(super) fn new(stream: &Arc<Stream>, state: ListenerState, counted: Counted) -> Self {
        Self { stream: Arc::clone(stream), state, changes: stream.changes.subscribe(), counted }
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
                    self.counted.hub.slow.fetch_add(1, Ordering::Relaxed);
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
    }
}
