//! The HTTP client of one backend: for what the gateway itself asks, and for what it passes on.
//! It keeps connections, and where a kept one had gone stale it takes another.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::address::Peer;
use super::{Outgoing, Upstream};

/// Unused connections that are kept, at most.
const MAX_IDLE: usize = 256;

/// The head of an answer, and what is read of a body at once, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// Why there is no answer. The text is for the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unanswered {
    /// No connection, or it broke.
    #[error("the {0} upstream cannot be reached: {1}")]
    Unreachable(&'static str, String),
    /// Not within its deadline.
    #[error("the {0} upstream did not answer in time")]
    TimedOut(&'static str),
    /// An answer that is too large or was cut short.
    #[error("the {0} upstream's answer could not be read: {1}")]
    Unreadable(&'static str, String),
}

/// The client of one backend. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    upstream: Arc<Upstream>,
    host: HeaderValue,
    pool: legacy::Client<Connector, Outgoing>,
}

impl Client {
    /// A client of `upstream`.
    pub fn new(upstream: Arc<Upstream>) -> Self {
        let host = HeaderValue::from_str(&upstream.host).unwrap_or(HeaderValue::from_static("localhost"));
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(upstream.settings.idle_timeout)
            .pool_max_idle_per_host(MAX_IDLE)
            .http1_max_buf_size(BUFFER_BYTES)
            .set_host(false)
            .build(Connector(Arc::clone(&upstream)));
        Self { upstream, host, pool }
    }

    /// The backend it asks.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Sends `request`, whose URI is a path, and reads at most `limit` bytes of the answer,
    /// all within the upstream's request timeout.
    ///
    /// # Errors
    /// [`Unanswered`], whatever the reason.
    pub async fn send(&self, request: Request<Bytes>, limit: usize) -> Result<Response<Bytes>, Unanswered> {
        let name = self.upstream.name;
        let (parts, body) = request.into_parts();
        let answer = async {
            let response = self.open(parts, Outgoing::Whole(body)).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, limit).collect().await;
            let body = body.map_err(|error| Unanswered::Unreadable(name, error.to_string()))?.to_bytes();
            Ok(Response::from_parts(parts, body))
        };
        let deadline = self.upstream.settings.request_timeout;
        timeout(deadline, answer).await.unwrap_or(Err(Unanswered::TimedOut(name)))
    }

    /// Sends a request, whose URI is a path, and waits for the head of the answer as long as
    /// it takes: the deadline is the caller's.
    ///
    /// What never left is sent on another connection, and so is, once, a request that may be
    /// repeated where a kept connection had gone stale (RFC 9112, section 9.3.1).
    ///
    /// # Errors
    /// [`Unanswered`], whatever the reason.
    pub async fn open(&self, parts: Parts, body: Outgoing) -> Result<Response<Incoming>, Unanswered> {
        let repeatable = matches!(parts.method, Method::GET | Method::HEAD) && matches!(&body, Outgoing::Whole(_));
        let again = match &body {
            Outgoing::Whole(body) if repeatable => Some((parts.clone(), body.clone())),
            _ => None,
        };
        match (self.attempt(parts, body).await, again) {
            (Err(error), Some((parts, body))) if had_gone_stale(&error) => {
                self.attempt(parts, Outgoing::Whole(body)).await
            }
            (answer, _) => answer,
        }
        .map_err(|error| self.unanswered(&error))
    }

    async fn attempt(&self, mut parts: Parts, body: Outgoing) -> Result<Response<Incoming>, legacy::Error> {
        // The pool wants an authority to file connections under; the connector goes to
        // the one upstream whatever it says.
        let mut uri = std::mem::take(&mut parts.uri).into_parts();
        uri.scheme = Some(http::uri::Scheme::HTTP);
        uri.authority = Some(http::uri::Authority::from_static("upstream"));
        // A path with these two is always a URI; the pool refuses what is none.
        parts.uri = Uri::from_parts(uri).unwrap_or_default();
        parts.headers.insert(HOST, self.host.clone());
        let response = self.pool.request(Request::from_parts(parts, body)).await?;
        if let Some(Answered(answered)) = response.extensions().get() {
            answered.store(true, Ordering::Relaxed);
        }
        Ok(response)
    }

    fn unanswered(&self, error: &legacy::Error) -> Unanswered {
        let name = self.upstream.name;
        let connecting = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        if error.is_connect() && connecting.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return Unanswered::TimedOut(name);
        }
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        Unanswered::Unreachable(name, format!("{error}: {cause}"))
    }
}

/// Whether a connection has been answered on before.
#[derive(Clone, Debug, Default)]
struct Answered(Arc<AtomicBool>);

/// Whether a request failed because its connection, which had served before, was found closed.
fn had_gone_stale(error: &legacy::Error) -> bool {
    let mut extras = http::Extensions::new();
    if let Some(connected) = error.connect_info() {
        connected.get_extras(&mut extras);
    }
    let served = extras.get().is_some_and(|Answered(answered)| answered.load(Ordering::Relaxed));
    let cause = error.source().and_then(|source| source.downcast_ref::<hyper::Error>());
    let closed = cause.is_some_and(|cause| {
        let broken = cause.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
        // A reset that comes before any byte of an answer says the same as an orderly end.
        cause.is_incomplete_message()
            || cause.is_closed()
            || matches!(broken, Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe))
    });
    served && closed
}

/// Opens connections to the one upstream.
#[derive(Clone, Debug)]
struct Connector(Arc<Upstream>);

type Opening = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Opening;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Opening {
        let upstream = Arc::clone(&self.0);
        Box::pin(async move {
            let opening = async {
                // One that becomes unused in the meantime is taken by the pool instead.
                let slot = Arc::clone(&upstream.slots).acquire_owned().await.map_err(io::Error::other)?;
                Ok::<_, io::Error>(Stream {
                    socket: connect(&upstream).await?,
                    answered: Answered::default(),
                    _slot: slot,
                })
            };
            let opened = timeout(upstream.settings.connect_timeout, opening).await;
            Ok(TokioIo::new(opened.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??))
        })
    }
}

/// A connection of either kind.
#[derive(Debug)]
struct Stream {
    socket: Socket,
    answered: Answered,
    _slot: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Connects to the first address of a backend that can be reached. A name may have several, and a
/// backend that listens on one of them: each gets its share of the time.
async fn connect(upstream: &Upstream) -> io::Result<Socket> {
    let peers = upstream.peers().map_err(io::Error::other)?;
    let each = upstream.settings.connect_timeout / u32::try_from(peers.len()).unwrap_or(u32::MAX).max(1);
    let mut failed = io::Error::from(io::ErrorKind::TimedOut);
    for (place, peer) in peers.iter().enumerate() {
        match timeout(each, Socket::open(peer)).await {
            Ok(Ok(socket)) => {
                if place > 0 {
                    upstream.prefer(peer);
                }
                return Ok(socket);
            }
            Ok(Err(error)) => failed = error,
            Err(_) => failed = io::Error::from(io::ErrorKind::TimedOut),
        }
    }
    Err(failed)
}

impl Socket {
    async fn open(peer: &Peer) -> io::Result<Self> {
        Ok(match peer {
            Peer::Inet(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Self::Tcp(stream)
            }
            Peer::Unix(path) => Self::Unix(UnixStream::connect(path).await?),
        })
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.answered.clone())
    }
}

/// Calls the method of the same name on either kind.
macro_rules! either {
    ($self:ident . $method:ident ( $($argument:expr),* )) => {
        match &mut $self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Socket::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::upstream::Settings;

    /// A backend at two addresses, of which only the second listens.
    #[tokio::test]
    async fn an_address_that_cannot_be_reached_is_passed_over_and_tried_last_from_then_on() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let second = Duration::from_secs(1);
        let settings = Settings {
            connect_timeout: second,
            read_timeout: second,
            request_timeout: second,
            idle_timeout: Duration::ZERO,
            max_connections: 2,
        };
        let upstream = Upstream::new("api", super::super::Address::Inet(address), settings);
        let (good, bad) = (Peer::Inet(address), Peer::Unix("/nowhere/at/all".into()));
        *upstream.resolved.write().unwrap() = vec![bad.clone(), good.clone()];
        assert!(matches!(connect(&upstream).await.unwrap(), Socket::Tcp(_)));
        assert_eq!(upstream.peers().unwrap(), [good, bad.clone()]);
        *upstream.resolved.write().unwrap() = vec![bad];
        assert_eq!(connect(&upstream).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
