//! The access log: one line per request, written when the response has ended.

use std::sync::Arc;
use std::time::Instant;

use holodule_telemetry::{Active, TraceId, Tracer};
use http::header::USER_AGENT;
use http::request::Parts;
use http::{HeaderMap, Method, Version};

use super::label::Listener;
use super::metrics::{InFlight, Metrics};
use super::path::{bounded, logged};
use super::trace::RequestTrace;
use crate::hex;

/// The path of liveness probes, and the template of its route.
pub const HEALTHZ: &str = "/healthz";

/// The status of a request whose client disconnected before the response, as in nginx.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The longest identity that is logged, in bytes: a username of 128 bytes, each percent-encoded.
const IDENTITY_LIMIT: usize = 384;
/// The longest accepted request id, in bytes.
const REQUEST_ID_LIMIT: usize = 128;

/// The longest user agent that is logged, in bytes.
const USER_AGENT_LIMIT: usize = 256;

/// One request, from its header to the last byte of its response.
///
/// It is counted and logged when it is dropped, so also if the client disconnects. The query is not logged: no route
/// needs one, so it may contain anything.
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
    trace: Option<RequestTrace>,
    _in_flight: InFlight,
}

impl Access {
    /// Starts the record of a request when its header is complete.
    ///
    /// The client is the peer. On the api listener, behind the gateway, it is the last address in `X-Forwarded-For`,
    /// which the gateway sets.
    ///
    /// With `tracer`, it has a span, in the trace of the sender if that states one: only gateways and administrators
    /// can connect.
    pub fn begin(
        metrics: &Arc<Metrics>,
        tracer: Option<&Tracer>,
        listener: Listener,
        peer: &str,
        request: &Parts,
    ) -> Self {
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
            path: logged(uri.path()),
            protocol: if *version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" },
            user_agent: headers
                .get(USER_AGENT)
                .map(|agent| bounded(&String::from_utf8_lossy(agent.as_bytes()), USER_AGENT_LIMIT)),
            status: CLIENT_CLOSED_REQUEST,
            bytes: 0,
            complete: false,
            // Gateways send liveness probes all the time.
            trace: tracer.filter(|_| uri.path() != HEALTHZ).map(|tracer| RequestTrace::begin(tracer, headers)),
            _in_flight: metrics.request_in_flight(listener),
            metrics: Arc::clone(metrics),
        }
    }

    /// The id shared by all log lines of the request.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The span of the request, if it is sampled.
    pub fn active(&self) -> Option<Active> {
        self.trace.as_ref().and_then(RequestTrace::active)
    }

    /// Records the route's template and the status.
    pub fn set_response(&mut self, route: &'static str, status: u16) {
        self.route = route;
        self.status = status;
    }

    /// Records that `bytes` more of the body were sent.
    pub fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Records that the whole body was sent.
    pub fn complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let trace_id = self.trace.as_ref().map(RequestTrace::id);
        let trace_id = trace_id.as_ref().map(TraceId::as_str);
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    target: "access",
                    $level,
                    request_id = self.request_id,
                    trace_id = trace_id,
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
        // Gateways probe both listeners every two seconds.
        if self.route == HEALTHZ && self.status == 200 {
            self.metrics.count_probe(self.listener);
            line!(tracing::Level::DEBUG);
        } else {
            self.metrics.count_request(self.listener, self.route, &self.method, self.status, took);
            line!(tracing::Level::INFO);
        }
        if let Some(trace) = self.trace.take() {
            let status = Some(self.status).filter(|status| *status != CLIENT_CLOSED_REQUEST);
            trace.end(&self.method, self.protocol, self.route, status);
        }
    }
}

/// The request id: the sender's if it is well-formed, otherwise a random one of 32 hexadecimal digits.
pub fn request_id(headers: &HeaderMap) -> String {
    let sane = |id: &&str| {
        !id.is_empty()
            && id.len() <= REQUEST_ID_LIMIT
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    if let Some(id) = headers.get("x-request-id").and_then(|value| value.to_str().ok()).filter(sane) {
        return id.to_owned();
    }
    // Ids only distinguish log lines: without randomness it is all zeros, and the request is served.
    hex::random_id().unwrap_or_else(|_| hex::encode(&[0; 16]))
}

/// `X-Auth-Identity` from the gateway: percent-encoded except for RFC 3986's unreserved characters.
fn identity(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("x-auth-identity")?.to_str().ok()?;
    let encoded = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
    (!value.is_empty() && value.len() <= IDENTITY_LIMIT && value.bytes().all(encoded)).then(|| value.to_owned())
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
    fn a_well_formed_request_id_is_used() {
        assert_eq!(request_id(&headers("x-request-id", "a-1_b.c")), "a-1_b.c");
        for odd in ["", "a b", "a\"b", &"x".repeat(129)] {
            let id = request_id(&headers("x-request-id", odd));
            assert_eq!(id.len(), 32, "{odd:?} gave {id}");
        }
    }

    #[test]
    fn a_malformed_identity_is_not_logged() {
        assert_eq!(identity(&headers("x-auth-identity", "user%2001")).as_deref(), Some("user%2001"));
        assert_eq!(identity(&headers("x-auth-identity", "user 01")), None);
        assert_eq!(identity(&headers("x-auth-identity", &"u".repeat(385))), None);
    }

    #[test]
    fn the_last_forwarded_address_is_the_client() {
        assert_eq!(
            forwarded_client(&headers("x-forwarded-for", "9.9.9.9, 2001:db8::1")).as_deref(),
            Some("2001:db8::1")
        );
        assert_eq!(forwarded_client(&headers("x-forwarded-for", "unknown")), None);
    }
}
