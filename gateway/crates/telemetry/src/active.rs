//! The span of the request that a task handles.

use futures_util::future::Either;

use crate::span::Span;
use crate::tracer::Tracer;

tokio::task_local! {
    static ACTIVE: Active;
}

/// A sampled span and its tracer.
#[derive(Clone, Debug)]
pub struct Active {
    /// Records spans.
    pub tracer: Tracer,
    /// The span of the request.
    pub span: Span,
}

/// The span of the request that this task handles; `None` if it is not sampled, or in another task.
pub fn active() -> Option<Active> {
    ACTIVE.try_with(Clone::clone).ok()
}

/// Runs `future` within the span `active`, if any. Without one, this costs nothing.
pub fn within<F: Future>(active: Option<Active>, future: F) -> impl Future<Output = F::Output> {
    match active {
        // Boxed, so that the future is as large as one that is not sampled.
        Some(active) => Either::Left(ACTIVE.scope(active, Box::pin(future))),
        None => Either::Right(future),
    }
}
