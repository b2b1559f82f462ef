//! The spans of operations, if the trace of the request is sampled.

use std::time::SystemTime;

use holodule_telemetry::{Outcome, Recording, SpanKind, active, attribute};

use super::{Engine, StoreError};

/// An operation that has not ended. It ends when it is dropped.
pub(super) struct OperationSpan(Option<Recording>);

/// Begins the span of `operation` on `engine`; `None` if the request is not sampled, or if there is none.
pub(super) fn begin(engine: &Engine, operation: &'static str) -> Option<OperationSpan> {
    let active = active()?;
    let span = active.span.child();
    let (system, kind) = match engine {
        Engine::Mongo(_) => ("mongodb", SpanKind::Client),
        Engine::Embedded(_) => ("redb", SpanKind::Internal),
    };
    let mut recording = active.tracer.record(&span, kind, operation, SystemTime::now())?;
    recording.set(attribute::DB_SYSTEM_NAME, system);
    recording.set(attribute::DB_OPERATION_NAME, operation);
    Some(OperationSpan(Some(recording)))
}

impl OperationSpan {
    /// Ends the span with the result of the operation. Otherwise it is dropped, because the request was cancelled.
    pub(super) fn end<T>(mut self, result: &Result<T, StoreError>) {
        let Some(mut recording) = self.0.take() else { return };
        if let Err(error) = result {
            recording.set_outcome(Outcome::Failure(error.label().into()));
        }
    }
}

impl Drop for OperationSpan {
    fn drop(&mut self) {
        if let Some(recording) = &mut self.0 {
            recording.set_outcome(Outcome::Failure("cancelled".into()));
        }
    }
}
