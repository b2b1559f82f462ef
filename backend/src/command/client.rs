//! An HTTP client for the admin listener, over TCP or a Unix socket: one connection per request.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::server::Address;

/// Timeout for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout for the response head; an upload of many rows takes time.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(300);
/// The maximum response body, in bytes, that is read into memory.
const RESPONSE_LIMIT: usize = 64 << 20;

/// The address of the admin listener: `http://host:port` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Over TCP; the default port is 80.
    Tcp(Authority),
    /// Over a Unix socket.
    Unix(PathBuf),
}

/// The text is not a [`Target`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be http://HOST:PORT or unix:/PATH")]
pub struct NotATarget;

impl FromStr for Target {
    type Err = NotATarget;

    fn from_str(text: &str) -> Result<Self, NotATarget> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(NotATarget) };
        }
        let rest = text.strip_prefix("http://").ok_or(NotATarget)?;
        let authority: Authority = rest.strip_suffix('/').unwrap_or(rest).parse().map_err(|_| NotATarget)?;
        if authority.host().is_empty() || authority.as_str().contains('@') {
            Err(NotATarget)
        } else {
            Ok(Self::Tcp(authority))
        }
    }
}

/// The configured listener, as reached from its own host.
impl From<Address> for Target {
    fn from(address: Address) -> Self {
        let mut tcp = match address {
            Address::Unix(path) => return Self::Unix(path),
            Address::Tcp(tcp) => tcp,
        };
        if tcp.ip().is_unspecified() {
            let loopback =
                if tcp.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
            tcp.set_ip(loopback);
        }
        // A socket address without a scope is an authority. A scope names an interface, which HTTP cannot express.
        let authority = tcp.to_string().parse();
        authority.map_or_else(|_| Self::Tcp(Authority::from_static("localhost")), Self::Tcp)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => write!(f, "http://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No response.
    #[error("no response from {target}: {reason}")]
    NoResponse {
        /// The address of the admin listener.
        target: String,
        /// The cause.
        reason: String,
    },
    /// An error response.
    #[error("{reason} ({status})")]
    Refused {
        /// The status.
        status: StatusCode,
        /// Its description.
        reason: String,
    },
    /// A response that is not one of this service.
    #[error("the response cannot be read; is this the admin listener?")]
    InvalidResponse,
}

/// The client.
#[derive(Clone, Debug)]
pub struct Client {
    target: Target,
    response_timeout: Duration,
}

impl Client {
    /// A client for `target`. Does not connect yet.
    pub fn new(target: Target) -> Self {
        Self { target, response_timeout: RESPONSE_TIMEOUT }
    }

    /// Sets another response timeout, for slow requests.
    #[must_use]
    pub fn waiting(self, response_timeout: Duration) -> Self {
        Self { response_timeout, ..self }
    }

    /// Sends a request and returns a successful response with its body unread.
    ///
    /// # Errors
    /// [`ClientError`]; a status of 400 and above is [`ClientError::Refused`].
    pub async fn open(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let host = match &self.target {
            Target::Tcp(authority) => authority.as_str(),
            Target::Unix(_) => "localhost",
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, host)
            .header(CONTENT_TYPE, content_type)
            .body(Full::new(body))
            .map_err(|error| self.no_response(error))?;
        let connected = match &self.target {
            Target::Tcp(authority) => {
                let host = authority.host();
                let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
                let stream = self.connected(TcpStream::connect((host, authority.port_u16().unwrap_or(80)))).await?;
                self.exchange(stream, request).await
            }
            Target::Unix(path) => {
                let stream = self.connected(UnixStream::connect(path)).await?;
                self.exchange(stream, request).await
            }
        };
        let response = connected?;
        if response.status().is_success() { Ok(response) } else { Err(error_of(response).await) }
    }

    /// Sends a request and returns the response body.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let response = self.open(method, path, content_type, body).await?;
        let collected = Limited::new(response.into_body(), RESPONSE_LIMIT).collect().await;
        Ok(collected.map_err(|error| self.no_response(error))?.to_bytes())
    }

    /// [`Client::send`], with the response parsed as JSON.
    ///
    /// # Errors
    /// As [`Client::open`], and [`ClientError::InvalidResponse`].
    pub async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let bytes = self.send(method, path, content_type, body).await?;
        serde_json::from_slice(&bytes).map_err(|_| ClientError::InvalidResponse)
    }

    async fn connected<S>(&self, connect: impl Future<Output = std::io::Result<S>>) -> Result<S, ClientError> {
        match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(stream) => stream.map_err(|error| self.no_response(error)),
            Err(_) => Err(self.no_response("connection timed out")),
        }
    }

    async fn exchange<S>(&self, stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.no_response(error))?;
        // It ends with the response body, whose reader sees its errors.
        tokio::spawn(connection);
        match tokio::time::timeout(self.response_timeout, sender.send_request(request)).await {
            Ok(response) => response.map_err(|error| self.no_response(error)),
            Err(_) => Err(self.no_response("response timed out")),
        }
    }

    fn no_response(&self, reason: impl fmt::Display) -> ClientError {
        ClientError::NoResponse { target: self.target.to_string(), reason: reason.to_string() }
    }
}

async fn error_of(response: Response<Incoming>) -> ClientError {
    #[derive(Deserialize)]
    struct ErrorBody {
        description: String,
    }
    let status = response.status();
    let Ok(collected) = Limited::new(response.into_body(), 64 * 1024).collect().await else {
        return ClientError::InvalidResponse;
    };
    match serde_json::from_slice::<ErrorBody>(&collected.to_bytes()) {
        Ok(ErrorBody { description }) => ClientError::Refused { status, reason: description },
        Err(_) => ClientError::InvalidResponse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_url_or_a_socket() {
        for text in ["http://127.0.0.1:8081", "http://[::1]:8081", "http://admin.example", "unix:/run/admin.sock"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        assert_eq!("http://localhost:8081/".parse::<Target>().unwrap().to_string(), "http://localhost:8081");
        for text in ["127.0.0.1:8081", "https://h", "http://", "http://u@h", "http://h/path", "unix:admin.sock", ""] {
            assert_eq!(text.parse::<Target>(), Err(NotATarget), "{text}");
        }
    }

    #[test]
    fn a_configured_address_is_reached_from_its_own_host() {
        for (address, target) in [
            ("127.0.0.1:8081", "http://127.0.0.1:8081"),
            ("0.0.0.0:8081", "http://127.0.0.1:8081"),
            ("[::]:8081", "http://[::1]:8081"),
            ("unix:/run/admin.sock", "unix:/run/admin.sock"),
        ] {
            assert_eq!(Target::from(address.parse::<Address>().unwrap()).to_string(), target);
        }
    }
}
