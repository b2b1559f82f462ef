//! Spans: their identity while a request is handled, and their recording.

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::context::TraceContext;
use crate::id::random;
use crate::tracer::Tracer;

/// The keys of attributes (OpenTelemetry semantic conventions 1.37).
pub mod attribute {
    /// The name of the operation on the store.
    pub const DB_OPERATION_NAME: &str = "db.operation.name";
    /// The engine of the store.
    pub const DB_SYSTEM_NAME: &str = "db.system.name";
    /// The kind of the failure.
    pub const ERROR_TYPE: &str = "error.type";
    /// The method, or `_OTHER`.
    pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
    /// How many times the request was sent before.
    pub const HTTP_REQUEST_RESEND_COUNT: &str = "http.request.resend_count";
    /// The status code.
    pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
    /// The matched route; never the path.
    pub const HTTP_ROUTE: &str = "http.route";
    /// The version of HTTP.
    pub const NETWORK_PROTOCOL_VERSION: &str = "network.protocol.version";
    /// The name or address of the server.
    pub const SERVER_ADDRESS: &str = "server.address";
    /// The port of the server.
    pub const SERVER_PORT: &str = "server.port";
    /// `http` or `https`.
    pub const URL_SCHEME: &str = "url.scheme";
}

/// The identity of a span and its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    context: TraceContext,
    parent: [u8; 8],
    is_parent_remote: bool,
}

impl Span {
    pub(crate) fn root(context: TraceContext) -> Self {
        Self { context, parent: [0; 8], is_parent_remote: false }
    }

    pub(crate) fn child_of(parent: TraceContext, is_remote: bool) -> Self {
        Self { context: parent.with_span(random()), parent: parent.span_id, is_parent_remote: is_remote }
    }

    /// A new span below this one.
    pub fn child(&self) -> Self {
        Self::child_of(self.context, false)
    }

    /// Its context.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// Whether it continues a trace of the sender.
    pub fn is_continued(&self) -> bool {
        self.is_parent_remote
    }
}

/// How the operation of a span ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Success,
    /// It failed, for a reason from a fixed set.
    Failure(Cow<'static, str>),
}

/// A sampled span that is being recorded. It ends, and is queued for the export, when it is dropped.
#[derive(Debug)]
pub struct Recording {
    tracer: Tracer,
    /// Taken when it ends.
    data: Option<Box<SpanData>>,
}

impl Recording {
    pub(crate) fn new(
        tracer: Tracer,
        span: &Span,
        span_kind: SpanKind,
        name: Cow<'static, str>,
        start_time: SystemTime,
    ) -> Self {
        let TraceContext { trace_id, span_id, .. } = span.context;
        let data = SpanData {
            span_context: SpanContext::new(
                TraceId::from_bytes(trace_id),
                SpanId::from_bytes(span_id),
                TraceFlags::new(span.context.flags()),
                false,
                TraceState::NONE,
            ),
            parent_span_id: SpanId::from_bytes(span.parent),
            parent_span_is_remote: span.is_parent_remote,
            span_kind,
            name,
            start_time,
            end_time: start_time,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::default(),
        };
        Self { tracer, data: Some(Box::new(data)) }
    }

    /// Adds an attribute. The value must not contain anything that a client sent, except what is in a fixed set.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(data) = &mut self.data {
            data.attributes.push(KeyValue::new(key, value));
        }
    }

    /// Records how the operation ended.
    pub fn set_outcome(&mut self, outcome: Outcome) {
        let Outcome::Failure(kind) = outcome else { return };
        self.set(attribute::ERROR_TYPE, kind);
        if let Some(data) = &mut self.data {
            data.status = Status::error("");
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let Some(mut data) = self.data.take() {
            // A clock that was set back must not give a negative duration.
            data.end_time = SystemTime::now().max(data.start_time);
            self.tracer.finish(data);
        }
    }
}
