//! A small HTTP client of the admin listener: one connection a request, over TCP or a
//! Unix socket.

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

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for the beginning of an answer; an upload of many rows takes its time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// The longest answer that is taken whole, in bytes.
const ANSWER_LIMIT: usize = 64 << 20;

/// Where the admin listener is: `http://host:port` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Over TCP; the port is 80 where none is named.
    Tcp(Authority),
    /// Over a Unix socket.
    Unix(PathBuf),
}

/// Text that is no [`Target`].
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

/// The listener of a configuration, as it is reached from its own host.
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
        // A socket address without a scope is an authority; one with a scope names an interface,
        // which HTTP cannot.
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

/// Why there is no answer, or one that says no.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("{target} does not answer: {reason}")]
    NoAnswer {
        /// Where the admin listener should be.
        target: String,
        /// What went wrong.
        reason: String,
    },
    /// The service said no.
    #[error("{reason} ({status})")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The description of the answer.
        reason: String,
    },
    /// An answer that is none of this service's.
    #[error("the answer cannot be read; is this the admin listener?")]
    Strange,
}

/// The client.
#[derive(Clone, Debug)]
pub struct Client {
    target: Target,
    answer_timeout: Duration,
}

impl Client {
    /// A client of `target`. Nothing is connected yet.
    pub fn new(target: Target) -> Self {
        Self { target, answer_timeout: ANSWER_TIMEOUT }
    }

    /// The same client, for requests that take the service longer than usual.
    #[must_use]
    pub fn waiting(self, answer_timeout: Duration) -> Self {
        Self { answer_timeout, ..self }
    }

    /// Sends a request and gives back the successful answer, its body still to be read.
    ///
    /// # Errors
    /// [`ClientError`]; an answer of 400 and above is [`ClientError::Refused`].
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
            .map_err(|error| self.no_answer(error))?;
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
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    /// Sends JSON and gives back the whole answer's bytes.
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
        let collected = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
        Ok(collected.map_err(|error| self.no_answer(error))?.to_bytes())
    }

    /// [`Client::send`], with the answer read as JSON.
    ///
    /// # Errors
    /// As [`Client::open`], and [`ClientError::Strange`].
    pub async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let bytes = self.send(method, path, content_type, body).await?;
        serde_json::from_slice(&bytes).map_err(|_| ClientError::Strange)
    }

    async fn connected<S>(&self, connect: impl Future<Output = std::io::Result<S>>) -> Result<S, ClientError> {
        match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(stream) => stream.map_err(|error| self.no_answer(error)),
            Err(_) => Err(self.no_answer("no connection in time")),
        }
    }

    async fn exchange<S>(&self, stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.no_answer(error))?;
        // It ends with the answer's body. What goes wrong with it is seen by who reads that.
        tokio::spawn(connection);
        match tokio::time::timeout(self.answer_timeout, sender.send_request(request)).await {
            Ok(response) => response.map_err(|error| self.no_answer(error)),
            Err(_) => Err(self.no_answer("no answer in time")),
        }
    }

    fn no_answer(&self, reason: impl fmt::Display) -> ClientError {
        ClientError::NoAnswer { target: self.target.to_string(), reason: reason.to_string() }
    }
}

async fn refusal(response: Response<Incoming>) -> ClientError {
    #[derive(Deserialize)]
    struct ErrorBody {
        description: String,
    }
    let status = response.status();
    let Ok(collected) = Limited::new(response.into_body(), 64 * 1024).collect().await else {
        return ClientError::Strange;
    };
    match serde_json::from_slice::<ErrorBody>(&collected.to_bytes()) {
        Ok(ErrorBody { description }) => ClientError::Refused { status, reason: description },
        Err(_) => ClientError::Strange,
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
