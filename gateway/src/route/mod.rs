//! Which requests are forwarded, and as what: `(method, path)` is matched once, on the one
//! canonical form, and what the match gives serves the forwarded request and the label.
//!
//! Pure: it knows neither pingora nor a clock.

mod advice;
mod pattern;

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderName, Method};
use serde::Deserialize;

use crate::framing::{CanonicalPath, is_unreserved};

pub use advice::Advice;
pub use pattern::{NotAPattern, Pattern};

/// The name of the login route in metrics and logs.
pub const LOGIN: &str = "auth";
/// The name of the logout route in metrics and logs.
pub const LOGOUT: &str = "logout";
/// What metrics and logs call a request that no route has.
pub const NONE: &str = "none";
/// The names that no configured route may have.
pub const RESERVED_NAMES: [&str; 3] = [LOGIN, LOGOUT, NONE];

/// One `[[route]]` of the configuration.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The name in metrics and logs; the path where none is given.
    pub name: Option<String>,
    /// The methods that are forwarded.
    pub methods: Vec<String>,
    /// The path: literal segments, and `{name}` for any one segment.
    pub path: String,
    /// Other spellings that are taken for `path`, with the same names in the same order.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The query names that are forwarded; all others are dropped.
    #[serde(default)]
    pub query: Vec<String>,
    /// Whether every principal gets the same answer.
    #[serde(default)]
    pub shared: bool,
    /// Whether answers to GET and HEAD may be kept and given again; as `shared` where not given.
    pub cache: Option<bool>,
    /// The request fields that an answer which is kept may vary by (RFC 9111, section 4.1).
    #[serde(default)]
    pub vary: Vec<String>,
    /// The `Host` that the service sees.
    #[serde(default)]
    pub host: Host,
}

/// The `Host` of a forwarded request.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Host {
    /// The address of the upstream, as it is configured; `localhost` for a Unix socket.
    #[default]
    Upstream,
    /// The host that the client asked for, which is one of ours.
    Client,
}

/// One thing for which a route cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct NotARoute {
    /// The field of [`Settings`].
    pub field: &'static str,
    /// The wrong one of its values, where there is one. It is not in the message, which decides
    /// nothing about what may be shown.
    pub value: Option<String>,
    /// What is wrong with it.
    pub reason: String,
}

/// One route, ready to match.
#[derive(Debug)]
pub struct Route {
    /// The name in metrics and logs, which each request that it takes shares.
    pub name: Arc<str>,
    /// The methods that are forwarded.
    pub methods: Vec<Method>,
    /// What stands in the `Allow` header: the methods, joined.
    pub allow: String,
    /// Whether every principal gets the same answer.
    pub shared: bool,
    /// Whether answers to GET and HEAD may be kept.
    pub cached: bool,
    /// The request fields that a kept answer may vary by.
    pub vary: Arc<[HeaderName]>,
    /// The `Host` that the service sees.
    pub host: Host,
    path: Pattern,
    aliases: Vec<Pattern>,
    query: Vec<String>,
}

/// What a request is forwarded as.
#[derive(Clone, Debug)]
pub struct Matched {
    /// The route that took it.
    pub route: Arc<Route>,
    /// The path and, where any declared name was sent, the query: in origin form.
    pub target: String,
}

/// Why no route takes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoMatch {
    /// No route has the path.
    Path,
    /// A route has the path, but not with this method; these it has.
    Method {
        /// The value of `Allow`.
        allow: String,
    },
}

impl TryFrom<&Settings> for Route {
    type Error = NotARoute;

    /// [`Route::new`], with the first of the errors.
    fn try_from(settings: &Settings) -> Result<Self, NotARoute> {
        let no_path = || NotARoute { field: "path", value: None, reason: "is missing".to_owned() };
        Self::new(settings).map_err(|wrong| wrong.into_iter().next().unwrap_or_else(no_path))
    }
}

/// The errors of one route.
#[derive(Default)]
struct Wrong(Vec<NotARoute>);

impl Wrong {
    fn note(&mut self, field: &'static str, value: Option<&str>, reason: impl Into<String>) {
        self.0.push(NotARoute { field, value: value.map(str::to_owned), reason: reason.into() });
    }

    fn pattern(&mut self, field: &'static str, text: &str) -> Option<Pattern> {
        Pattern::parse(text).map_err(|error| self.note(field, Some(text), error.to_string())).ok()
    }

    fn methods(&mut self, texts: &[String]) -> Vec<Method> {
        let mut methods = Vec::new();
        for text in texts {
            match Method::from_bytes(text.as_bytes()) {
                Ok(Method::CONNECT | Method::TRACE) | Err(_) => {
                    self.note("methods", Some(text), "cannot be forwarded");
                }
                Ok(method) if methods.contains(&method) => self.note("methods", Some(text), "appears twice"),
                Ok(method) => methods.push(method),
            }
        }
        if texts.is_empty() {
            self.note("methods", None, "must have at least one");
        }
        methods
    }
}

impl Route {
    /// The route that `settings` describe.
    ///
    /// # Errors
    /// Everything that is wrong with them, at least one thing.
    pub fn new(settings: &Settings) -> Result<Self, Vec<NotARoute>> {
        let mut wrong = Wrong::default();
        let path = wrong.pattern("path", &settings.path);
        let mut aliases = Vec::new();
        for text in &settings.aliases {
            let Some(alias) = wrong.pattern("aliases", text) else { continue };
            if path.as_ref().is_some_and(|path| !alias.binds_like(path)) {
                wrong.note("aliases", Some(text), "does not have the names of the path in the same order");
            }
            aliases.push(alias);
        }
        let methods = wrong.methods(&settings.methods);
        for name in &settings.query {
            if name.is_empty() || !name.bytes().all(is_unreserved) {
                wrong.note("query", Some(name), "has a character outside A-Z a-z 0-9 - . _ ~");
            }
        }
        let takes_get = methods.contains(&Method::GET);
        if settings.cache == Some(true) && !takes_get {
            wrong.note("cache", None, "can be true only with GET among the methods");
        }
        let mut vary = Vec::new();
        for name in &settings.vary {
            match name.parse::<HeaderName>() {
                Ok(name) => vary.push(name),
                Err(_) => wrong.note("vary", Some(name), "is no name of a header field"),
            }
        }
        match path {
            Some(path) if wrong.0.is_empty() => Ok(Self {
                name: settings.name.as_ref().unwrap_or(&settings.path).as_str().into(),
                allow: methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", "),
                methods,
                shared: settings.shared,
                cached: settings.cache.unwrap_or(settings.shared && takes_get),
                vary: vary.into(),
                host: settings.host,
                path,
                aliases,
                query: settings.query.clone(),
            }),
            _ => Err(wrong.0),
        }
    }

    /// The path this route forwards `path` as, where it takes it.
    fn forwarded<'a>(&self, path: &CanonicalPath<'a>) -> Option<Cow<'a, str>> {
        if self.path.matches(path) {
            return Some(Cow::Borrowed(path.as_str()));
        }
        let alias = self.aliases.iter().find(|alias| alias.matches(path))?;
        Some(Cow::Owned(self.path.fill(&alias.bound(path))))
    }

    /// `path` with the declared names of `query`, in the order in which they were sent.
    fn target(&self, path: Cow<'_, str>, query: Option<&str>) -> String {
        let mut target = path.into_owned();
        let pairs = query.filter(|_| !self.query.is_empty()).into_iter().flat_map(|query| query.split('&'));
        let declared = pairs.filter(|pair| {
            let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
            self.query.iter().any(|declared| declared == name)
        });
        for (place, pair) in declared.enumerate() {
            target.push(if place == 0 { '?' } else { '&' });
            target.push_str(pair);
        }
        target
    }
}

/// The routes, in the order of the configuration: the first that has the path decides.
#[derive(Clone, Debug, Default)]
pub struct Table {
    routes: Vec<Arc<Route>>,
    strip_prefix: Vec<String>,
}

impl Table {
    /// A table of `routes`. Each of `strip_prefix` (canonical, without a trailing slash) is
    /// taken off once where a path begins with it.
    pub fn new(routes: Vec<Arc<Route>>, strip_prefix: Vec<String>) -> Self {
        Self { routes, strip_prefix }
    }

    /// `path` without the configured prefix, where it has one.
    pub fn strip<'a>(&self, path: CanonicalPath<'a>) -> CanonicalPath<'a> {
        self.strip_prefix.iter().find_map(|prefix| path.without(prefix)).unwrap_or(path)
    }

    /// Finds the route of a request by somebody to whom only the routes that `may_use` allows exist.
    ///
    /// # Errors
    /// [`NoMatch`] where no route takes the request. One that is not allowed is told as no path,
    /// whatever the method, and no later route takes its place.
    pub fn find(
        &self,
        may_use: impl Fn(&Route) -> bool,
        method: &Method,
        path: &CanonicalPath<'_>,
        query: Option<&str>,
    ) -> Result<Matched, NoMatch> {
        let found = self.routes.iter().find_map(|route| Some((route, route.forwarded(path)?)));
        let (route, path) = found.filter(|(route, _)| may_use(route)).ok_or(NoMatch::Path)?;
        if !route.methods.contains(method) {
            return Err(NoMatch::Method { allow: route.allow.clone() });
        }
        Ok(Matched { route: Arc::clone(route), target: route.target(path, query) })
    }

    /// What `path` is forwarded as by whichever method: an alias and a path with a prefix that is
    /// stripped stand for another. `None` where no route has it.
    pub fn forwarded<'a>(&self, path: CanonicalPath<'a>) -> Option<Cow<'a, str>> {
        let path = self.strip(path);
        self.routes.iter().find_map(|route| route.forwarded(&path))
    }

    /// Every method that any route takes, each once.
    pub fn methods(&self) -> Vec<&Method> {
        let mut methods: Vec<&Method> = Vec::new();
        for method in self.routes.iter().flat_map(|route| &route.methods) {
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        methods
    }

    /// The routes, for what is set up once for each.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }
}

/// The routes that ship: the holodules, and nothing else.
pub fn shipped() -> Vec<Settings> {
    vec![Settings {
        name: Some("holodules".to_owned()),
        methods: vec!["GET".to_owned(), "HEAD".to_owned()],
        path: "/holodules/{day}".to_owned(),
        aliases: vec!["/Holodules/{day}".to_owned()],
        query: Vec::new(),
        shared: true,
        cache: None,
        vary: Vec::new(),
        host: Host::Upstream,
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut settings = shipped();
        settings.push(Settings {
            name: None,
            methods: vec!["POST".to_owned()],
            path: "/notes".to_owned(),
            aliases: Vec::new(),
            query: vec!["page".to_owned()],
            shared: false,
            cache: None,
            vary: Vec::new(),
            host: Host::Upstream,
        });
        let routes = settings.iter().map(|settings| Arc::new(Route::try_from(settings).unwrap())).collect();
        Table::new(routes, vec!["/holoapi".to_owned()])
    }

    fn target(method: &Method, path: &str, query: Option<&str>) -> Result<String, NoMatch> {
        let table = table();
        let path = table.strip(CanonicalPath::parse(path).unwrap());
        table.find(|_| true, method, &path, query).map(|matched| matched.target)
    }

    #[test]
    fn the_originals_spelling_and_the_old_prefix_are_the_same_route() {
        for path in ["/holodules/20201209", "/Holodules/20201209", "/holoapi/holodules/20201209"] {
            assert_eq!(target(&Method::GET, path, None).as_deref(), Ok("/holodules/20201209"), "{path}");
        }
    }

    #[test]
    fn every_spelling_is_forwarded_as_the_path_of_its_route() {
        let table = table();
        let forwarded = |path| table.forwarded(CanonicalPath::parse(path).unwrap()).map(Cow::into_owned);
        for path in ["/holodules/1", "/Holodules/1", "/holoapi/holodules/1", "/holoapi/Holodules/1"] {
            assert_eq!(forwarded(path).as_deref(), Some("/holodules/1"), "{path}");
        }
        // Whatever the methods of the route are.
        assert_eq!(forwarded("/notes").as_deref(), Some("/notes"));
        assert_eq!(forwarded("/holoapi/holoapi/notes"), None);
    }

    #[test]
    fn other_paths_are_no_route() {
        let paths = [
            "/",
            "/holodules",
            "/holodules/",
            "/holodules/1/2",
            "/holodules/20201209/",
            "/HOLODULES/1",
            "/holoapi",
            "/holoapix/holodules/1",
            "/holoapi/holoapi/holodules/1",
            "/metrics",
            "/users",
        ];
        for path in paths {
            assert_eq!(target(&Method::GET, path, None), Err(NoMatch::Path), "{path}");
        }
    }

    #[test]
    fn other_methods_are_told_what_is_allowed() {
        let allow = "GET, HEAD".to_owned();
        assert_eq!(target(&Method::POST, "/holodules/1", None), Err(NoMatch::Method { allow }));
    }

    #[test]
    fn a_route_that_may_not_be_used_is_no_route_by_any_method() {
        let table = table();
        let path = CanonicalPath::parse("/holodules/1").unwrap();
        for method in [Method::GET, Method::POST] {
            let find = |name: &str| table.find(|route| *route.name == *name, &method, &path, None);
            assert_eq!(find("/notes").unwrap_err(), NoMatch::Path);
            assert_ne!(find("holodules").map(|matched| matched.target), Err(NoMatch::Path));
        }
    }

    #[test]
    fn only_declared_query_names_are_forwarded() {
        assert_eq!(target(&Method::GET, "/holodules/1", Some("a=b")).as_deref(), Ok("/holodules/1"));
        let query = Some("page=2&x=1&page&pages=3&PAGE=4");
        assert_eq!(target(&Method::POST, "/notes", query).as_deref(), Ok("/notes?page=2&page"));
    }

    #[test]
    fn routes_that_cannot_be_used_are_refused() {
        let with = |change: fn(&mut Settings)| {
            let mut settings = shipped().remove(0);
            change(&mut settings);
            Route::try_from(&settings)
        };
        let field = |change| with(change).err().map(|error| error.field);
        assert_eq!(field(|s| s.methods.clear()), Some("methods"));
        assert_eq!(field(|s| s.methods.push("TRACE".to_owned())), Some("methods"));
        assert_eq!(field(|s| s.aliases.push("/x".to_owned())), Some("aliases"));
        assert_eq!(field(|s| s.path = "holodules".to_owned()), Some("path"));
        assert_eq!(field(|s| s.query.push("a b".to_owned())), Some("query"));
    }

    #[test]
    fn every_error_of_a_route_is_found() {
        let text = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let settings = Settings {
            name: None,
            methods: text(&["TRACE", "PUT", "PUT"]),
            path: "hush".to_owned(),
            aliases: text(&["/a//b"]),
            query: text(&["a b"]),
            shared: false,
            cache: Some(true),
            vary: text(&["a b"]),
            host: Host::Upstream,
        };
        let wrong = Route::new(&settings).unwrap_err();
        let fields: Vec<_> = wrong.iter().map(|error| error.field).collect();
        assert_eq!(fields, ["path", "aliases", "methods", "methods", "query", "cache", "vary"]);
        assert!(wrong.iter().all(|error| !error.to_string().contains("hush")));
    }
}
