//! The new process's side of an upgrade.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use holodule_handover::{Draining, NotTaken, Takeover};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::connections::Receiver;
use crate::server::{Address, Adopter, BindError, BoundListener, Listeners, Server};
use crate::store::{Settings, Store, StoreError};

/// How long the lock of a store may be held by a predecessor that was killed.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a new process checks whether its store can be used.
const INTERVAL: Duration = Duration::from_millis(50);

/// The listeners: those of the predecessor, if it has them.
///
/// # Errors
/// [`BindError`] of the first that cannot be bound.
pub async fn listeners(
    api: &Address,
    admin: &Address,
    mut takeover: Option<&mut Takeover>,
) -> Result<Listeners, BindError> {
    let mut listen = async |name: &str, address: &Address| {
        let socket = match (&mut takeover, address) {
            (Some(takeover), Address::Tcp(tcp)) => takeover.take_tcp(name, *tcp).map(Into::into),
            (Some(takeover), Address::Unix(path)) => takeover.take_unix(path).map(Into::into),
            (None, _) => None,
        };
        match socket.map(|socket| BoundListener::adopt(socket, address)) {
            Some(Ok(Some(listener))) => Ok(listener),
            Some(Ok(None) | Err(_)) | None => BoundListener::bind(address).await,
        }
    };
    Ok(Listeners { api: listen("api_addr", api).await?, admin: listen("admin_addr", admin).await? })
}

/// Why a new process cannot take over.
#[derive(Debug, thiserror::Error)]
pub enum NotSucceeded {
    /// The predecessor continues to serve.
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Opens the store. A new process opens an embedded one after its predecessor has closed it, and waits until a MongoDB can
/// be used, while its predecessor serves.
///
/// # Errors
/// [`NotSucceeded`].
pub async fn open_store(
    settings: &Settings,
    takeover: Option<Takeover>,
) -> Result<(Store, Option<Takeover>), NotSucceeded> {
    let Some(takeover) = takeover else { return Ok((Store::open(settings).await?, None)) };
    if settings.url.is_exclusive() {
        let takeover = blocking(move || takeover.request_release().map(|()| takeover)).await?;
        return Ok((Store::take_over(settings, LOCK_TIMEOUT).await?, Some(takeover)));
    }
    let store = Store::open(settings).await?;
    let mut reported = String::new();
    while let Err(error) = store.check_ready().await {
        let reason = error.to_string();
        if reason != reported {
            takeover.waiting(&reason);
            reported = reason;
        }
        sleep(INTERVAL).await;
    }
    Ok((store, Some(takeover)))
}

/// An upgrade, in the new process, which could serve now.
pub struct Succession {
    takeover: Takeover,
    receiver: Option<Receiver>,
}

impl Succession {
    /// The upgrade of this process.
    pub fn new(mut takeover: Takeover) -> Self {
        let receiver = takeover.take_channel().map(Receiver::new);
        Self { takeover, receiver }
    }

    /// The predecessors that still drain; from [`Succession::serve`] on, also the one of this upgrade.
    pub fn draining(&self) -> Arc<Draining> {
        self.takeover.draining()
    }

    /// The id of the predecessor.
    pub fn predecessor(&self) -> u32 {
        self.takeover.predecessor()
    }

    /// Starts the server as soon as this process may serve, and adopts the connections of the predecessor. Calls `announce`
    /// before the predecessor exits.
    ///
    /// # Errors
    /// [`NotTaken`]: this process must not serve.
    pub async fn serve(
        self,
        announce: impl FnOnce() + Send + 'static,
        start: impl FnOnce() -> Server,
    ) -> Result<Server, NotTaken> {
        let Self { takeover, receiver } = self;
        blocking(move || takeover.ready_then(announce)).await?;
        let server = start();
        if let Some(receiver) = receiver {
            let (adopter, runtime) = (server.adopter(), Handle::current());
            let adopt = move || {
                let _runtime = runtime.enter();
                adopt_all(&receiver, &adopter);
            };
            thread::Builder::new().name("adopt".to_owned()).spawn(adopt).map_err(NotTaken::Io)?;
        }
        Ok(server)
    }
}

/// Adopts connections until the predecessor has ended.
fn adopt_all(receiver: &Receiver, adopter: &Adopter) {
    loop {
        match receiver.receive() {
            Ok(Some(connection)) => adopter.adopt(connection),
            Ok(None) => return,
            // The client has closed the connection meanwhile, usually.
            Err(error) if [ErrorKind::InvalidData, ErrorKind::NotConnected].contains(&error.kind()) => {
                tracing::debug!(%error, "a connection of the predecessor cannot be used");
            }
            Err(error) => {
                tracing::warn!(%error, "the connections of the predecessor cannot be received");
                return;
            }
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NotTaken> + Send + 'static,
) -> Result<T, NotTaken> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}
