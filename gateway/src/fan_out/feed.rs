//! The task that reads a shared stream from the service.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{ACCEPT, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, timeout};

use super::parser::{Block, Parser};
use super::stream::{Opened, Refusal, Stream};
use super::{Hub, Key};
use crate::upstream::{RequestBody, ResponseBody, Timeouts, UpstreamClient, UpstreamError, is_event_stream};

/// How long a stream without listeners stays open.
pub(super) const LINGER: Duration = Duration::from_secs(15);
/// The interval of checks for listeners.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The longest time without an event or a comment for listeners.
const BEAT_INTERVAL: Duration = Duration::from_secs(15);
/// How long listeners wait for a service that does not respond.
const DOWN_LIMIT: Duration = Duration::from_secs(30);
/// The first interval between requests for a stream; each further one is twice as long.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// The longest interval.
const RETRY_LIMIT: Duration = Duration::from_secs(5);
/// The maximum size of a response that is not an event stream, in bytes.
const REFUSAL_LIMIT: usize = 64 * 1024;

/// The id of the last event that a client has received.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// Where a stream comes from.
pub struct Source {
    /// The service.
    pub client: UpstreamClient,
    /// The head of the request, which is the same for all listeners.
    pub head: Parts,
    /// The timeouts that differ from those of the service.
    pub timeouts: Timeouts,
    /// How long the service may send nothing.
    pub idle: Duration,
}

/// Why a response of the service ends.
enum End {
    /// The service has ended it, or failed.
    Closed,
    /// The log is full.
    Full,
    /// The stream has no listeners, or is too large.
    Stream,
}

/// Reads `stream` from `source` until it has no listeners, or the service has failed for [`DOWN_LIMIT`].
pub(super) async fn run(hub: Arc<Hub>, key: Key, stream: Arc<Stream>, source: Source) {
    let feed = Feed { hub, key, stream, source };
    feed.run().await;
    feed.hub.close(&feed.key, &feed.stream, false);
}

struct Feed {
    hub: Arc<Hub>,
    key: Key,
    stream: Arc<Stream>,
    source: Source,
}

impl Feed {
    async fn run(&self) {
        let mut is_open = false;
        let mut wants_snapshot = false;
        let mut down_since = None;
        let mut pause = Duration::ZERO;
        let mut checks = ticks(CHECK_INTERVAL);
        loop {
            let response = tokio::select! {
                response = self.request(wants_snapshot) => response,
                () = self.abandoned(&mut checks) => return,
            };
            match response {
                Ok(response) if is_stream(&response) => {
                    let (head, body) = response.into_parts();
                    if !is_open {
                        is_open = true;
                        self.stream.open(Opened::Stream(Arc::new(head)));
                    }
                    let began = Instant::now();
                    let end = self.read(body, wants_snapshot, &mut checks).await;
                    match end {
                        End::Closed | End::Full => wants_snapshot = matches!(end, End::Full),
                        End::Stream => return,
                    }
                    if wants_snapshot || began.elapsed() > RETRY_LIMIT {
                        (down_since, pause) = (None, Duration::ZERO);
                    }
                }
                Ok(response) if !is_open => return self.refuse(response).await,
                Ok(response) if !may_recover(response.status()) => return,
                Err(error) if !is_open => return self.stream.open(Opened::Failed(error)),
                Ok(_) | Err(_) => {}
            }
            // A service that ends each response at once is not requested in a loop.
            let since = *down_since.get_or_insert_with(Instant::now);
            if since.elapsed() > DOWN_LIMIT {
                return;
            }
            pause = (pause * 2).clamp(FIRST_RETRY, RETRY_LIMIT);
            tokio::select! {
                () = sleep(pause) => {}
                () = self.abandoned(&mut checks) => return,
            }
        }
    }

    /// Requests the stream: from the last event on, unless a new snapshot is wanted.
    async fn request(&self, wants_snapshot: bool) -> Result<Response<ResponseBody>, UpstreamError> {
        let Source { client, head, timeouts, .. } = &self.source;
        let mut head = head.clone();
        head.headers.insert(ACCEPT, EVENT_STREAM);
        let last = self.stream.last_id();
        if !wants_snapshot
            && !last.is_empty()
            && let Ok(last) = HeaderValue::from_maybe_shared(last)
        {
            head.headers.insert(LAST_EVENT_ID, last);
        }
        self.hub.requests.fetch_add(1, Ordering::Relaxed);
        let deadlines = client.upstream().deadlines_with(Instant::now(), timeouts);
        client.open_within(head, RequestBody::default(), deadlines).await
    }

    /// Publishes the events of a response. If a snapshot is `expected` and does not come first, the events before are
    /// removed, since they may not be continued.
    async fn read(&self, mut body: ResponseBody, mut expected: bool, checks: &mut Interval) -> End {
        let (mut parser, mut blocks) = (Parser::default(), Vec::new());
        let mut beats = ticks(BEAT_INTERVAL);
        loop {
            let data = tokio::select! {
                data = timeout(self.source.idle, body.data()) => data,
                () = self.abandoned(checks) => return End::Stream,
                () = self.beating(&mut beats) => continue,
            };
            let Ok(Ok(Some(data))) = data else { return End::Closed };
            if let Err(error) = parser.read(&data, &mut blocks) {
                tracing::warn!(route = &*self.key.route, %error, "a shared stream is ended");
                return End::Stream;
            }
            let mut events = Vec::new();
            for block in blocks.drain(..) {
                match block {
                    Block::Event(event) => events.push(event),
                    Block::Retry(block) => self.stream.set_retry(block),
                }
            }
            let Some(first) = events.first() else { continue };
            let is_restarted = std::mem::take(&mut expected) && !first.is_snapshot;
            self.hub.events.fetch_add(events.len() as u64, Ordering::Relaxed);
            let (before, after) = self.stream.publish(events, is_restarted);
            if !self.hub.resized(before, after) {
                tracing::warn!(route = &*self.key.route, "shared streams exceed their size: one is ended");
                return End::Stream;
            }
            beats.reset();
            if self.stream.is_full() {
                return End::Full;
            }
        }
    }

    /// Lets the listeners know that nothing has happened.
    async fn beating(&self, beats: &mut Interval) {
        beats.tick().await;
        self.stream.beat();
    }

    /// Waits until the stream has ended because it has no listeners.
    async fn abandoned(&self, checks: &mut Interval) {
        loop {
            checks.tick().await;
            let is_idle = self.stream.idle().is_some_and(|idle| idle >= LINGER);
            if is_idle && self.hub.close(&self.key, &self.stream, true) {
                return;
            }
        }
    }

    /// Passes a response that is not an event stream to the listeners.
    async fn refuse(&self, response: Response<ResponseBody>) {
        let (head, body) = response.into_parts();
        let upstream = self.source.client.upstream();
        let deadlines = upstream.deadlines_with(Instant::now(), &self.source.timeouts);
        let too_large = || UpstreamError::InvalidResponse(upstream.name, "it is not an event stream".to_owned());
        self.stream.open(match body.collect_within(deadlines, REFUSAL_LIMIT).await {
            Ok(Some(body)) => Opened::Refused(Arc::new(Refusal { head, body })),
            Ok(None) => Opened::Failed(too_large()),
            Err(error) => Opened::Failed(error),
        });
    }
}

/// The first tick is after one `period`.
fn ticks(period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn is_stream(response: &Response<ResponseBody>) -> bool {
    response.status() == StatusCode::OK && is_event_stream(response.headers())
}

/// Whether a later request may succeed. A client of a stream stops on other statuses (the HTML standard, section 9.2.3).
fn may_recover(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}
