//! The routes in their order, and the match of a request.

use std::borrow::Cow;
use std::sync::Arc;

use http::Method;

use super::Route;
use crate::framing::CanonicalPath;

/// The result of a match.
#[derive(Clone, Debug)]
pub struct Matched {
    /// The matching route.
    pub route: Arc<Route>,
    /// The forwarded target in origin form: the path, and the declared query parameters if any were sent.
    pub target: String,
}

/// Why no route matches a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoMatch {
    /// No route has this path.
    Path,
    /// The route with this path does not accept the method.
    Method {
        /// The value of `Allow`.
        allow: String,
    },
}

/// The routes in the order of the configuration. The first with a matching path decides.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    pub(super) routes: Vec<Arc<Route>>,
    pub(super) strip_prefix: Vec<String>,
}

impl RouteTable {
    /// A table of `routes`. The first of `strip_prefix` (canonical paths without a trailing slash) that a path begins
    /// with is removed from it once.
    pub fn new(routes: Vec<Arc<Route>>, strip_prefix: Vec<String>) -> Self {
        Self { routes, strip_prefix }
    }

    /// `path` without its configured prefix, if any.
    pub fn strip<'a>(&self, path: CanonicalPath<'a>) -> CanonicalPath<'a> {
        self.strip_prefix.iter().find_map(|prefix| path.without(prefix)).unwrap_or(path)
    }

    /// Finds the route of a request by a principal for whom `is_allowed` decides which routes exist.
    ///
    /// # Errors
    /// [`NoMatch`] if no route matches. A route that is not allowed yields [`NoMatch::Path`] for every method, so that a
    /// response does not reveal it. Later routes are not tried then.
    pub fn find(
        &self,
        is_allowed: impl Fn(&Route) -> bool,
        method: &Method,
        path: &CanonicalPath<'_>,
        query: Option<&str>,
    ) -> Result<Matched, NoMatch> {
        let found = self.routes.iter().find_map(|route| Some((route, route.forwarded_path(path)?)));
        let (route, path) = found.filter(|(route, _)| is_allowed(route)).ok_or(NoMatch::Path)?;
        if !route.methods.contains(method) {
            return Err(NoMatch::Method { allow: route.allow.clone() });
        }
        Ok(Matched { route: Arc::clone(route), target: route.target(path, query) })
    }

    /// The path that `path` is forwarded as, whatever the method: aliases and prefixes are resolved. `None` if no route
    /// matches.
    pub fn forwarded_path<'a>(&self, path: CanonicalPath<'a>) -> Option<Cow<'a, str>> {
        let path = self.strip(path);
        self.routes.iter().find_map(|route| route.forwarded_path(&path))
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

    /// The routes in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }
}
