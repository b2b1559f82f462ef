//! `[[route]]` as it is written, before it is validated.

use http::HeaderName;

use super::bounds::Bounds;
use super::header_rules::HeaderRules;
use crate::cors;
use crate::scope::Requirement;

/// One `[[route]]` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The name in metrics and logs; the path by default.
    pub name: Option<String>,
    /// The hosts of the requests, in the form of [`normal_host`](crate::framing::normal_host); empty for every host.
    pub hosts: Vec<String>,
    /// The methods that are forwarded.
    pub methods: Vec<String>,
    /// The path: literal segments, `{name}` for any one segment, and `{*name}` at the end for the rest.
    pub path: String,
    /// Alternative patterns that are forwarded as `path`, with the same names in the same order.
    pub aliases: Vec<String>,
    /// A prefix of `path` that is removed before it is forwarded.
    pub strip_prefix: Option<String>,
    /// The path that is forwarded instead, with names of `path`.
    pub rewrite: Option<String>,
    /// Whether the tail of the path may have encoded slashes and the like.
    pub encoded: Encoded,
    /// The query parameters that are forwarded.
    pub query: Query,
    /// Whether requests need no token.
    pub public: bool,
    /// What every method requires that `require_methods` does not list.
    pub require: Option<Requirement>,
    /// What single methods require instead. A HEAD that is not listed requires what a GET does.
    pub require_methods: Vec<(String, Requirement)>,
    /// The headers in which the service receives claims.
    pub headers_from_claims: Vec<(HeaderName, HeaderClaim)>,
    /// Whether every principal gets the same response.
    pub shared: bool,
    /// Whether responses to GET and HEAD may be cached; the value of `shared` by default.
    pub cache: Option<bool>,
    /// The path whose purge also purges the cached responses of this route (a surrogate key, or cache tag); the forwarded
    /// path of each response by default.
    pub purge_key: Option<String>,
    /// Whether every response without a length may never end, as event streams always do.
    pub stream: bool,
    /// Whether all requests of a target share one event stream.
    pub fan_out: bool,
    /// Whether a GET may have a ticket in its query instead of a token.
    pub tickets: bool,
    /// The request fields that cached responses may vary by (RFC 9111, section 4.1).
    pub vary: Vec<String>,
    /// The content codings in which responses are sent, in the order of preference; empty for none.
    pub compress: Vec<String>,
    /// Whether the path has a secret, such as a key: logs then have the pattern instead.
    pub secret_path: bool,
    /// The `Host` of forwarded requests.
    pub host: Host,
    /// What it accepts besides the head.
    pub bounds: Bounds,
    /// The rules for fields of requests to the service.
    pub request_headers: HeaderRules,
    /// The rules for fields of responses of the service.
    pub response_headers: HeaderRules,
    /// Which other origins may use it; `None` for those of all paths.
    pub cors: Option<cors::Policy>,
    /// The position of the service; `None` for the api listener of the backend.
    pub service: Option<usize>,
    /// The name of the service, by which the routes of two configurations are compared.
    pub service_name: Option<String>,
    /// The protocol that connections may switch to.
    pub upgrade: Option<Upgrade>,
}

impl Settings {
    /// The name; by default the path.
    pub fn shown_name(&self) -> &str {
        self.name.as_ref().unwrap_or(&self.path)
    }

    /// The same with its defaults written out, so that it equals those where they were. `cached` is whether responses may
    /// be cached.
    pub(super) fn with_defaults(&self, cached: bool) -> Self {
        Self { name: Some(self.shown_name().to_owned()), cache: Some(cached), ..self.clone() }
    }

    /// What remains equal if nothing has changed but positions in the configuration.
    pub(super) fn meaning(&self) -> Self {
        Self { service: None, ..self.clone() }
    }

    /// What decides which requests are admitted, and to which service.
    pub(super) fn admission(&self) -> Self {
        let networks = self.bounds.networks.clone();
        Self {
            service: None,
            bounds: Bounds { networks, ..Bounds::default() },
            headers_from_claims: Vec::new(),
            shared: false,
            cache: None,
            purge_key: None,
            fan_out: false,
            vary: Vec::new(),
            compress: Vec::new(),
            secret_path: false,
            host: Host::default(),
            request_headers: HeaderRules::default(),
            response_headers: HeaderRules::default(),
            cors: None,
            ..self.clone()
        }
    }
}

/// The query parameters of a route that are forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Those with these names; all others are dropped.
    Names(Vec<String>),
    /// The whole query as it was sent.
    All,
}

impl Default for Query {
    fn default() -> Self {
        Self::Names(Vec::new())
    }
}

/// A protocol that an HTTP/1.1 connection may switch to (RFC 9110, section 7.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// RFC 6455.
    WebSocket,
}

/// What happens to paths with `;`, `%2F` and escapes of delimiters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoded {
    /// They are refused.
    #[default]
    Refuse,
    /// In the tail they are forwarded as they were sent.
    Preserve,
}

/// What of the principal a header of a forwarded request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderClaim {
    /// The effective scopes, with one space between them.
    Scope,
    /// The identity, as in `X-Auth-Identity`.
    Identity,
}

/// The `Host` of a forwarded request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Host {
    /// The configured address of the upstream; `localhost` for a Unix socket.
    #[default]
    Upstream,
    /// The host of the client's request.
    Client,
}
