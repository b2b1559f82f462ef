//! The task that reads a shared stream from the service and reconnects.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{ACCEPT, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, timeout};

use super::parser::{Block, Parser};
use super::stream::{FirstResponse, OtherResponse, Stream};
use super::{Hub, Key, lock};
use crate::upstream::{RequestBody, ResponseBody, Timeouts, UpstreamClient, UpstreamError, is_event_stream};

/// How long a stream without listeners stays open.
pub(super) const IDLE_LIMIT: Duration = Duration::from_secs(15);
/// The interval at which a stream is checked for listeners.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The time without events after which listeners are sent a heartbeat.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// The first pause between requests for a stream. Each further pause is twice as long.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
/// The longest pause.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// The maximum size of the body of a response that is not an event stream, in bytes.
const OTHER_BODY_LIMIT: usize = 64 * 1024;

/// The request header with the id of the last event that the client has received.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// How a stream is requested from the service.
pub struct Source {
    /// The service.
    pub client: UpstreamClient,
    /// The head of the request, which is the same for all listeners.
    pub head: Parts,
    /// The timeouts of the route that replace those of the service.
    pub timeouts: Timeouts,
    /// How long the service may send nothing before the stream is requested again.
    pub idle: Duration,
}

/// Why the reader has stopped reading a response.
enum End {
    /// The service has ended the response, or failed.
    Response,
    /// The log is full.
    LogFull,
    /// The stream has no listeners, or a limit is exceeded.
    Stream,
}

/// Reads `stream` from `source` until it has no listeners, or the service has failed for the `reconnect_timeout`.
pub(super) async fn run(hub: Arc<Hub>, key: Key, stream: Arc<Stream>, source: Source) {
    let reader = Reader { hub, key, stream, source };
    reader.run().await;
    reader.hub.close(&reader.key, &reader.stream, false);
}

struct Reader {
    hub: Arc<Hub>,
    key: Key,
    stream: Arc<Stream>,
    source: Source,
}

impl Reader {
    async fn run(&self) {
        let mut is_open = false;
        let mut wants_snapshot = false;
        let mut failing_since = None;
        let mut pause = Duration::ZERO;
        let mut idle_checks = interval_after(IDLE_CHECK_INTERVAL);
        loop {
            let response = tokio::select! {
                response = self.request(wants_snapshot) => response,
                () = self.wait_until_closed(&mut idle_checks) => return,
            };
            match response {
                Ok(response) if is_stream(&response) => {
                    let (head, body) = response.into_parts();
                    if !is_open {
                        is_open = true;
                        self.stream.set_first_response(FirstResponse::Stream(Arc::new(head)));
                    }
                    let began = Instant::now();
                    let end = self.read(body, wants_snapshot, &mut idle_checks).await;
                    match end {
                        End::Response | End::LogFull => wants_snapshot = matches!(end, End::LogFull),
                        End::Stream => return,
                    }
                    if wants_snapshot || began.elapsed() > MAX_BACKOFF {
                        (failing_since, pause) = (None, Duration::ZERO);
                    }
                }
                Ok(response) if !is_open => return self.pass_on(response).await,
                Ok(response) if !may_recover(response.status()) => return,
                Err(error) if !is_open => return self.stream.set_first_response(FirstResponse::Failed(error)),
                Ok(_) | Err(_) => {}
            }
            // Also after a success, because a service may end each response at once.
            let since = *failing_since.get_or_insert_with(Instant::now);
            if since.elapsed() > lock(&self.hub.settings).reconnect_timeout {
                return;
            }
            pause = (pause * 2).clamp(MIN_BACKOFF, MAX_BACKOFF);
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wait_until_closed(&mut idle_checks) => return,
            }
        }
    }

    /// Requests the stream after the last event, or with a new snapshot if `wants_snapshot`.
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

    /// Publishes the events of a response. If it `should_begin_with_snapshot` and does not, its events may not continue
    /// those in the log, which are then removed.
    async fn read(
        &self,
        mut body: ResponseBody,
        mut should_begin_with_snapshot: bool,
        idle_checks: &mut Interval,
    ) -> End {
        let (mut parser, mut blocks) = (Parser::default(), Vec::new());
        let mut heartbeats = interval_after(HEARTBEAT_INTERVAL);
        loop {
            let data = tokio::select! {
                data = timeout(self.source.idle, body.data()) => data,
                () = self.wait_until_closed(idle_checks) => return End::Stream,
                () = self.send_heartbeat(&mut heartbeats) => continue,
            };
            let Ok(Ok(Some(data))) = data else { return End::Response };
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
            let is_restarted = std::mem::take(&mut should_begin_with_snapshot) && !first.is_snapshot;
            self.hub.events.fetch_add(events.len() as u64, Ordering::Relaxed);
            self.stream.publish(events, is_restarted, &self.hub.bytes);
            // This may close the stream itself.
            self.hub.enforce_max_bytes();
            heartbeats.reset();
            if self.stream.is_full() {
                return End::LogFull;
            }
        }
    }

    /// Sends the listeners a heartbeat when the interval has passed.
    async fn send_heartbeat(&self, heartbeats: &mut Interval) {
        heartbeats.tick().await;
        self.stream.send_heartbeat();
    }

    /// Waits until the stream has been closed, or closes it after [`IDLE_LIMIT`] without listeners.
    async fn wait_until_closed(&self, idle_checks: &mut Interval) {
        loop {
            tokio::select! {
                _ = idle_checks.tick() => {}
                () = self.stream.ended.notified() => return,
            }
            let is_idle = self.stream.idle_time().is_some_and(|idle| idle >= IDLE_LIMIT);
            if is_idle && self.hub.close(&self.key, &self.stream, true) {
                return;
            }
        }
    }

    /// Returns a response that is not an event stream to the listeners.
    async fn pass_on(&self, response: Response<ResponseBody>) {
        let (head, body) = response.into_parts();
        let upstream = self.source.client.upstream();
        let deadlines = upstream.deadlines_with(Instant::now(), &self.source.timeouts);
        let too_large = || UpstreamError::InvalidResponse(upstream.name, "it is not an event stream".to_owned());
        self.stream.set_first_response(match body.collect_within(deadlines, OTHER_BODY_LIMIT).await {
            Ok(Some(body)) => FirstResponse::Other(Arc::new(OtherResponse { head, body })),
            Ok(None) => FirstResponse::Failed(too_large()),
            Err(error) => FirstResponse::Failed(error),
        });
    }
}

/// An interval whose first tick is after one `period`.
fn interval_after(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

fn is_stream(response: &Response<ResponseBody>) -> bool {
    response.status() == StatusCode::OK && is_event_stream(response.headers())
}

/// Whether a later request may succeed. After other statuses, the stream ends, as clients do not reconnect then either
/// (the HTML standard, section 9.2.3).
fn may_recover(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}
