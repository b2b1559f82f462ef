//! Serves one HTTP/1.1 connection over any stream.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::FutureExt;
use holodule_telemetry::within;
use http::header::DATE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::requests::{Requests, Running};
use super::stream::{Activity, InUse, TrackedStream};
use super::{Limits, Phase};
use crate::handler::App;
use crate::record::{Access, Listener, Metrics};
use crate::respond::{self, Body, Cut, HttpError, Shape};
use crate::route::{self, RoutedResponse};

/// The maximum number of header fields: the 100 that the gateway accepts, and those it adds. At hyper's own limit of
/// 100, the response would not have our error format.
const HEADER_FIELDS: usize = 128;

/// State shared by the connections of a listener.
#[derive(Clone)]
pub(super) struct ConnectionContext {
    pub(super) app: Arc<App>,
    pub(super) listener: Listener,
    pub(super) limits: Limits,
    pub(super) requests: Arc<Requests>,
    /// What the listener does.
    pub(super) phase: watch::Receiver<Phase>,
}

/// A connection between two requests.
#[derive(Debug)]
pub(super) struct Idle<S> {
    pub(super) stream: S,
    /// The beginning of the next request, if it was read.
    pub(super) buffered: Bytes,
}

/// Serves `stream`, which is new, until the client closes it, a deadline passes, or the listener drains.
///
/// Returns the connection if the listener pauses, when no request is in flight.
pub(super) async fn serve<S>(context: ConnectionContext, stream: S, peer: String) -> Option<Idle<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let idle = Idle { stream, buffered: Bytes::new() };
    serve_from(context, idle, Activity::new(), peer).await
}

/// The same for a connection that has been served before.
pub(super) async fn resume<S>(context: ConnectionContext, idle: Idle<S>, peer: String) -> Option<Idle<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    serve_from(context, idle, Activity::idle(), peer).await
}

async fn serve_from<S>(
    context: ConnectionContext,
    Idle { stream, buffered }: Idle<S>,
    activity: Arc<Activity>,
    peer: String,
) -> Option<Idle<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = context.limits;
    let watched = TrackedStream::new(stream, Arc::clone(&activity), limits.header_timeout, limits.write_timeout);
    let service = service_fn({
        let (context, activity) = (context.clone(), Arc::clone(&activity));
        move |request: Request<Incoming>| {
            let busy = activity.begin_request();
            let handled = handle(context.clone(), peer.clone(), request, busy);
            async move { Ok::<_, Infallible>(handled.await) }
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // hyper's timer would also run between requests; `TrackedStream` distinguishes the two.
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes)
        .max_headers(HEADER_FIELDS)
        .serve_connection(TokioIo::new(watched.with_buffered(buffered)), service);
    let mut phase = context.phase.clone();
    let mut closing = false;
    loop {
        let now = *phase.borrow_and_update();
        if now == Phase::Drain && !closing {
            closing = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        let ended = tokio::select! {
            ended = drive(&mut connection, &activity, now.is_paused() && !closing) => ended,
            // Without a sender, the service has ended.
            Ok(()) = phase.changed(), if !closing => continue,
            () = tokio::time::sleep_until(activity.idle_deadline(limits.idle_timeout)), if !closing => {
                if activity.is_idle(limits.idle_timeout) {
                    closing = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                continue;
            }
        };
        match ended {
            Ended::Idle => {
                let http1::Parts { io, read_buf, .. } = connection.into_parts();
                let (stream, unread) = io.into_inner().into_parts();
                let buffered = if unread.is_empty() { read_buf } else { [read_buf, unread].concat().into() };
                return Some(Idle { stream, buffered });
            }
            Ended::Closed(Ok(())) => {}
            Ended::Closed(Err(error)) => {
                tracing::debug!(listener = context.listener.as_str(), %error, "connection failed");
            }
        }
        return None;
    }
}

/// How the service of a connection ended.
enum Ended {
    /// It was closed, or failed.
    Closed(hyper::Result<()>),
    /// No request is in flight, and every response has been written.
    Idle,
}

/// Serves a connection until it ends or, with `take_idle`, until no request is in flight.
async fn drive(
    connection: &mut (impl Future<Output = hyper::Result<()>> + Unpin),
    activity: &Activity,
    take_idle: bool,
) -> Ended {
    std::future::poll_fn(|cx| {
        if let Poll::Ready(ended) = Pin::new(&mut *connection).poll(cx) {
            return Poll::Ready(Ended::Closed(ended));
        }
        if !take_idle || !activity.is_quiet() {
            return Poll::Pending;
        }
        // hyper notices here that a request body was not read to its end: it discards the rest, or closes the connection.
        if let Poll::Ready(ended) = Pin::new(&mut *connection).poll(cx) {
            return Poll::Ready(Ended::Closed(ended));
        }
        if activity.is_quiet() { Poll::Ready(Ended::Idle) } else { Poll::Pending }
    })
    .await
}

/// Handles one request and records it.
async fn handle(
    context: ConnectionContext,
    peer: String,
    request: Request<Incoming>,
    busy: InUse,
) -> Response<RecordedBody> {
    let running = context.requests.begin();
    let metrics = context.app.metrics();
    let (head, body) = request.into_parts();
    let mut access = Access::begin(metrics, context.app.tracer(), context.listener, &peer, &head);
    let is_head = head.method == Method::HEAD;
    let shape = route::error_shape(context.listener, head.uri.path());
    let handled = route::handle(&context.app, context.listener, Request::from_parts(head, body));
    let handled = within(access.active(), handled);
    let RoutedResponse { route, mut response } = catch_panic(metrics, shape, access.request_id(), handled).await;
    if context.listener == Listener::Admin {
        respond::protect(response.headers_mut());
    }
    access.set_response(route, response.status().as_u16());
    let running = (!route::ENDLESS.contains(&route)).then_some(running);
    let mut response = response.map(|body| RecordedBody::new(body, access, (busy, running), is_head));
    response.headers_mut().insert(DATE, date(SystemTime::now()));
    response
}

/// The `Date` of a response. hyper sets none if there is one; its own stays as it is if the clock is set back, until the
/// clock has caught up.
fn date(now: SystemTime) -> HeaderValue {
    // An HTTP date is ASCII.
    HeaderValue::try_from(httpdate::fmt_http_date(now))
        .unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

/// The handler's response, or `500` if it panics: a panic ends only its own request.
async fn catch_panic(
    metrics: &Metrics,
    shape: Shape,
    request_id: &str,
    handled: impl Future<Output = RoutedResponse>,
) -> RoutedResponse {
    // State of the request is dropped after a panic; shared state is behind locks and atomics.
    if let Ok(response) = AssertUnwindSafe(handled).catch_unwind().await {
        return response;
    }
    metrics.panicked();
    tracing::error!(request_id, "handler panicked");
    let error = HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be handled").closing();
    RoutedResponse { route: "panicked", response: error.into_response(shape) }
}

/// A response body that records what was sent.
struct RecordedBody {
    body: Body,
    access: Access,
    _busy: (InUse, Option<Running>),
}

impl RecordedBody {
    fn new(body: Body, mut access: Access, busy: (InUse, Option<Running>), is_head: bool) -> Self {
        // hyper does not poll such a body.
        if is_head || body.is_end_stream() {
            access.complete();
        }
        Self { body, access, _busy: busy }
    }
}

impl HttpBody for RecordedBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref) {
            self.access.sent(data.len());
        }
        if frame.is_none() || (matches!(frame, Some(Ok(_))) && self.body.is_end_stream()) {
            self.access.complete();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Gauges;

    #[tokio::test]
    async fn a_handler_that_panics_is_answered_500() {
        let metrics = Metrics::new().unwrap();
        let response = catch_panic(&metrics, Shape::Plain, "id", async { panic!("as a bug would") }).await;
        assert_eq!((response.route, response.response.status()), ("panicked", StatusCode::INTERNAL_SERVER_ERROR));
        assert_eq!(response.response.headers()["connection"], "close");
        assert!(metrics.render(Gauges::default()).unwrap().contains("\nbackend_panics_total 1\n"));
    }
}
