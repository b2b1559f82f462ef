//! The hooks of pingora: where a request comes into the corridor, and what is told of it at the end.

use std::io;

use async_trait::async_trait;
use http::StatusCode;
use pingora::modules::http::HttpModules;
use pingora::protocols::http::ServerSession;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::context::{Context, request_id};
use super::{Flow, Passage};
use crate::record::{Access, method_label};
use crate::respond::{self, Answer};
use crate::route;

#[async_trait]
impl ProxyHttp for Flow {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new(request_id(), self.metrics.in_flight())
    }

    // The stock compression module is of no use here, and each request would pay for it.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        ctx.client = self.client_address(session);
        ctx.sharing = self.settings.allowed_origins.sharing(&session.req_header().headers);
        session.set_read_timeout(Some(self.settings.read_timeout));
        match self.walk(session, ctx).await {
            Passage::Forwarded => {
                if !self.answer_from_cache(session, ctx).await? {
                    self.forward(session, ctx).await?;
                }
            }
            Passage::Answered(answer) => {
                respond::send(session, answer, &ctx.marks(self.settings.hsts_max_age)).await?;
            }
        }
        Ok(true)
    }

    /// Never asked for: [`Flow::forward`] has answered by then.
    async fn upstream_peer(&self, _: &mut Session, _: &mut Context) -> Result<Box<HttpPeer>> {
        Err(Error::explain(ErrorType::InternalError, "a request that was not forwarded"))
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
        let status = failure_status(error);
        ctx.reason = Some(match error.esource() {
            ErrorSource::Upstream => "upstream",
            ErrorSource::Downstream => "client",
            _ => "internal",
        });
        // The kind alone: the error's text may hold what the client sent.
        let (source, kind) = (error.esource().as_str(), error.etype().as_str());
        if *error.esource() == ErrorSource::Downstream {
            // A client that leaves is no trouble of ours, and must not fill the log.
            tracing::debug!(request_id = ctx.request_id, source, kind, "a request failed");
        } else {
            tracing::warn!(request_id = ctx.request_id, source, kind, "a request failed");
        }
        let answerable = session.response_written().is_none() && !is_client_gone(error);
        if answerable {
            let answer = Answer { close: true, ..Answer::upstream(status) };
            // The client may be gone as well; there is nobody else to tell.
            let _ = respond::send(session, answer, &ctx.marks(self.settings.hsts_max_age)).await;
            // pingora drops the connection, and what the client still sends would reset it.
            if let ServerSession::H1(downstream) = session.as_downstream_mut() {
                downstream.shutdown().await;
            }
        }
        FailToProxy { error_code: if answerable { status.as_u16() } else { 0 }, can_reuse_downstream: false }
    }

    fn suppress_error_log(&self, _: &Session, _: &Context, _: &Error) -> bool {
        // `fail_to_proxy` has told of it, without the target that pingora would print.
        true
    }

    fn request_summary(&self, _: &Session, ctx: &Context) -> String {
        format!("request {}", ctx.request_id)
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut Context) {
        let method = &session.req_header().method;
        let status = session.response_written().map(|response| response.status);
        let (total, upstream) = (ctx.started.elapsed(), ctx.upstream_duration());
        let route = ctx.route.as_deref().unwrap_or(route::NONE);
        self.metrics.request(route, method, status, total, upstream);
        if let Some(cache) = ctx.cache {
            self.metrics.cache_request(route, cache);
        }
        self.access_log.write(&Access {
            request_id: &ctx.request_id,
            client: ctx.client,
            method: method_label(method),
            route,
            status,
            upstream,
            total,
            identity: ctx.principal.as_ref().map(|principal| &*principal.identity),
            bytes: session.body_bytes_sent(),
            cache: ctx.cache,
            reason: ctx.reason,
        });
    }
}

/// The answer to a failure towards the backend, or our own.
fn failure_status(error: &Error) -> StatusCode {
    match (error.esource(), error.etype()) {
        (ErrorSource::Upstream, ErrorType::ReadTimedout | ErrorType::WriteTimedout | ErrorType::ConnectTimedout) => {
            StatusCode::GATEWAY_TIMEOUT
        }
        (ErrorSource::Upstream, _) => StatusCode::BAD_GATEWAY,
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => StatusCode::REQUEST_TIMEOUT,
        (ErrorSource::Downstream, _) => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Whether there is nobody left to answer.
fn is_client_gone(error: &Error) -> bool {
    let odd_chunk = |error: &io::Error| error.kind() == io::ErrorKind::InvalidData;
    if error.root_cause().downcast_ref().is_some_and(odd_chunk) {
        return false;
    }
    let gone = matches!(error.etype(), ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed);
    *error.esource() == ErrorSource::Downstream && gone
}
