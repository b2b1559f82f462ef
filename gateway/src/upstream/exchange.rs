//! The exchange on a connection: the request is sent, the head of the response is received, and then its body is read
//! as the caller polls it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::task::coop;
use tokio::time::timeout_at;

use super::RequestBody;
use super::connection::{ClosedConnection, Connection, MAX_FIELDS};
use super::deadlines::Deadlines;
use super::error::{Cause, UpstreamError};
use super::http2::{self, Unanswered};
use super::interim::EarlyHints;
use super::pool::Lease;
use super::slots::{ConnectionSlot, Occupant as _};
use super::tunnel::Tunnel;

/// The body of a backend's response. It drives its connection, and closes it if it is dropped before the request and
/// the response are complete.
#[derive(Debug)]
pub struct ResponseBody {
    upstream: &'static str,
    incoming: Incoming,
    /// Present after the last data, if the response has any.
    trailers: Option<Box<HeaderMap>>,
    /// Present until the exchange has finished.
    lease: Option<Lease>,
}

/// The body of a response as it is received.
#[derive(Debug)]
enum Incoming {
    Http1(hyper::body::Incoming),
    Http2(Box<http2::Incoming>),
}

/// There is no response.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// Nothing of the request was sent.
    Unsent(Box<Request<RequestBody>>, Cause, Option<ConnectionSlot<Connection>>),
    /// The backend may have processed the request.
    NoResponse(Cause, Option<ClosedConnection>),
    /// The end of the response is ambiguous.
    AmbiguousFraming,
    /// The response has too many fields.
    TooManyFields,
}

impl ExchangeError {
    /// The kind of the failure in traces.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Unsent(..) => "unsent",
            Self::NoResponse(..) => "no_response",
            Self::AmbiguousFraming | Self::TooManyFields => "invalid_response",
        }
    }
}

/// Sends `request` and waits for the head of the response. Early hints before it go to `hints`. The deadline is the
/// caller's.
///
/// # Errors
/// [`ExchangeError`]; the connection is closed.
pub(super) async fn exchange(
    mut lease: Lease,
    request: Request<RequestBody>,
    hints: Option<&EarlyHints>,
) -> Result<Response<ResponseBody>, ExchangeError> {
    let upstream = lease.upstream();
    // The connection wakes this task. The head must not use up the task's budget, since nothing would wake it then.
    let mut head = pin!(match lease.connection.send(request) {
        Ok(head) => coop::unconstrained(head),
        Err(request) => return Box::pin(exchange_on_stream(lease, *request, hints)).await,
    });
    let (mut lease, mut closed) = (Some(lease), None);
    let mut switched = None;
    let responded = poll_fn(|cx| {
        if let Some(held) = &mut lease {
            let is_closed = held.connection.poll(cx).is_ready();
            if let Some(hints) = hints {
                held.connection.early_links.move_to(hints);
            }
            if is_closed {
                // HTTP ends on the connection with a 101 as well, and then it is still needed.
                let responded = head.as_mut().poll(&mut quiet_while(true, cx));
                if matches!(&responded, Poll::Ready(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS)
                {
                    switched = lease.take();
                    return responded;
                }
                closed = lease.take().map(Lease::close);
                if responded.is_ready() {
                    return responded;
                }
            }
        }
        head.as_mut().poll(&mut quiet_while(lease.is_some(), cx))
    });
    let response = match responded.await {
        Ok(response) => response,
        Err(mut failed) => {
            let request = failed.take_message();
            let closed = closed.or_else(|| lease.map(Lease::close));
            return Err(match request {
                Some(request) => {
                    let cause = Cause::Http1(failed.into_error());
                    ExchangeError::Unsent(Box::new(request), cause, closed.map(|closed| closed.slot))
                }
                None => ExchangeError::NoResponse(Cause::Http1(failed.into_error()), closed),
            });
        }
    };
    if !has_clear_framing(&response) {
        return Err(ExchangeError::AmbiguousFraming);
    }
    if let Some(held) = &mut lease {
        held.connection.note_response();
    }
    if switched.is_some() {
        let body = |incoming| ResponseBody { upstream, incoming, trailers: None, lease: switched };
        return Ok(response.map(|incoming| body(Incoming::Http1(incoming))));
    }
    Ok(response.map(|incoming| {
        let mut body = ResponseBody { upstream, incoming: Incoming::Http1(incoming), trailers: None, lease };
        body.release_if_ready();
        body
    }))
}

/// The same over HTTP/2, where the exchange is one of several on its connection.
async fn exchange_on_stream(
    mut lease: Lease,
    request: Request<RequestBody>,
    hints: Option<&EarlyHints>,
) -> Result<Response<ResponseBody>, ExchangeError> {
    let upstream = lease.upstream();
    let Some(stream) = lease.connection.stream() else { return Err(ExchangeError::AmbiguousFraming) };
    let mut count = 0;
    let interim = |interim: Response<()>| {
        if let Some(hints) = hints {
            hints.add(&interim, &mut count);
        }
    };
    match http2::exchange(stream, request, interim).await {
        Ok(response) if response.headers().len() > MAX_FIELDS => Err(ExchangeError::TooManyFields),
        Ok(response) => {
            lease.connection.note_response();
            Ok(response.map(|incoming| {
                let incoming = Incoming::Http2(Box::new(incoming));
                ResponseBody { upstream, incoming, trailers: None, lease: Some(lease) }
            }))
        }
        Err(Unanswered::Unsent(request, error)) => {
            Err(ExchangeError::Unsent(request, Cause::Http2(error), Some(lease.close().slot)))
        }
        Err(Unanswered::NoResponse(error)) => Err(ExchangeError::NoResponse(Cause::Http2(error), Some(lease.close()))),
        Err(Unanswered::Malformed(error)) => {
            Err(ExchangeError::NoResponse(Cause::Malformed(error), Some(lease.close())))
        }
    }
}

/// Whether every recipient finds the same end of the response (RFC 9112, sections 6.1 and 6.3): the only transfer
/// coding is `chunked`, in HTTP/1.1, without `Content-Length`.
fn has_clear_framing<T>(response: &Response<T>) -> bool {
    let headers = response.headers();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return true };
    coding.as_bytes().eq_ignore_ascii_case(b"chunked")
        && codings.next().is_none()
        && response.version() == Version::HTTP_11
        && !headers.contains_key(CONTENT_LENGTH)
}

impl Incoming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        match self {
            Self::Http1(incoming) => Pin::new(incoming).poll_frame(cx).map_err(Cause::Http1),
            Self::Http2(incoming) => Pin::new(incoming.as_mut()).poll_frame(cx).map_err(Cause::Http2),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(incoming) => incoming.is_end_stream(),
            Self::Http2(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(incoming) => incoming.size_hint(),
            Self::Http2(incoming) => incoming.size_hint(),
        }
    }
}

impl ResponseBody {
    /// The next data; `None` at the end, when [`take_trailers`](Self::take_trailers) returns the trailers. The deadline is
    /// the caller's.
    ///
    /// # Errors
    /// The response breaks off or is malformed.
    pub async fn data(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        loop {
            match self.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(UpstreamError::InvalidResponse(self.upstream, error.to_string())),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    Err(frame) => self.trailers = frame.into_trailers().ok().map(Box::new),
                },
            }
        }
    }

    /// The trailers, once [`data`](Self::data) has returned the end.
    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take().map(|trailers| *trailers)
    }

    /// The next data, within `deadlines`; `None` at the end.
    ///
    /// # Errors
    /// As [`data`](Self::data), and when a deadline passes.
    pub async fn data_within(&mut self, deadlines: Deadlines) -> Result<Option<Bytes>, UpstreamError> {
        if deadlines.have_passed() {
            return Err(deadlines.error());
        }
        timeout_at(deadlines.next_read(), self.data()).await.unwrap_or_else(|_| Err(deadlines.error()))
    }

    /// The whole body, in memory of its own; `None` if it is larger than `limit` bytes.
    ///
    /// # Errors
    /// As [`data_within`](Self::data_within).
    pub async fn collect_within(mut self, deadlines: Deadlines, limit: usize) -> Result<Option<Bytes>, UpstreamError> {
        let expected = usize::try_from(self.size_hint().lower()).unwrap_or(usize::MAX);
        if expected > limit {
            return Ok(None);
        }
        // Data is a slice of a larger buffer, which it would keep in memory.
        let mut collected = BytesMut::with_capacity(expected);
        while let Some(data) = self.data_within(deadlines).await? {
            if collected.len().saturating_add(data.len()) > limit {
                return Ok(None);
            }
            collected.extend_from_slice(&data);
        }
        // A buffer that has grown may be larger than its content.
        let is_larger = collected.capacity() > expected.max(collected.len());
        Ok(Some(if is_larger { Bytes::copy_from_slice(&collected) } else { collected.freeze() }))
    }

    /// Waits until the request is complete too: a backend may respond before it has read the whole request (RFC 9112,
    /// section 9.5). To be called after the whole response has been read.
    pub async fn finished(&mut self) {
        poll_fn(|cx| {
            self.drive(cx);
            if self.lease.is_none() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// The connection, if this is the body of a 101.
    pub fn into_tunnel(self) -> Option<Tunnel> {
        let (connection, in_flight) = self.lease?.into_parts();
        let (socket, early, slot) = connection.into_socket()?;
        Some(Tunnel::new(socket, early, slot, in_flight))
    }

    /// Whether the end of the body has been read.
    pub fn has_ended(&self) -> bool {
        self.incoming.is_end_stream()
    }

    /// Whether the request and the response are complete.
    pub fn is_finished(&self) -> bool {
        self.lease.is_none()
    }

    /// Reads and writes what is ready.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Incoming::Http2(incoming) = &mut self.incoming {
            if incoming.poll_complete(cx)
                && let Some(lease) = self.lease.take()
            {
                lease.release();
            }
            return;
        }
        if let Some(lease) = &mut self.lease
            && lease.connection.poll(cx).is_ready()
        {
            self.lease = None;
        }
        self.release_if_ready();
    }

    fn release_if_ready(&mut self) {
        if let Some(lease) = self.lease.take_if(|lease| lease.connection.is_ready()) {
            lease.release();
        }
    }
}

impl hyper::body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        let body = self.get_mut();
        // Over HTTP/2, another task drives the connection.
        let is_multiplexed = matches!(body.incoming, Incoming::Http2(_));
        let mut polled = body.incoming.poll_frame(&mut quiet_while(body.lease.is_some() && !is_multiplexed, cx));
        if polled.is_pending() {
            body.drive(cx);
            polled = body.incoming.poll_frame(&mut quiet_while(body.lease.is_some() && !is_multiplexed, cx));
        }
        let frame = ready!(polled);
        if is_multiplexed || !matches!(frame, Some(Ok(_))) {
            // The end of the request body may still have to be sent.
            body.drive(cx);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The context for data of a connection that this task drives: with a second waker, the task would be polled twice.
fn quiet_while<'a>(is_driven: bool, cx: &mut Context<'a>) -> Context<'a> {
    Context::from_waker(if is_driven { Waker::noop() } else { cx.waker() })
}
