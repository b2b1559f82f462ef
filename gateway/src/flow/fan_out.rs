//! Answers a request with a shared event stream. The events are shared; the head, the lease and the moment of a drain
//! are those of the listener.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, response};
use percent_encoding::percent_decode_str;
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};

use super::authorised::Authorised;
use super::forward::{Client, failed, put_framing, timeouts};
use super::header_rules::{apply_to_request, apply_to_response};
use super::reason::Reason;
use super::stream::{Content, Over, end_early, finish_soon, send_content};
use super::{Admitted, Context, Flow};
use crate::client::Prefix;
use crate::downstream::{Downstream, ResponseHead};
use crate::fan_out::{self, FirstResponse, Full, Key, LAST_EVENT_ID, Listener, Source};
use crate::framing::take_parameter;
use crate::respond::LocalResponse;
use crate::route::{self, Host};
use crate::upstream::{self, ForwardingInfo};

/// A listener, and what ends its response. While it waits for events, a request needs no memory for the other stages.
pub(super) struct Listening {
    listener: Listener,
    over: Over,
}

impl Flow {
    /// Answers a GET that passed every stage with the event stream that all requests of its target share. Returns the
    /// listener, for [`send_events`]; `None` if the response is complete because it is another one.
    ///
    /// # Errors
    /// On the side of the upstream or of the client.
    pub(super) async fn answer_from_fan_out(
        &self,
        downstream: &mut impl Downstream,
        ctx: &mut Context,
        admitted: &Admitted,
    ) -> Result<Option<Box<Listening>>> {
        let source = self.source(ctx, admitted)?;
        let deadlines = source.client.upstream().deadlines_with(ctx.started.into(), &source.timeouts);
        let Ok(mut listener) = self.listen(downstream.request(), admitted, source) else {
            ctx.reason = Some(Reason::Unavailable);
            self.respond(downstream, LocalResponse::upstream(StatusCode::SERVICE_UNAVAILABLE), ctx).await?;
            return Ok(None);
        };
        let started = *ctx.upstream_started.get_or_insert_with(std::time::Instant::now);
        let response = Client::Waiting.until(downstream, listener.first_response(), deadlines.of_head()).await;
        ctx.upstream_ended = Some(std::time::Instant::now().max(started));
        match response? {
            FirstResponse::Stream(head) => {
                let header = self.header(downstream, admitted, &head)?;
                let over = self.begin_stream(downstream, ctx, admitted, &header).await?;
                Ok(Some(Box::new(Listening { listener, over })))
            }
            FirstResponse::Other(other) => {
                let mut header = self.header(downstream, admitted, &other.head)?;
                header.remove_header(&TRANSFER_ENCODING);
                header.insert_header(CONTENT_LENGTH, other.body.len())?;
                let common = ctx.common_headers(self.settings.hsts.as_ref());
                downstream.write_head(ResponseHead::Plain(&header), &common.fields()).await?;
                downstream.finish(other.body.clone()).await?;
                Ok(None)
            }
            FirstResponse::Failed(error) => Err(failed(error)),
        }
    }

    /// Adds the client to the shared stream.
    fn listen(&self, request: &Parts, admitted: &Admitted, source: Source) -> Result<Listener, Full> {
        let Admitted { matched, authority, client, principal, .. } = admitted;
        let key = Key {
            host: authority.clone(),
            route: Arc::clone(&matched.route.cached_as),
            target: matched.target.clone(),
        };
        let field = request.headers.get(LAST_EVENT_ID).map(HeaderValue::as_bytes);
        // A browser that reconnects by itself sends the field, which is newer than the parameter.
        let parameter = match field {
            Some(_) => None,
            None => request.uri.query().and_then(|query| take_parameter(query, route::LAST_EVENT_ID)),
        };
        let parameter = parameter.and_then(|parameter| parameter.value.ok());
        let parameter: Option<Cow<'_, [u8]>> = parameter.as_deref().map(|value| percent_decode_str(value).into());
        let wanted = fan_out::Request {
            key,
            client: Prefix::from(*client),
            identity: principal.as_ref().map(Authorised::identity),
            last_event_id: field.or(parameter.as_deref()),
        };
        self.fan_out.listen(wanted, source)
    }

    /// The request to the service for a shared stream. Nothing in it depends on the client.
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

    /// The head of the response to this client, from the `head` of the service's response.
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
}

/// Sends the events of a stream until it, the client or the gateway ends the response, whose head has been written.
///
/// # Errors
/// On the side of the client. The response is then incomplete.
pub(super) async fn send_events(
    downstream: &mut impl Downstream,
    ctx: &mut Context,
    listening: &mut Listening,
) -> Result<()> {
    let Listening { listener, over } = listening;
    // The end is boxed, so that waiting does not reserve its memory.
    match send_content(downstream, ctx, over, listener).await? {
        Some(reason) => Box::pin(end_early(downstream, reason)).await,
        None => Box::pin(finish_soon(downstream)).await,
    }
}

impl Content for Listener {
    async fn next_piece(&mut self, downstream: &mut impl Downstream) -> Result<Option<Bytes>> {
        tokio::select! {
            biased;
            block = self.next() => Ok(block),
            closed = downstream.closed() => Err(closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::downstream::http1::Http1Exchange;

    /// The size of the futures of a listener that waits, in bytes: jemalloc reserves at most 4 KiB for them. A stage of
    /// the request path that remained in one of them would add 2 KiB or more to each listener.
    const MOST_BYTES: usize = 7 * 512;

    fn size_of_future<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_waiting_listener_does_not_reserve_the_memory_of_the_stages() {
        type Exchange = &'static mut Http1Exchange<'static>;
        type Sends = (Exchange, &'static mut Context, &'static mut Listening);
        let serve = size_of_future(|(flow, exchange): (&'static Flow, Exchange)| flow.serve(exchange));
        let sends = size_of_future(|(exchange, ctx, listening): Sends| send_events(exchange, ctx, listening));
        let over =
            size_of_future(|(flow, admitted): (&'static Flow, &'static Admitted)| flow.over(admitted, &Method::GET));
        assert!(serve + sends + over <= MOST_BYTES, "{serve} {sends} {over}");
    }
}
