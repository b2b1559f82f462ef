//! The redirect listener: sends whoever comes by plain HTTP to https, and shows the files
//! by which a certificate authority sees that the host is ours (RFC 8555, section 8.3).

use std::io::Read as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue, LOCATION};
use http::request::Parts;
use http::uri::Authority;
use http::{Response, StatusCode};
use http_body_util::Full;

use super::plain::{self, Plain};
use crate::config::MAX_REDIRECT_CONNECTIONS;
use crate::listener::Identities;
use crate::route::CanonicalPath;

/// For a whole connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the challenges are asked for.
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// The largest challenge that is shown, in bytes: a token and a key's thumbprint.
const CHALLENGE_BYTES: u64 = 4 * 1024;

/// What the redirect listener knows.
pub(super) struct Redirect {
    pub(super) identities: Arc<Identities>,
    pub(super) hosts: Vec<String>,
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

    /// Where the same is found by https; only for a host and a path of ours, so that nobody
    /// is sent elsewhere through us.
    fn location(&self, host: Option<&HeaderValue>, uri: &http::Uri) -> Result<HeaderValue, StatusCode> {
        let authority =
            host.and_then(|host| Authority::try_from(host.as_bytes()).ok()).ok_or(StatusCode::BAD_REQUEST)?;
        let name = authority.host().to_ascii_lowercase();
        if !self.identities.covers(&name) && !self.hosts.contains(&name) {
            return Err(StatusCode::MISDIRECTED_REQUEST);
        }
        CanonicalPath::parse(uri.path()).map_err(|_| StatusCode::BAD_REQUEST)?;
        let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let location = match self.https_port {
            443 => format!("https://{name}{target}"),
            port => format!("https://{name}:{port}{target}"),
        };
        HeaderValue::try_from(location).map_err(|_| StatusCode::BAD_REQUEST)
    }

    /// The challenge called `token`: RFC 8555 has it in base64url, so no path hides in it.
    fn challenge(&self, token: &str) -> Option<Vec<u8>> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if token.is_empty() || token.len() > 128 || !token.bytes().all(is_token) {
            return None;
        }
        let file = std::fs::File::open(self.challenges.as_ref()?.join(token)).ok()?;
        let mut challenge = Vec::new();
        file.take(CHALLENGE_BYTES).read_to_end(&mut challenge).ok()?;
        Some(challenge)
    }
}

impl plain::Answer for Redirect {
    fn answer(&self, request: &Parts) -> Response<Full<Bytes>> {
        if let Some(token) = request.uri.path().strip_prefix(CHALLENGES) {
            return match self.challenge(token) {
                Some(challenge) => plain::page(StatusCode::OK, "application/octet-stream", challenge),
                None => plain::text(StatusCode::NOT_FOUND, "not found"),
            };
        }
        match self.location(request.headers.get(HOST), &request.uri) {
            Ok(location) => {
                let mut response = plain::text(StatusCode::PERMANENT_REDIRECT, "this is served by https");
                response.headers_mut().insert(LOCATION, location);
                response
            }
            Err(status) => plain::text(status, status.canonical_reason().unwrap_or("error")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::Identity;

    fn redirect(folder: &std::path::Path, https_port: u16) -> Redirect {
        let made = rcgen::generate_simple_self_signed(vec!["example.org".to_owned()]).unwrap();
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let identity = Identity::read(&certificate, &key).unwrap();
        Redirect {
            identities: Arc::new(Identities::new(vec![identity]).unwrap()),
            hosts: vec!["www.example.org".to_owned()],
            https_port,
            challenges: Some(folder.to_owned()),
        }
    }

    #[test]
    fn only_hosts_and_paths_of_ours_are_redirected() {
        let folder = tempfile::tempdir().unwrap();
        let location = |port, host: &'static str, uri: &str| {
            let host = HeaderValue::from_static(host);
            let location = redirect(folder.path(), port).location(Some(&host), &uri.parse().unwrap());
            location.map(|location| location.to_str().unwrap().to_owned())
        };
        assert_eq!(location(443, "Example.org:80", "/a?b=c").as_deref(), Ok("https://example.org/a?b=c"));
        assert_eq!(location(8443, "www.example.org", "/").as_deref(), Ok("https://www.example.org:8443/"));
        assert_eq!(location(443, "evil.example", "/"), Err(StatusCode::MISDIRECTED_REQUEST));
        assert_eq!(location(443, "example.org", "//evil.example/"), Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn challenges_are_files_by_their_token_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a-Token_1"), "a-Token_1.thumbprint").unwrap();
        let redirect = redirect(folder.path(), 443);
        assert_eq!(redirect.challenge("a-Token_1").as_deref(), Some(b"a-Token_1.thumbprint".as_slice()));
        for token in ["", "missing", "../cert.pem", "cert.pem", "%2e%2e", "a/b"] {
            assert_eq!(redirect.challenge(token), None, "{token}");
        }
    }
}
