//! A small HTTP client for what the gateway itself asks of a backend. It keeps connections,
//! and where a kept one had gone stale before the request left, it takes another.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pingora::protocols::l4::socket::SocketAddr as PeerAddr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::Upstream;

/// Unused connections that are kept, at most.
const MAX_IDLE: usize = 64;

/// Why there is no answer. The text is for the log.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// No connection, or it broke.
    #[error("the {0} upstream cannot be reached: {1}")]
    Unreachable(&'static str, String),
    /// Not within the request timeout.
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
    pool: legacy::Client<Connector, Full<Bytes>>,
}

impl Client {
    /// A client of `upstream`.
    pub fn new(upstream: Arc<Upstream>) -> Self {
        let host = HeaderValue::from_str(&upstream.host).unwrap_or(HeaderValue::from_static("localhost"));
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(upstream.settings.idle_timeout)
            .pool_max_idle_per_host(MAX_IDLE)
            .set_host(false)
            .build(Connector(Arc::clone(&upstream)));
        Self { upstream, host, pool }
    }

    /// Sends `request`, whose URI is a path, and reads at most `limit` bytes of the answer,
    /// all within the upstream's request timeout.
    ///
    /// # Errors
    /// [`Unanswered`], whatever the reason.
    pub async fn send(&self, mut request: Request<Full<Bytes>>, limit: usize) -> Result<Response<Bytes>, Unanswered> {
        let name = self.upstream.name;
        // The pool wants an authority to file connections under; the connector goes to
        // the one upstream whatever it says.
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(http::uri::Scheme::HTTP);
        parts.authority = Some(http::uri::Authority::from_static("upstream"));
        *request.uri_mut() = Uri::from_parts(parts).map_err(|error| Unanswered::Unreadable(name, error.to_string()))?;
        request.headers_mut().insert(HOST, self.host.clone());
        let answer = async {
            let response = self.pool.request(request).await.map_err(|error| {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                Unanswered::Unreachable(name, format!("{error}: {cause}"))
            })?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, limit).collect().await;
            let body = body.map_err(|error| Unanswered::Unreadable(name, error.to_string()))?.to_bytes();
            Ok(Response::from_parts(parts, body))
        };
        let deadline = self.upstream.settings.request_timeout;
        tokio::time::timeout(deadline, answer).await.unwrap_or(Err(Unanswered::TimedOut(name)))
    }
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
            let opening = Stream::open(upstream.resolved().map_err(io::Error::other)?);
            let opened = tokio::time::timeout(upstream.settings.connect_timeout, opening).await;
            Ok(TokioIo::new(opened.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??))
        })
    }
}

/// A connection of either kind.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    async fn open(peer: PeerAddr) -> io::Result<Self> {
        match peer {
            PeerAddr::Inet(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            PeerAddr::Unix(address) => {
                let path = address.as_pathname().ok_or_else(|| io::Error::other("the socket has no path"))?;
                Ok(Self::Unix(UnixStream::connect(path).await?))
            }
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// Calls the method of the same name on either kind.
macro_rules! either {
    ($self:ident . $method:ident ( $($argument:expr),* )) => {
        match $self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Unix(stream) => Pin::new(stream).$method($($argument),*),
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
