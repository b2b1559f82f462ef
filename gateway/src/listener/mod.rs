//! The public listener: accepts connections, performs the TLS handshake and passes requests to the handler.
//!
//! pingora's own listener has a fixed handshake timeout, no connection limit and large buffers, so this is a
//! separate pingora [`Service`].

mod admission;
mod connection;
mod deadline_timer;
mod events;
mod handshake;
mod inspect;
pub mod proxy;
mod serving;
mod settings;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::cache::Cache;
use async_trait::async_trait;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::downstream::Handler;
use crate::drain::Draining;
use crate::tls::Identities;
use admission::{Admission, Counted};
use connection::Connection;
pub use events::{ConnectionReaped, ConnectionRefused, HandshakeFailure, Observe};
pub use inspect::{InspectHead, Inspected};
pub use serving::{CurrentServing, Serving};
pub use settings::Settings;

/// Binds `address`; port 0 selects a free port.
///
/// # Errors
/// The error of the operating system, with the address.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The channels for graceful shutdown.
pub struct Drain {
    /// Once it has begun, the listener stops accepting.
    pub requested: Draining,
    /// Becomes true when the last connection has ended or the drain timeout has passed.
    pub done: watch::Sender<bool>,
}

/// When the listener starts accepting.
pub struct Start {
    /// Awaited before the first accept; until then, connections wait in the socket's backlog.
    pub ready: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    /// Becomes true once the listener accepts.
    pub accepting: watch::Sender<bool>,
}

/// A pingora service that accepts connections on one socket and passes their requests to the handler until a
/// drain is requested.
pub struct Listener<H> {
    socket: Option<TcpListener>,
    identities: Arc<Identities>,
    serving: CurrentServing<H>,
    observer: Arc<dyn Observe>,
    workers: usize,
    start: Start,
    drain: Drain,
}

impl<H> Listener<H> {
    /// Creates a listener on `socket`, with `identities` as its certificates.
    pub fn new(
        socket: TcpListener,
        identities: Arc<Identities>,
        serving: CurrentServing<H>,
        observer: Arc<dyn Observe>,
        (start, drain): (Start, Drain),
    ) -> Self {
        let workers = serving.load().settings.workers;
        Self { socket: Some(socket), identities, serving, observer, workers, start, drain }
    }
}

#[async_trait]
impl<H: Handler> Service for Listener<H> {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        if let Some(socket) = self.socket.take() {
            match tokio::net::TcpListener::from_std(socket) {
                Ok(socket) => self.serve(socket).await,
                Err(error) => tracing::error!(%error, "the public listener could not be started"),
            }
        }
        // Reported in any case, so that a shutdown does not wait for a listener that has ended.
        self.drain.done.send_replace(true);
    }

    fn name(&self) -> &str {
        "public"
    }

    fn threads(&self) -> Option<usize> {
        Some(self.workers)
    }
}

impl<H: Handler> Listener<H> {
    async fn serve(&mut self, socket: tokio::net::TcpListener) {
        let admission = Admission::new();
        let mut serving = Cache::new(Arc::clone(&self.serving));
        let mut connections = JoinSet::new();
        let ready = self.start.ready.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ready) = ready {
            tokio::select! {
                () = ready => {}
                _ = self.drain.requested.begun() => {}
            }
        }
        self.start.accepting.send_replace(true);
        while !self.drain.requested.has_begun() {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                _ = self.drain.requested.begun() => break,
                // Removes ended connections, which would otherwise use memory.
                Some(_) = connections.join_next() => continue,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // The process is out of file descriptors or the client has already disconnected; an
                    // immediate retry would not help.
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            };
            let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            let settings = &serving.load().settings;
            // Closing the connection rejects the client before any work is done.
            let Some(permit) = admission.try_acquire(settings.max_connections) else {
                self.observer.refused(ConnectionRefused::MaxConnections);
                continue;
            };
            let counted = match count(settings, &admission, peer.ip()) {
                Ok(counted) => counted,
                Err(refused) => {
                    self.observer.refused(refused);
                    continue;
                }
            };
            let guard = ConnectionGuard::new(Arc::clone(&self.observer));
            let connection = Connection {
                identities: Arc::clone(&self.identities),
                current: Arc::clone(&self.serving),
                serving: serving.clone(),
                admission: Arc::clone(&admission),
                draining: self.drain.requested.clone(),
            };
            connections.spawn(async move {
                connection.run(stream, peer, &guard.0).await;
                drop((guard, permit, counted));
            });
        }
        drop(socket);
        if !admission.wait_until_empty(serving.load().settings.drain_timeout).await {
            tracing::warn!("connections were still open at the end of the drain timeout");
            // Cancels the remaining requests, so that each is logged before the log is closed.
            connections.shutdown().await;
        }
    }
}

/// Counts a connection for its client. A connection from a trusted proxy is counted once its PROXY header was read.
fn count(settings: &Settings, admission: &Arc<Admission>, peer: IpAddr) -> Result<Option<Counted>, ConnectionRefused> {
    let is_trusted = settings.trusted_proxies.iter().any(|network| network.contains(&peer));
    match (is_trusted, settings.proxy_protocol) {
        (true, _) => Ok(None),
        (false, true) => Err(ConnectionRefused::UntrustedProxy),
        (false, false) => {
            let counted = admission.count(peer, settings.max_connections_per_address);
            counted.map(Some).ok_or(ConnectionRefused::PerAddress)
        }
    }
}

/// Reports the end of a connection to the observer, even if its task panics or is cancelled.
struct ConnectionGuard(Arc<dyn Observe>);

impl ConnectionGuard {
    fn new(observer: Arc<dyn Observe>) -> Self {
        observer.opened();
        Self(observer)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.closed();
    }
}
