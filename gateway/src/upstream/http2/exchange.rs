//! The exchange on a stream.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use hyper::body::{Body, Frame, SizeHint};

use super::Stream;
use super::upload::Sending;
use crate::upstream::RequestBody;

/// The body of a response, and what remains of that of its request.
#[derive(Debug)]
pub(in crate::upstream) struct Incoming {
    stream: RecvStream,
    sending: Option<Sending>,
    length: Option<u64>,
    has_trailers_left: bool,
}

/// There is no response.
#[derive(Debug)]
pub(in crate::upstream) enum Unanswered {
    /// The connection took no further request.
    Unsent(Box<Request<RequestBody>>, h2::Error),
    /// The service may have processed the request.
    NoResponse(h2::Error),
    /// The authority of the request is not valid.
    Malformed(http::Error),
}

/// Sends `request` and waits for the head of the response. Interim responses go to `interim`. The deadline is the caller's.
///
/// # Errors
/// [`Unanswered`]; the other requests on the connection are not affected.
pub(in crate::upstream) async fn exchange(
    stream: &mut Stream,
    request: Request<RequestBody>,
    mut interim: impl FnMut(Response<()>),
) -> Result<Response<Incoming>, Unanswered> {
    let (parts, body) = request.into_parts();
    let head = head(&parts, &stream.shared.scheme).map_err(Unanswered::Malformed)?;
    let is_whole = body.is_end_stream();
    stream.shared.has_read.store(false, Ordering::Relaxed);
    let sent = match stream.shared.requests.clone().ready().await {
        Ok(mut requests) => requests.send_request(head, is_whole),
        Err(error) => Err(error),
    };
    let (mut response, upload) = match sent {
        Ok(sent) => sent,
        Err(error) if is_of_connection(&error) => {
            return Err(Unanswered::Unsent(Box::new(Request::from_parts(parts, body)), error));
        }
        Err(error) => return Err(Unanswered::NoResponse(error)),
    };
    stream.sent = Some(Instant::now());
    let mut sending = (!is_whole).then(|| Sending::new(upload, body));
    let responded = poll_fn(|cx| {
        sending.take_if(|sending| sending.poll(cx).is_ready());
        while let Poll::Ready(Some(Ok(received))) = response.poll_informational(cx) {
            interim(received);
        }
        Pin::new(&mut response).poll(cx)
    });
    let response = responded.await.map_err(Unanswered::NoResponse)?;
    stream.sent = None;
    let length = response.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    Ok(response.map(|stream| Incoming { stream, sending, length, has_trailers_left: true }))
}

/// Whether the connection took no request.
fn is_of_connection(error: &h2::Error) -> bool {
    error.is_io() || error.is_go_away()
}

/// The head of the request, where `Host` is the authority (RFC 9113, section 8.3.1). Of the fields that are hop-by-hop, it
/// has at most `TE: trailers`.
fn head(parts: &Parts, scheme: &Scheme) -> http::Result<Request<()>> {
    let mut headers = parts.headers.clone();
    let host = headers.remove(HOST);
    headers.remove(CONNECTION);
    let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(scheme.clone()).path_and_query(path);
    let uri = uri.authority(host.as_ref().map(|host| host.as_bytes()).unwrap_or_default()).build()?;
    let mut request = Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

impl Incoming {
    /// Sends the rest of the request. Returns whether the request and the response are complete.
    pub(in crate::upstream) fn poll_complete(&mut self, cx: &mut Context<'_>) -> bool {
        self.sending.take_if(|sending| sending.poll(cx).is_ready());
        self.sending.is_none() && self.stream.is_end_stream()
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let incoming = self.get_mut();
        incoming.sending.take_if(|sending| sending.poll(cx).is_ready());
        loop {
            match ready!(incoming.stream.poll_data(cx)) {
                // An empty piece would be the end of a chunked body.
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    // The service may send as much again: of each response, the window and this are in memory.
                    incoming.stream.flow_control().release_capacity(data.len())?;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None if !incoming.has_trailers_left => return Poll::Ready(None),
                None => {
                    let trailers = ready!(incoming.stream.poll_trailers(cx))?;
                    incoming.has_trailers_left = false;
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            _ if self.stream.is_end_stream() => SizeHint::with_exact(0),
            Some(length) => SizeHint::with_exact(length),
            None => SizeHint::default(),
        }
    }
}
