//! A listener of a shared event stream: its own head, lease and drain, and the events that it shares with others.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, response};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};
use tokio::time::timeout;

use super::forward::{Client, failed, put_framing, timeouts};
use super::header_rules::{apply_to_request, apply_to_response};
use super::reason::Reason;
use super::stream::{END_TIMEOUT, abandoned};
use super::{Admitted, Context, Flow};
use crate::client::Prefix;
use crate::downstream::{Downstream, ResponseHead};
use crate::fan_out::{Key, LAST_EVENT_ID, Listener, Opened, Opener, Source};
use crate::respond::LocalResponse;
use crate::route::Host;
use crate::upstream::{self, ForwardingInfo};

impl Flow {
    /// Answers a GET that passed every stage with the stream that all requests of its target share; `false` if it must be
    /// forwarded.
    ///
    /// # Errors
    /// On the side of the upstream or of the client.
    pub(super) async fn answer_from_fan_out(
        &self,
        downstream: &mut impl Downstream,
        ctx: &mut Context,
        admitted: &Admitted,
    ) -> Result<bool> {
        let route = &admitted.matched.route;
        if !route.fan_out || downstream.request().method != Method::GET {
            return Ok(false);
        }
        let key = Key {
            host: admitted.authority.clone(),
            route: Arc::clone(&route.cached_as),
            target: admitted.matched.target.clone(),
        };
        let source = self.source(ctx, admitted)?;
        let deadlines = source.client.upstream().deadlines_with(ctx.started.into(), &source.timeouts);
        let last = downstream.request().headers.get(LAST_EVENT_ID).map(|value| value.as_bytes().to_vec());
        let Ok(mut listener) = self.fan_out.listen(key, || opener(admitted), last.as_deref(), || source) else {
            ctx.reason = Some(Reason::Unavailable);
            self.respond(downstream, LocalResponse::upstream(StatusCode::SERVICE_UNAVAILABLE), ctx).await?;
            return Ok(true);
        };
        let started = *ctx.upstream_started.get_or_insert_with(std::time::Instant::now);
        let opened = Client::Waiting.until(downstream, listener.opened(), deadlines.of_head()).await;
        ctx.upstream_ended = Some(std::time::Instant::now().max(started));
        match opened? {
            Opened::Stream(head) => {
                let header = self.header(downstream, admitted, &head)?;
                drop(head);
                // Boxed, since it lasts: the rest of this request ends here.
                Box::pin(self.send_stream(downstream, ctx, admitted, header, listener)).await?;
            }
            Opened::Refused(refusal) => {
                let mut header = self.header(downstream, admitted, &refusal.head)?;
                header.remove_header(&TRANSFER_ENCODING);
                header.insert_header(CONTENT_LENGTH, refusal.body.len())?;
                let common = ctx.common_headers(self.settings.hsts.as_ref());
                downstream.write_head(ResponseHead::Plain(&header), &common.fields()).await?;
                downstream.finish(refusal.body.clone()).await?;
            }
            Opened::Failed(error) => return Err(failed(error)),
        }
        Ok(true)
    }
}

impl Flow {
    /// Where the stream of a request comes from. Nothing in it depends on the client.
    fn source(&self, ctx: &Context, admitted: &Admitted) -> Result<Source> {
        let Admitted { matched, authority, .. } = admitted;
        let route = &matched.route;
        let facts = ForwardingInfo {
            client: None,
            host: authority,
            request_id: &ctx.request_id,
            identity: None,
            target: &matched.target,
            prefix: route.forwarded_prefix(),
            passes_host: route.host == Host::Client,
        };
        let mut head = upstream::for_upstream(&Method::GET, &HeaderMap::new(), &facts)
            .map_err(|error| Error::because(ErrorType::InternalError, "a request that cannot be forwarded", error))?;
        apply_to_request(&route.request_headers, &mut head.headers);
        let client = self.backend(route)?.clone();
        Ok(Source { client, head, timeouts: timeouts(route), idle: self.stream_idle(route) })
    }

    /// The head of a response to one client.
    fn header(
        &self,
        downstream: &mut impl Downstream,
        admitted: &Admitted,
        head: &response::Parts,
    ) -> Result<ResponseHeader> {
        let backend = self.backend(&admitted.matched.route)?.upstream();
        let mut header = upstream::for_client(head, backend, &admitted.public_authority());
        apply_to_response(&admitted.matched.route.response_headers, &mut header)?;
        put_framing(downstream, &mut header)?;
        Ok(header)
    }

    /// Sends the events of a stream until it, the client or the gateway ends the response.
    async fn send_stream(
        &self,
        downstream: &mut impl Downstream,
        ctx: &mut Context,
        admitted: &Admitted,
        header: ResponseHeader,
        mut listener: Listener,
    ) -> Result<()> {
        let method = downstream.request().method.clone();
        let mut over = pin!(self.over(self.authority_ended(admitted, &method)));
        downstream.expect_stream();
        downstream
            .write_head(ResponseHead::Plain(&header), &ctx.common_headers(self.settings.hsts.as_ref()).fields())
            .await?;
        drop(header);
        let reason = loop {
            let block = tokio::select! {
                biased;
                reason = &mut over => break Some(reason),
                block = listener.next() => block,
                closed = downstream.closed() => return Err(closed),
            };
            let Some(block) = block else { break None };
            let mut writing = pin!(downstream.write_body(block));
            tokio::select! {
                biased;
                written = &mut writing => written?,
                reason = &mut over => {
                    ctx.reason = Some(reason);
                    // Only what is complete can be followed by the end.
                    let written = if reason == Reason::Drain { timeout(END_TIMEOUT, writing).await.ok() } else { None };
                    written.ok_or_else(abandoned)??;
                    break Some(reason);
                }
            }
        };
        ctx.reason = reason;
        if reason == Some(Reason::Drain) {
            downstream.close_after();
        }
        timeout(END_TIMEOUT, downstream.finish(Bytes::new())).await.map_err(|_| abandoned())?
    }
}

/// For whom a stream that the request opens counts.
fn opener(admitted: &Admitted) -> Opener {
    match &admitted.principal {
        Some(principal) => Opener::Identity(principal.identity().to_owned()),
        None => Opener::Client(Prefix::from(admitted.client)),
    }
}
