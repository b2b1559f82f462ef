//! The exchange on a connection: the request is sent, the head of the response is received, and then its body is read
//! as the caller polls it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio::task::coop;
use tokio::time::timeout_at;

use super::RequestBody;
use super::connection::{ClosedConnection, Connection};
use super::deadlines::Deadlines;
use super::error::{UpstreamError, with_cause};
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

/// There is no response.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// Nothing of the request was sent.
    Unsent(Box<Request<RequestBody>>, hyper::Error, Option<ConnectionSlot<Connection>>),
    /// The backend may have processed the request.
    NoResponse(hyper::Error, Option<ClosedConnection>),
    /// The end of the response is ambiguous.
    AmbiguousFraming,
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
    let mut head = pin!(coop::unconstrained(lease.connection.send(request)));
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
                    ExchangeError::Unsent(Box::new(request), failed.into_error(), closed.map(|closed| closed.slot))
                }
                None => ExchangeError::NoResponse(failed.into_error(), closed),
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
        return Ok(response.map(|incoming| ResponseBody { upstream, incoming, trailers: None, lease: switched }));
    }
    Ok(response.map(|incoming| {
        let mut body = ResponseBody { upstream, incoming, trailers: None, lease };
        body.release_if_ready();
        body
    }))
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
                Some(Err(error)) => return Err(UpstreamError::InvalidResponse(self.upstream, with_cause(&error))),
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
        let (socket, early, slot) = self.lease?.connection.into_socket();
        Some(Tunnel::new(socket, early, slot))
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
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let body = self.get_mut();
        let mut polled = Pin::new(&mut body.incoming).poll_frame(&mut quiet_while(body.lease.is_some(), cx));
        if polled.is_pending() {
            body.drive(cx);
            polled = Pin::new(&mut body.incoming).poll_frame(&mut quiet_while(body.lease.is_some(), cx));
        }
        let frame = ready!(polled);
        if !matches!(frame, Some(Ok(_))) {
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
