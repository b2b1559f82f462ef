//! A request from the first stage to the access log.

use std::io;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use holodule_telemetry::TraceId;
use http::header::USER_AGENT;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Version};
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::context::Context;
use super::fan_out::{Listening, send_events};
use super::forward::TOO_LARGE;
use super::reason::Reason;
use super::trace::record_span;
use super::{Ended, Flow};
use crate::authenticate::Principal;
use crate::downstream::{Downstream, Handler};
use crate::record::{Access, Tunnelled};
use crate::respond::{self, LocalResponse};
use crate::route;
use crate::upstream::UpstreamError;

impl Handler for Flow {
    async fn handle(&self, downstream: &mut impl Downstream) {
        self.serve(downstream).await;
    }
}

impl Flow {
    /// Answers a request and records it once, even if it panics or this future is dropped early.
    pub async fn serve(&self, downstream: &mut impl Downstream) {
        let ctx = Context::new(downstream.peer().address.ip(), self.metrics.in_flight());
        let mut request = Recorded { flow: self, downstream, ctx, has_ended: false };
        // A panic can leave only the request's own state incomplete; shared tables are changed in single,
        // complete steps. Boxed, so that a request that listens for hours does not reserve the memory of all stages.
        let answering = AssertUnwindSafe(Box::pin(self.answer(request.downstream, &mut request.ctx))).catch_unwind();
        let mut answered = answering.await;
        if let Ok(Ok(Some(listening))) = &mut answered {
            let sending = Box::pin(send_events(request.downstream, &mut request.ctx, listening));
            answered = AssertUnwindSafe(sending).catch_unwind().await.map(|sent| sent.map(|()| None));
        }
        match answered {
            Ok(Ok(_)) => {}
            // Boxed, since few requests fail.
            Ok(Err(error)) => Box::pin(self.fail(request.downstream, &error, &mut request.ctx)).await,
            Err(_) => Box::pin(self.report_panic(request.downstream, &mut request.ctx)).await,
        }
        request.has_ended = true;
    }

    async fn report_panic(&self, downstream: &mut impl Downstream, ctx: &mut Context) {
        self.metrics.panicked();
        // The panic message may contain data from the client.
        tracing::error!(request_id = ctx.request_id, "a request panicked");
        self.fail(downstream, &Error::explain(ErrorType::InternalError, "a panic"), ctx).await;
        ctx.reason = Some(Reason::Panic);
    }

    /// Answers a request, or begins an answer that [`send_events`] continues.
    ///
    /// # Errors
    /// On the side of the upstream or of the client. An answer that has begun is then never ended as if
    /// it were complete.
    async fn answer(&self, downstream: &mut impl Downstream, ctx: &mut Context) -> Result<Option<Box<Listening>>> {
        ctx.client = self.client_address(downstream);
        if let Some(tracer) = &self.tracer {
            ctx.span = Some(self.begin_span(tracer, downstream));
        }
        ctx.sharing = self.settings.allowed_origins.sharing(&downstream.request().headers);
        if self.access_log.is_on() {
            // Taken now: the fields are released before the request ends. A clone shares the bytes.
            ctx.user_agent = downstream.request().headers.get(USER_AGENT).cloned();
        }
        let admitted = match self.admit(downstream, ctx).await {
            Ok(admitted) => admitted,
            Err(Ended::Answered(answer)) => {
                self.respond(downstream, answer, ctx).await?;
                return Ok(None);
            }
            Err(Ended::Failed(error)) => return Err(error),
        };
        if let Some(handshake) = &admitted.handshake {
            Box::pin(self.switch(downstream, ctx, &admitted, handshake)).await?;
            return Ok(None);
        }
        if admitted.matched.route.fan_out && downstream.request().method == Method::GET {
            return Box::pin(self.answer_from_fan_out(downstream, ctx, &admitted)).await;
        }
        if !self.answer_from_cache(downstream, ctx, &admitted).await? {
            // Boxed, for the many requests and idle connections that never get here.
            Box::pin(self.forward(downstream, ctx, &admitted)).await?;
        }
        Ok(None)
    }

    /// Logs a failure, and responds with an error if no response has begun.
    async fn fail(&self, downstream: &mut impl Downstream, error: &Error, ctx: &mut Context) {
        let status = failure_status(error);
        let is_deadline =
            matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout | ErrorType::ConnectTimedout);
        // A stream that the gateway ended has its reason.
        ctx.reason.get_or_insert(match (error.esource(), is_deadline) {
            (ErrorSource::Upstream, false) if *error.etype() == ErrorType::ConnectError => Reason::UpstreamUnreachable,
            (ErrorSource::Upstream, false) => Reason::Upstream,
            (ErrorSource::Upstream, true) => Reason::UpstreamSlow,
            (ErrorSource::Downstream, false) if *error.etype() == TOO_LARGE => Reason::BodySize,
            (ErrorSource::Downstream, false) => Reason::Client,
            (ErrorSource::Downstream, true) => Reason::ClientSlow,
            _ => Reason::Internal,
        });
        // Only the kind: the error's text may contain data from the client, except that of the upstream client.
        let cause = error.root_cause().downcast_ref::<UpstreamError>().map(ToString::to_string);
        let (source, kind) = (error.esource().as_str(), error.etype().as_str());
        if *error.esource() == ErrorSource::Downstream {
            // A client that disconnects is not a failure of the gateway, and must not fill the log.
            tracing::debug!(request_id = ctx.request_id, source, kind, "a request failed");
        } else {
            let route = ctx.route.as_deref().unwrap_or(route::NONE);
            tracing::warn!(request_id = ctx.request_id, route, source, kind, cause, "a request failed");
        }
        if is_client_gone(error) || (downstream.status().is_some() && !downstream.retract()) {
            return;
        }
        let answer = LocalResponse { close: true, ..LocalResponse::upstream(status) };
        // The client may have disconnected too, which changes nothing.
        let _ = self.respond(downstream, answer, ctx).await;
    }

    /// Sends a response of the gateway.
    pub(super) async fn respond(
        &self,
        downstream: &mut impl Downstream,
        answer: LocalResponse,
        ctx: &mut Context,
    ) -> Result<()> {
        ctx.answered = Some(answer.status);
        respond::send(downstream, answer, &ctx.common_headers(self.settings.hsts.as_ref())).await
    }

    /// Updates the metrics and writes the access log entry of a request that has ended.
    fn record(&self, downstream: &impl Downstream, ctx: &Context) {
        let Parts { method, uri, version, .. } = downstream.request();
        let trace_id = ctx.span.map(|of| of.span.context().trace_id());
        let path = ctx.is_canonical.then(|| self.routes.redacted_path(uri.path()));
        self.refund_address(downstream.status(), ctx);
        let access = Access {
            request_id: &ctx.request_id,
            trace_id: trace_id.as_ref().map(TraceId::as_str),
            client: ctx.client,
            method,
            route: ctx.route.as_deref().unwrap_or(route::NONE),
            path: path.as_deref(),
            query: uri.query(),
            protocol: Some(protocol_label(*version)),
            tls: Some(downstream.peer().tls),
            user_agent: ctx.user_agent.as_ref().map(HeaderValue::as_bytes),
            status: downstream.status().map(|sent| ctx.answered.unwrap_or(sent)),
            upstream: ctx.upstream_duration(),
            total: ctx.started.elapsed(),
            identity: ctx.principal.as_ref().map(Principal::identity).or(ctx.logged_in.as_deref()),
            bytes: ctx.tunnel.map_or(downstream.body_bytes() as u64, |tunnel| tunnel.to_client),
            tunnel: ctx.tunnel.map(|tunnel| Tunnelled { handshake: tunnel.handshake, received: tunnel.to_service }),
            cache: ctx.cache,
            reason: ctx.reason.map(Reason::label),
        };
        access.record(&self.metrics, &self.access_log);
        if let Some((tracer, span)) = self.tracer.as_ref().zip(ctx.span) {
            record_span(tracer, span, &access);
        }
    }
}

/// Records a request when it is dropped.
struct Recorded<'a, D: Downstream> {
    flow: &'a Flow,
    downstream: &'a mut D,
    ctx: Context,
    has_ended: bool,
}

impl<D: Downstream> Drop for Recorded<'_, D> {
    fn drop(&mut self) {
        if !self.has_ended {
            // Requests are only dropped at the end of the drain timeout.
            self.ctx.reason = Some(Reason::Drain);
        }
        self.flow.record(self.downstream, &self.ctx);
    }
}

fn protocol_label(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

/// The status for a failure of the backend or of the gateway.
fn failure_status(error: &Error) -> StatusCode {
    match (error.esource(), error.etype()) {
        (ErrorSource::Upstream, ErrorType::ConnectError) => StatusCode::SERVICE_UNAVAILABLE,
        (ErrorSource::Upstream, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => StatusCode::GATEWAY_TIMEOUT,
        (ErrorSource::Upstream, _) => StatusCode::BAD_GATEWAY,
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => StatusCode::REQUEST_TIMEOUT,
        (ErrorSource::Downstream, kind) if *kind == TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        (ErrorSource::Downstream, _) => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Whether the client has disconnected.
fn is_client_gone(error: &Error) -> bool {
    let odd_chunk = |error: &io::Error| error.kind() == io::ErrorKind::InvalidData;
    if error.root_cause().downcast_ref().is_some_and(odd_chunk) {
        return false;
    }
    let gone = matches!(error.etype(), ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed);
    *error.esource() == ErrorSource::Downstream && gone
}
