//! Serves one HTTP/1.1 connection over any stream.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Method, Request, Response, StatusCode};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::Limits;
use super::stream::{Activity, InUse, TrackedStream};
use crate::handler::App;
use crate::record::{Access, Listener, Metrics};
use crate::respond::{Body, Cut, HttpError, Shape};
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
    /// Becomes true when the listener drains.
    pub(super) draining: watch::Receiver<bool>,
}

/// Serves `stream` until the client closes it, a deadline passes, or the listener drains.
pub(super) async fn serve<S>(context: ConnectionContext, stream: S, peer: String)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = context.limits;
    let activity = Activity::new();
    let watched = TrackedStream::new(stream, Arc::clone(&activity), limits.header_timeout, limits.write_timeout);
    let service = service_fn({
        let (context, activity) = (context.clone(), Arc::clone(&activity));
        move |request: Request<Incoming>| {
            let busy = activity.begin_request();
            let handled = handle(context.clone(), peer.clone(), request, busy);
            async move { Ok::<_, Infallible>(handled.await) }
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // hyper's timer would also run between requests; `TrackedStream` distinguishes the two.
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes)
        .max_headers(HEADER_FIELDS)
        .serve_connection(TokioIo::new(watched), service);
    let mut connection = std::pin::pin!(connection);
    let mut draining = context.draining.clone();
    let mut closing = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(listener = context.listener.as_str(), %error, "connection failed");
                }
                return;
            }
            () = drained(&mut draining), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep_until(activity.idle_deadline(limits.idle_timeout)), if !closing => {
                if activity.is_idle(limits.idle_timeout) {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Completes when the listener drains or is dropped.
pub(super) async fn drained(draining: &mut watch::Receiver<bool>) {
    let _ = draining.wait_for(|draining| *draining).await;
}

/// Handles one request and records it.
async fn handle(
    context: ConnectionContext,
    peer: String,
    request: Request<Incoming>,
    busy: InUse,
) -> Response<RecordedBody> {
    let metrics = context.app.metrics();
    let (head, body) = request.into_parts();
    let mut access = Access::begin(metrics, context.listener, &peer, &head);
    let is_head = head.method == Method::HEAD;
    let handled = route::handle(&context.app, context.listener, Request::from_parts(head, body));
    let RoutedResponse { route, response } = catch_panic(metrics, context.listener, access.request_id(), handled).await;
    access.set_response(route, response.status().as_u16());
    response.map(|body| RecordedBody::new(body, access, busy, is_head))
}

/// The handler's response, or `500` if it panics: a panic ends only its own request.
async fn catch_panic(
    metrics: &Metrics,
    listener: Listener,
    request_id: &str,
    handled: impl Future<Output = RoutedResponse>,
) -> RoutedResponse {
    // State of the request is dropped after a panic; shared state is behind locks and atomics.
    if let Ok(response) = AssertUnwindSafe(handled).catch_unwind().await {
        return response;
    }
    metrics.panicked();
    tracing::error!(request_id, "handler panicked");
    let shape = match listener {
        Listener::Api => Shape::Plain,
        Listener::Admin => Shape::Described,
    };
    let error = HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be handled").closing();
    RoutedResponse { route: "panicked", response: error.into_response(shape) }
}

/// A response body that records what was sent.
struct RecordedBody {
    body: Body,
    access: Access,
    _busy: InUse,
}

impl RecordedBody {
    fn new(body: Body, mut access: Access, busy: InUse, is_head: bool) -> Self {
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
        let response = catch_panic(&metrics, Listener::Api, "id", async { panic!("as a bug would") }).await;
        assert_eq!((response.route, response.response.status()), ("panicked", StatusCode::INTERNAL_SERVER_ERROR));
        assert_eq!(response.response.headers()["connection"], "close");
        assert!(metrics.render(Gauges::default()).unwrap().contains("\nbackend_panics_total 1\n"));
    }
}
