//! The exchange on a connection: a request goes out, the head of its answer comes in, and then
//! the body, as it is asked for.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Response, Version};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::task::coop;

use super::Outgoing;
use super::connection::{Closed, Connection};
use super::pool::Lease;
use super::slots::{Occupant as _, Slot};

/// The body of a backend's answer. It drives the connection it comes by; dropped before the exchange
/// is over on both sides, it closes that.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    /// Until the exchange is over.
    lease: Option<Lease>,
}

/// There was no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// The request never left.
    Unsent(Box<Request<Outgoing>>, hyper::Error, Option<Slot<Connection>>),
    /// The backend may have acted on it.
    Lost(hyper::Error, Option<Closed>),
    /// There was an answer whose end is not clear.
    Misframed,
}

/// Sends `request` and waits for the head of the answer, however long that takes.
///
/// # Errors
/// [`Failed`]; the connection is closed.
pub(super) async fn exchange(mut lease: Lease, request: Request<Outgoing>) -> Result<Response<Body>, Failed> {
    // The head comes by the connection, which wakes this task by itself. It is not to wait for a
    // turn either, since nothing would wake it then.
    let mut head = pin!(coop::unconstrained(lease.connection.send(request)));
    let (mut lease, mut closed) = (Some(lease), None);
    let answered = poll_fn(|cx| {
        if let Some(held) = &mut lease
            && held.connection.poll(cx).is_ready()
        {
            closed = lease.take().map(Lease::close);
        }
        head.as_mut().poll(&mut quiet_while(lease.is_some(), cx))
    });
    let response = match answered.await {
        Ok(response) => response,
        Err(mut failed) => {
            let request = failed.take_message();
            let closed = closed.or_else(|| lease.map(Lease::close));
            return Err(match request {
                Some(request) => {
                    Failed::Unsent(Box::new(request), failed.into_error(), closed.map(|closed| closed.slot))
                }
                None => Failed::Lost(failed.into_error(), closed),
            });
        }
    };
    if !has_clear_framing(&response) {
        return Err(Failed::Misframed);
    }
    if let Some(held) = &mut lease {
        held.connection.answered();
    }
    Ok(response.map(|incoming| {
        let mut body = Body { incoming, lease };
        body.give_back_unused();
        body
    }))
}

/// Whether everybody who reads the answer finds the same end of it (RFC 9112, sections 6.1 and 6.3):
/// a transfer coding is `chunked` alone, of HTTP/1.1, and has no length beside it.
fn has_clear_framing<T>(response: &Response<T>) -> bool {
    let headers = response.headers();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return true };
    coding.as_bytes().eq_ignore_ascii_case(b"chunked")
        && codings.next().is_none()
        && response.version() == Version::HTTP_11
        && !headers.contains_key(CONTENT_LENGTH)
}

impl Body {
    /// Waits until the exchange is over on both sides: a backend may answer before it has taken the
    /// whole request (RFC 9112, section 9.5). To be called once all of the answer has been read.
    pub async fn over(&mut self) {
        poll_fn(|cx| {
            self.drive(cx);
            if self.lease.is_none() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Whether the exchange is over on both sides.
    pub fn is_over(&self) -> bool {
        self.lease.is_none()
    }

    /// Reads and writes what there is to be read and written.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(lease) = &mut self.lease
            && lease.connection.poll(cx).is_ready()
        {
            self.lease = None;
        }
        self.give_back_unused();
    }

    fn give_back_unused(&mut self) {
        if let Some(lease) = self.lease.take_if(|lease| lease.connection.is_unused()) {
            lease.give_back();
        }
    }
}

impl hyper::body::Body for Body {
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
            // The last of the request's own body may still have to be sent.
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

/// The context for what comes by a connection that this task drives: to be woken by both would
/// be to be polled twice.
fn quiet_while<'a>(is_driven: bool, cx: &mut Context<'a>) -> Context<'a> {
    Context::from_waker(if is_driven { Waker::noop() } else { cx.waker() })
}
