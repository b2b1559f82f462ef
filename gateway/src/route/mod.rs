//! Route matching: each request is matched once by method and canonical path. The match determines the forwarded
//! target and the route label of metrics and logs.
//!
//! Pure: no pingora, no clock.

mod advice;
mod bounds;
mod defaults;
mod errors;
mod fan_out;
mod forwarding;
mod header_rules;
mod index;
mod pattern;
mod require;
mod secret_path;
mod settings;
mod succession;
mod table;

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};

use crate::compress::Encoding;
use crate::cors;
use crate::framing::{CanonicalPath, take_parameter};
use crate::limit::Limiter;
use crate::scope::Requirement;
use errors::Errors;
use forwarding::Forwarding;
use require::Requirements;

pub use advice::Advice;
pub use bounds::{Bounds, Limit, LimitBy, Timeouts};
pub use defaults::default_routes;
pub use header_rules::HeaderRules;
pub use pattern::{InvalidPattern, MAX_TAIL_BYTES, MAX_TAIL_SEGMENTS, Pattern};
pub use settings::{Encoded, HeaderClaim, Host, Query, Settings, Upgrade};
pub use table::{Matched, NoMatch, Request, RouteTable};

/// The query parameter of a route with `fan_out` that is an alternative to the `Last-Event-ID` field, which a page
/// cannot set for a new `EventSource`. It is not part of the target.
pub const LAST_EVENT_ID: &str = "last_event_id";

/// The name of the login route in metrics and logs.
pub const LOGIN: &str = "auth";
/// The name of the logout route in metrics and logs.
pub const LOGOUT: &str = "logout";
/// The name of the route that issues tickets in metrics and logs, if there are tickets.
pub const TICKET: &str = "ticket";
/// The route label in metrics and logs of a request that matches no route.
pub const NONE: &str = "none";
/// Names that configured routes must not have.
pub const RESERVED_NAMES: [&str; 3] = [LOGIN, LOGOUT, NONE];

/// One error in the settings of a route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct InvalidRoute {
    /// The field of [`Settings`].
    pub field: &'static str,
    /// The invalid value, if it is one of several. It is not in the message, so that the caller decides whether it may
    /// be shown.
    pub value: Option<String>,
    /// What is invalid.
    pub reason: String,
}

/// A validated route.
#[derive(Debug)]
pub struct Route {
    /// The name in metrics and logs.
    pub name: Arc<str>,
    /// The hosts of the requests; empty for every host.
    pub hosts: Vec<String>,
    /// The methods that are forwarded.
    pub methods: Vec<Method>,
    /// The value of the `Allow` header.
    pub allow: String,
    /// Whether requests with one of the methods need no token.
    pub public: bool,
    /// Whether every principal gets the same response.
    pub shared: bool,
    /// Whether responses to GET and HEAD may be cached.
    pub cached: bool,
    /// Whether every response without a length may never end.
    pub stream: bool,
    /// Whether all requests of a target share one event stream.
    pub fan_out: bool,
    /// Whether it has a service, and is cached only because it is shared.
    pub is_service_cached_by_default: bool,
    /// Whether a GET may have a ticket in its query instead of a token.
    pub tickets: bool,
    /// The request fields that cached responses may vary by.
    pub vary: Arc<[HeaderName]>,
    /// The content codings in which responses are sent, in the order of preference.
    pub compress: Vec<Encoding>,
    /// Whether its path has a secret, which is not logged.
    pub secret_path: bool,
    /// The `Host` of forwarded requests.
    pub host: Host,
    /// What it accepts besides the head.
    pub bounds: Bounds,
    /// The rules for fields of requests to the service.
    pub request_headers: HeaderRules,
    /// The rules for fields of responses of the service.
    pub response_headers: HeaderRules,
    /// The state of its limit on requests.
    pub limiter: Option<Limiter>,
    /// The headers in which the service receives claims. Empty on cached routes.
    pub headers_from_claims: Vec<(HeaderName, HeaderClaim)>,
    /// Which other origins may use it; `None` for those of all paths.
    pub cors: Option<Arc<cors::Policy>>,
    /// The position of the service; `None` for the api listener of the backend.
    pub service: Option<usize>,
    /// The `Path` of a cookie for requests of this route: the literal beginning of its paths.
    pub cookie_path: String,
    /// The protocol that connections may switch to.
    pub upgrade: Option<Upgrade>,
    /// The part of its name in keys of the cache: another one if a response that was stored earlier is not for it.
    pub cached_as: Arc<str>,
    /// What it was made of, to compare it with routes of another configuration.
    settings: Box<Settings>,
    path: Pattern,
    aliases: Vec<Pattern>,
    forwarding: Forwarding,
    encoded: Encoded,
    query: Query,
    requirements: Requirements,
}

impl TryFrom<&Settings> for Route {
    type Error = InvalidRoute;

    /// Like [`Route::new`], but returns only the first error.
    fn try_from(settings: &Settings) -> Result<Self, InvalidRoute> {
        let no_path = || InvalidRoute { field: "path", value: None, reason: "is missing".to_owned() };
        Self::new(settings).map_err(|errors| errors.into_iter().next().unwrap_or_else(no_path))
    }
}

impl Route {
    /// Validates `settings`.
    ///
    /// # Errors
    /// All errors in `settings`, at least one.
    pub fn new(settings: &Settings) -> Result<Self, Vec<InvalidRoute>> {
        let mut errors = Errors::default();
        let path = errors.pattern("path", &settings.path);
        let mut aliases = Vec::new();
        for text in &settings.aliases {
            let Some(alias) = errors.pattern("aliases", text) else { continue };
            if path.as_ref().is_some_and(|path| !alias.has_names_of(path)) {
                errors.push("aliases", Some(text), "does not have the names of the path in the same order");
            }
            aliases.push(alias);
        }
        if settings.encoded == Encoded::Preserve && path.as_ref().is_some_and(|path| !path.has_tail()) {
            errors.push("encoded", None, "can be \"preserve\" only with a {*name} in the path");
        }
        let forwarding = errors.forwarding(settings, path.as_ref());
        let methods = errors.methods(&settings.methods);
        let requirements = Requirements::new(settings, &methods, &mut errors);
        let names = if let Query::Names(names) = &settings.query { names.as_slice() } else { &[] };
        errors.parameters("query", names);
        let has_get = methods.contains(&Method::GET);
        if settings.cache == Some(true) && !has_get {
            errors.push("cache", None, "can be true only with GET among the methods");
        }
        let cached = settings.cache.unwrap_or(settings.shared && has_get && !settings.fan_out);
        errors.limit(settings, path.as_ref(), cached);
        if settings.secret_path && path.as_ref().is_some_and(|path| path.before_name().is_none()) {
            errors.push("secret_path", None, "can be true only with a {name} behind a literal segment");
        }
        fan_out::check(settings, has_get, cached, names, &mut errors);
        if settings.tickets {
            if settings.public {
                errors.push("tickets", None, "cannot be true on a public route, whose requests have no token");
            }
            if !has_get {
                errors.push("tickets", None, "can be true only with GET among the methods");
            }
            if names.iter().any(|name| name == "ticket") {
                errors.push("query", Some("ticket"), "is the ticket itself, which is not forwarded");
            }
        }
        if settings.stream && cached {
            errors.push("stream", None, "cannot be true on a cached route: set cache to false");
        }
        if let Some(key) = &settings.purge_key {
            if !cached {
                errors.push("purge_key", None, "can be given only on a cached route");
            }
            if CanonicalPath::parse(key).is_err() {
                errors.push("purge_key", Some(key), "is not a canonical path");
            }
        }
        errors.upgrade(settings.upgrade, has_get, cached);
        if !settings.headers_from_claims.is_empty() {
            if settings.public {
                errors.push(
                    "headers_from_claims",
                    None,
                    "cannot be given on a public route, whose requests have no token",
                );
            }
            if cached {
                let reason =
                    "cannot be given on a cached route, since a response may depend on them: set cache to false";
                errors.push("headers_from_claims", None, reason);
            }
        }
        let mut vary = Vec::new();
        for name in &settings.vary {
            match name.parse::<HeaderName>() {
                Ok(name) => vary.push(name),
                Err(_) => errors.push("vary", Some(name), "is not a header name"),
            }
        }
        let compress = errors.encodings(&settings.compress);
        match path {
            Some(path) if errors.0.is_empty() => Ok(Self {
                name: settings.shown_name().into(),
                cached_as: settings.shown_name().into(),
                settings: Box::new(settings.with_defaults(cached)),
                hosts: settings.hosts.clone(),
                allow: methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", "),
                methods,
                public: settings.public,
                shared: settings.shared,
                cached,
                stream: settings.stream,
                fan_out: settings.fan_out,
                is_service_cached_by_default: cached && settings.cache.is_none() && settings.service.is_some(),
                tickets: settings.tickets,
                vary: vary.into(),
                compress,
                secret_path: settings.secret_path,
                host: settings.host,
                bounds: settings.bounds.clone(),
                request_headers: settings.request_headers.clone(),
                response_headers: settings.response_headers.clone(),
                limiter: settings.bounds.limit.as_ref().map(|limit| Limiter::of_route(limit.quota)),
                headers_from_claims: settings.headers_from_claims.clone(),
                cors: settings.cors.clone().map(Arc::new),
                service: settings.service,
                cookie_path: path.common_prefix(&aliases),
                upgrade: settings.upgrade,
                path,
                aliases,
                forwarding,
                encoded: settings.encoded,
                query: settings.query.clone(),
                requirements,
            }),
            _ => Err(errors.0),
        }
    }

    /// Whether one of the methods requires scopes.
    pub fn has_requirement(&self) -> bool {
        !self.requirements.is_empty()
    }

    /// What a request with `method` requires of its principal.
    pub fn requirement(&self, method: &Method) -> Option<&Requirement> {
        self.requirements.of(method)
    }

    /// Whether it is for requests of `host`.
    fn has_host(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|own| own == host)
    }

    /// The alias at a position; without one, the path.
    fn pattern(&self, alias: Option<usize>) -> Option<&Pattern> {
        alias.map_or(Some(&self.path), |alias| self.aliases.get(alias))
    }

    /// The value of `X-Forwarded-Prefix`, if a prefix is removed from the path.
    pub fn forwarded_prefix(&self) -> Option<&HeaderValue> {
        self.forwarding.prefix()
    }

    /// The prefix of forwarded paths, and the prefix of the route's path that clients have in its place, if they differ
    /// in nothing else.
    pub fn prefixes(&self) -> Option<(&str, &str)> {
        self.forwarding.prefixes()
    }

    /// Whether `path`, which `pattern` matches, has preserved segments only where this route allows them.
    fn preserves(&self, pattern: &Pattern, path: &CanonicalPath<'_>) -> bool {
        let Some(preserved) = path.preserved() else { return true };
        let is_in_tail = |tail: &str| path.as_str().len() - tail.len() <= preserved + 1;
        self.encoded == Encoded::Preserve && pattern.tail(path).is_some_and(is_in_tail)
    }

    /// The path that `path` is forwarded as. `alias` is which alias matches it; `None` is the path of the route. `None`
    /// if its tail is too long, or it has preserved segments that the route does not allow.
    fn forwarded_path<'a>(&self, alias: Option<usize>, path: &CanonicalPath<'a>) -> Option<Cow<'a, str>> {
        let pattern = self.pattern(alias)?;
        if !pattern.has_bounded_tail(path) || !self.preserves(pattern, path) {
            return None;
        }
        self.forwarding.apply(&self.path, alias.map(|_| pattern), path)
    }

    /// The path whose purge purges its cached responses; `None` if that is the path of each.
    fn own_purge_key(&self) -> Option<&str> {
        self.settings.purge_key.as_deref()
    }

    /// `path` with the declared parameters of `query`, in the order in which they were sent.
    fn target(&self, path: Cow<'_, str>, query: Option<&str>) -> String {
        let mut target = path.into_owned();
        let names = match (&self.query, query) {
            (Query::Names(names), _) => names,
            (Query::All, None) => return target,
            (Query::All, Some(query)) => {
                let taken = self.fan_out.then(|| take_parameter(query, LAST_EVENT_ID)).flatten();
                if let Some(query) = taken.as_ref().map_or(Some(query), |taken| taken.rest.as_deref()) {
                    target.reserve(query.len() + 1);
                    target.push('?');
                    target.push_str(query);
                }
                return target;
            }
        };
        let pairs = query.filter(|_| !names.is_empty()).into_iter().flat_map(|query| query.split('&'));
        let declared = pairs.filter(|pair| {
            let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
            names.iter().any(|declared| declared == name)
        });
        for (index, pair) in declared.enumerate() {
            target.push(if index == 0 { '?' } else { '&' });
            target.push_str(pair);
        }
        target
    }
}

#[cfg(test)]
mod tests;
