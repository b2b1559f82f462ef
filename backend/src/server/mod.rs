//! The composition root: both listeners, what they serve, and graceful shutdown.

mod accept;
mod address;
mod announce;
mod connection;
mod listener;
mod requests;
mod running;
mod stream;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use accept::OpenConnection;
pub use address::{Address, NotAnAddress};
pub use announce::Announcement;
pub use listener::{BindError, BoundListener};
pub use running::{Adopter, Server};

use crate::handler::App;

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

/// What a listener does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It accepts and serves connections.
    Serve,
    /// It accepts nothing. Connections are set aside as soon as no request is in flight on them; their requests, and
    /// new connections, wait.
    Pause,
    /// The same, but the connections go to the next process.
    Leave,
    /// It accepts nothing, and closes connections when their requests have ended.
    Drain,
}

impl Phase {
    /// Whether connections without a request are set aside.
    fn is_paused(self) -> bool {
        matches!(self, Self::Pause | Self::Leave)
    }
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
        let (api, admin) = (self.api.address()?.to_string(), self.admin.address()?.to_string());
        Ok(Announcement { api, admin, process: std::process::id() })
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
    let server = Server::start(listeners, settings, app);
    shutdown.await;
    server.drain().await
}
