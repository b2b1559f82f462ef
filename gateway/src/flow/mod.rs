//! The corridor: pingora's hooks, with the stages in their order, and nothing else.
//!
//! What a stage refuses, [`respond`] turns into an answer; what passes all of them goes to
//! the api upstream, and to no other place.

mod context;
mod forward;
mod gate;

use std::hash::Hash;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, Version, header};
use pingora::http::RequestHeader;
use pingora::modules::http::HttpModules;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use tokio::time::timeout;

use crate::authenticate::{Accepted, Credential, Principal, authenticate};
use crate::client::{Prefix, Proxies};
use crate::config::Corridor;
use crate::framing::{self, Head, Target};
use crate::limit::{self, Exceeded, Limiter, Limits};
use crate::listener::ConnectionInfo;
use crate::login::{self, login};
use crate::record::{Access, Metrics, method_label};
use crate::respond::{self, Answer};
use crate::revocation::{self, Revocation};
use crate::route::{self, CanonicalPath, NoMatch, Route, Table};
use crate::upstream::Client;
use context::Context;
pub use gate::Gate;

/// The corridor and what its stages work with.
pub struct Flow {
    /// What the corridor itself needs to know.
    pub settings: Corridor,
    /// Whose word on a client's address is taken.
    pub proxies: Arc<Proxies>,
    /// What opens the door at present.
    pub accepted: Arc<ArcSwap<Accepted>>,
    /// Asks the backend for a login; `None` where the login is off.
    pub login: Option<Client>,
    /// How much one client may ask for.
    pub limits: Arc<Limits>,
    /// When they began.
    pub started: Instant,
    /// Knows which tokens have been revoked; `None` where none can be.
    pub revocation: Option<Revocation>,
    /// What is forwarded.
    pub routes: Table,
    /// Where it is forwarded to.
    pub api: Client,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Where a request leaves the corridor: answered here, or let through to the upstream.
enum Passage {
    Answered(Answer),
    Forwarded,
}

impl Flow {
    /// The stages, in the contract's order of refusals.
    async fn walk(&self, session: &mut Session, ctx: &mut Context) -> Passage {
        // Asked for now, so that what is refused first is counted as well, and told below.
        let within = self.take(self.limits.address.as_ref(), &ctx.client.map(Prefix::from), ctx.started);
        let target = match framing::inspect(head(session.req_header())) {
            Ok(target) => target,
            Err(refusal) => return ctx.refuse("framing", refusal.into()),
        };
        let Ok(path) = CanonicalPath::parse(&target.path) else {
            return ctx.refuse("framing", framing::Refusal::Malformed("the path is not canonical").into());
        };
        if let Err(refusal) = framing::check_sizes(head(session.req_header()), &self.settings.sizes) {
            return ctx.refuse("size", refusal.into());
        }
        if !self.is_our_host(session, &target.host) {
            return ctx.refuse("host", Answer::misdirected());
        }
        let path = self.routes.strip(path);
        let login = self.login.as_ref().filter(|_| path.as_str() == "/auth");
        if login.is_some() {
            ctx.route = Some(route::LOGIN.into());
        }
        if let Err(exceeded) = within {
            let answer = Answer::limited(limit::ADDRESS, exceeded, login.is_some());
            return self.limited(ctx, limit::ADDRESS, answer);
        }
        if ctx.sharing.is_preflight(&session.req_header().method, &session.req_header().headers) {
            return ctx.refuse("preflight", self.preflight(session, &target));
        }
        if let Some(backend) = login {
            return Passage::Answered(self.log_in(session, ctx, backend).await);
        }
        let request = session.req_header();
        let principal = match authenticate(&request.headers, &self.accepted.load(), now()) {
            Ok(principal) => principal,
            Err(refusal) => {
                self.metrics.token_refusal(refusal.label());
                return ctx.refuse(refusal.label(), refusal.into());
            }
        };
        if let Some(revocation) = &self.revocation
            && let Err(refusal) = still_holds(revocation, &principal).await
        {
            return self.not_let_in(ctx, &refusal);
        }
        let within = self.take(self.limits.identity.as_ref(), &principal.identity, ctx.started);
        ctx.principal = Some(principal.clone());
        if let Err(exceeded) = within {
            return self.limited(ctx, limit::IDENTITY, Answer::limited(limit::IDENTITY, exceeded, false));
        }
        if let Some(revocation) = self.revocation.as_ref().filter(|_| path.as_str() == "/auth/logout") {
            ctx.route = Some(route::LOGOUT.into());
            return Passage::Answered(self.log_out(session, ctx, revocation, target.body).await);
        }
        let may_use = |route: &Route| principal.may_use(&route.name);
        let matched = self.routes.find_among(may_use, &request.method, &path, target.query.as_deref());
        let matched = match matched {
            Ok(matched) => matched,
            Err(no_match) => return ctx.refuse("route", no_match.into()),
        };
        ctx.route = Some(matched.route.name.as_str().into());
        let takes_no_body = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE);
        if takes_no_body && has_body(session, &target) {
            return ctx.refuse("body", Answer::unwanted_body());
        }
        ctx.authority = target.authority;
        ctx.matched = Some(matched);
        Passage::Forwarded
    }

    /// A good token that does not open the door.
    fn not_let_in(&self, ctx: &mut Context, refusal: &revocation::Refusal) -> Passage {
        match refusal {
            revocation::Refusal::Revoked => {
                self.metrics.token_refusal(revocation::REVOKED);
                ctx.refuse(revocation::REVOKED, Answer::revoked())
            }
            revocation::Refusal::Unknown(reason) => {
                tracing::debug!(request_id = ctx.request_id, reason, "a token could not be checked for revocation");
                ctx.refuse("revocation", Answer::upstream(StatusCode::SERVICE_UNAVAILABLE))
            }
        }
    }

    /// `POST /auth/logout`.
    async fn log_out(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        revocation: &Revocation,
        body: framing::Body,
    ) -> Answer {
        // Only a token that was made by a login can be ended by a logout.
        let Some(Credential::Token(token)) = ctx.principal.as_ref().map(|principal| principal.credential.clone())
        else {
            ctx.reason = Some("route");
            return NoMatch::Path.into();
        };
        if session.req_header().method != Method::POST {
            ctx.reason = Some("method");
            return Answer::only_post();
        }
        if body != framing::Body::None || !session.as_downstream_mut().is_body_empty() {
            ctx.reason = Some("body");
            return Answer::unwanted_body();
        }
        ctx.upstream_started = Some(Instant::now());
        let stored = revocation.log_out(&token, &ctx.request_id).await;
        ctx.upstream_ended = Some(Instant::now());
        match stored {
            Ok(()) => Answer::logged_out(),
            Err(reason) => {
                tracing::warn!(request_id = ctx.request_id, reason, "a logout could not be stored");
                ctx.reason = Some("unavailable");
                Answer::upstream(StatusCode::SERVICE_UNAVAILABLE)
            }
        }
    }

    /// Takes a token for a request that began at `began`; there are always some where
    /// nothing is limited.
    fn take(&self, limiter: Option<&Limiter>, key: &impl Hash, began: Instant) -> Result<(), Exceeded> {
        limiter.map_or(Ok(()), |limiter| limiter.take(key, began.saturating_duration_since(self.started)))
    }

    fn limited(&self, ctx: &mut Context, limit: &'static str, answer: Answer) -> Passage {
        self.metrics.rate_limited(limit);
        ctx.refuse(limit, answer)
    }

    /// Whether `host` is a name of the certificate that this connection was given, or a
    /// configured one.
    fn is_our_host(&self, session: &Session, host: &str) -> bool {
        let info = session.as_downstream().digest().and_then(ConnectionInfo::of);
        info.is_some_and(|info| info.identity.covers(host)) || self.settings.hosts.iter().any(|ours| ours == host)
    }

    /// The answer to a preflight, alike for every path, so that it tells nothing of the routes.
    fn preflight(&self, session: &mut Session, target: &Target) -> Answer {
        if has_body(session, target) {
            return Answer::unwanted_body();
        }
        let mut methods = self.routes.methods();
        if self.login.is_some() && !methods.contains(&&Method::POST) {
            methods.push(&Method::POST);
        }
        Answer::preflight(&methods)
    }

    /// Who is calling.
    fn client_address(&self, session: &Session) -> Option<IpAddr> {
        match session.client_addr()? {
            PeerAddr::Inet(peer) => Some(self.proxies.client(*peer, &session.req_header().headers)),
            PeerAddr::Unix(_) => None,
        }
    }

    /// `POST /auth`.
    async fn log_in(&self, session: &mut Session, ctx: &mut Context, backend: &Client) -> Answer {
        if session.req_header().method != Method::POST {
            ctx.reason = Some("method");
            return Answer::only_post();
        }
        let result = self.try_log_in(session, ctx, backend).await;
        self.metrics.login(result.as_ref().map_or_else(login::Refusal::label, |_| "success"));
        match result {
            Ok(token) => Answer::granted(&token),
            Err(refusal) => {
                match &refusal {
                    login::Refusal::Unavailable(reason) => {
                        tracing::warn!(request_id = ctx.request_id, reason, "a login could not be checked");
                    }
                    login::Refusal::Throttled { limit, .. } => self.metrics.rate_limited(limit),
                    _ => {}
                }
                ctx.reason = Some(refusal.label());
                Answer::from(&refusal)
            }
        }
    }

    async fn try_log_in(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        backend: &Client,
    ) -> Result<String, login::Refusal> {
        login::check_content_type(&session.req_header().headers)?;
        let body = timeout(self.settings.body_timeout, read_body(session, login::MAX_BODY_BYTES)).await;
        let credentials = login::parse(&body.unwrap_or(Err(login::Refusal::Incomplete))?)?;
        let id = random_id().ok_or_else(|| login::Refusal::Unavailable("no random bytes".to_owned()))?;
        let clock = || self.started.elapsed();
        let attempt = login::begin(&credentials, &self.limits.logins, &ctx.client.map(Prefix::from), clock).await?;
        ctx.upstream_started = Some(Instant::now());
        let accepted = self.accepted.load_full();
        let token = login(credentials, backend, &accepted.keys, &id, &ctx.request_id, now).await;
        ctx.upstream_ended = Some(Instant::now());
        attempt.ended(login::ending(&token), clock());
        token
    }
}

#[async_trait]
impl ProxyHttp for Flow {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        // Without random bytes the id is shared, which the log shows; nothing opens by it.
        Context::new(random_id().unwrap_or_else(|| "0".repeat(32)), self.metrics.in_flight())
    }

    // The stock compression module is of no use here, and each request would pay for it.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        ctx.client = self.client_address(session);
        ctx.sharing = self.settings.allowed_origins.sharing(&session.req_header().headers);
        session.set_read_timeout(Some(self.settings.read_timeout));
        match self.walk(session, ctx).await {
            Passage::Forwarded => self.forward(session, ctx).await?,
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
        crate::record::write(&Access {
            request_id: &ctx.request_id,
            client: ctx.client,
            method: method_label(method),
            route,
            status,
            upstream,
            total,
            identity: ctx.principal.as_ref().map(|principal| &*principal.identity),
            bytes: session.body_bytes_sent(),
            reason: ctx.reason,
        });
    }
}

/// Whether the token that `principal` showed has not been revoked.
async fn still_holds(revocation: &Revocation, principal: &Principal) -> Result<(), revocation::Refusal> {
    match &principal.credential {
        Credential::Token(token) => revocation.check(token).await,
        // Nobody stands behind it whom the backend knows; it ends with the configuration.
        Credential::Static(_) => Ok(()),
    }
}

/// The head of a request, as the parser left it.
fn head(request: &RequestHeader) -> Head<'_> {
    Head { method: &request.method, uri: &request.uri, version: request.version, headers: &request.headers }
}

/// Whether a body follows. HTTP/2 needs no length for one: that the stream goes on tells of it.
fn has_body(session: &mut Session, target: &Target) -> bool {
    target.body != framing::Body::None || !session.as_downstream_mut().is_body_empty()
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

/// Reads a request's body of at most `limit` bytes.
async fn read_body(session: &mut Session, limit: usize) -> Result<Bytes, login::Refusal> {
    let headers = &session.req_header().headers;
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|declared| declared > limit) {
        return Err(login::Refusal::TooLarge);
    }
    continue_if_expected(session).await.map_err(|_| login::Refusal::Incomplete)?;
    let mut body = BytesMut::new();
    while let Some(part) = session.read_request_body().await.map_err(|error| unread(&error))? {
        if body.len() + part.len() > limit {
            return Err(login::Refusal::TooLarge);
        }
        body.extend_from_slice(&part);
    }
    Ok(body.freeze())
}

/// Tells a client to go on that waits for it before it sends its body.
async fn continue_if_expected(session: &mut Session) -> Result<()> {
    let expect = session.req_header().headers.get(header::EXPECT);
    let expects = expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    // HTTP/1.0 knows no interim answer and would take this for the answer (RFC 9110, section
    // 10.1.1); and where nothing is to come, there is nothing to wait for.
    if expects && session.req_header().version != Version::HTTP_10 && !session.as_downstream_mut().is_body_empty() {
        let keepalive = session.get_keepalive();
        session.write_continue_response().await?;
        // pingora takes this for an answer that leaves the body unread, and would close.
        session.set_keepalive(keepalive);
    }
    Ok(())
}

/// Why a login's body could not be read.
fn unread(error: &Error) -> login::Refusal {
    match error.etype() {
        ErrorType::ReadTimedout => login::Refusal::Incomplete,
        _ => login::Refusal::Broken,
    }
}

/// 128 random bits in hexadecimal.
fn random_id() -> Option<String> {
    use std::fmt::Write as _;
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(bytes.iter().fold(String::with_capacity(32), |mut id, byte| {
        // Writing to a String cannot fail.
        let _ = write!(id, "{byte:02x}");
        id
    }))
}

/// Seconds since 1970. A clock before that is read as 1970, when no token of ours is valid.
fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}
