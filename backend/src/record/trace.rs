//! The span of a request, if traces are exported.

use std::time::SystemTime;

use holodule_telemetry::{Active, Outcome, Span, SpanKind, TraceContext, TraceId, Tracer, attribute};
use http::{HeaderMap, Method};

use super::label::method_label;

/// The trace of one request.
#[derive(Debug)]
pub(super) struct RequestTrace {
    tracer: Tracer,
    span: Span,
    began: SystemTime,
}

impl RequestTrace {
    /// Begins the span of a request with `headers`.
    pub(super) fn begin(tracer: &Tracer, headers: &HeaderMap) -> Self {
        let span = tracer.begin(TraceContext::of(headers));
        Self { tracer: tracer.clone(), span, began: SystemTime::now() }
    }

    /// The id of the trace, also if it is not sampled.
    pub(super) fn id(&self) -> TraceId {
        self.span.context().trace_id()
    }

    /// The span, if it is sampled.
    pub(super) fn active(&self) -> Option<Active> {
        let active = || Active { tracer: self.tracer.clone(), span: self.span };
        self.span.context().is_sampled().then(active)
    }

    /// Records the span. `route` is the template of the route; without `status`, the client disconnected before the
    /// response.
    pub(super) fn end(self, method: &Method, protocol: &'static str, route: &'static str, status: Option<u16>) {
        if !self.span.context().is_sampled() {
            return;
        }
        let method = match method_label(method) {
            "other" => "_OTHER",
            method => method,
        };
        let name = format!("{method} {route}");
        let Some(mut recording) = self.tracer.record(&self.span, SpanKind::Server, name, self.began) else { return };
        recording.set(attribute::HTTP_REQUEST_METHOD, method);
        recording.set(attribute::URL_SCHEME, "http");
        recording.set(attribute::HTTP_ROUTE, route);
        recording.set(attribute::NETWORK_PROTOCOL_VERSION, protocol.trim_start_matches("HTTP/"));
        let Some(status) = status else { return recording.set_outcome(Outcome::Failure("cancelled".into())) };
        recording.set(attribute::HTTP_RESPONSE_STATUS_CODE, i64::from(status));
        if status >= 500 {
            recording.set_outcome(Outcome::Failure(status.to_string().into()));
        }
    }
}
