//! The redirect listener: redirects plain HTTP to https, and serves the files by which a certificate
//! authority verifies that the host is ours (RFC 8555, section 8.3).
//!
//! Heads are judged as on the public listener, before any parser has changed them: what has more than
//! one meaning must not be redirected by one of them.

mod challenge;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, DATE, HeaderValue, LOCATION};
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, Method, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::MAX_REDIRECT_CONNECTIONS;
use crate::downstream::http1::{put_field, put_status};
use crate::framing::{self, BodyFraming, RequestHead, Target};
use crate::server::plain::{self, HEADER_TIMEOUT, Plain};
use crate::tls::Identities;

/// For a whole connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client that was refused may take to read why.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the challenges are requested.
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// What the redirect listener knows.
pub(super) struct Redirect {
    pub(super) identities: Arc<Identities>,
    pub(super) hosts: Vec<String>,
    /// How large a request may be.
    pub(super) sizes: framing::Settings,
    /// The port that https is on.
    pub(super) https_port: u16,
    /// The folder that holds the challenges, if any.
    pub(super) challenges: Option<PathBuf>,
}

impl Redirect {
    /// The service that redirects from `socket`.
    pub(super) fn on(self, socket: TcpListener) -> Plain<Self> {
        Plain::new("redirect", socket, MAX_REDIRECT_CONNECTIONS.into(), CONNECTION_TIMEOUT, self)
    }

    /// Where the same is found by https; only for a host and a path of ours, so that no client
    /// is redirected elsewhere.
    fn location(&self, target: &Target) -> Result<HeaderValue, StatusCode> {
        let name = target.host();
        if !self.identities.covers(name) && !self.hosts.iter().any(|host| *host == name) {
            return Err(StatusCode::MISDIRECTED_REQUEST);
        }
        let port = match self.https_port {
            443 => String::new(),
            port => format!(":{port}"),
        };
        let query = target.query().map(|query| format!("?{query}")).unwrap_or_default();
        let location = format!("https://{name}{port}{}{query}", target.path().as_str());
        HeaderValue::try_from(location).map_err(|_| StatusCode::BAD_REQUEST)
    }

    /// Answers one request; its head has one meaning.
    fn answer_to(&self, method: &Method, target: &Target) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = plain::text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        if let Some(token) = target.path().as_str().strip_prefix(CHALLENGES) {
            let challenge = self.challenges.as_ref().and_then(|folder| challenge::read(folder, token));
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

    /// What is answered to the request that begins with the head `raw`.
    fn judge(&self, raw: &[u8]) -> Result<Judged, framing::HeadError> {
        let (body, parts) = framing::read_head_of(raw, &self.sizes, &Scheme::HTTP)?;
        let parts = parts.ok_or(framing::HeadError::Malformed("a head that no request is made of"))?;
        let Parts { method, uri, version, headers, .. } = &parts;
        let head = RequestHead { method, uri, version: *version, headers };
        let target = framing::inspect_of(head, &Scheme::HTTP, &self.sizes)?;
        Ok(Judged {
            response: self.answer_to(method, &target),
            is_head: *method == Method::HEAD,
            // No body is read: what follows one cannot be told from it.
            close: body != BodyFraming::None || *version != Version::HTTP_11 || wants_close(headers),
        })
    }
}

/// An answer, and how it is sent.
struct Judged {
    response: Response<Full<Bytes>>,
    is_head: bool,
    /// Whether it is the last one of its connection.
    close: bool,
}

impl From<framing::HeadError> for Judged {
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

/// RFC 9112, section 9.6.
fn wants_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CONNECTION).iter();
    let mut options = values.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

impl plain::Serve for Redirect {
    async fn serve(&self, mut stream: TcpStream) {
        let mut buffer = Vec::new();
        // A client that sends no whole head in time, or that leaves, gets no answer.
        while let Ok(Some(end)) = timeout(HEADER_TIMEOUT, self.read_head(&mut stream, &mut buffer)).await {
            let raw = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
            let judged = match end {
                Some(_) => self.judge(raw).unwrap_or_else(Judged::from),
                None => framing::overflow(raw, &self.sizes).into(),
            };
            buffer.drain(..end.unwrap_or(buffer.len()));
            let close = judged.close;
            if send(&mut stream, judged).await.is_none() {
                return;
            }
            if close {
                // What the client still sends is read and dropped: a reset could discard the answer.
                let _ = stream.shutdown().await;
                let mut rest = [0; 1024];
                while let Ok(Ok(1..)) = timeout(REFUSAL_TIMEOUT, stream.read(&mut rest)).await {}
                return;
            }
        }
    }
}

impl Redirect {
    /// Reads until `buffer` begins with a whole head, and returns where that ends, or `Some(None)` where
    /// it is too large. `None` where the client is gone.
    async fn read_head(&self, stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Option<usize>> {
        let mut seen = 0;
        loop {
            if let Some(end) = framing::end_of_head(buffer, seen) {
                return Some(Some(end));
            }
            if buffer.len() > framing::max_head_bytes(&self.sizes) {
                return Some(None);
            }
            seen = buffer.len();
            if stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        }
    }
}

/// Sends an answer; `None` where the client is gone.
async fn send(stream: &mut TcpStream, judged: Judged) -> Option<()> {
    let (parts, body) = judged.response.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    let mut out = Vec::new();
    put_status(&mut out, parts.status);
    for (name, value) in &parts.headers {
        put_field(&mut out, name.as_str(), value.as_bytes());
    }
    put_field(&mut out, CONTENT_LENGTH.as_str(), body.len().to_string().as_bytes());
    put_field(&mut out, DATE.as_str(), httpdate::fmt_http_date(SystemTime::now()).as_bytes());
    if judged.close {
        put_field(&mut out, CONNECTION.as_str(), b"close");
    }
    out.extend_from_slice(b"\r\n");
    if !judged.is_head {
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
        let identity = Identity::read(&certificate, &key).unwrap();
        Redirect {
            identities: Arc::new(Identities::new(vec![identity]).unwrap()),
            hosts: vec!["www.example.org".to_owned()],
            sizes: framing::Settings::default(),
            https_port,
            challenges: None,
        }
    }

    #[test]
    fn only_hosts_and_paths_of_ours_are_redirected() {
        let folder = tempfile::tempdir().unwrap();
        let location = |port, host: &str, path: &str| {
            let raw = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let judged = redirect(folder.path(), port).judge(raw.as_bytes()).map_err(|_| StatusCode::BAD_REQUEST)?;
            match judged.response.headers().get(LOCATION) {
                Some(location) => Ok(location.to_str().unwrap().to_owned()),
                None => Err(judged.response.status()),
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
        assert_eq!(location(443, "evil.example", "/"), Err(StatusCode::MISDIRECTED_REQUEST));
        assert_eq!(location(443, "evil.example", "http://evil.example/"), Err(StatusCode::MISDIRECTED_REQUEST));
        assert_eq!(location(443, "example.org", "//evil.example/"), Err(StatusCode::BAD_REQUEST));
    }
}
