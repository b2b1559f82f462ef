//! The exchange with the backend, once a request has passed every stage, within one deadline for the whole.
//!
//! It replaces pingora's upstream side, which has a deadline for each read but none for the head of an
//! answer: a backend that sends one byte at a time could hold a request for hours.

use std::future::{Future, pending};
use std::mem::{replace, take};
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, Version, response};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};
use tokio::time::{timeout, timeout_at};

use super::ahead::Ahead;
use super::body::continue_if_expected;
use super::header_rules::{add_sticky_cookie, apply_to_response};
use super::{Admitted, Context, Flow, encode};
use crate::cache::policy::invalidates;
use crate::downstream::{Downstream, ResponseHead, allows_body};
use crate::route::{self, Route};
use crate::upstream::{self, BodyChunk, Caller, Deadlines, Interim, RequestBody, Timeouts, Upload, UpstreamError};

/// The client's side of the exchange while the gateway waits for the backend.
pub(super) enum Client {
    /// It sends a body, which is written to this upload.
    Sending(Upload, ReadLimits),
    /// It has sent everything and waits.
    Waiting,
    /// It sends what the backend does not want, and what is read of that is discarded. The upload stays
    /// open, since a request body that breaks off would close the connection that the answer arrives on.
    Discarding { _upload: Upload },
}

/// The limits on a request body while it is read.
#[derive(Clone, Copy)]
pub(super) struct ReadLimits {
    /// The timeout of each read.
    timeout: Duration,
    /// How many more bytes are accepted.
    left: u64,
}

/// The kind of error for a body that exceeds the limit of its route.
pub(super) const TOO_LARGE: ErrorType = ErrorType::HTTPStatus(413);

impl Flow {
    /// Forwards the request and returns the backend's answer to the client.
    ///
    /// # Errors
    /// On the side of the upstream or of the client. An answer that has begun is then never ended as if
    /// it were complete.
    pub(super) async fn forward(
        &self,
        downstream: &mut impl Downstream,
        ctx: &mut Context,
        admitted: &Admitted,
    ) -> Result<()> {
        // The request may already have waited for a coalesced one.
        let started = *ctx.upstream_started.get_or_insert_with(std::time::Instant::now);
        let timeouts = timeouts(&admitted.matched.route);
        let backend = self.backend(&admitted.matched.route)?.upstream();
        let deadlines = backend.deadlines_with(started.into(), &timeouts);
        let exchanged = self.exchange(downstream, ctx, admitted, deadlines).await;
        ctx.upstream_ended = Some(std::time::Instant::now());
        // The backend may have made the change although its answer did not arrive.
        if let (Err(_), Some(cache)) = (&exchanged, &self.cache)
            && !downstream.request().method.is_safe()
        {
            cache.purge(admitted.matched.purge_key());
        }
        exchanged
    }

    async fn exchange(
        &self,
        downstream: &mut impl Downstream,
        ctx: &mut Context,
        admitted: &Admitted,
        deadlines: Deadlines,
    ) -> Result<()> {
        let matched = &admitted.matched;
        let parts = self.head_for_service(downstream.request(), ctx, admitted)?;
        let (mut sender, body) = if !downstream.has_body() {
            (Client::Waiting, RequestBody::default())
        } else {
            downstream.expect_upload();
            continue_if_expected(downstream).await?;
            let (upload, body) = RequestBody::streamed();
            let left = matched.route.bounds.max_body_bytes.unwrap_or(u64::MAX);
            (Client::Sending(upload, ReadLimits { timeout: self.settings.read_timeout, left }), body)
        };
        let backend = self.backend(&matched.route)?;
        let caller = Caller::default();
        let opening = pin!(backend.open_with(parts, body, deadlines, Interim::Notify(&caller)));
        let response =
            self.await_head(downstream, (ctx, admitted), (&mut sender, deadlines), (&caller, opening)).await?;
        let (parts, mut body) = response.into_parts();
        self.relay(downstream, ctx, admitted, sender, (&parts, &mut body), deadlines).await
    }

    /// Returns the backend's answer to the client.
    pub(super) async fn relay(
        &self,
        downstream: &mut impl Downstream,
        ctx: &mut Context,
        admitted: &Admitted,
        mut sender: Client,
        (parts, body): (&response::Parts, &mut upstream::ResponseBody),
        deadlines: Deadlines,
    ) -> Result<()> {
        if let Some(cache) = &self.cache
            && invalidates(&downstream.request().method, parts.status)
        {
            cache.purge(admitted.matched.purge_key());
        }
        let backend = self.backend(&admitted.matched.route)?.upstream();
        let mut header = upstream::for_client(parts, backend, &admitted.public_authority());
        apply_to_response(&admitted.matched.route.response_headers, &mut header)?;
        add_sticky_cookie(parts, self.routes.cookie_path(&admitted.matched.route), &mut header)?;
        if parts.status.is_client_error() || parts.status.is_server_error() {
            // The answer came before the end of the request body: the backend wants no more of it.
            sender.discard_unread(downstream);
        }
        let route = &admitted.matched.route;
        let has_length = header.headers.contains_key(CONTENT_LENGTH);
        let may_be_endless = allows_body(&Method::GET, parts.status) && !has_length;
        if may_be_endless && (route.stream || upstream::is_event_stream(&parts.headers)) {
            put_framing(downstream, &mut header)?;
            let sending = (sender, deadlines);
            return Box::pin(self.relay_stream(downstream, ctx, admitted, (header, &parts.headers, body), sending))
                .await;
        }
        let mut ahead = Ahead::read(body).await.map_err(failed)?;
        let content = encode::Content { parts, length: ahead.whole_length() };
        let mut encoder = encode::encode(downstream.request(), &route.compress, &content, &mut header)?;
        // The length is removed for a compressor, and for the response to HEAD in place of one.
        if !has_length || encoder.is_some() || !allows_body(&downstream.request().method, parts.status) {
            put_framing(downstream, &mut header)?;
        }
        downstream
            .write_head(ResponseHead::Plain(&header), &ctx.common_headers(self.settings.hsts.as_ref()).fields())
            .await?;
        let mut data = Bytes::new();
        loop {
            data = match ahead.take() {
                Some(data) => data,
                None => match sender.until(downstream, body.data(), deadlines).await?.map_err(failed)? {
                    Some(data) => data,
                    None => break,
                },
            };
            if deadlines.have_passed() {
                return Err(failed(deadlines.error()));
            }
            if let Some(encoder) = &mut encoder {
                // Boxed, since it is rare.
                data = Box::pin(encoder.encode(data, &mut ahead, body)).await?.map_err(failed)?;
                if data.is_empty() && !(body.has_ended() && ahead.is_empty()) {
                    continue;
                }
            }
            // A piece that is known to be the last is sent together with the end.
            if body.has_ended() && ahead.is_empty() {
                if body.is_finished() {
                    break;
                }
                continue;
            }
            // A client that reads slowly would hold the backend's connection as long.
            timeout_at(deadlines.end(), downstream.write_body(take(&mut data))).await.map_err(|_| not_taken())??;
        }
        Self::put_trailers(downstream, body, &parts.headers, encoder.is_some(), route);
        sender.discard_unread(downstream);
        if let Some(encoder) = encoder {
            data = encoder.finish(&data)?;
        }
        timeout_at(deadlines.end(), downstream.finish(data)).await.map_err(|_| not_taken())??;
        if !body.is_finished() && !matches!(sender, Client::Discarding { .. }) {
            // Boxed, since it is rarely needed: every request reserves memory for all that it may await.
            Box::pin(sender.send_rest(downstream, body.finished(), deadlines)).await;
        }
        Ok(())
    }
}

/// Sets how the end of the response is found, if it has a body without a length (RFC 9112, section 6.3).
pub(super) fn put_framing(downstream: &mut impl Downstream, header: &mut ResponseHeader) -> Result<()> {
    if allows_body(&Method::GET, header.status) && !header.headers.contains_key(CONTENT_LENGTH) {
        match downstream.request().version {
            Version::HTTP_11 => header.insert_header(TRANSFER_ENCODING, "chunked")?,
            // The end of the connection marks the end of the response, so it cannot be reused.
            Version::HTTP_10 => downstream.close_after(),
            _ => {}
        }
    }
    Ok(())
}

impl Client {
    /// Stops reading a body whose end has not been received; one that has been is still forwarded. The
    /// connection then closes after this exchange, so that the rest is never read as the next request.
    pub(super) fn discard_unread(&mut self, downstream: &mut impl Downstream) {
        if !downstream.is_read()
            && let Self::Sending(upload, _) = replace(self, Self::Waiting)
        {
            *self = Self::Discarding { _upload: upload };
            downstream.close_after();
        }
    }

    /// Forwards the rest of a body that has been received completely, after its answer has been sent, until
    /// the exchange is `over`. The client has its answer, so a failure affects only the backend, which sees the
    /// request break off.
    pub(super) async fn send_rest(
        mut self,
        downstream: &mut impl Downstream,
        over: impl Future<Output = ()>,
        deadlines: Deadlines,
    ) {
        let mut over = pin!(over);
        while let Self::Sending(upload, limits) = &mut self {
            match pass_on((upload, limits), downstream, over.as_mut(), deadlines).await {
                Ok(Progress::Sent) => {}
                Ok(Progress::Ended | Progress::Refused) => self = Self::Waiting,
                Ok(Progress::Said(())) | Err(_) => return,
            }
        }
        // On timeout, dropping the lease closes the connection to the backend.
        let _ = timeout_at(deadlines.next_write(), over).await;
    }

    /// Waits for the backend while it forwards what the client sends, and stops if the client disconnects.
    ///
    /// # Errors
    /// The deadline, or a failure of the client.
    pub(super) async fn until<T>(
        &mut self,
        downstream: &mut impl Downstream,
        said: impl Future<Output = T>,
        deadlines: Deadlines,
    ) -> Result<T> {
        let mut said = pin!(said);
        loop {
            let upload = match self {
                Self::Sending(upload, limits) => (&*upload, limits),
                Self::Waiting => {
                    return tokio::select! {
                        biased;
                        said = timeout_at(deadlines.next_read(), &mut said) => said.map_err(|_| failed(deadlines.error())),
                        closed = downstream.closed() => Err(closed),
                    };
                }
                Self::Discarding { .. } => {
                    let discarding = async {
                        // HTTP/2 streams share the window of their connection, and HTTP/1.1 clients may read only
                        // after they have written. A failure here is reported when the answer is written.
                        while downstream.read_body().await.is_ok_and(|data| data.is_some()) {}
                        pending::<()>().await;
                    };
                    return tokio::select! {
                        biased;
                        said = timeout_at(deadlines.next_read(), &mut said) => said.map_err(|_| failed(deadlines.error())),
                        () = discarding => Err(failed(deadlines.error())),
                    };
                }
            };
            match pass_on(upload, downstream, said.as_mut(), deadlines).await? {
                Progress::Said(said) => return Ok(said),
                Progress::Sent => {}
                Progress::Ended => *self = Self::Waiting,
                Progress::Refused => {
                    self.discard_unread(downstream);
                    if matches!(self, Self::Sending(..)) {
                        // The backend has everything that was announced, or its answer says why it takes no more.
                        *self = Self::Waiting;
                    }
                }
            }
        }
    }
}

/// What happened first while the client was sending.
enum Progress<T> {
    /// The result that the caller waits for.
    Said(T),
    /// One more piece was forwarded.
    Sent,
    /// The end of the body was forwarded.
    Ended,
    /// The backend takes no more.
    Refused,
}

/// Forwards one piece of the request body, unless the backend responds first.
///
/// While the client sends, the backend may be waiting for it, so only the deadlines for the whole and for each write
/// apply. No more is read than there is room for, so that nothing is lost if the backend is first.
async fn pass_on<T>(
    (upload, limits): (&Upload, &mut ReadLimits),
    downstream: &mut impl Downstream,
    mut said: Pin<&mut impl Future<Output = T>>,
    deadlines: Deadlines,
) -> Result<Progress<T>> {
    let room = tokio::select! {
        biased;
        said = timeout_at(deadlines.next_write(), &mut said) => return said.map(Progress::Said).map_err(|_| failed(deadlines.error())),
        room = upload.reserve() => room,
    };
    let Ok(room) = room else { return Ok(Progress::Refused) };
    let piece = tokio::select! {
        biased;
        said = timeout_at(deadlines.end(), &mut said) => return said.map(Progress::Said).map_err(|_| stalled()),
        piece = next_piece(downstream, limits) => piece?,
    };
    let progress = if matches!(piece, BodyChunk::End) { Progress::Ended } else { Progress::Sent };
    room.send(piece);
    Ok(progress)
}

/// The next piece of the request body. HTTP/2 has no read deadline of its own.
async fn next_piece(downstream: &mut impl Downstream, limits: &mut ReadLimits) -> Result<BodyChunk> {
    let data = timeout(limits.timeout, downstream.read_body()).await.map_err(|_| stalled())??;
    let Some(data) = data else { return Ok(BodyChunk::End) };
    limits.left = limits.left.checked_sub(data.len() as u64).ok_or_else(too_large)?;
    Ok(BodyChunk::Data(data))
}

fn too_large() -> Box<Error> {
    Error::explain(TOO_LARGE, "the body exceeds the limit of the route").into_down()
}

/// The timeouts of a route that differ from those of its upstream.
pub(super) fn timeouts(route: &Route) -> Timeouts {
    let route::Timeouts { connect, first_byte, idle, total } = route.bounds.timeouts;
    Timeouts { connect, first_byte, idle, total }
}

fn stalled() -> Box<Error> {
    Error::explain(ErrorType::ReadTimedout, "the client sent no more in time").into_down()
}

pub(super) fn not_taken() -> Box<Error> {
    Error::explain(ErrorType::WriteTimedout, "the client did not take the answer in time").into_down()
}

pub(super) fn failed(error: UpstreamError) -> Box<Error> {
    let kind = match error {
        UpstreamError::TimedOut(_) => ErrorType::ReadTimedout,
        UpstreamError::Unreachable(..) => ErrorType::ConnectError,
        UpstreamError::NoResponse(..) => ErrorType::ConnectionClosed,
        UpstreamError::InvalidResponse(..) => ErrorType::ReadError,
    };
    Error::because(kind, "no answer", error).into_up()
}
