//! The composition root: both listeners, what they serve, and graceful shutdown.

mod address;
mod announce;
mod connection;
mod listener;
mod stream;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub use address::{Address, NotAnAddress};
pub use announce::Announcement;
pub use listener::{BindError, BoundListener};

use crate::handler::App;
use crate::record;
use connection::ConnectionContext;
use listener::AcceptedStream;

/// The pause after a failed accept, usually for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The limits of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Concurrent connections; further ones wait in the system's backlog.
    pub max_connections: usize,
    /// Timeout from the first byte of a request header to its last.
    pub header_timeout: Duration,
    /// Timeout between two requests on a connection.
    pub idle_timeout: Duration,
    /// Timeout of a write without progress.
    pub write_timeout: Duration,
    /// The longest header, in bytes: 8192 to 65,536.
    pub header_bytes: usize,
}

/// The settings of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The api listener.
    pub api: Limits,
    /// The admin listener.
    pub admin: Limits,
    /// Timeout for requests in flight at shutdown.
    pub drain: Duration,
}

/// Both bound listeners.
#[derive(Debug)]
pub struct Listeners {
    /// The listener that the gateway proxies to.
    pub api: BoundListener,
    /// The listener for administrators and the gateway.
    pub admin: BoundListener,
}

impl Listeners {
    /// Binds both.
    ///
    /// # Errors
    /// [`BindError`] of the first that fails.
    pub async fn bind(api: &Address, admin: &Address) -> Result<Self, BindError> {
        Ok(Self { api: BoundListener::bind(api).await?, admin: BoundListener::bind(admin).await? })
    }

    /// The bound addresses.
    ///
    /// # Errors
    /// If the system cannot return one.
    pub fn announcement(&self) -> io::Result<Announcement> {
        Ok(Announcement { api: self.api.address()?.to_string(), admin: self.admin.address()?.to_string() })
    }
}

/// The result of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections closed because their requests outlasted [`Settings::drain`].
    pub cut: usize,
}

/// Serves until `shutdown` completes, then drains the requests in flight.
pub async fn run(
    listeners: Listeners,
    settings: &Settings,
    app: Arc<App>,
    shutdown: impl Future<Output = ()> + Send,
) -> Drained {
    let (drain, draining) = watch::channel(false);
    let context =
        |listener, limits| ConnectionContext { app: Arc::clone(&app), listener, limits, draining: draining.clone() };
    let api = accept(listeners.api, context(record::Listener::Api, settings.api), settings.drain);
    let admin = accept(listeners.admin, context(record::Listener::Admin, settings.admin), settings.drain);
    let end = async {
        shutdown.await;
        app.stop();
        // Without a receiver, both listeners have ended already.
        let _ = drain.send(true);
    };
    let (api, admin, ()) = tokio::join!(api, admin, end);
    Drained { cut: api + admin }
}

/// Accepts connections until the drain, and returns how many connections had to be closed.
async fn accept(listener: BoundListener, context: ConnectionContext, drain: Duration) -> usize {
    let permits = Arc::new(Semaphore::new(context.limits.max_connections));
    let mut connections = JoinSet::new();
    let mut draining = context.draining.clone();
    loop {
        // The permit comes first: a connection that is accepted but not served looks alive to its client.
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((permit, listener.accept().await?))
        };
        let (permit, accepted) = tokio::select! {
            () = connection::drained(&mut draining) => break,
            // Removes ended connections.
            Some(_) = connections.join_next() => continue,
            accepted = accepted => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(listener = context.listener.as_str(), %error, "accepting a connection failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let open = context.app.metrics().connection_open(context.listener);
        let context = context.clone();
        connections.spawn(async move {
            match accepted {
                AcceptedStream::Tcp(stream, peer) => connection::serve(context, stream, peer).await,
                AcceptedStream::Unix(stream) => connection::serve(context, stream, "unix".to_owned()).await,
            }
            drop((open, permit));
        });
    }
    // Closing the listener refuses new connections, so that clients go elsewhere at once.
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, all).await.is_ok() {
        return 0;
    }
    let cut = connections.len();
    connections.shutdown().await;
    cut
}
