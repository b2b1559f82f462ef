//! The HTTP client: requests to the ACME server over a TLS connection each. An order takes about fifteen, so none is
//! reused.

use std::error::Error as StdError;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::tls::ClientSide;

/// The timeout of a request, with its connection.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The maximum size of a response, in bytes. A chain has a few kilobytes.
const MAX_BYTES: usize = 256 * 1024;

/// The longest `Retry-After` that is passed on. Addition of an arbitrary one to the time could overflow.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);

type BoxError = Box<dyn StdError + Send + Sync>;

/// A client of one server.
#[derive(Clone)]
pub(super) struct Http {
    tls: Arc<ClientSide>,
    requested_delay: Arc<Mutex<Option<Duration>>>,
}

impl Http {
    pub(super) fn new(tls: Arc<ClientSide>) -> Self {
        Self { tls, requested_delay: Arc::default() }
    }

    /// Takes the delay that the server last requested with a 429 or 503.
    pub(super) fn take_requested_delay(&self) -> Option<Duration> {
        self.requested_delay.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn exchange(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, BoxError> {
        let (mut parts, body) = request.into_parts();
        let uri = std::mem::take(&mut parts.uri);
        if uri.scheme_str() != Some("https") {
            return Err("the URL is not one of https".into());
        }
        let authority = uri.authority().ok_or("the URL has no host")?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(443);
        parts.headers.insert(HOST, HeaderValue::from_str(authority.as_str())?);
        parts.uri = uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()));

        let stream = TcpStream::connect((host.as_str(), port)).await?;
        let connector = TlsConnector::from(Arc::clone(&self.tls.config));
        let stream = connector.connect(ServerName::try_from(host)?, stream).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let response = async {
            let response = sender.send_request(Request::from_parts(parts, body)).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_BYTES).collect().await?.to_bytes();
            Ok::<_, BoxError>(Response::from_parts(parts, body))
        };
        let (mut response, connection) = (pin!(response), pin!(connection));
        let response = tokio::select! {
            biased;
            response = &mut response => response,
            // What has arrived is buffered; otherwise the response is an error.
            _ = connection => response.await,
        };
        self.checked(response?)
    }

    /// Notes a requested delay, and refuses an error that is none of ACME.
    fn checked(&self, response: Response<Bytes>) -> Result<BytesResponse, BoxError> {
        let (mut parts, body) = response.into_parts();
        let delay = delay(&parts.headers, SystemTime::now());
        if delay.is_none_or(|delay| delay > MAX_RETRY_AFTER) {
            parts.headers.remove(RETRY_AFTER);
        }
        if matches!(parts.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            *self.requested_delay.lock().unwrap_or_else(PoisonError::into_inner) = delay;
        }
        let is_problem = parts
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"));
        if (parts.status.is_client_error() || parts.status.is_server_error()) && !is_problem {
            return Err(format!("it responded with the status {}", parts.status).into());
        }
        Ok(BytesResponse::from(Response::from_parts(parts, Full::new(body))))
    }
}

/// The delay of `Retry-After` (RFC 9110, section 10.2.3).
fn delay(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()),
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let exchange = self.clone().exchange(request);
        Box::pin(async move {
            match timeout(TIMEOUT, exchange).await {
                Ok(result) => result.map_err(Error::Other),
                Err(_) => Err(Error::Other(format!("no response within {} s", TIMEOUT.as_secs()).into())),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_in_seconds_or_until_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let of =
            |value: &str| delay(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]), now);
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        let date = httpdate::fmt_http_date(now + Duration::from_secs(90));
        assert_eq!(of(&date), Some(Duration::from_secs(90)));
        assert_eq!(of("Thu, 01 Jan 1970 00:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(of("soon"), None);
        assert_eq!(delay(&HeaderMap::new(), now), None);
    }
}
