//! Asks each backend now and then whether it is there, and what its name means.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::DATE;
use http::{HeaderMap, Request, Response, StatusCode};
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

/// A difference of the clocks, in seconds, over which it is logged: half of what is tolerated.
const MAX_SKEW_SECONDS: u64 = 30;

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
    let mut state = State::default();
    loop {
        if let Err(error) = upstream.resolve().await {
            tracing::warn!(upstream = upstream.name, %error, "the upstream's name cannot be resolved");
        }
        let answer = ask(&client).await;
        let up = answer.is_ok();
        if let Ok(response) = &answer {
            state.note(&upstream, &metrics, response, SystemTime::now());
        }
        upstream.note(up);
        metrics.upstream_up(upstream.name, up);
        if was_up != Some(up) {
            match &answer {
                Ok(_) => tracing::info!(upstream = upstream.name, "the upstream answers"),
                Err(error) => tracing::warn!(upstream = upstream.name, %error, "the upstream does not answer"),
            }
            was_up = Some(up);
        }
        sleep(if upstream.was_reached() { REACHED } else { UNREACHED }).await;
    }
}

/// What the last probe has found besides.
#[derive(Default)]
struct State {
    is_misdirected: bool,
    is_skewed: bool,
}

impl State {
    /// Notes whether the backend accepts our `Host`, and how far its clock is ahead: of the admin side only, since
    /// no other one decides over tokens. Each is logged when it changes.
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

/// By how many seconds the `Date` of an answer is ahead of `now`: exact to about a second.
fn clock_skew(headers: &HeaderMap, now: SystemTime) -> Option<i64> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let seconds = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    };
    Some(seconds(date).saturating_sub(seconds(now)))
}

/// Any HTTP answer shows that the upstream is there. The backend answers the path on both listeners without
/// asking its store, and counts and logs it apart from other requests.
async fn ask(client: &Client) -> Result<Response<Bytes>, crate::upstream::Unanswered> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = http::Uri::from_static("/healthz");
    client.send(request, ANSWER_BYTES).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_ahead_is_positive_and_what_is_no_date_is_nothing() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let skew = |date: &str| clock_skew(&HeaderMap::from_iter([(DATE, date.parse().unwrap())]), now);
        assert_eq!(skew("Sun, 09 Sep 2001 01:46:40 GMT"), Some(0));
        assert_eq!(skew("Sun, 09 Sep 2001 01:48:10 GMT"), Some(90));
        assert_eq!(skew("Sun, 09 Sep 2001 01:45:40 GMT"), Some(-60));
        assert_eq!((skew("yesterday"), clock_skew(&HeaderMap::new(), now)), (None, None));
    }
}
