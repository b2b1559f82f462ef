//! The public listener: accepts, shakes hands, and has the requests of each connection answered.
//!
//! The stock listener of pingora has a fixed handshake deadline, no cap and large buffers;
//! this one is a pingora [`Service`] of our own.

mod admission;
mod connection;
mod deadline_timer;
mod events;
mod inspect;
pub mod proxy;
mod settings;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::downstream::Handler;
use crate::tls::Identities;
use admission::{Admission, Counted};
use connection::Connection;
pub use events::{ConnectionReaped, ConnectionRefused, HandshakeFailure, Observe};
pub use inspect::{InspectHead, Inspected};
pub use settings::Settings;

/// Binds `address`; port 0 takes a free one.
///
/// # Errors
/// Whatever the system says, the address included.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The two ends of a stop, as the listener holds them.
pub struct Drain {
    /// When it becomes true, the listener stops accepting.
    pub asked: watch::Receiver<bool>,
    /// Becomes true once the last connection has ended, or the drain timeout has passed.
    pub done: watch::Sender<bool>,
}

/// When the listener begins to accept.
pub struct Start {
    /// What it waits for; connections wait in the socket's queue meanwhile.
    pub ready: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    /// Becomes true once it accepts.
    pub accepting: watch::Sender<bool>,
}

/// How clients are spoken to.
pub struct Protocols {
    /// What they are shown in a handshake.
    pub identities: Arc<Identities>,
    /// The parameters of HTTP/2.
    pub http2: h2::server::Builder,
}

/// The service that accepts connections on one socket and passes their requests to `handler`, until it is told to drain.
pub struct Listener<H> {
    socket: Option<TcpListener>,
    protocols: Protocols,
    handler: Arc<H>,
    inspector: Arc<dyn InspectHead>,
    observer: Arc<dyn Observe>,
    settings: Arc<Settings>,
    start: Start,
    drain: Drain,
}

impl<H> Listener<H> {
    /// A listener on `socket`.
    pub fn new(
        socket: TcpListener,
        protocols: Protocols,
        handler: Arc<H>,
        inspector: Arc<dyn InspectHead>,
        observer: Arc<dyn Observe>,
        settings: Settings,
        (start, drain): (Start, Drain),
    ) -> Self {
        Self {
            socket: Some(socket),
            protocols,
            handler,
            inspector,
            observer,
            settings: Arc::new(settings),
            start,
            drain,
        }
    }
}

#[async_trait]
impl<H: Handler> Service for Listener<H> {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        if let Some(socket) = self.socket.take() {
            match tokio::net::TcpListener::from_std(socket) {
                Ok(socket) => self.serve(socket).await,
                Err(error) => tracing::error!(%error, "the public listener cannot be served"),
            }
        }
        // Whoever waits for the drain must not wait for a service that is gone.
        self.drain.done.send_replace(true);
    }

    fn name(&self) -> &str {
        "public"
    }

    fn threads(&self) -> Option<usize> {
        Some(self.settings.workers)
    }
}

impl<H: Handler> Listener<H> {
    async fn serve(&mut self, socket: tokio::net::TcpListener) {
        let admission = Admission::new(self.settings.max_connections, self.settings.max_connections_per_address);
        let mut connections = JoinSet::new();
        let ready = self.start.ready.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ready) = ready {
            tokio::select! {
                () = ready => {}
                _ = self.drain.asked.changed() => {}
            }
        }
        self.start.accepting.send_replace(true);
        while !*self.drain.asked.borrow() {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                _ = self.drain.asked.changed() => break,
                // So that none that has ended takes memory.
                Some(_) = connections.join_next() => continue,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, or the client is gone already: neither is mended by
                    // asking again at once.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            };
            let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            // A closed connection tells the newest client at once, before any work is done.
            let Some(permit) = admission.enter() else {
                self.observer.refused(ConnectionRefused::MaxConnections);
                continue;
            };
            let counted = match self.count(&admission, peer.ip()) {
                Ok(counted) => counted,
                Err(refused) => {
                    self.observer.refused(refused);
                    continue;
                }
            };
            let open = Open::new(Arc::clone(&self.observer));
            let connection = Connection {
                identities: Arc::clone(&self.protocols.identities),
                handler: Arc::clone(&self.handler),
                inspector: Arc::clone(&self.inspector),
                http2: self.protocols.http2.clone(),
                admission: Arc::clone(&admission),
                settings: Arc::clone(&self.settings),
                drain: self.drain.asked.clone(),
            };
            connections.spawn(async move {
                connection.run(stream, peer, &open.0).await;
                drop((open, permit, counted));
            });
        }
        drop(socket);
        if !admission.wait_until_empty(self.settings.drain_timeout).await {
            tracing::warn!("connections were still open at the end of the drain timeout");
            // Each request that is cut off has its line before the log ends.
            connections.shutdown().await;
        }
    }

    /// Counts a connection for its client; one of a trusted proxy counts for none until it has
    /// told whose it is.
    fn count(&self, admission: &Arc<Admission>, peer: IpAddr) -> Result<Option<Counted>, ConnectionRefused> {
        let is_trusted = self.settings.trusted_proxies.iter().any(|network| network.contains(&peer));
        match (is_trusted, self.settings.proxy_protocol) {
            (true, _) => Ok(None),
            (false, true) => Err(ConnectionRefused::UntrustedProxy),
            (false, false) => admission.count(peer).map(Some).ok_or(ConnectionRefused::PerAddress),
        }
    }
}

/// Tells the observer of a connection's end, however it comes.
struct Open(Arc<dyn Observe>);

impl Open {
    fn new(observer: Arc<dyn Observe>) -> Self {
        observer.opened();
        Self(observer)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.closed();
    }
}
