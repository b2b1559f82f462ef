//! The public listener: accepts, shakes hands, and has the requests of each connection answered.
//!
//! The stock listener of pingora has a fixed handshake deadline, no cap and large buffers;
//! this one is a pingora [`Service`] of our own.

mod admission;
mod chunks;
mod connection;
mod date;
mod deadline_timer;
mod downstream;
mod http1;
mod http2;
mod identity;
mod info;
pub mod proxy;
mod stream;
mod tls;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::request::Parts;
use ipnet::IpNet;
use pingora::apps::HttpServerApp;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use tokio::sync::watch;
use tokio::task::JoinSet;

use admission::{Admission, Counted};
use connection::Connection;
pub use downstream::{Added, Downstream, Head, may_have_body};
pub use http1::{Exchange, put_field, put_status};
pub use http2::http2_options;
pub use identity::{Identity, NotAnIdentity};
pub use info::ConnectionInfo;
pub use stream::TlsStream;
pub use tls::Identities;

/// The TLS versions that are spoken.
pub const VERSIONS: [&str; 2] = ["1.2", "1.3"];

/// How connections are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For the whole TLS handshake. 10 s by default.
    pub handshake_timeout: Duration,
    /// For the whole head of an HTTP/1 request, and for the preface of HTTP/2: the first from
    /// the end of the handshake, later ones from their first byte. 10 s by default.
    pub header_timeout: Duration,
    /// How long an unused connection is kept. 60 s by default.
    pub keepalive_timeout: Duration,
    /// How long a client may take nothing of what is written to it. 30 s by default.
    pub write_timeout: Duration,
    /// Connections at once, over which the newest is closed. 15,000 by default.
    pub max_connections: u32,
    /// Connections of one client at once, over which the newest is closed; a client being an
    /// IPv4 address or the /64 of an IPv6 address. 2,000 by default. Those that come from a
    /// trusted proxy count for the client it tells of by the PROXY protocol, or for none.
    pub max_connections_per_address: u32,
    /// Whether every connection has to come from a trusted proxy and to begin with a header of
    /// the PROXY protocol, the deadline of the handshake counting for it.
    pub proxy_protocol: bool,
    /// Where connections that carry many clients come from.
    pub trusted_proxies: Vec<IpNet>,
    /// Worker threads.
    pub workers: usize,
    /// How long a stop waits for what is under way.
    pub drain_timeout: Duration,
}

/// Why a connection came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The handshake took too long.
    Timeout,
    /// The client spoke no TLS that we accept.
    Protocol,
    /// A proxy sent no PROXY header that we accept.
    ProxyHeader,
    /// The connection broke.
    Disconnected,
}

impl Failure {
    /// Every failure.
    pub const ALL: [Self; 4] = [Self::Timeout, Self::Protocol, Self::ProxyHeader, Self::Disconnected];

    /// The reason as a metric tells it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::ProxyHeader => "proxy_header",
            Self::Disconnected => "disconnected",
        }
    }
}

/// Why a connection was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// There are too many.
    MaxConnections,
    /// There are too many of this client.
    PerAddress,
    /// It should be a trusted proxy's.
    UntrustedProxy,
}

impl Refused {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::MaxConnections, Self::PerAddress, Self::UntrustedProxy];

    /// The reason as a metric tells it.
    pub fn label(self) -> &'static str {
        match self {
            Self::MaxConnections => "max_connections",
            Self::PerAddress => "per_address",
            Self::UntrustedProxy => "untrusted_proxy",
        }
    }
}

/// Why a connection was closed without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reaped {
    /// The head of a request did not come within its deadline.
    Header,
    /// No further request came.
    Keepalive,
    /// Over 1 MiB came by HTTP/2 and no request, or too many frames without content.
    Flood,
}

impl Reaped {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::Header, Self::Keepalive, Self::Flood];

    /// The reason as a metric tells it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Header => "header_timeout",
            Self::Keepalive => "keepalive_timeout",
            Self::Flood => "flood",
        }
    }
}

/// What looks at the head of each HTTP/1 request before any parser does.
pub trait Gate: Send + Sync + 'static {
    /// Where the head ends that `bytes` begin with, where it does; the first `seen` bytes are
    /// known to hold no end.
    fn end(&self, bytes: &[u8], seen: usize) -> Option<usize>;

    /// The most that a head may have, in bytes.
    fn max_head_bytes(&self) -> usize;

    /// Looks at a whole head, whose first byte came at `began`, and tells what follows.
    ///
    /// # Errors
    /// The answer to send before the connection is closed.
    fn read(&self, head: &[u8], peer: SocketAddr, began: Instant) -> Result<Passed, Bytes>;

    /// The answer to a head that has not ended within [`Gate::max_head_bytes`].
    fn overflow(&self, head: &[u8], peer: SocketAddr, began: Instant) -> Bytes;
}

/// A head that a [`Gate`] let pass.
pub enum Passed {
    /// The request that it is of, which no body follows.
    Request(Parts),
    /// It is left to pingora's parser, as all but GET and HEAD of HTTP/1.1 are.
    Head {
        /// The bytes of body that follow it; `None` where it is chunked, so that only the body itself says
        /// where it ends.
        body: Option<u64>,
        /// What the parser is not given of it: the scheme and the authority of its target.
        left_out: Option<Range<usize>>,
    },
}

/// What answers requests. Most are answered in the task of their connection: all of HTTP/2, and GET
/// and HEAD of HTTP/1.1 without a body. The rest of HTTP/1 goes through pingora's session, which knows
/// bodies, interim answers and HTTP/1.0, and for which pingora makes a future of some 70 KB anew each
/// time.
pub trait App: HttpServerApp + Send + Sync + 'static {
    /// Answers a request.
    fn answer(&self, downstream: &mut impl Downstream) -> impl Future<Output = ()> + Send;
}

/// What is told of connections, for whoever counts them.
pub trait Observe: Send + Sync + 'static {
    /// A connection was accepted.
    fn opened(&self);
    /// A connection ended.
    fn closed(&self);
    /// A connection was not taken.
    fn refused(&self, refused: Refused);
    /// A handshake ended well, with this version (one of [`VERSIONS`]).
    fn shaken(&self, version: &'static str);
    /// A handshake failed.
    fn failed(&self, failure: Failure);
    /// A connection was closed because no request came, or not within its deadline.
    fn reaped(&self, reaped: Reaped);
    /// A request of an HTTP/2 connection was refused that has too many at once.
    fn stream_refused(&self);
}

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

/// The service that serves `app` on one socket until it is told to drain.
pub struct Listener<A> {
    socket: Option<TcpListener>,
    protocols: Protocols,
    app: Arc<A>,
    gate: Arc<dyn Gate>,
    observer: Arc<dyn Observe>,
    settings: Arc<Settings>,
    start: Start,
    drain: Drain,
}

impl<A> Listener<A> {
    /// A listener on `socket`.
    pub fn new(
        socket: TcpListener,
        protocols: Protocols,
        app: Arc<A>,
        gate: Arc<dyn Gate>,
        observer: Arc<dyn Observe>,
        settings: Settings,
        (start, drain): (Start, Drain),
    ) -> Self {
        Self { socket: Some(socket), protocols, app, gate, observer, settings: Arc::new(settings), start, drain }
    }
}

#[async_trait]
impl<A: App> Service for Listener<A> {
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

impl<A: App> Listener<A> {
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
                self.observer.refused(Refused::MaxConnections);
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
                app: Arc::clone(&self.app),
                gate: Arc::clone(&self.gate),
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
        // Connections that wait for a request are told; those that answer one may end it.
        self.app.http_cleanup().await;
        if !admission.wait_until_empty(self.settings.drain_timeout).await {
            tracing::warn!("connections were still open at the end of the drain timeout");
            // Each request that is cut off has its line before the log ends.
            connections.shutdown().await;
        }
    }

    /// Counts a connection for its client; one of a trusted proxy counts for none until it has
    /// told whose it is.
    fn count(&self, admission: &Arc<Admission>, peer: IpAddr) -> Result<Option<Counted>, Refused> {
        let is_trusted = self.settings.trusted_proxies.iter().any(|network| network.contains(&peer));
        match (is_trusted, self.settings.proxy_protocol) {
            (true, _) => Ok(None),
            (false, true) => Err(Refused::UntrustedProxy),
            (false, false) => admission.count(peer).map(Some).ok_or(Refused::PerAddress),
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
