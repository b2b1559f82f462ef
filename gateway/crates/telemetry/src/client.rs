//! The HTTP client of the export, over hyper and rustls: the ones that `opentelemetry-otlp` offers bring a second TLS
//! library, or block.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::endpoint::Endpoint;
use crate::settings::Settings;

/// The maximum size of a response body, in bytes: it has only a message about rejected spans.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// A client of the collector with one connection, which is opened when it is needed.
pub(crate) struct CollectorClient {
    endpoint: Endpoint,
    host: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    timeout: Duration,
    connection: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

/// The request was not answered within the timeout.
#[derive(Debug, thiserror::Error)]
#[error("no response within the timeout")]
struct TimedOut;

impl CollectorClient {
    /// # Errors
    /// TLS cannot be set up, or the host has no name that a certificate can have.
    pub(crate) fn new(settings: &Settings) -> Result<Self, HttpError> {
        let endpoint = settings.endpoint.clone();
        let tls = match &settings.roots {
            None => None,
            Some(roots) => {
                let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                    .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
                    .with_root_certificates(Arc::clone(roots))
                    .with_no_client_auth();
                Some((TlsConnector::from(Arc::new(config)), ServerName::try_from(endpoint.host.clone())?))
            }
        };
        let authority = endpoint.url.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let host = HeaderValue::try_from(authority)?;
        Ok(Self { endpoint, host, tls, timeout: settings.timeout, connection: Mutex::default() })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let socket = TcpStream::connect((self.endpoint.host.as_str(), self.endpoint.port)).await?;
        socket.set_nodelay(true)?;
        match &self.tls {
            None => open(socket).await,
            Some((connector, name)) => open(connector.connect(name.clone(), socket).await?).await,
        }
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut parts, body) = request.into_parts();
        parts.uri = parts.uri.path_and_query().cloned().map(Uri::from).unwrap_or_default();
        parts.headers.insert(HOST, self.host.clone());
        let mut connection = self.connection.lock().await;
        if let Some(mut idle) = connection.take().filter(|idle| !idle.is_closed()) {
            let request = Request::from_parts(parts.clone(), Full::new(body.clone()));
            // If the collector has closed it meanwhile, a new one is opened.
            if let Ok(response) = idle.send_request(request).await {
                return finish(response, idle, &mut connection).await;
            }
        }
        let mut new = self.connect().await?;
        let response = new.send_request(Request::from_parts(parts, Full::new(body))).await?;
        finish(response, new, &mut connection).await
    }
}

/// Reads the body, and keeps the connection for the next request.
async fn finish(
    response: Response<hyper::body::Incoming>,
    used: SendRequest<Full<Bytes>>,
    connection: &mut Option<SendRequest<Full<Bytes>>>,
) -> Result<Response<Bytes>, HttpError> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await?.to_bytes();
    *connection = Some(used);
    Ok(Response::from_parts(parts, body))
}

async fn open<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends with its sender. An error also reaches the request.
    tokio::spawn(connection);
    Ok(sender)
}

#[async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        timeout(self.timeout, self.send(request)).await.unwrap_or_else(|_| Err(Box::new(TimedOut)))
    }
}

impl fmt::Debug for CollectorClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectorClient").field("endpoint", &self.endpoint.url).finish_non_exhaustive()
    }
}
