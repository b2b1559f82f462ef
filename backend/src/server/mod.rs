//! The composition root: two listeners, what is served on them, and an orderly end.

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
pub use listener::{BindError, Listener};

use crate::handler::App;
use crate::record;
use connection::ConnectionContext;
use listener::AcceptedStream;

/// How long to wait when the system cannot accept, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the connections of one listener may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; further ones wait in the system's queue.
    pub max_connections: usize,
    /// From the first byte of a request's header to its last.
    pub header_timeout: Duration,
    /// How long a connection may be kept open between two requests.
    pub idle_timeout: Duration,
    /// How long a client may take none of an answer.
    pub write_timeout: Duration,
    /// The longest header, in bytes: 8192 to 65,536.
    pub header_bytes: usize,
}

/// What a server needs to know besides what it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Of the api listener.
    pub api: Limits,
    /// Of the admin listener.
    pub admin: Limits,
    /// How long requests may go on after the end was asked for.
    pub drain: Duration,
}

/// Both listeners, bound.
#[derive(Debug)]
pub struct Listeners {
    /// What the gateway proxies to.
    pub api: Listener,
    /// The internal side.
    pub admin: Listener,
}

impl Listeners {
    /// Binds both.
    ///
    /// # Errors
    /// [`BindError`] of the first that cannot be.
    pub async fn bind(api: &Address, admin: &Address) -> Result<Self, BindError> {
        Ok(Self { api: Listener::bind(api).await?, admin: Listener::bind(admin).await? })
    }

    /// Where they are, ports chosen.
    ///
    /// # Errors
    /// A socket that the system no longer knows.
    pub fn announcement(&self) -> io::Result<Announcement> {
        Ok(Announcement { api: self.api.address()?.to_string(), admin: self.admin.address()?.to_string() })
    }
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut because their requests outlasted [`Settings::drain`].
    pub cut: usize,
}

/// Serves until `shutdown` ends, then lets the requests in flight finish.
pub async fn run(
    listeners: Listeners,
    settings: &Settings,
    app: Arc<App>,
    shutdown: impl Future<Output = ()> + Send,
) -> Drained {
    let (drain, draining) = watch::channel(false);
    let side =
        |listener, limits| ConnectionContext { app: Arc::clone(&app), listener, limits, draining: draining.clone() };
    let api = accept(listeners.api, side(record::Listener::Api, settings.api), settings.drain);
    let admin = accept(listeners.admin, side(record::Listener::Admin, settings.admin), settings.drain);
    let end = async {
        shutdown.await;
        app.stop();
        // No receiver means that both sides have ended already.
        let _ = drain.send(true);
    };
    let (api, admin, ()) = tokio::join!(api, admin, end);
    Drained { cut: api + admin }
}

/// Accepts until the drain, and returns how many connections had to be cut.
async fn accept(listener: Listener, side: ConnectionContext, drain: Duration) -> usize {
    let places = Arc::new(Semaphore::new(side.limits.max_connections));
    let mut connections = JoinSet::new();
    let mut draining = side.draining.clone();
    loop {
        // A place first: a connection that is accepted and not served looks alive to its client.
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((place, listener.accept().await?))
        };
        let (place, accepted) = tokio::select! {
            () = connection::told_to_drain(&mut draining) => break,
            // Ended connections are forgotten as they end.
            Some(_) = connections.join_next() => continue,
            accepted = accepted => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(listener = side.listener.as_str(), %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let open = side.app.metrics().connection_open(side.listener);
        let side = side.clone();
        connections.spawn(async move {
            match accepted {
                AcceptedStream::Tcp(stream, peer) => connection::serve(side, stream, peer).await,
                AcceptedStream::Unix(stream) => connection::serve(side, stream, "unix".to_owned()).await,
            }
            drop((open, place));
        });
    }
    // New connections are refused from here on, so that a client goes elsewhere at once.
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, all).await.is_ok() {
        return 0;
    }
    let cut = connections.len();
    connections.shutdown().await;
    cut
}
