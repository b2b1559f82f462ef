//! Requests that switch to the WebSocket protocol: their refusals, and the tunnel.

use std::pin::pin;
use std::time::Instant;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderValue, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, Method, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};

use super::context::Tunnelled;
use super::forward::{Client, failed, timeouts};
use super::header_rules::{add_sticky_cookie, apply_to_response};
use super::reason::Reason;
use super::{Admitted, Context, Ended, Flow};
use crate::authenticate::{AuthenticationError, Principal, authenticate, authenticate_bearer};
use crate::clock::unix_now;
use crate::downstream::Downstream;
use crate::framing::{BodyFraming, Target};
use crate::respond::LocalResponse;
use crate::route::{self, Route};
use crate::upgrade::{
    self, Direction, Handshake, HandshakeError, Limits, Offers, OffersError, carry, check_switch, is_requested,
    may_connect,
};
use crate::upstream::{self, Interim, RequestBody, Tunnel, UpstreamError};

/// The subprotocols of a request that wants to switch; `None` for any other.
pub(super) type Offered = Option<std::result::Result<Offers, OffersError>>;

/// Whether a request wants to switch, and what it offers. Its connection then carries no other request, so that nothing
/// behind its head is ever interpreted as one.
pub(super) fn offered(downstream: &mut impl Downstream) -> Offered {
    let request = downstream.request();
    // HTTP/2 has no such field; it is malformed there.
    let is_requested = request.version != Version::HTTP_2 && is_requested(&request.headers);
    let offers = is_requested.then(|| Offers::read(&request.headers))?;
    downstream.close_after();
    Some(offers)
}

/// Whether a request has a token in its fields: in `Authorization`, or among the subprotocols that it offers.
pub(super) fn has_token(headers: &HeaderMap, offered: &Offered) -> bool {
    let is_offered = || matches!(offered, Some(Ok(offers)) if offers.token().is_some());
    headers.contains_key(AUTHORIZATION) || is_offered()
}

impl Flow {
    /// Authenticates a request, whose token may be among the subprotocols.
    pub(super) fn authenticate(
        &self,
        headers: &HeaderMap,
        offered: &Offered,
        ctx: &mut Context,
    ) -> std::result::Result<std::result::Result<Principal, AuthenticationError>, Ended> {
        let token = match offered {
            None => None,
            Some(Err(error)) => return Err(ctx.refuse(Reason::Handshake, (*error).into())),
            Some(Ok(offers)) => offers.token(),
        };
        match token {
            None => Ok(authenticate(headers, &self.accepted, unix_now())),
            Some(_) if headers.contains_key(AUTHORIZATION) => {
                Err(ctx.refuse(Reason::Handshake, HandshakeError::TwoTokens.into()))
            }
            Some(token) => Ok(authenticate_bearer(token, &self.accepted, unix_now())),
        }
    }

    /// Checks a request that wants to switch against its route.
    pub(super) fn check_handshake(
        &self,
        downstream: &mut impl Downstream,
        offered: Offered,
        route: &Route,
        target: &Target,
        ctx: &mut Context,
    ) -> std::result::Result<Option<Box<Handshake>>, Ended> {
        let Some(offers) = offered else { return Ok(None) };
        if route.upgrade != Some(route::Upgrade::WebSocket) {
            return Err(ctx.refuse(Reason::Upgrade, LocalResponse::plain(StatusCode::NOT_IMPLEMENTED)));
        }
        let has_body = downstream.has_body() || !matches!(target.body, BodyFraming::None);
        let request = downstream.request();
        let origins = route.cors.as_ref().map_or(&self.settings.allowed_origins, |policy| &policy.origins);
        if !may_connect(&request.headers, origins, &target.authority) {
            return Err(ctx.refuse(Reason::Origin, LocalResponse::forbidden()));
        }
        let offers = offers.map_err(|error| ctx.refuse(Reason::Handshake, error.into()))?;
        let handshake = match Handshake::read(request, offers) {
            Ok(_) if has_body => Err(HandshakeError::Body),
            handshake => handshake,
        };
        let handshake = handshake.map_err(|error| ctx.refuse(Reason::Handshake, error.into()))?;
        Ok(Some(Box::new(handshake)))
    }

    /// Forwards a handshake, and the tunnel if the service accepts it.
    ///
    /// # Errors
    /// Before the tunnel, as for any forwarded request.
    pub(super) async fn switch(
        &self,
        downstream: &mut impl Downstream,
        ctx: &mut Context,
        admitted: &Admitted,
        handshake: &Handshake,
    ) -> Result<()> {
        let started = *ctx.upstream_started.get_or_insert_with(Instant::now);
        let switched = Box::pin(self.forward_handshake(downstream, ctx, admitted, handshake)).await;
        ctx.upstream_ended = Some(Instant::now());
        let Some((head, mut service)) = switched? else { return Ok(()) };
        let common = ctx.common_headers(self.settings.hsts.as_ref());
        let client = downstream.switch(&head, &common.fields());
        let no_switch = || Error::explain(ErrorType::InternalError, "a protocol without upgrades");
        let client = client.ok_or_else(no_switch)?;
        drop(head);
        let timeouts = admitted.matched.route.bounds.timeouts;
        let total = timeouts.total.filter(|total| !total.is_zero());
        let limits = Limits {
            idle: self.stream_idle(&admitted.matched.route),
            end: total.map(|total| (started + total).into()),
        };
        let mut metrics = self.metrics.tunnel(&admitted.matched.route.name);
        let figures = ctx.begin_tunnel();
        let passed = |direction, count| match direction {
            Direction::ToService => {
                metrics.to_service.inc_by(count);
                figures.to_service += count;
            }
            Direction::ToClient => {
                metrics.to_client.inc_by(count);
                figures.to_client += count;
            }
        };
        let over = self.over(admitted, &Method::GET);
        let (outcome, reason) = outcome(carry(client, &mut service, limits, over, passed).await);
        metrics.end(outcome);
        ctx.reason = reason;
        Ok(())
    }

    /// Sends the handshake to the service. Returns the head of its 101 for the client, and the connection; `None` after
    /// any other response, which has been forwarded.
    async fn forward_handshake(
        &self,
        downstream: &mut impl Downstream,
        ctx: &mut Context,
        admitted: &Admitted,
        handshake: &Handshake,
    ) -> Result<Option<(ResponseHeader, Tunnel)>> {
        let route = &admitted.matched.route;
        let mut parts = self.head_for_service(downstream.request(), ctx, admitted)?;
        handshake.put(&mut parts.headers);
        let backend = self.backend(route)?;
        let started = ctx.upstream_started.unwrap_or(ctx.started);
        let deadlines = backend.upstream().deadlines_with(started.into(), &timeouts(route));
        let mut opening = pin!(backend.open_with(parts, RequestBody::default(), deadlines, Interim::Switch));
        let mut client = Client::Waiting;
        let response = client.until(downstream, &mut opening, deadlines.of_head()).await?.map_err(failed)?;
        let (parts, mut body) = response.into_parts();
        if parts.status != StatusCode::SWITCHING_PROTOCOLS {
            self.relay(downstream, ctx, admitted, client, (&parts, &mut body), deadlines).await?;
            return Ok(None);
        }
        let name = backend.upstream().name;
        let invalid = |reason: String| failed(UpstreamError::InvalidResponse(name, reason));
        let selected = check_switch(handshake, &parts.headers).map_err(|error| invalid(error.to_string()))?;
        let service = body.into_tunnel().ok_or_else(|| invalid("its connection was closed".to_owned()))?;
        let mut head = upstream::for_client(&parts, backend.upstream(), &admitted.public_authority());
        apply_to_response(&route.response_headers, &mut head)?;
        add_sticky_cookie(&parts, self.routes.cookie_path(route), &mut head)?;
        head.remove_header(&CONTENT_LENGTH);
        head.insert_header(UPGRADE, HeaderValue::from_static("websocket"))?;
        if let Some(selected) = selected {
            head.insert_header(SEC_WEBSOCKET_PROTOCOL, selected)?;
        }
        Ok(Some((head, service)))
    }
}

/// How tunnels end, as labels in metrics.
pub const TUNNEL_OUTCOMES: [&str; 9] =
    ["closed", "client", "client_slow", "upstream", "idle", "total", "expired", "revoked", "drain"];

/// The outcome of a tunnel in metrics, and the reason in the access log.
fn outcome(ended: upgrade::Ended<Reason>) -> (&'static str, Option<Reason>) {
    let (outcome, reason) = match ended {
        upgrade::Ended::Closed => return ("closed", None),
        upgrade::Ended::Client => ("client", Reason::Client),
        upgrade::Ended::ClientSlow => ("client_slow", Reason::ClientSlow),
        upgrade::Ended::Service => ("upstream", Reason::Upstream),
        upgrade::Ended::Idle => ("idle", Reason::Idle),
        upgrade::Ended::Total => ("total", Reason::Total),
        upgrade::Ended::Over(reason @ Reason::Expired) => ("expired", reason),
        upgrade::Ended::Over(reason @ Reason::Drain) => ("drain", reason),
        upgrade::Ended::Over(reason) => ("revoked", reason),
    };
    (outcome, Some(reason))
}

impl Context {
    /// Counts the request no longer as in flight, and its bytes from now on.
    fn begin_tunnel(&mut self) -> &mut Tunnelled {
        self.in_flight = None;
        self.tunnel.insert(Tunnelled { handshake: self.started.elapsed(), to_service: 0, to_client: 0 })
    }
}
