//! The request path: the stages in their order, and nothing else.
//!
//! [`respond`](crate::respond) maps the refusal of a stage to a response. A request that passes all stages is forwarded
//! to the service of its route, by default the api listener of the backend, and never to the admin listener.

mod ahead;
mod auth;
mod authorised;
mod body;
mod cached;
mod context;
mod encode;
mod fan_out;
mod forward;
mod header_rules;
mod inspect;
mod interim;
mod lease;
mod live;
mod outgoing;
mod preflight;
mod reason;
mod serve;
mod stream;
mod ticket;
mod trace;
mod upgrade;

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use holodule_telemetry::Tracer;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};

use crate::authenticate::{Accepted, Credential, Principal};
use crate::cache::Cache;
use crate::client::{Prefix, Proxies};
use crate::config::FlowSettings;
use crate::downstream::Downstream;
use crate::drain::Draining;
use crate::fan_out::FanOut;
use crate::framing::{self, RequestHead};
use crate::limit::{self, Exceeded, Limiter, Limits};
use crate::login;
use crate::record::{AccessLog, Metrics};
use crate::respond::LocalResponse;
use crate::revocation::{self, Revocation, RevocationError, Roles};
use crate::route::{self, LimitBy, Matched, Route, RouteTable};
use crate::ticket::Tickets;
use crate::token::random_hex;
use crate::upgrade::Handshake;
use crate::upstream::UpstreamClient;
use authorised::Authorised;
use body::has_content;
use context::Context;
pub use inspect::HeadInspector;
pub use live::Live;
use reason::Reason;
pub use upgrade::TUNNEL_OUTCOMES;
use upgrade::{Offered, has_token, offered};

/// The request path and what its stages depend on, as of one configuration. A reload makes another; requests in flight
/// end with the one that they began with.
pub struct Flow {
    /// The settings of the request path itself.
    pub settings: FlowSettings,
    /// The trusted proxies, which may state a client's address.
    pub proxies: Arc<Proxies>,
    /// The keys and static tokens.
    pub accepted: Arc<Accepted>,
    /// What outlives a request is checked against.
    pub live: Arc<Live>,
    /// Sends logins to the backend; `None` if logins are disabled.
    pub login: Option<Arc<login::Backend>>,
    /// The rate limits.
    pub limits: Arc<Limits>,
    /// The start of the limiter's clock.
    pub started: Instant,
    /// The revoked tokens; `None` if tokens cannot be revoked.
    pub revocation: Option<Revocation>,
    /// The tickets; `None` if no route accepts them.
    pub tickets: Option<Arc<Tickets>>,
    /// The routes that are forwarded.
    pub routes: Arc<RouteTable>,
    /// The backend that they are forwarded to, unless they have a service.
    pub api: UpstreamClient,
    /// The services, at the positions that the routes have.
    pub services: Box<[UpstreamClient]>,
    /// Whether the gateway drains, which ends endless responses and connections.
    pub draining: Draining,
    /// The response cache; `None` if it is disabled.
    pub cache: Option<Cache>,
    /// The shared event streams.
    pub fan_out: FanOut,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The access log.
    pub access_log: AccessLog,
    /// Starts the spans of requests; `None` if traces are not exported.
    pub tracer: Option<Tracer>,
}

/// A request that passed every stage.
struct Admitted {
    /// The client's address.
    client: IpAddr,
    /// The principal of its token; `None` on a public route, even if a token was sent.
    principal: Option<Authorised>,
    /// The route, and the target to forward.
    matched: Matched,
    /// The requested host, port included.
    authority: String,
    /// The handshake, if the client wants to switch protocols.
    handshake: Option<Box<Handshake>>,
}

/// How a request ends before it has passed every stage.
enum Ended {
    /// The gateway responds itself, mostly with a refusal.
    Answered(LocalResponse),
    /// The client did not send a complete request.
    Failed(Box<pingora::Error>),
}

impl From<Box<pingora::Error>> for Ended {
    fn from(error: Box<pingora::Error>) -> Self {
        Self::Failed(error)
    }
}

impl Flow {
    /// Runs the stages, in the order of refusals that the contract defines.
    async fn admit(&self, downstream: &mut impl Downstream, ctx: &mut Context) -> Result<Admitted, Ended> {
        // Taken first, so that requests refused below count as well; reported at its place in the order.
        let within = self.take(self.limits.address.as_ref(), &Some(Prefix::from(ctx.client)), ctx.started);
        let preserves = |host: &str, path: framing::CanonicalPath<'_>| self.routes.preserves(host, path);
        let inspected = framing::inspect_preserving(head(downstream.request()), &self.settings.sizes, preserves);
        let target = match inspected {
            Ok(target) => target,
            Err(refusal) => {
                ctx.is_canonical = !matches!(refusal, framing::HeadError::Malformed(_));
                return Err(ctx.refuse(refusal.into(), refusal.into()));
            }
        };
        ctx.is_canonical = true;
        let offered = offered(downstream);
        if !self.is_our_host(downstream, target.host()) {
            return Err(ctx.refuse(Reason::Host, LocalResponse::misdirected()));
        }
        let path = self.routes.strip(target.path());
        let login = self.login.as_ref().filter(|_| path.as_str() == "/auth");
        if login.is_some() {
            ctx.route = Some(route::LOGIN.into());
        }
        let logout = self.revocation.as_ref().filter(|_| path.as_str() == "/auth/logout");
        let is_ticket = self.tickets.is_some() && path.as_str() == "/auth/ticket";
        let is_own = login.is_some() || logout.is_some() || is_ticket;
        let own_cors = if is_own { None } else { self.apply_route_cors(downstream, ctx, target.host(), &path) };
        if let Err(exceeded) = within {
            let answer = LocalResponse::limited(limit::ADDRESS, exceeded, login.is_some());
            return Err(self.limited(ctx, limit::ADDRESS, answer));
        }
        if downstream.request().method == Method::OPTIONS {
            let preflight = Box::pin(self.preflight(downstream, ctx, &target, own_cors)).await?;
            if let Some(answer) = preflight {
                return Err(Ended::Answered(answer));
            }
        }
        if let Some(backend) = login {
            // Boxed, as everything rare: each connection reserves memory for all that its requests await.
            return Err(Ended::Answered(Box::pin(self.log_in(downstream, ctx, backend)).await));
        }
        let request = downstream.request();
        let wanted = route::Request { host: target.host(), method: &request.method, path, query: target.query() };
        let ticket = self.ticket_of(wanted);
        // The ticket is neither matched nor forwarded.
        let query = ticket.as_ref().map_or(wanted.query, |ticket| ticket.rest.as_deref());
        let wanted = route::Request { query, ..wanted };
        let (principal, matched) = if let Some(matched) = self.routes.find_public(wanted).filter(|_| !is_own) {
            (None, matched)
        } else {
            let principal = match &ticket {
                Some(ticket) if request.method == Method::GET => {
                    self.authorise_ticket(ticket, wanted, has_token(&request.headers, &offered), ctx).await?
                }
                _ => self.authorise(&request.headers, &offered, ctx).await?,
            };
            if is_ticket {
                ctx.route = Some(route::TICKET.into());
                let issuing = self.issue_ticket(downstream, ctx, &principal.principal, target.host());
                return Err(Ended::Answered(Box::pin(issuing).await));
            }
            if let Some(revocation) = logout {
                ctx.route = Some(route::LOGOUT.into());
                let logging_out = self.log_out(downstream, ctx, &principal.principal, revocation, target.body);
                let answer = Box::pin(logging_out).await?;
                return Err(Ended::Answered(answer));
            }
            let may_use = |route: &Route| principal.principal.may_use(&route.name);
            match self.routes.find(may_use, wanted) {
                Ok(matched) => (Some(principal), matched),
                Err(no_match) => return Err(ctx.refuse(Reason::Route, no_match.into())),
            }
        };
        ctx.route = Some(Arc::clone(&matched.route.name));
        if !matched.route.bounds.networks.permit(ctx.client) {
            return Err(ctx.refuse(Reason::Network, LocalResponse::forbidden()));
        }
        if let Some(requirement) = matched.route.requirement(&request.method)
            && !principal.as_ref().is_some_and(|principal| requirement.is_met_by(principal.scopes()))
        {
            self.metrics.scope_refusal(&matched.route.name);
            return Err(ctx.refuse(Reason::Scope, LocalResponse::insufficient_scope()));
        }
        let handshake = self.check_handshake(downstream, offered, &matched.route, &target, ctx)?;
        let request = downstream.request();
        let identity = principal.as_ref().map(Authorised::identity);
        self.limit_route(&matched, identity, ctx)?;
        let takes_no_body = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE);
        if takes_no_body && has_content(downstream, target.body, self.settings.body_timeout).await? {
            return Err(ctx.refuse(Reason::Body, LocalResponse::unexpected_body()));
        }
        if let framing::BodyFraming::Length(length) = target.body
            && matched.route.bounds.excludes(length)
        {
            return Err(ctx.refuse(Reason::BodySize, LocalResponse::too_large()));
        }
        Ok(Admitted { client: ctx.client, principal, matched, authority: target.authority, handshake })
    }

    /// Checks the token of a request, that it is not revoked, and the request limit of its identity.
    async fn authorise(&self, headers: &HeaderMap, offered: &Offered, ctx: &mut Context) -> Result<Authorised, Ended> {
        let principal = match self.authenticate(headers, offered, ctx)? {
            Ok(principal) => principal,
            Err(refusal) => {
                self.metrics.token_refusal(refusal.label());
                return Err(ctx.refuse(Reason::Token(refusal.label()), refusal.into()));
            }
        };
        self.authorise_principal(principal, ctx).await
    }

    /// Checks that the token of `principal` is not revoked, and the request limit of its identity.
    async fn authorise_principal(&self, principal: Principal, ctx: &mut Context) -> Result<Authorised, Ended> {
        ctx.principal = Some(principal.clone());
        let roles = match &self.revocation {
            None => Roles::default(),
            Some(revocation) => match check_revocation(revocation, &principal).await {
                Ok(roles) => roles,
                Err(refusal) => return Err(self.refuse_token(ctx, &refusal)),
            },
        };
        if let Err(exceeded) = self.take(self.limits.identity.as_ref(), &principal.identity(), ctx.started) {
            return Err(self.limited(ctx, limit::IDENTITY, LocalResponse::limited(limit::IDENTITY, exceeded, false)));
        }
        Ok(Authorised { principal, roles, since: ctx.started })
    }

    /// Refuses a valid token that is revoked, or whose revocation is unknown.
    fn refuse_token(&self, ctx: &mut Context, refusal: &RevocationError) -> Ended {
        match refusal {
            RevocationError::Revoked(reason) => {
                self.metrics.token_refusal(revocation::REVOKED);
                ctx.refuse(Reason::Revoked(*reason), LocalResponse::revoked())
            }
            RevocationError::Unavailable(reason) => {
                tracing::debug!(request_id = ctx.request_id, reason, "a token could not be checked for revocation");
                ctx.refuse(Reason::RevocationUnknown, LocalResponse::upstream(StatusCode::SERVICE_UNAVAILABLE))
            }
        }
    }

    /// The backend of `route`.
    ///
    /// # Errors
    /// The service does not exist, which the configuration excludes. The request is then not forwarded.
    fn backend(&self, route: &Route) -> pingora::Result<&UpstreamClient> {
        let Some(position) = route.service else { return Ok(&self.api) };
        let unknown = || pingora::Error::explain(pingora::ErrorType::InternalError, "a route without its service");
        self.services.get(position).ok_or_else(unknown)
    }

    /// Takes a token for a request that began at `began`; without a limiter it always succeeds.
    fn take(&self, limiter: Option<&Limiter>, key: &impl Hash, began: Instant) -> Result<(), Exceeded> {
        limiter.map_or(Ok(()), |limiter| limiter.take(key, began.saturating_duration_since(self.started)))
    }

    /// Takes a token of the limit of a route, if the request counts. `identity` is that of the request; only public
    /// routes have none, and those have no limit by identity.
    fn limit_route(&self, matched: &Matched, identity: Option<&str>, ctx: &mut Context) -> Result<(), Ended> {
        let (Some(limiter), Some(limit)) = (&matched.route.limiter, &matched.route.bounds.limit) else { return Ok(()) };
        if !limit.counts(&matched.target) {
            return Ok(());
        }
        let address = || self.take(Some(limiter), &Some(Prefix::from(ctx.client)), ctx.started);
        let taken = match (limit.by, identity) {
            (LimitBy::Identity, Some(identity)) => self.take(Some(limiter), &identity, ctx.started),
            (LimitBy::Path, _) => self.take(Some(limiter), &matched.path(), ctx.started),
            (LimitBy::Address, _) | (LimitBy::Identity, None) => address(),
        };
        taken.map_err(|exceeded| {
            self.limited(ctx, limit::ROUTE, LocalResponse::limited(limit::ROUTE, exceeded, false))
        })?;
        ctx.is_limited_by_path = limit.by == LimitBy::Path;
        Ok(())
    }

    /// Returns the token of the address if a request of a route with a limit by path has succeeded: an address may be
    /// shared by clients of many paths, such as those of a calendar service. Guessed paths still count.
    fn refund_address(&self, status: Option<StatusCode>, ctx: &Context) {
        let is_success = |status: StatusCode| status.is_success() || status == StatusCode::NOT_MODIFIED;
        if ctx.is_limited_by_path
            && ctx.answered.is_none()
            && status.is_some_and(is_success)
            && let Some(limiter) = &self.limits.address
        {
            limiter.refund(&Some(Prefix::from(ctx.client)));
        }
    }

    fn limited(&self, ctx: &mut Context, limit: &'static str, answer: LocalResponse) -> Ended {
        self.metrics.rate_limited(limit);
        ctx.refuse(Reason::RateLimit(limit), answer)
    }

    /// Whether `host` is a name in the certificate selected for this connection, or a configured one.
    fn is_our_host(&self, downstream: &impl Downstream, host: &str) -> bool {
        downstream.peer().identity.covers(host) || self.settings.hosts.iter().any(|ours| ours == host)
    }

    /// The address of the client, behind trusted proxies.
    fn client_address(&self, downstream: &impl Downstream) -> IpAddr {
        self.proxies.client(downstream.peer().address, &downstream.request().headers)
    }
}

/// Checks that the token of `principal` was not revoked, and returns the roles of its user.
async fn check_revocation(revocation: &Revocation, principal: &Principal) -> Result<Roles, RevocationError> {
    match &principal.credential {
        Credential::Token(token) => revocation.check(token).await,
        // A static token belongs to no user of the backend; it is removed with the configuration.
        Credential::Static(_) => Ok(Roles::default()),
    }
}

/// The head of a request, as parsed.
fn head(request: &Parts) -> RequestHead<'_> {
    RequestHead { method: &request.method, uri: &request.uri, version: request.version, headers: &request.headers }
}

/// 128 random bits in hexadecimal; `None` if the system provides none.
fn random_id() -> Option<String> {
    random_hex::<16>()
}
