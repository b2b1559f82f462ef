//! Periodic health checks of each upstream, with DNS resolution of its name.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::DATE;
use http::{HeaderMap, Request, Response, StatusCode};
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::service::Backends;
use crate::record::Metrics;
use crate::upstream::{Upstream, UpstreamClient};

/// The interval until the first success: short, so that the start is not delayed.
const INITIAL_INTERVAL: Duration = Duration::from_millis(100);

/// The interval after the first success.
const INTERVAL: Duration = Duration::from_secs(2);

/// The clock skew, in seconds, above which a warning is logged: half of what is tolerated.
const MAX_SKEW_SECONDS: u64 = 30;

/// The maximum size of a response, in bytes.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// The service that sends the probes.
pub(super) struct Probe {
    pub(super) backends: watch::Receiver<Arc<Backends>>,
    pub(super) metrics: Arc<Metrics>,
}

#[async_trait]
impl Service for Probe {
    async fn start_service(&mut self, _: Option<ListenFds>, mut shutdown: ShutdownWatch, _: usize) {
        let mut running: Vec<(Arc<Upstream>, JoinSet<()>)> = Vec::new();
        loop {
            let backends = Arc::clone(&self.backends.borrow_and_update());
            let is_in = |all: &[Arc<Upstream>], one: &Arc<Upstream>| all.iter().any(|other| Arc::ptr_eq(other, one));
            let (remaining, ended) =
                running.into_iter().partition(|(upstream, _)| is_in(&backends.upstreams, upstream));
            running = remaining;
            for (upstream, mut probes) in ended {
                probes.shutdown().await;
                self.metrics.remove_upstream(upstream.name);
            }
            for upstream in &backends.upstreams {
                if !running.iter().any(|(other, _)| Arc::ptr_eq(other, upstream)) {
                    let mut probes = JoinSet::new();
                    probes.spawn(probe_repeatedly(Arc::clone(upstream), Arc::clone(&self.metrics)));
                    running.push((Arc::clone(upstream), probes));
                }
            }
            tokio::select! {
                changed = self.backends.changed() => if changed.is_err() { break },
                // A closed channel means shutdown as well.
                _ = shutdown.changed() => return,
            }
        }
        // Nothing can reload any more. Dropping the sets aborts the probes.
        let _ = shutdown.changed().await;
    }

    fn name(&self) -> &str {
        "probe"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}

async fn probe_repeatedly(upstream: Arc<Upstream>, metrics: Arc<Metrics>) {
    // Its idle connection is never closed to make room for requests: a busy upstream is not down.
    let client = UpstreamClient::exempt(Arc::clone(&upstream));
    let mut was_up = None;
    let mut state = State::default();
    loop {
        if let Err(error) = upstream.resolve().await {
            tracing::warn!(upstream = upstream.name, %error, "the upstream's name cannot be resolved");
        }
        let answer = probe(&client).await;
        let up = answer.is_ok();
        if let Ok(response) = &answer {
            state.note(&upstream, &metrics, response, SystemTime::now());
        }
        upstream.set_up(up);
        metrics.upstream_up(upstream.name, up);
        if was_up != Some(up) {
            match &answer {
                Ok(_) => tracing::info!(upstream = upstream.name, "the upstream answers"),
                Err(error) => tracing::warn!(upstream = upstream.name, %error, "the upstream does not answer"),
            }
            was_up = Some(up);
        }
        sleep(if upstream.was_reached() { INTERVAL } else { INITIAL_INTERVAL }).await;
    }
}

/// Conditions found by the last probe.
#[derive(Default)]
struct State {
    is_misdirected: bool,
    is_skewed: bool,
}

impl State {
    /// Logs changes of two conditions: whether the upstream accepts the `Host` of the requests, and its clock skew. The
    /// latter only for the admin listener, since its clock decides which tokens are revoked.
    fn note(&mut self, upstream: &Upstream, metrics: &Metrics, response: &Response<Bytes>, now: SystemTime) {
        let is_misdirected = response.status() == StatusCode::MISDIRECTED_REQUEST;
        if is_misdirected && !self.is_misdirected {
            let reason = upstream.unexpected(response.status());
            tracing::warn!(upstream = upstream.name, reason, "the upstream refuses this gateway's requests");
        }
        self.is_misdirected = is_misdirected;
        if upstream.name != "admin" {
            return;
        }
        let Some(skew) = clock_skew(response.headers(), now) else { return };
        metrics.clock_skew(skew);
        let is_skewed = skew.unsigned_abs() > MAX_SKEW_SECONDS;
        if is_skewed && !self.is_skewed {
            tracing::warn!(seconds = skew, "the backend's clock differs from this gateway's; over 60 s, tokens fail");
        } else if self.is_skewed && !is_skewed {
            tracing::info!(seconds = skew, "the backend's clock agrees with this gateway's again");
        }
        self.is_skewed = is_skewed;
    }
}

/// By how many seconds the `Date` of a response is ahead of `now`, with an accuracy of about one second.
fn clock_skew(headers: &HeaderMap, now: SystemTime) -> Option<i64> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let seconds = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    };
    Some(seconds(date).saturating_sub(seconds(now)))
}

/// Sends one probe. Any HTTP response shows that the upstream is up. The backend answers this path on both listeners
/// without using its store, and counts and logs it separately from other requests.
async fn probe(client: &UpstreamClient) -> Result<Response<Bytes>, crate::upstream::UpstreamError> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = http::Uri::from_static("/healthz");
    client.send(request, MAX_RESPONSE_BYTES).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_is_positive_if_the_date_is_ahead_and_none_without_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let skew = |date: &str| clock_skew(&HeaderMap::from_iter([(DATE, date.parse().unwrap())]), now);
        assert_eq!(skew("Sun, 09 Sep 2001 01:46:40 GMT"), Some(0));
        assert_eq!(skew("Sun, 09 Sep 2001 01:48:10 GMT"), Some(90));
        assert_eq!(skew("Sun, 09 Sep 2001 01:45:40 GMT"), Some(-60));
        assert_eq!((skew("yesterday"), clock_skew(&HeaderMap::new(), now)), (None, None));
    }
}
