//! The export: a thread of its own takes finished spans from the queue and sends them in batches.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as blocking;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::client::CollectorClient;
use crate::settings::Settings;
use crate::tracer::{Counters, Tracer};

/// The maximum number of spans in a request to the collector.
const BATCH: usize = 512;

/// How long a stop waits for the export of the remaining spans.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// The export could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NotExporting {
    /// The thread cannot be started.
    #[error("the thread of the export cannot be started: {0}")]
    Thread(#[from] io::Error),
    /// TLS, or the name of the collector.
    #[error("the client of the collector cannot be set up: {0}")]
    Client(opentelemetry_http::HttpError),
    /// A variable of OpenTelemetry that contradicts the settings.
    #[error("the export cannot be set up: {0}")]
    Build(#[from] ExporterBuildError),
}

/// The thread of the export. Dropping it exports the remaining spans, for at most 3 s.
#[derive(Debug)]
pub struct Exporter {
    stop: Option<oneshot::Sender<()>>,
    stopped: blocking::Receiver<()>,
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // Without a receiver, the thread has ended.
        if self.stop.take().is_some_and(|stop| stop.send(()).is_ok()) {
            // A collector that does not respond must not delay the end of the process.
            let _ = self.stopped.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// Starts the export of the spans of `version` of this program.
///
/// # Errors
/// [`NotExporting`].
pub fn start(settings: &Settings, version: &'static str) -> Result<(Tracer, Exporter), NotExporting> {
    let client = CollectorClient::new(settings).map_err(NotExporting::Client)?;
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_headers(settings.headers.0.clone())
        .with_endpoint(settings.endpoint.url.to_string())
        .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
        .with_timeout(settings.timeout)
        .build()?;
    let attributes =
        [KeyValue::new("service.name", settings.service_name.clone()), KeyValue::new("service.version", version)];
    exporter.set_resource(&Resource::builder_empty().with_attributes(attributes).build());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let counters = Arc::new(Counters::default());
    let (sender, queue) = mpsc::channel(settings.queue);
    let (stop, stopping) = oneshot::channel();
    let (end, stopped) = blocking::sync_channel(1);
    let batches = Batches { exporter, counters: Arc::clone(&counters), timeout: settings.timeout, has_failed: false };
    let interval = settings.interval;
    std::thread::Builder::new().name("telemetry".to_owned()).spawn(move || {
        runtime.block_on(batches.run(queue, interval, stopping));
        // After the flush timeout, there is no receiver.
        let _ = end.send(());
    })?;
    let tracer = Tracer::new(settings.sample_ratio, sender, counters);
    Ok((tracer, Exporter { stop: Some(stop), stopped }))
}

/// Sends batches.
struct Batches {
    exporter: SpanExporter,
    counters: Arc<Counters>,
    timeout: Duration,
    /// Whether the last export failed, which is logged once.
    has_failed: bool,
}

impl Batches {
    /// Exports until `stopping` resolves, and then what is left in the queue.
    async fn run(
        mut self,
        mut queue: mpsc::Receiver<Box<SpanData>>,
        interval: Duration,
        mut stopping: oneshot::Receiver<()>,
    ) {
        let mut is_stopping = false;
        while !is_stopping {
            let mut batch = Vec::new();
            let end = Instant::now() + interval;
            while batch.len() < BATCH && !is_stopping {
                let left = BATCH - batch.len();
                tokio::select! {
                    received = timeout_at(end, queue.recv_many(&mut batch, left)) => match received {
                        Ok(0) => is_stopping = true,
                        Ok(_) => {}
                        Err(_) => break,
                    },
                    _ = &mut stopping => is_stopping = true,
                }
            }
            self.export(batch).await;
        }
        queue.close();
        loop {
            let mut batch = Vec::new();
            if queue.recv_many(&mut batch, BATCH).await == 0 {
                return;
            }
            self.export(batch).await;
        }
    }

    #[expect(clippy::vec_box, reason = "as they are received")]
    async fn export(&mut self, batch: Vec<Box<SpanData>>) {
        if batch.is_empty() {
            return;
        }
        let number = batch.len() as u64;
        let spans = batch.into_iter().map(|span| *span).collect();
        let error = match timeout(self.timeout, self.exporter.export(spans)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no response within the timeout".to_owned()),
        };
        let add = |counter: &AtomicU64| counter.fetch_add(number, Ordering::Relaxed);
        add(if error.is_none() { &self.counters.exported } else { &self.counters.failed });
        match (&error, self.has_failed) {
            (Some(error), false) => tracing::warn!(error, "traces cannot be exported"),
            (None, true) => tracing::info!("traces are exported again"),
            _ => {}
        }
        self.has_failed = error.is_some();
    }
}

#[cfg(test)]
mod tests;
