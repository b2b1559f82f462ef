//! The state of one request while it passes through the stages.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};

use super::Ended;
use super::reason::Reason;
use super::trace::RequestSpan;
use crate::authenticate::Principal;
use crate::cors::Sharing;
use crate::record::InFlight;
use crate::respond::{CommonHeaders, LocalResponse};
use crate::token::correlation_id;

/// The id under which a new request appears in the logs of the gateway and the backend. Without random
/// bytes it is not unique, which the log shows; it grants no access.
pub(super) fn request_id() -> String {
    correlation_id().unwrap_or_else(|| "0".repeat(32))
}

/// The request id as sent to the client. It never repeats, so a header compression table that many
/// answers share should not hold it. `http` can only request a literal that is never indexed
/// (RFC 7541, section 6.2.3).
pub(super) fn response_id(request_id: &str) -> HeaderValue {
    // Our own ids are hexadecimal.
    let mut value = HeaderValue::from_str(request_id).unwrap_or(HeaderValue::from_static("0"));
    value.set_sensitive(true);
    value
}

/// One request.
pub(super) struct Context {
    pub(super) request_id: String,
    /// The same as sent to the client.
    response_id: HeaderValue,
    pub(super) started: Instant,
    /// The address of the client; initially that of the peer, which may be a proxy.
    pub(super) client: IpAddr,
    /// The CORS headers of the answer.
    pub(super) sharing: Sharing,
    /// The client's `User-Agent`, if requests are logged.
    pub(super) user_agent: Option<HeaderValue>,
    /// Whether the path is canonical, so that it can be logged.
    pub(super) is_canonical: bool,
    /// The principal of the token, once verified; it may be revoked.
    pub(super) principal: Option<Principal>,
    /// The user name of a successful login.
    pub(super) logged_in: Option<String>,
    /// The label of the route, once one is known.
    pub(super) route: Option<Arc<str>>,
    /// Whether the request does not count for the limit of its address if the service answers with success.
    pub(super) is_limited_by_path: bool,
    /// The result of the cache, if the route has one.
    pub(super) cache: Option<&'static str>,
    /// The status of a response of the gateway: a gRPC call receives it in another form.
    pub(super) answered: Option<StatusCode>,
    /// Why it was refused or failed.
    pub(super) reason: Option<Reason>,
    pub(super) upstream_started: Option<Instant>,
    pub(super) upstream_ended: Option<Instant>,
    /// `None` once the connection is a tunnel.
    pub(super) in_flight: Option<InFlight>,
    pub(super) tunnel: Option<Tunnelled>,
    /// The span, if traces are exported; it may not be sampled.
    pub(super) span: Option<RequestSpan>,
}

/// A tunnel, and the bytes that have passed through it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tunnelled {
    /// How long it took until it was open.
    pub(super) handshake: Duration,
    pub(super) to_service: u64,
    pub(super) to_client: u64,
}

impl Context {
    pub(super) fn new(client: IpAddr, in_flight: InFlight) -> Self {
        let request_id = request_id();
        Self {
            response_id: response_id(&request_id),
            request_id,
            started: Instant::now(),
            client,
            sharing: Sharing::Off,
            user_agent: None,
            is_canonical: false,
            principal: None,
            logged_in: None,
            route: None,
            is_limited_by_path: false,
            cache: None,
            answered: None,
            reason: None,
            upstream_started: None,
            upstream_ended: None,
            in_flight: Some(in_flight),
            tunnel: None,
            span: None,
        }
    }

    /// The headers that every answer to this request has.
    pub(super) fn common_headers<'a>(&'a self, hsts: Option<&'a HeaderValue>) -> CommonHeaders<'a> {
        CommonHeaders { request_id: &self.response_id, hsts, sharing: &self.sharing }
    }

    /// Ends the request with `answer`, for `reason`.
    pub(super) fn refuse(&mut self, reason: Reason, answer: LocalResponse) -> Ended {
        self.reason = Some(reason);
        Ended::Answered(answer)
    }

    /// How long the backend took, if a request was sent to it.
    pub(super) fn upstream_duration(&self) -> Option<Duration> {
        let started = self.upstream_started?;
        Some(self.upstream_ended.map_or_else(|| started.elapsed(), |ended| ended.duration_since(started)))
    }
}
