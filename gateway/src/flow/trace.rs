//! The spans of requests, if traces are exported.

use std::time::SystemTime;

use holodule_telemetry::{
    Outcome, Span, SpanKind, TRACEPARENT, TRACESTATE, TraceContext, Tracer, attribute, is_valid_state,
};
use http::HeaderMap;
use http::request::Parts;

use super::Flow;
use crate::downstream::Downstream;
use crate::record::{Access, method_label};
use crate::route;
use crate::upstream::Traced;

/// The span of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestSpan {
    pub(super) span: Span,
    began: SystemTime,
}

impl Flow {
    /// The span of a request. Only a trusted proxy, of which the gateway also accepts client addresses, can continue a
    /// trace: anyone else could force that requests are sampled, or mix up traces.
    pub(super) fn begin_span(&self, tracer: &Tracer, downstream: &impl Downstream) -> RequestSpan {
        let peer = downstream.peer().address.ip().to_canonical();
        let is_trusted = self.proxies.forwards_for_clients(peer);
        let parent = if is_trusted { TraceContext::of(&downstream.request().headers) } else { None };
        RequestSpan { span: tracer.begin(parent), began: SystemTime::now() }
    }

    /// Replaces the trace context of the client, whose fields are `headers`, by that of `span`.
    pub(super) fn put_trace(&self, span: Span, headers: &HeaderMap, parts: &mut Parts) {
        parts.headers.remove(TRACESTATE);
        if span.is_continued() && is_valid_state(headers) {
            for state in headers.get_all(TRACESTATE) {
                parts.headers.append(TRACESTATE, state.clone());
            }
        }
        parts.headers.insert(TRACEPARENT, span.context().to_value());
        if let Some(tracer) = self.tracer.as_ref().filter(|_| span.context().is_sampled()) {
            // Each attempt to send it has a span of its own.
            parts.extensions.insert(Traced { tracer: tracer.clone(), span });
        }
    }
}

/// Records the span of a request that has ended, if it is sampled. Nothing that the client sent is in it, except the
/// method if it is a known one.
pub(super) fn record_span(tracer: &Tracer, RequestSpan { span, began }: RequestSpan, access: &Access<'_>) {
    if !span.context().is_sampled() {
        return;
    }
    let method = match method_label(access.method) {
        "other" => "_OTHER",
        method => method,
    };
    let route = Some(access.route).filter(|route| *route != route::NONE);
    let name = route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
    let Some(mut recording) = tracer.record(&span, SpanKind::Server, name, began) else { return };
    recording.set(attribute::HTTP_REQUEST_METHOD, method);
    recording.set(attribute::URL_SCHEME, "https");
    if let Some(route) = route {
        recording.set(attribute::HTTP_ROUTE, route.to_owned());
    }
    if let Some(version) = access.protocol.and_then(|protocol| protocol.strip_prefix("HTTP/")) {
        recording.set(attribute::NETWORK_PROTOCOL_VERSION, version);
    }
    if let Some(status) = access.status {
        recording.set(attribute::HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16()));
    }
    // The refusal of a request is not an error of the server.
    if access.status.is_none_or(|status| status.is_server_error()) {
        let status = access.status.map(|status| status.as_str().to_owned());
        let kind = access.reason.map(Into::into).or(status.map(Into::into));
        recording.set_outcome(Outcome::Failure(kind.unwrap_or("unknown".into())));
    }
}
