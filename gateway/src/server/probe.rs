//! Asks each backend now and then whether it is there, and what its name means.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::record::Metrics;
use crate::upstream::{Client, Upstream};

/// Between two probes of a backend that has not answered yet: a start should not wait long.
const UNREACHED: Duration = Duration::from_millis(100);

/// Between two probes of a backend that answers.
const REACHED: Duration = Duration::from_secs(2);

/// The most that is read of an answer, in bytes.
const ANSWER_BYTES: usize = 64 * 1024;

/// The service that probes.
pub(super) struct Probe {
    upstreams: Vec<Arc<Upstream>>,
    metrics: Arc<Metrics>,
}

impl Probe {
    pub(super) fn new(upstreams: Vec<Arc<Upstream>>, metrics: Arc<Metrics>) -> Self {
        Self { upstreams, metrics }
    }
}

#[async_trait]
impl Service for Probe {
    async fn start_service(&mut self, _: Option<ListenFds>, mut shutdown: ShutdownWatch, _: usize) {
        let mut probes = JoinSet::new();
        for upstream in &self.upstreams {
            probes.spawn(watch(Arc::clone(upstream), Arc::clone(&self.metrics)));
        }
        // Dropping the set ends them. A closed channel means the same as a change.
        let _ = shutdown.changed().await;
    }

    fn name(&self) -> &str {
        "probe"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}

async fn watch(upstream: Arc<Upstream>, metrics: Arc<Metrics>) {
    // However busy the upstream is, it is up.
    let client = Client::exempt(Arc::clone(&upstream));
    let mut was_up = None;
    loop {
        if let Err(error) = upstream.resolve().await {
            tracing::warn!(upstream = upstream.name, %error, "the upstream's name cannot be resolved");
        }
        let answer = ask(&client).await;
        let up = answer.is_ok();
        upstream.note(up);
        metrics.upstream_up(upstream.name, up);
        if was_up != Some(up) {
            match &answer {
                Ok(()) => tracing::info!(upstream = upstream.name, "the upstream answers"),
                Err(error) => tracing::warn!(upstream = upstream.name, %error, "the upstream does not answer"),
            }
            was_up = Some(up);
        }
        sleep(if upstream.was_reached() { REACHED } else { UNREACHED }).await;
    }
}

/// Any answer will do: whoever speaks HTTP there is there. The path is one that the backend's
/// admin side has and its api side refuses without asking the store.
async fn ask(client: &Client) -> Result<(), crate::upstream::Unanswered> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = http::Uri::from_static("/healthz");
    client.send(request, ANSWER_BYTES).await.map(|_| ())
}
