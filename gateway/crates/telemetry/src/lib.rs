//! Distributed tracing: which trace a request belongs to, and the export of its spans.
//!
//! [`TraceContext`] is the W3C Trace Context of a request, as in its `traceparent`. A [`Tracer`] decides which requests
//! are sampled, and accepts the spans of those. An [`Exporter`] sends them to a collector over OTLP. [`read`] reads the
//! `[telemetry]` table of a configuration. All of this is off unless a collector is configured.
//!
//! Nothing here waits for the collector while a request is handled: a span goes into a bounded queue, and is dropped and
//! counted if the queue is full.

mod active;
mod client;
mod context;
mod endpoint;
mod export;
mod id;
mod settings;
mod span;
mod state;
mod tracer;

pub use active::{Active, active, within};
pub use context::{TRACEPARENT, TRACESTATE, TraceContext, TraceId};
pub use export::{Exporter, NotExporting, start};
pub use opentelemetry::trace::SpanKind;
pub use settings::{Ratio, Settings, read};
pub use span::{Outcome, Recording, Span, attribute};
pub use state::is_valid_state;
pub use tracer::{Figures, Tracer};
