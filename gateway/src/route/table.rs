//! The routes in their order, and the match of a request.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderName, Method};

use super::index::Index;
use super::secret_path::SecretPaths;
use super::{Encoded, Route};
use crate::framing::CanonicalPath;

/// What a request is matched by.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The host without its port, in the form of [`normal_host`](crate::framing::normal_host).
    pub host: &'a str,
    /// The method.
    pub method: &'a Method,
    /// The path, without a prefix that [`RouteTable::strip`] removes.
    pub path: CanonicalPath<'a>,
    /// The query, as sent.
    pub query: Option<&'a str>,
}

/// The result of a match.
#[derive(Clone, Debug)]
pub struct Matched {
    /// The matching route.
    pub route: Arc<Route>,
    /// The forwarded target in origin form: the path, and the declared query parameters if any were sent.
    pub target: String,
}

impl Matched {
    /// The forwarded path.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// The path whose purge purges the cached response.
    pub fn purge_key(&self) -> &str {
        self.route.own_purge_key().unwrap_or(&self.target)
    }
}

/// Why no route matches a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoMatch {
    /// No route has this host and path.
    Path,
    /// The route with this host and path does not accept the method.
    Method {
        /// The value of `Allow`.
        allow: String,
    },
}

/// The routes in the order of the configuration. The first with a matching host and path decides, whatever the method.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    pub(super) routes: Vec<Arc<Route>>,
    pub(super) strip_prefix: Vec<String>,
    index: Index,
    has_public: bool,
    has_tickets: bool,
    has_preserving: bool,
    has_cors: bool,
    claim_headers: Vec<HeaderName>,
    secret_paths: SecretPaths,
}

impl RouteTable {
    /// A table of `routes`. The first of `strip_prefix` (canonical paths without a trailing slash) that a path begins
    /// with is removed from it once.
    pub fn new(routes: Vec<Arc<Route>>, strip_prefix: Vec<String>) -> Self {
        let index = Index::new(&routes);
        let has_public = routes.iter().any(|route| route.public);
        let has_tickets = routes.iter().any(|route| route.tickets);
        let has_preserving = routes.iter().any(|route| route.encoded == Encoded::Preserve);
        let has_cors = routes.iter().any(|route| route.cors.is_some());
        let mut claim_headers = Vec::new();
        for (name, _) in routes.iter().flat_map(|route| &route.headers_from_claims) {
            if !claim_headers.contains(name) {
                claim_headers.push(name.clone());
            }
        }
        let secret = routes.iter().filter(|route| route.secret_path);
        let secret_paths = SecretPaths::new(secret.flat_map(|route| route.patterns()));
        Self {
            routes,
            strip_prefix,
            index,
            has_public,
            has_tickets,
            has_preserving,
            has_cors,
            claim_headers,
            secret_paths,
        }
    }

    /// `path` without its configured prefix, if any.
    pub fn strip<'a>(&self, path: CanonicalPath<'a>) -> CanonicalPath<'a> {
        self.strip_prefix.iter().find_map(|prefix| path.without(prefix)).unwrap_or(path)
    }

    /// The `Path` of a cookie for requests of `route`. With prefixes that are stripped, it is that of all requests.
    pub fn cookie_path<'a>(&self, route: &'a Route) -> &'a str {
        if self.strip_prefix.is_empty() { &route.cookie_path } else { "/" }
    }

    /// Finds the route of a request by a principal for whom `is_allowed` decides which routes exist.
    ///
    /// # Errors
    /// [`NoMatch`] if no route matches. A route that is not allowed yields [`NoMatch::Path`] for every method, so that a
    /// response does not reveal it. Later routes are not tried then, and neither if the tail of the path is too long.
    pub fn find(&self, is_allowed: impl Fn(&Route) -> bool, request: Request<'_>) -> Result<Matched, NoMatch> {
        let (route, alias) =
            self.first(request.host, &request.path).filter(|(route, _)| is_allowed(route)).ok_or(NoMatch::Path)?;
        let path = route.forwarded_path(alias, &request.path).ok_or(NoMatch::Path)?;
        if !route.methods.contains(request.method) {
            return Err(NoMatch::Method { allow: route.allow.clone() });
        }
        Ok(Matched { route: Arc::clone(route), target: route.target(path, request.query) })
    }

    /// Finds the route of a request that needs no token: `None` unless the first route that matches is public and has
    /// the method.
    pub fn find_public(&self, request: Request<'_>) -> Option<Matched> {
        if !self.has_public {
            return None;
        }
        self.find(|route| route.public, request).ok()
    }

    /// The route that a request with `host` and `path` reaches, whatever its method, if it has a CORS policy of its own.
    pub fn find_cors(&self, host: &str, path: &CanonicalPath<'_>) -> Option<&Arc<Route>> {
        if !self.has_cors {
            return None;
        }
        let (route, alias) = self.first(host, path)?;
        Some(route).filter(|route| route.cors.is_some() && route.forwarded_path(alias, path).is_some())
    }

    /// Whether a route accepts the preserved segments of `path`, which is not stripped yet.
    pub fn preserves(&self, host: &str, path: CanonicalPath<'_>) -> bool {
        self.has_preserving && self.first(host, &self.strip(path)).is_some()
    }

    /// The first route that matches, and which of its aliases does. `None` if `path` has preserved segments where the
    /// route does not allow them, or if another route matches first what a program may read instead: the service would
    /// receive what that route is for.
    fn first(&self, host: &str, path: &CanonicalPath<'_>) -> Option<(&Arc<Route>, Option<usize>)> {
        let (position, alias) = self.index.find(&self.routes, host, path)?;
        let route = self.routes.get(position)?;
        if path.preserved().is_some() {
            let is_same = |reading: &CanonicalPath<'_>| {
                self.index.find(&self.routes, host, reading).is_some_and(|(other, _)| other == position)
            };
            let is_unambiguous = path
                .readings()
                .iter()
                .all(|reading| CanonicalPath::parse_preserving(reading).is_ok_and(|reading| is_same(&reading)));
            if !is_unambiguous || !route.preserves(route.pattern(alias)?, path) {
                return None;
            }
        }
        Some((route, alias))
    }

    /// The purge keys of the responses that clients request as `path`, one for each route that matches it, for any host
    /// and method: the `purge_key` of the route, or else the forwarded path, for which aliases, prefixes and rewritten
    /// paths are resolved.
    pub fn purge_keys<'a>(&'a self, path: CanonicalPath<'a>) -> impl Iterator<Item = Cow<'a, str>> {
        let path = self.strip(path);
        self.routes.iter().filter_map(move |route| {
            let alias = if route.path.matches(&path) {
                None
            } else {
                Some(route.aliases.iter().position(|alias| alias.matches(&path))?)
            };
            let forwarded = route.forwarded_path(alias, &path)?;
            Some(route.own_purge_key().map_or(forwarded, Cow::Borrowed))
        })
    }

    /// Returns a canonical path for the logs, without the secrets of routes with `secret_path`. They are redacted for
    /// every host and method.
    pub fn redacted_path<'a>(&self, path: &'a str) -> Cow<'a, str> {
        self.secret_paths.redact(path, |path| self.strip(path))
    }

    /// The methods of all routes, each once.
    pub fn methods(&self) -> Vec<&Method> {
        let mut methods: Vec<&Method> = Vec::new();
        for method in self.routes.iter().flat_map(|route| &route.methods) {
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        methods
    }

    /// The headers in which any route forwards claims, each once. No request of a client may have them.
    pub fn claim_headers(&self) -> &[HeaderName] {
        &self.claim_headers
    }

    /// Whether a route accepts tickets.
    pub fn has_tickets(&self) -> bool {
        self.has_tickets
    }

    /// Whether every route has a service, so that none needs the api listener. False without routes.
    pub fn has_only_services(&self) -> bool {
        !self.routes.is_empty() && self.routes.iter().all(|route| route.service.is_some())
    }

    /// The routes in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }
}
