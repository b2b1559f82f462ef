//! The redirect listener: redirects plain HTTP to HTTPS, and serves ACME http-01 challenges (RFC 8555, section 8.3).
//!
//! Request heads are checked as on the public listener, before any parser: an ambiguous request must not be redirected.

mod challenge;

use std::net::TcpListener;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, DATE, HeaderValue, LOCATION};
use http::request::Parts;
use http::uri::Scheme;
use http::{Method, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::MAX_REDIRECT_CONNECTIONS;
use crate::downstream::http1::{put_field, put_status};
use crate::framing::{self, BodyFraming, RequestHead, Target};
use crate::server::handover::Phase;
use crate::server::plain::{self, HEADER_TIMEOUT, Plain};
use crate::syntax::has_connection_close;
use crate::tls::Identities;

/// The maximum lifetime of a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// The timeout of each read while the connection is closed.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// The path prefix of challenges.
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// The redirect listener.
pub(super) struct Redirect {
    pub(super) identities: Arc<Identities>,
    /// As of the last reload.
    pub(super) settings: Arc<ArcSwap<Settings>>,
}

/// What requests are redirected.
pub(super) struct Settings {
    /// Accepted hosts besides those of the certificates.
    pub(super) hosts: Vec<String>,
    /// Size limits of a request head.
    pub(super) sizes: framing::Settings,
    /// The HTTPS port.
    pub(super) https_port: u16,
    /// The folders of the challenges.
    pub(super) challenges: Vec<PathBuf>,
}

impl Redirect {
    /// The service that redirects from `socket`.
    pub(super) fn on(self, socket: TcpListener, phase: watch::Receiver<Phase>) -> Plain<Self> {
        Plain::new("redirect", (socket, phase), MAX_REDIRECT_CONNECTIONS.into(), CONNECTION_TIMEOUT, self)
    }

    /// The HTTPS location of the target, only for known hosts, so that no client is redirected elsewhere.
    fn location(&self, target: &Target) -> Result<HeaderValue, StatusCode> {
        let settings = self.settings.load();
        let name = target.host();
        if !self.identities.covers(name) && !settings.hosts.iter().any(|host| *host == name) {
            return Err(StatusCode::MISDIRECTED_REQUEST);
        }
        let port = match settings.https_port {
            443 => String::new(),
            port => format!(":{port}"),
        };
        let query = target.query().map(|query| format!("?{query}")).unwrap_or_default();
        let location = format!("https://{name}{port}{}{query}", target.path().as_str());
        HeaderValue::try_from(location).map_err(|_| StatusCode::BAD_REQUEST)
    }

    /// Responds to a request with a valid head.
    fn response_to(&self, method: &Method, target: &Target) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = plain::text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        if let Some(token) = target.path().as_str().strip_prefix(CHALLENGES) {
            let settings = self.settings.load();
            let challenge = settings.challenges.iter().find_map(|folder| challenge::read(folder, token));
            return match challenge {
                Some(challenge) => plain::page(StatusCode::OK, "application/octet-stream", challenge),
                None => plain::text(StatusCode::NOT_FOUND, "not found"),
            };
        }
        match self.location(target) {
            Ok(location) => {
                let mut response = plain::text(StatusCode::PERMANENT_REDIRECT, "this is served by https");
                response.headers_mut().insert(LOCATION, location);
                response
            }
            Err(status) => refusal(status),
        }
    }

    /// Checks the request head `raw` and returns the response.
    fn respond_to(&self, raw: &[u8]) -> Result<Reply, framing::HeadError> {
        let (body, parts) = framing::read_head_of(raw, &self.settings.load().sizes, &Scheme::HTTP)?;
        let parts = parts.ok_or(framing::HeadError::Malformed("a head that no request is made of"))?;
        let Parts { method, uri, version, headers, .. } = &parts;
        let head = RequestHead { method, uri, version: *version, headers };
        let target = framing::inspect_of(head, &Scheme::HTTP, &self.settings.load().sizes)?;
        Ok(Reply {
            response: self.response_to(method, &target),
            is_head: *method == Method::HEAD,
            // Bodies are not read, so the start of the next request would be unknown.
            close: body != BodyFraming::None || *version != Version::HTTP_11 || has_connection_close(headers),
        })
    }
}

/// A response, and how it is sent.
struct Reply {
    response: Response<Full<Bytes>>,
    is_head: bool,
    /// Whether the connection is closed after it.
    close: bool,
}

impl From<framing::HeadError> for Reply {
    fn from(reason: framing::HeadError) -> Self {
        let status = match reason {
            framing::HeadError::Malformed(_) => StatusCode::BAD_REQUEST,
            framing::HeadError::TargetTooLong => StatusCode::URI_TOO_LONG,
            framing::HeadError::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        };
        Self { response: refusal(status), is_head: false, close: true }
    }
}

fn refusal(status: StatusCode) -> Response<Full<Bytes>> {
    plain::text(status, status.canonical_reason().unwrap_or("error"))
}

impl plain::Serve for Redirect {
    async fn serve(&self, mut stream: TcpStream, leaving: impl Future<Output = ()> + Send) {
        let mut leaving = pin!(leaving);
        let mut has_left = false;
        let mut buffer = Vec::new();
        loop {
            let head = tokio::select! {
                head = timeout(HEADER_TIMEOUT, self.read_head(&mut stream, &mut buffer)) => head,
                () = &mut leaving, if !has_left => {
                    has_left = true;
                    if buffer.is_empty() {
                        return;
                    }
                    continue;
                }
            };
            // A client that disconnects or does not send a whole head in time gets no response.
            let Ok(Some(end)) = head else { return };
            let raw = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
            let mut reply = match end {
                Some(_) => self.respond_to(raw).unwrap_or_else(Reply::from),
                None => framing::overflow(raw, &self.settings.load().sizes).into(),
            };
            buffer.drain(..end.unwrap_or(buffer.len()));
            reply.close |= has_left;
            let close = reply.close;
            if send(&mut stream, reply).await.is_none() {
                return;
            }
            if close {
                // Drain what the client still sends: a reset could discard the response.
                let _ = stream.shutdown().await;
                let mut rest = [0; 1024];
                while let Ok(Ok(1..)) = timeout(REFUSAL_TIMEOUT, stream.read(&mut rest)).await {}
                return;
            }
        }
    }
}

impl Redirect {
    /// Reads until `buffer` begins with a whole head, and returns the end of the head, or `Some(None)` if it is too
    /// large. `None` if the client has disconnected.
    async fn read_head(&self, stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Option<usize>> {
        let mut seen = 0;
        loop {
            if let Some(end) = framing::end_of_head(buffer, seen) {
                return Some(Some(end));
            }
            if buffer.len() > framing::max_head_bytes(&self.settings.load().sizes) {
                return Some(None);
            }
            seen = buffer.len();
            if stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        }
    }
}

/// Sends a response; `None` if the client has disconnected.
async fn send(stream: &mut TcpStream, reply: Reply) -> Option<()> {
    let (parts, body) = reply.response.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    let mut out = Vec::new();
    put_status(&mut out, parts.status);
    for (name, value) in &parts.headers {
        put_field(&mut out, name.as_str(), value.as_bytes());
    }
    put_field(&mut out, CONTENT_LENGTH.as_str(), body.len().to_string().as_bytes());
    put_field(&mut out, DATE.as_str(), httpdate::fmt_http_date(SystemTime::now()).as_bytes());
    if reply.close {
        put_field(&mut out, CONNECTION.as_str(), b"close");
    }
    out.extend_from_slice(b"\r\n");
    if !reply.is_head {
        out.extend_from_slice(&body);
    }
    stream.write_all(&out).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Identity;

    fn redirect(folder: &std::path::Path, https_port: u16) -> Redirect {
        let made = rcgen::generate_simple_self_signed(vec!["example.org".to_owned()]).unwrap();
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let identity = Identity::read(&certificate, &key, crate::tls::Purpose::Server).unwrap();
        Redirect {
            identities: Arc::new(Identities::new(vec![identity]).unwrap()),
            settings: Arc::new(ArcSwap::from_pointee(Settings {
                hosts: vec!["www.example.org".to_owned()],
                sizes: framing::Settings::default(),
                https_port,
                challenges: Vec::new(),
            })),
        }
    }

    #[test]
    fn only_known_hosts_and_canonical_paths_are_redirected() {
        let folder = tempfile::tempdir().unwrap();
        let location = |port, host: &str, path: &str| {
            let raw = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let reply =
                redirect(folder.path(), port).respond_to(raw.as_bytes()).map_err(|_| StatusCode::BAD_REQUEST)?;
            match reply.response.headers().get(LOCATION) {
                Some(location) => Ok(location.to_str().unwrap().to_owned()),
                None => Err(reply.response.status()),
            }
        };
        assert_eq!(location(443, "Example.org:80", "/a?b=c").as_deref(), Ok("https://example.org/a?b=c"));
        assert_eq!(location(443, "example.org", "/a?").as_deref(), Ok("https://example.org/a?"));
        assert_eq!(location(8443, "www.example.org", "/").as_deref(), Ok("https://www.example.org:8443/"));
        assert_eq!(
            location(443, "example.org", "http://example.org/a").as_deref(),
            Ok("https://example.org/a"),
            "an absolute target"
        );
        for (host, authority) in [("example.org", "example.org:80"), ("example.org:80", "EXAMPLE.org")] {
            let target = format!("http://{authority}/a");
            assert_eq!(location(443, host, &target).as_deref(), Ok("https://example.org/a"), "{host} {authority}");
        }
        let other_port = location(443, "example.org", "http://example.org:81/a");
        assert_eq!(other_port, Err(StatusCode::BAD_REQUEST));
        assert_eq!(location(443, "evil.example", "/"), Err(StatusCode::MISDIRECTED_REQUEST));
        assert_eq!(location(443, "evil.example", "http://evil.example/"), Err(StatusCode::MISDIRECTED_REQUEST));
        assert_eq!(location(443, "example.org", "//evil.example/"), Err(StatusCode::BAD_REQUEST));
    }
}
