//! The routes that the gateway answers itself: `POST /auth` and `POST /auth/logout`.

use std::time::Instant;

use http::{Method, StatusCode};
use tokio::time::timeout;

use super::body::{has_content, read_body};
use super::reason::Reason;
use super::{Context, Flow, random_id};
use crate::authenticate::{Credential, Principal};
use crate::client::Prefix;
use crate::clock::unix_now;
use crate::downstream::Downstream;
use crate::framing;
use crate::login::{self, login};
use crate::respond::LocalResponse;
use crate::revocation::Revocation;
use crate::route::NoMatch;

impl Flow {
    /// `POST /auth`.
    pub(super) async fn log_in(
        &self,
        downstream: &mut impl Downstream,
        ctx: &mut Context,
        backend: &login::Backend,
    ) -> LocalResponse {
        if downstream.request().method != Method::POST {
            ctx.reason = Some(Reason::Method);
            return LocalResponse::only_post();
        }
        let result = self.try_log_in(downstream, ctx, backend).await;
        self.metrics.login(result.as_ref().map_or_else(login::LoginError::label, |_| "success"));
        match result {
            Ok(granted) => {
                let answer = LocalResponse::token(&granted.token);
                ctx.logged_in = Some(granted.username);
                answer
            }
            Err(refusal) => {
                match &refusal {
                    login::LoginError::Unavailable(reason) => {
                        tracing::warn!(request_id = ctx.request_id, reason, "a login could not be checked");
                    }
                    login::LoginError::Throttled { limit, .. } => self.metrics.rate_limited(limit),
                    // `Busy` occurs in bursts, and each has its line in the access log.
                    _ => {}
                }
                ctx.reason = Some(Reason::from(&refusal));
                LocalResponse::from(&refusal)
            }
        }
    }

    async fn try_log_in(
        &self,
        downstream: &mut impl Downstream,
        ctx: &mut Context,
        backend: &login::Backend,
    ) -> Result<login::Login, login::LoginError> {
        login::check_content_type(&downstream.request().headers)?;
        let body = timeout(self.settings.body_timeout, read_body(downstream, login::MAX_BODY_BYTES)).await;
        let credentials = login::parse(&body.unwrap_or(Err(login::LoginError::Incomplete))?)?;
        let id = random_id().ok_or_else(|| login::LoginError::Unavailable("no random bytes".to_owned()))?;
        let clock = || self.started.elapsed();
        let attempt = login::begin(&credentials, &self.limits.logins, &Some(Prefix::from(ctx.client)), clock).await?;
        let asked = Instant::now();
        let granted = login(credentials, backend, &self.accepted.keys, &id, &ctx.request_id, unix_now).await;
        if !matches!(granted, Err(login::LoginError::Busy)) {
            (ctx.upstream_started, ctx.upstream_ended) = (Some(asked), Some(Instant::now()));
        }
        attempt.ended(login::ending(&granted), clock());
        granted
    }

    /// `POST /auth/logout`.
    ///
    /// # Errors
    /// On the client's side, while it is not known whether the request has content.
    pub(super) async fn log_out(
        &self,
        downstream: &mut impl Downstream,
        ctx: &mut Context,
        principal: &Principal,
        revocation: &Revocation,
        body: framing::BodyFraming,
    ) -> pingora::Result<LocalResponse> {
        // Only tokens issued by a login can be revoked by a logout.
        let Credential::Token(token) = &principal.credential else {
            ctx.reason = Some(Reason::Route);
            return Ok(NoMatch::Path.into());
        };
        if downstream.request().method != Method::POST {
            ctx.reason = Some(Reason::Method);
            return Ok(LocalResponse::only_post());
        }
        if has_content(downstream, body, self.settings.body_timeout).await? {
            ctx.reason = Some(Reason::Body);
            return Ok(LocalResponse::unexpected_body());
        }
        ctx.upstream_started = Some(Instant::now());
        let stored = revocation.log_out(token, &ctx.request_id).await;
        ctx.upstream_ended = Some(Instant::now());
        Ok(match stored {
            Ok(()) => LocalResponse::logged_out(),
            Err(reason) => {
                tracing::warn!(request_id = ctx.request_id, reason, "a logout could not be stored");
                ctx.reason = Some(Reason::Unavailable);
                LocalResponse::upstream(StatusCode::SERVICE_UNAVAILABLE)
            }
        })
    }
}
