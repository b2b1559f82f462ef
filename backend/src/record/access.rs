//! The access log: one line a request, written when the answer has ended.

use std::sync::Arc;
use std::time::Instant;

use http::header::USER_AGENT;
use http::request::Parts;
use http::{HeaderMap, Method, Version};

use super::label::Listener;
use super::metrics::{InFlight, Metrics};
use crate::hex;

/// The path that probes request, and the template of its route.
pub const HEALTHZ: &str = "/healthz";

/// The status told of a request whose client left before there was an answer, as nginx has it.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The longest identity that is logged, in bytes: a username of 128 bytes, each percent-encoded.
const IDENTITY_LIMIT: usize = 384;
/// The longest request id that is taken over, in bytes.
const REQUEST_ID_LIMIT: usize = 128;

/// The longest path that is logged, in bytes.
const PATH_LIMIT: usize = 512;
/// The longest user agent that is logged, in bytes.
const USER_AGENT_LIMIT: usize = 256;

/// One request, from its header to the last byte of its answer.
///
/// It counts and logs when it is dropped, so that a request whose client left is logged as well. Of the
/// query nothing is logged: no route of the backend needs one, so it can hold anything.
#[derive(Debug)]
pub struct Access {
    metrics: Arc<Metrics>,
    started: Instant,
    listener: Listener,
    method: Method,
    client: String,
    request_id: String,
    identity: Option<String>,
    route: &'static str,
    path: String,
    protocol: &'static str,
    user_agent: Option<String>,
    status: u16,
    bytes: u64,
    complete: bool,
    _in_flight: InFlight,
}

impl Access {
    /// Begins the record of a request whose header has come.
    ///
    /// The client is the peer; behind the gateway, on the api side, the last address
    /// of `X-Forwarded-For`, which the gateway sets.
    pub fn begin(metrics: &Arc<Metrics>, listener: Listener, peer: &str, request: &Parts) -> Self {
        let Parts { method, uri, version, headers, .. } = request;
        let forwarded = (listener == Listener::Api).then(|| forwarded_client(headers)).flatten();
        Self {
            started: Instant::now(),
            listener,
            method: method.clone(),
            client: forwarded.unwrap_or_else(|| peer.to_owned()),
            request_id: request_id(headers),
            identity: identity(headers),
            route: "unknown",
            path: bounded(uri.path(), PATH_LIMIT),
            protocol: if *version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" },
            user_agent: headers
                .get(USER_AGENT)
                .map(|agent| bounded(&String::from_utf8_lossy(agent.as_bytes()), USER_AGENT_LIMIT)),
            status: CLIENT_CLOSED_REQUEST,
            bytes: 0,
            complete: false,
            _in_flight: metrics.request_in_flight(listener),
            metrics: Arc::clone(metrics),
        }
    }

    /// The id that ties the lines of one request together.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Notes the matched route's template and the status.
    pub fn answer(&mut self, route: &'static str, status: u16) {
        self.route = route;
        self.status = status;
    }

    /// Notes that `bytes` more of the body went out.
    pub fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Notes that the whole body went out.
    pub fn complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    target: "access",
                    $level,
                    request_id = self.request_id,
                    client = self.client,
                    listener = self.listener.as_str(),
                    method = self.method.as_str(),
                    route = self.route,
                    path = self.path,
                    status = self.status,
                    total_ms = took.as_micros() as f64 / 1000.0,
                    bytes = self.bytes,
                    identity = self.identity,
                    complete = self.complete,
                    protocol = self.protocol,
                    user_agent = self.user_agent,
                )
            };
        }
        // Each gateway probes both listeners every two seconds.
        if self.route == HEALTHZ && self.status == 200 {
            self.metrics.probed(self.listener);
            line!(tracing::Level::DEBUG);
        } else {
            self.metrics.answered(self.listener, self.route, &self.method, self.status, took);
            line!(tracing::Level::INFO);
        }
    }
}

/// The request's id: the sender's where it is sane, else a random one of 32 hexadecimal digits.
pub fn request_id(headers: &HeaderMap) -> String {
    let sane = |id: &&str| {
        !id.is_empty()
            && id.len() <= REQUEST_ID_LIMIT
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    if let Some(id) = headers.get("x-request-id").and_then(|value| value.to_str().ok()).filter(sane) {
        return id.to_owned();
    }
    // An id only tells lines apart: without randomness it is all zeros, and the request is served.
    hex::random_id().unwrap_or_else(|_| hex::encode(&[0; 16]))
}

/// `X-Auth-Identity` as the gateway sends it: percent-encoded outside RFC 3986's unreserved.
fn identity(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("x-auth-identity")?.to_str().ok()?;
    let encoded = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
    (!value.is_empty() && value.len() <= IDENTITY_LIMIT && value.bytes().all(encoded)).then(|| value.to_owned())
}

/// The first `limit` bytes of `text`, and three dots where it is longer.
fn bounded(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    format!("{}...", text.get(..end).unwrap_or_default())
}

fn forwarded_client(headers: &HeaderMap) -> Option<String> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    let address: std::net::IpAddr = last.rsplit(',').next()?.trim().parse().ok()?;
    Some(address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn a_sane_request_id_is_taken_over() {
        assert_eq!(request_id(&headers("x-request-id", "a-1_b.c")), "a-1_b.c");
        for odd in ["", "a b", "a\"b", &"x".repeat(129)] {
            let id = request_id(&headers("x-request-id", odd));
            assert_eq!(id.len(), 32, "{odd:?} gave {id}");
        }
    }

    #[test]
    fn an_odd_identity_is_not_logged() {
        assert_eq!(identity(&headers("x-auth-identity", "user%2001")).as_deref(), Some("user%2001"));
        assert_eq!(identity(&headers("x-auth-identity", "user 01")), None);
        assert_eq!(identity(&headers("x-auth-identity", &"u".repeat(385))), None);
    }

    #[test]
    fn what_is_too_long_for_a_line_is_cut() {
        assert_eq!(bounded("é", 2), "é");
        assert_eq!(bounded("éé", 3), "é...");
    }

    #[test]
    fn the_last_forwarded_address_is_the_client() {
        assert_eq!(
            forwarded_client(&headers("x-forwarded-for", "9.9.9.9, 2001:db8::1")).as_deref(),
            Some("2001:db8::1")
        );
        assert_eq!(forwarded_client(&headers("x-forwarded-for", "somebody")), None);
    }
}
