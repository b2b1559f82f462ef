//! The exchange with the backend, once every stage let a request pass: what the client sends
//! goes up, what the backend answers comes down, within one deadline for the whole.
//!
//! It stands in place of pingora's own upstream side, which has a deadline for each read but
//! none for an answer's head: a backend that drips one would hold a request for hours.

use std::future::Future;
use std::mem::take;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, Response, Version};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use pingora::{Error, ErrorType, Result};
use tokio::time::{Instant, timeout, timeout_at};

use super::body::continue_if_expected;
use super::{Context, Flow};
use crate::cache::policy::invalidates;
use crate::listener::{Downstream, Head, may_have_body};
use crate::upstream::{self, Facts, Outgoing, Piece, Unanswered, Upload};

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
    /// It sends what the backend does not want; nobody listens.
    Unheard,
}

impl Flow {
    /// Passes the request on, and its answer back.
    ///
    /// # Errors
    /// Of the upstream or of the client; an answer that has begun is then never ended as if it
    /// were whole.
    pub(super) async fn forward(&self, downstream: &mut impl Downstream, ctx: &mut Context) -> Result<()> {
        let settings = self.api.upstream().settings;
        // It may have waited for another's answer before.
        let started = *ctx.upstream_started.get_or_insert_with(std::time::Instant::now);
        let deadlines = Deadlines {
            whole: Instant::from_std(started + settings.request_timeout),
            read: settings.read_timeout,
            upload: self.settings.read_timeout,
        };
        let exchanged = self.exchange(downstream, ctx, deadlines).await;
        ctx.upstream_ended = Some(std::time::Instant::now());
        // The backend may have done what it did not get to tell.
        if let (Err(_), Some(cache), Some(matched)) = (&exchanged, &self.cache, &ctx.matched)
            && !downstream.request().method.is_safe()
        {
            cache.purge(&matched.target);
        }
        exchanged
    }

    async fn exchange(&self, downstream: &mut impl Downstream, ctx: &Context, deadlines: Deadlines) -> Result<()> {
        // What did not pass every stage has nothing to be forwarded as.
        let (Some(client), Some(principal), Some(matched)) = (ctx.client, &ctx.principal, &ctx.matched) else {
            return Err(Error::explain(ErrorType::InternalError, "a request that did not pass the corridor"));
        };
        let request = downstream.request();
        let facts = Facts {
            client: Some(client),
            host: &ctx.authority,
            request_id: &ctx.request_id,
            identity: Some(principal.identity()),
            target: &matched.target,
        };
        let mut parts = upstream::for_upstream(&request.method, &request.headers, &facts)
            .map_err(|error| Error::because(ErrorType::InternalError, "a request that cannot be forwarded", error))?;
        // What a proxy said of the client has been read; the backend hears it from us.
        if let Some(header) = self.proxies.header.as_ref().filter(|header| upstream::is_passed_on(header)) {
            parts.headers.remove(header);
        }
        let (mut sender, body) = if !downstream.has_body() {
            parts.headers.remove(CONTENT_LENGTH);
            (Client::Waiting, Outgoing::default())
        } else {
            continue_if_expected(downstream).await?;
            let (upload, body) = Outgoing::streamed();
            (Client::Sending(upload), body)
        };
        let mut opening = pin!(self.api.open(parts, body));
        let response = sender.until(downstream, &mut opening, deadlines).await?.map_err(failed)?;
        self.relay(downstream, ctx, &mut sender, response, deadlines).await
    }

    /// Passes an answer back.
    async fn relay(
        &self,
        downstream: &mut impl Downstream,
        ctx: &Context,
        sender: &mut Client,
        response: Response<upstream::Body>,
        deadlines: Deadlines,
    ) -> Result<()> {
        let (parts, mut body) = response.into_parts();
        if parts.status.is_informational() {
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "another protocol was never asked for").into_up());
        }
        if let (Some(cache), Some(matched)) = (&self.cache, &ctx.matched)
            && invalidates(&downstream.request().method, parts.status)
        {
            cache.purge(&matched.target);
        }
        let mut header = upstream::for_client(&parts);
        let unframed = may_have_body(&Method::GET, parts.status) && !header.headers.contains_key(CONTENT_LENGTH);
        let version = downstream.request().version;
        if unframed && version == Version::HTTP_11 {
            header.insert_header(TRANSFER_ENCODING, "chunked")?;
        }
        if unframed && version == Version::HTTP_10 {
            // The end of the connection is the end of the answer, so none is promised after it.
            downstream.close_after();
        }
        let failed = parts.status.is_client_error() || parts.status.is_server_error();
        // An error that came before the end of the body: the backend wants no more of it.
        sender.settle(downstream, failed);
        downstream.write_head(Head::Own(&header), &ctx.marks(self.settings.hsts.as_ref()).fields()).await?;
        let mut data = Bytes::new();
        while let Some(frame) = sender.until(downstream, body.frame(), deadlines).await? {
            let frame =
                frame.map_err(|error| Error::because(ErrorType::ReadError, "the answer broke off", error).into_up())?;
            if Instant::now() >= deadlines.whole {
                return Err(timed_out());
            }
            let Ok(piece) = frame.into_data() else { continue };
            data = piece;
            // What is known to be the last piece leaves with the end.
            if body.is_end_stream() {
                continue;
            }
            // A client that takes little at a time would hold the backend's connection as long.
            timeout_at(deadlines.whole, downstream.write_body(take(&mut data))).await.map_err(|_| not_taken())??;
        }
        sender.settle(downstream, true);
        timeout_at(deadlines.whole, downstream.finish(data)).await.map_err(|_| not_taken())?
    }
}

impl Client {
    /// Notes whether all of the body has come; where the rest is `unwanted`, the connection
    /// ends with this exchange, so that it is never read as the next request.
    fn settle(&mut self, downstream: &mut impl Downstream, unwanted: bool) {
        if !matches!(self, Self::Sending(_)) {
            return;
        }
        if downstream.is_read() {
            *self = Self::Waiting;
        } else if unwanted {
            *self = Self::Unheard;
            downstream.close_after();
        }
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
                Self::Unheard => return timeout_at(deadlines.next_read(), said).await.map_err(|_| timed_out()),
            };
            // As long as the client sends, the backend may well be waiting for it. No more is
            // read than there is room for, so that nothing is lost where the backend speaks first.
            let passing_on = async {
                let Ok(room) = upload.reserve().await else { return Ok(None) };
                // HTTP/2 has no such deadline of its own.
                let data = timeout(deadlines.upload, downstream.read_body()).await;
                let data = data.map_err(|_| stalled())??;
                let is_last = data.is_none();
                room.send(data.map_or(Piece::End, Piece::Data));
                Ok::<_, Box<Error>>(Some(is_last))
            };
            let passed_on = tokio::select! {
                biased;
                said = timeout_at(deadlines.whole, &mut said) => return said.map_err(|_| timed_out()),
                passed_on = passing_on => passed_on?,
            };
            match passed_on {
                Some(false) => {}
                Some(true) => *self = Self::Waiting,
                // The backend takes no more; why, it says next.
                None => self.settle(downstream, true),
            }
        }
    }
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
        Unanswered::Unreachable(..) => ErrorType::ConnectError,
        Unanswered::Unreadable(..) => ErrorType::ReadError,
    };
    Error::because(kind, "no answer", error).into_up()
}
