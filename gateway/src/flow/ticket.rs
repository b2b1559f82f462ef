//! Tickets: `POST /auth/ticket`, and requests that have one in the query instead of a token.

use std::sync::Arc;
use std::time::Instant;

use http::{Method, StatusCode};
use tokio::time::timeout;

use super::body::read_body;
use super::reason::Reason;
use super::{Authorised, Context, Ended, Flow};
use crate::authenticate::{Accepted, Credential, Principal};
use crate::clock::unix_now_millis;
use crate::downstream::Downstream;
use crate::framing::{CanonicalPath, TakenParameter, take_parameter};
use crate::login;
use crate::respond::LocalResponse;
use crate::route;
use crate::ticket::{NotTaken, TicketError, Tickets, parse_request};
use crate::token::{InvalidTicket, Parent, Presented, TICKET_LIFETIME, Ticket, random_hex, ticket_target};

impl Flow {
    /// The ticket of a request to a route that accepts tickets. On other routes the parameter is one as any other.
    pub(super) fn ticket_of(&self, wanted: route::Request<'_>) -> Option<TakenParameter> {
        self.tickets.as_ref()?;
        let taken = take_parameter(wanted.query?, "ticket")?;
        let matched = self.routes.find(|_| true, wanted).ok()?;
        matched.route.tickets.then_some(taken)
    }

    /// Checks the ticket of a request, that its token is not revoked, and the request limit of its identity.
    pub(super) async fn authorise_ticket(
        &self,
        taken: &TakenParameter,
        wanted: route::Request<'_>,
        has_token: bool,
        ctx: &mut Context,
    ) -> Result<Authorised, Ended> {
        let refuse = |ctx: &mut Context, error: TicketError| {
            self.metrics.token_refusal(error.label());
            Err(ctx.refuse(Reason::Ticket(error), error.into()))
        };
        let Some(tickets) = &self.tickets else { return refuse(ctx, TicketError::Invalid) };
        let text = match &taken.value {
            Ok(text) if !has_token => text,
            _ => return refuse(ctx, TicketError::Repeated),
        };
        let (id, principal) = match self.verify_ticket(tickets, text, wanted) {
            Ok(verified) => verified,
            Err(error) => return refuse(ctx, error),
        };
        let authorised = self.authorise_principal(principal, ctx).await?;
        // The last check, so that a ticket is not lost to a temporary failure.
        match tickets.used.take(id, self.started.elapsed()) {
            Ok(()) => Ok(authorised),
            Err(NotTaken::Used) => refuse(ctx, TicketError::Used),
            Err(NotTaken::Full) => refuse(ctx, TicketError::Full),
        }
    }

    /// Verifies a ticket for the path and the host of a request, and returns its id and the principal of its parent.
    fn verify_ticket(
        &self,
        tickets: &Tickets,
        text: &str,
        wanted: route::Request<'_>,
    ) -> Result<(u128, Principal), TicketError> {
        let now = unix_now_millis();
        let accepted = &self.accepted;
        let presented = Presented::new(text.as_bytes()).map_err(|_| TicketError::Invalid)?;
        let ticket = accepted.keys.verify_ticket(&presented, now).map_err(|error| match error {
            InvalidTicket::Forged => TicketError::Invalid,
            InvalidTicket::Expired => TicketError::Expired,
        })?;
        if ticket.issued_at < tickets.started_at {
            return Err(TicketError::Expired);
        }
        if ticket.target != ticket_target(wanted.host, wanted.path.as_str()) {
            return Err(TicketError::Target);
        }
        let credential = match ticket.parent {
            Parent::Token(_) if self.has_withdrawn_key(accepted, ticket.issued_at, now) => {
                return Err(TicketError::Expired);
            }
            Parent::Token(token) => Credential::Token(token),
            Parent::Static { identity, sha256 } => {
                let found = accepted.static_tokens.find_named(&identity, sha256);
                let found = found.filter(|token| !token.is_expired(now / 1000)).ok_or(TicketError::Invalid)?;
                Credential::Static(Arc::clone(found))
            }
        };
        Ok((ticket.id, Principal { credential }))
    }

    /// Whether a key was removed by a reload or has retired between two moments, in milliseconds since 1970, the second
    /// of which is now. It may be that of the token, while that of the ticket is still accepted: which key verified a
    /// token is not known.
    fn has_withdrawn_key(&self, accepted: &Accepted, issued_at: i64, now: i64) -> bool {
        let removed_at = self.live.last_key_removed();
        let is_since = |at: Instant| i64::try_from(at.elapsed().as_millis()).is_ok_and(|age| age <= now - issued_at);
        let retirement = accepted.keys.retirement_after(issued_at / 1000);
        removed_at.is_some_and(is_since) || retirement.is_some_and(|second| second <= now / 1000)
    }

    /// `POST /auth/ticket`.
    pub(super) async fn issue_ticket(
        &self,
        downstream: &mut impl Downstream,
        ctx: &mut Context,
        principal: &Principal,
        host: &str,
    ) -> LocalResponse {
        if downstream.request().method != Method::POST {
            ctx.reason = Some(Reason::Method);
            return LocalResponse::only_post();
        }
        let path = match self.read_ticket_request(downstream).await {
            Ok(path) => path,
            Err(refusal) => {
                ctx.reason = Some(Reason::from(&refusal));
                return LocalResponse::from(&refusal);
            }
        };
        let preserving =
            |path| CanonicalPath::parse_preserving(path).ok().filter(|path| self.routes.preserves(host, *path));
        let Some(path) = CanonicalPath::parse(&path).ok().or_else(|| preserving(&path)) else {
            ctx.reason = Some(Reason::Ticket(TicketError::Target));
            return LocalResponse::bad_request("path must be the canonical path of a request, without a query");
        };
        let wanted = route::Request { host, method: &Method::GET, path: self.routes.strip(path), query: None };
        let found = self.routes.find(|route| principal.may_use(&route.name), wanted);
        if !found.is_ok_and(|matched| matched.route.tickets) {
            ctx.reason = Some(Reason::Route);
            return route::NoMatch::Path.into();
        }
        let now = unix_now_millis();
        let (parent, expires_at) = match &principal.credential {
            Credential::Token(token) => (Parent::Token(Arc::clone(token)), Some(token.expires_at)),
            Credential::Static(token) => (Parent::from(&**token), token.expires_at()),
        };
        let left = expires_at.map_or(TICKET_LIFETIME, |second| second.saturating_mul(1000).saturating_sub(now));
        let target = ticket_target(host, wanted.path.as_str());
        let id = random_hex::<16>().and_then(|id| u128::from_str_radix(&id, 16).ok());
        let issued =
            id.and_then(|id| self.accepted.keys.issue_ticket(&Ticket { id, issued_at: now, target, parent }).ok());
        match issued {
            Some(ticket)
                if path.as_str().len() + "?ticket=".len() + ticket.len() > self.settings.sizes.max_target_bytes =>
            {
                ctx.reason = Some(Reason::Size);
                LocalResponse::bad_request(
                    "the ticket would exceed request.max_target_bytes: the token has too many scopes",
                )
            }
            Some(ticket) => LocalResponse::ticket(&ticket, left.min(TICKET_LIFETIME) / 1000),
            None => {
                ctx.reason = Some(Reason::Internal);
                LocalResponse::upstream(StatusCode::SERVICE_UNAVAILABLE)
            }
        }
    }

    async fn read_ticket_request(&self, downstream: &mut impl Downstream) -> Result<String, login::LoginError> {
        login::check_content_type(&downstream.request().headers)?;
        let body = timeout(self.settings.body_timeout, read_body(downstream, login::MAX_BODY_BYTES)).await;
        parse_request(&body.unwrap_or(Err(login::LoginError::Incomplete))?).map_err(login::LoginError::Malformed)
    }
}
