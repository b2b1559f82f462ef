//! Which requests are sampled, and the queue of finished spans.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::trace::SpanData;
use tokio::sync::mpsc;

use crate::context::TraceContext;
use crate::id::random;
use crate::settings::Ratio;
use crate::span::{Recording, Span};

/// Starts spans, and queues finished ones for the export. Clones share the queue.
#[derive(Clone)]
pub struct Tracer {
    ratio: Ratio,
    queue: mpsc::Sender<Box<SpanData>>,
    counters: Arc<Counters>,
}

/// The numbers of spans since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) exported: AtomicU64,
    pub(crate) failed: AtomicU64,
    dropped: AtomicU64,
}

/// The numbers of spans since the start, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Accepted by the collector.
    pub exported: u64,
    /// Lost because the collector did not accept them in time.
    pub failed: u64,
    /// Lost because the queue was full or closed.
    pub dropped: u64,
}

impl Tracer {
    pub(crate) fn new(ratio: Ratio, queue: mpsc::Sender<Box<SpanData>>, counters: Arc<Counters>) -> Self {
        Self { ratio, queue, counters }
    }

    /// The span of a request from a trusted sender with the context `parent`, whose decision on sampling is final, or
    /// of another request, of which the configured share is sampled. Allocates nothing.
    pub fn begin(&self, parent: Option<TraceContext>) -> Span {
        match parent {
            Some(parent) => Span::child_of(parent, true),
            None => {
                let trace_id: [u8; 16] = random();
                Span::root(TraceContext::root(trace_id, random(), self.ratio.includes(&trace_id)))
            }
        }
    }

    /// Records `span`, which began at `began` and ends when the recording is dropped. `None` if it is not sampled.
    pub fn record(
        &self,
        span: &Span,
        kind: SpanKind,
        name: impl Into<std::borrow::Cow<'static, str>>,
        began: SystemTime,
    ) -> Option<Recording> {
        span.context().is_sampled().then(|| Recording::new(self.clone(), span, kind, name.into(), began))
    }

    /// Queues a finished span, or counts it as dropped.
    pub(crate) fn finish(&self, span: Box<SpanData>) {
        if self.queue.try_send(span).is_err() {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The numbers of spans since the start.
    pub fn figures(&self) -> Figures {
        let Counters { exported, failed, dropped } = &*self.counters;
        let [exported, failed, dropped] = [exported, failed, dropped].map(|counter| counter.load(Ordering::Relaxed));
        Figures { exported, failed, dropped }
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("ratio", &self.ratio).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(ratio: f64, queue: usize) -> (Tracer, mpsc::Receiver<Box<SpanData>>) {
        let (sender, receiver) = mpsc::channel(queue);
        (Tracer::new(Ratio::new(ratio).unwrap(), sender, Arc::default()), receiver)
    }

    #[test]
    fn a_parent_decides_and_otherwise_the_ratio() {
        let sampled = TraceContext::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        let unsampled = TraceContext::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").unwrap();
        for ratio in [0.0, 1.0] {
            let (tracer, _queue) = tracer(ratio, 1);
            assert!(tracer.begin(Some(sampled)).context().is_sampled());
            assert!(!tracer.begin(Some(unsampled)).context().is_sampled());
            assert_eq!(tracer.begin(Some(unsampled)).context().trace_id(), unsampled.trace_id());
            assert_eq!(tracer.begin(None).context().is_sampled(), ratio > 0.0);
        }
        let (tracer, _queue) = tracer(0.25, 1);
        let sampled = (0..10_000).filter(|_| tracer.begin(None).context().is_sampled()).count();
        assert!((2_000..3_000).contains(&sampled), "{sampled}");
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (tracer, mut queue) = tracer(1.0, 2);
        for _ in 0..5 {
            drop(tracer.record(&tracer.begin(None), SpanKind::Server, "GET", SystemTime::now()));
        }
        assert_eq!(tracer.figures(), Figures { exported: 0, failed: 0, dropped: 3 });
        queue.close();
        assert_eq!(std::iter::from_fn(|| queue.try_recv().ok()).count(), 2);
    }

    #[test]
    fn an_unsampled_span_is_not_recorded() {
        let (tracer, _queue) = tracer(0.0, 1);
        let span = tracer.begin(None);
        assert!(tracer.record(&span, SpanKind::Server, "GET", SystemTime::now()).is_none());
    }
}
