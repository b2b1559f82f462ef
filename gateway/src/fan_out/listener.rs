//! A listener of a shared stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::watch;

use super::Hub;
use super::stream::{Next, Opened, Place, Stream};

/// A comment, which shows that the connection works.
const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// A listener, until it is dropped.
pub struct Listener {
    hub: Arc<Hub>,
    stream: Arc<Stream>,
    place: Place,
    changes: watch::Receiver<()>,
}

impl Listener {
    /// A listener of `stream` whose last event had the id `last`; `None` if the stream has ended.
    pub(super) fn new(hub: &Arc<Hub>, stream: &Arc<Stream>, last: Option<&[u8]>) -> Option<Self> {
        let changes = stream.changes.subscribe();
        let place = stream.add(last)?;
        hub.listeners.fetch_add(1, Ordering::Relaxed);
        Some(Self { hub: Arc::clone(hub), stream: Arc::clone(stream), place, changes })
    }

    /// The response of the service, once there is one. Cancel-safe.
    pub async fn opened(&mut self) -> Opened {
        loop {
            // Before the state is read: what happens after that changes it again.
            self.changes.mark_unchanged();
            if let Some(opened) = self.stream.opened() {
                return opened;
            }
            // The sender lasts as long as the stream.
            let _ = self.changes.changed().await;
        }
    }

    /// The next block, or a comment if there has been none for a while; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.changes.mark_unchanged();
            match self.stream.next(&mut self.place) {
                Next::Block(block) => return Some(block),
                Next::Beat => return Some(COMMENT),
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
