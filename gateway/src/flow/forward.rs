//! The exchange with the backend, once every stage let a request pass: what the client sends
//! goes up, what the backend answers comes down, within one deadline for the whole.
//!
//! It stands in place of pingora's own upstream side, which has a deadline for each read but
//! none for an answer's head: a backend that drips one would hold a request for hours.

use std::future::{Future, pending};
use std::mem::{replace, take};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Method, Response, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame};
use pingora::{Error, ErrorType, Result};
use tokio::time::{Instant, timeout, timeout_at};

use super::body::continue_if_expected;
use super::{Admitted, Context, Flow};
use crate::cache::policy::invalidates;
use crate::downstream::{Downstream, ResponseHead, allows_body};
use crate::route::Host;
use crate::upstream::{self, Facts, Outgoing, Piece, Public, Unanswered, Upload};

/// When a request ends that the backend has not answered: at the earlier of both.
#[derive(Clone, Copy)]
pub(super) struct Deadlines {
    whole: Instant,
    read: Duration,
    /// For each piece of what the client sends.
    upload: Duration,
}

impl Deadlines {
    /// One for everything.
    pub(super) fn only(whole: Instant) -> Self {
        let read = whole.saturating_duration_since(Instant::now());
        Self { whole, read, upload: read }
    }

    /// When the next read has to have come.
    fn next_read(self) -> Instant {
        self.whole.min(Instant::now() + self.read)
    }
}

/// The client's side while the backend is waited for.
pub(super) enum Client {
    /// It sends a body, which goes here.
    Sending(Upload),
    /// It has sent everything, and waits.
    Waiting,
    /// It sends what the backend does not want, and what is read of that is discarded. The upload is
    /// kept, since a request's body that breaks off would end the connection on which the answer comes.
    Discarding { _upload: Upload },
}

impl Flow {
    /// Passes the request on, and its answer back.
    ///
    /// # Errors
    /// Of the upstream or of the client; an answer that has begun is then never ended as if it
    /// were whole.
    pub(super) async fn forward(
        &self,
        downstream: &mut impl Downstream,
        ctx: &mut Context,
        admitted: &Admitted,
    ) -> Result<()> {
        let settings = self.api.upstream().settings;
        // It may have waited for another's answer before.
        let started = *ctx.upstream_started.get_or_insert_with(std::time::Instant::now);
        let deadlines = Deadlines {
            whole: Instant::from_std(started + settings.request_timeout),
            read: settings.read_timeout,
            upload: self.settings.read_timeout,
        };
        let exchanged = self.exchange(downstream, ctx, admitted, deadlines).await;
        ctx.upstream_ended = Some(std::time::Instant::now());
        // The backend may have done what it did not get to tell.
        if let (Err(_), Some(cache)) = (&exchanged, &self.cache)
            && !downstream.request().method.is_safe()
        {
            cache.purge(&admitted.matched.target);
        }
        exchanged
    }

    async fn exchange(
        &self,
        downstream: &mut impl Downstream,
        ctx: &Context,
        admitted: &Admitted,
        deadlines: Deadlines,
    ) -> Result<()> {
        let Admitted { client, principal, matched, authority } = admitted;
        let request = downstream.request();
        let facts = Facts {
            client: Some(*client),
            host: authority,
            request_id: &ctx.request_id,
            identity: Some(principal.identity()),
            target: &matched.target,
            passes_host: matched.route.host == Host::Client,
        };
        let mut parts = upstream::for_upstream(&request.method, &request.headers, &facts)
            .map_err(|error| Error::because(ErrorType::InternalError, "a request that cannot be forwarded", error))?;
        // What a proxy said of the client has been read; the backend hears it from us.
        if let Some(header) = self.proxies.header.as_ref().filter(|header| upstream::is_passed_on(header)) {
            parts.headers.remove(header);
        }
        let (mut sender, body) = if !downstream.has_body() {
            put_no_length(&mut parts);
            (Client::Waiting, Outgoing::default())
        } else {
            downstream.expect_upload();
            continue_if_expected(downstream).await?;
            let (upload, body) = Outgoing::streamed();
            (Client::Sending(upload), body)
        };
        let mut opening = pin!(self.api.open(parts, body));
        let response = sender.until(downstream, &mut opening, deadlines).await?.map_err(failed)?;
        self.relay(downstream, ctx, admitted, sender, response, deadlines).await
    }

    /// Passes an answer back.
    async fn relay(
        &self,
        downstream: &mut impl Downstream,
        ctx: &Context,
        admitted: &Admitted,
        mut sender: Client,
        response: Response<upstream::Body>,
        deadlines: Deadlines,
    ) -> Result<()> {
        let (parts, mut body) = response.into_parts();
        if parts.status.is_informational() {
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "another protocol was never asked for").into_up());
        }
        if let Some(cache) = &self.cache
            && invalidates(&downstream.request().method, parts.status)
        {
            cache.purge(&admitted.matched.target);
        }
        let is_passed_on = admitted.matched.route.host == Host::Client;
        let public = Public { authority: &admitted.authority, is_passed_on };
        let mut header = upstream::for_client(&parts, self.api.upstream(), &public);
        let unframed = allows_body(&Method::GET, parts.status) && !header.headers.contains_key(CONTENT_LENGTH);
        let version = downstream.request().version;
        if unframed && version == Version::HTTP_11 {
            header.insert_header(TRANSFER_ENCODING, "chunked")?;
        }
        if unframed && version == Version::HTTP_10 {
            // The end of the connection is the end of the answer, so none is promised after it.
            downstream.close_after();
        }
        if parts.status.is_client_error() || parts.status.is_server_error() {
            // An error that came before the end of the body: the backend wants no more of it.
            sender.discard_unread(downstream);
        }
        let mut ahead = read_ahead(&mut body).await?;
        downstream
            .write_head(ResponseHead::Plain(&header), &ctx.common_headers(self.settings.hsts.as_ref()).fields())
            .await?;
        let mut data = Bytes::new();
        loop {
            let frame = match ahead.iter_mut().find_map(Option::take) {
                Some(frame) => frame,
                None => match sender.until(downstream, body.frame(), deadlines).await? {
                    Some(frame) => frame.map_err(broken_off)?,
                    None => break,
                },
            };
            if Instant::now() >= deadlines.whole {
                return Err(timed_out());
            }
            let Ok(piece) = frame.into_data() else { continue };
            data = piece;
            // What is known to be the last piece leaves with the end.
            if body.is_end_stream() && ahead.iter().all(Option::is_none) {
                if body.is_over() {
                    break;
                }
                continue;
            }
            // A client that takes little at a time would hold the backend's connection as long.
            timeout_at(deadlines.whole, downstream.write_body(take(&mut data))).await.map_err(|_| not_taken())??;
        }
        sender.discard_unread(downstream);
        timeout_at(deadlines.whole, downstream.finish(data)).await.map_err(|_| not_taken())??;
        if !body.is_over() && !matches!(sender, Client::Discarding { .. }) {
            // In a box, since it is seldom needed: each request has room for all that it may wait for.
            Box::pin(sender.send_rest(downstream, body.over(), deadlines)).await;
        }
        Ok(())
    }
}

/// Sets the length of a request without a body: 0 where the method anticipates content, since a backend may answer
/// 411 without it, and else none (RFC 9110, sections 8.6 and 15.5.12).
fn put_no_length(parts: &mut Parts) {
    if matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE) {
        parts.headers.remove(CONTENT_LENGTH);
    } else {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

/// The frames of a body that are there already, two at most. An answer that has broken off within them can
/// still be replaced by one that says so.
async fn read_ahead(body: &mut upstream::Body) -> Result<[Option<Frame<Bytes>>; 2]> {
    let mut ahead = [None, None];
    for place in &mut ahead {
        match futures_util::poll!(body.frame()) {
            Poll::Ready(Some(frame)) => *place = Some(frame.map_err(broken_off)?),
            Poll::Ready(None) | Poll::Pending => break,
        }
        if body.is_end_stream() {
            break;
        }
    }
    Ok(ahead)
}

impl Client {
    /// Takes no more of a body whose end has not been received; one that has been is still passed on. The
    /// connection then ends with this exchange, so that the rest is never read as the next request.
    fn discard_unread(&mut self, downstream: &mut impl Downstream) {
        if !downstream.is_read()
            && let Self::Sending(upload) = replace(self, Self::Waiting)
        {
            *self = Self::Discarding { _upload: upload };
            downstream.close_after();
        }
    }

    /// Passes on what is left of a body that has been received whole, when its answer has been passed back, until
    /// the exchange is `over`. The client has its answer, so a failure concerns the backend alone, which sees the
    /// request break off.
    async fn send_rest(
        mut self,
        downstream: &mut impl Downstream,
        over: impl Future<Output = ()>,
        deadlines: Deadlines,
    ) {
        let mut over = pin!(over);
        while let Self::Sending(upload) = &self {
            match pass_on(upload, downstream, over.as_mut(), deadlines).await {
                Ok(Progress::Sent) => {}
                Ok(Progress::Ended | Progress::Refused) => self = Self::Waiting,
                Ok(Progress::Said(())) | Err(_) => return,
            }
        }
        // A deadline ends the connection to the backend with the lease.
        let _ = timeout_at(deadlines.whole, over).await;
    }

    /// Waits for what the backend says next, passes on meanwhile what the client sends, and
    /// hears where the client leaves: nobody waits for the answer then.
    ///
    /// # Errors
    /// The deadline, or what became of the client.
    pub(super) async fn until<T>(
        &mut self,
        downstream: &mut impl Downstream,
        said: impl Future<Output = T>,
        deadlines: Deadlines,
    ) -> Result<T> {
        let mut said = pin!(said);
        loop {
            let upload = match self {
                Self::Sending(upload) => upload,
                Self::Waiting => {
                    return tokio::select! {
                        biased;
                        said = timeout_at(deadlines.next_read(), &mut said) => said.map_err(|_| timed_out()),
                        closed = downstream.closed() => Err(closed),
                    };
                }
                Self::Discarding { .. } => {
                    let discarding = async {
                        // HTTP/2 streams share the window of their connection, and HTTP/1.1 clients may read only
                        // after they have written. What fails here is reported by writing the answer.
                        while downstream.read_body().await.is_ok_and(|data| data.is_some()) {}
                        pending::<()>().await;
                    };
                    return tokio::select! {
                        biased;
                        said = timeout_at(deadlines.next_read(), &mut said) => said.map_err(|_| timed_out()),
                        () = discarding => Err(timed_out()),
                    };
                }
            };
            match pass_on(upload, downstream, said.as_mut(), deadlines).await? {
                Progress::Said(said) => return Ok(said),
                Progress::Sent => {}
                Progress::Ended => *self = Self::Waiting,
                Progress::Refused => {
                    self.discard_unread(downstream);
                    if matches!(self, Self::Sending(_)) {
                        // The backend has all that was announced, or its answer says why it takes no more.
                        *self = Self::Waiting;
                    }
                }
            }
        }
    }
}

/// What happened first while the client was sending.
enum Progress<T> {
    /// What the backend was waited for.
    Said(T),
    /// One more piece was passed on.
    Sent,
    /// The end of the body was.
    Ended,
    /// The backend takes no more.
    Refused,
}

/// Passes on one piece of what the client sends, unless the backend says something first.
///
/// While the client sends, the backend may well be waiting for it, so only the deadline for the whole
/// applies. No more is read than there is room for, so that nothing is lost where the backend is first.
async fn pass_on<T>(
    upload: &Upload,
    downstream: &mut impl Downstream,
    mut said: Pin<&mut impl Future<Output = T>>,
    deadlines: Deadlines,
) -> Result<Progress<T>> {
    let room = tokio::select! {
        biased;
        said = timeout_at(deadlines.whole, &mut said) => return said.map(Progress::Said).map_err(|_| timed_out()),
        room = upload.reserve() => room,
    };
    let Ok(room) = room else { return Ok(Progress::Refused) };
    let piece = tokio::select! {
        biased;
        said = timeout_at(deadlines.whole, &mut said) => return said.map(Progress::Said).map_err(|_| stalled()),
        piece = next_piece(downstream, deadlines) => piece?,
    };
    let progress = if matches!(piece, Piece::End) { Progress::Ended } else { Progress::Sent };
    room.send(piece);
    Ok(progress)
}

/// The next piece of what the client sends. HTTP/2 has no deadline of its own for it.
async fn next_piece(downstream: &mut impl Downstream, deadlines: Deadlines) -> Result<Piece> {
    let data = timeout(deadlines.upload, downstream.read_body()).await.map_err(|_| stalled())??;
    Ok(data.map_or(Piece::End, Piece::Data))
}

fn broken_off(error: hyper::Error) -> Box<Error> {
    Error::because(ErrorType::ReadError, "the answer broke off", error).into_up()
}

fn stalled() -> Box<Error> {
    Error::explain(ErrorType::ReadTimedout, "the client sent no more in time").into_down()
}

pub(super) fn not_taken() -> Box<Error> {
    Error::explain(ErrorType::WriteTimedout, "the client did not take the answer in time").into_down()
}

fn timed_out() -> Box<Error> {
    Error::explain(ErrorType::ReadTimedout, "the backend did not answer in time").into_up()
}

pub(super) fn failed(error: Unanswered) -> Box<Error> {
    let kind = match error {
        Unanswered::TimedOut(_) => ErrorType::ReadTimedout,
        Unanswered::Unconnected(..) => ErrorType::ConnectError,
        Unanswered::Broken(..) => ErrorType::ConnectionClosed,
        Unanswered::Unreadable(..) => ErrorType::ReadError,
    };
    Error::because(kind, "no answer", error).into_up()
}
