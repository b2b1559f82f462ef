//! The configuration: the file, the environment and `.env`, parsed once into validated settings.
//!
//! The stages declare their settings; this module fills them. All problems are reported together, each with its
//! key. Error messages never contain a secret.

mod acme;
mod cache;
mod certificates;
mod claims;
mod difference;
mod effective;
mod header_rules;
mod host;
mod limits;
mod listener;
mod load;
mod log;
mod ops;
mod reloaded;
mod require;
mod route_bounds;
mod route_cors;
mod route_tables;
mod routes;
mod section;
mod service;
mod service_balance;
mod service_tls;
mod stream;
mod token;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use holodule_settings::{Environment, Problem, Problems, Secret, Values};
use holodule_settings::{Files, Source, shown};
use http::HeaderValue;

pub use difference::{Difference, Digests, Entries, differences_of_contents};
use host::{NOT_A_HOST, is_host_name, normal, read_host_names};
pub use listener::MAX_REDIRECT_CONNECTIONS;
pub use ops::ops_address;
use ops::parse_socket_address;
pub use reloaded::RELOADED;
use route_tables::{read_routes, read_services_and_routes};
pub use routes::StaticTokenNames;
pub use service::{HealthCheck, Service};
pub use stream::StreamSettings;
pub use token::EVERY_ROUTE;

use crate::client::Proxies;
use crate::cors::Origins;
use crate::framing;
use crate::limit;
use crate::revocation::{self, WhenStale};
use crate::route::RouteTable;
use crate::tls::Identity;
use crate::token::{Keys, StaticTokens};
use crate::upstream::{self, Address};

/// The environment variables that hold secrets: the key of the external account of ACME, the token key in its short and
/// its long form, and the fields of requests to the collector of traces.
const SECRET_VARIABLES: [&str; 4] = ["ACME_EAB_KEY", "JWT_SECRET_KEY", "KEY", "TELEMETRY_HEADERS"];

/// Everything the gateway needs to run.
pub struct Config {
    /// The address of the public listener.
    pub https_addr: SocketAddr,
    /// The address of the redirect listener, if enabled.
    pub http_addr: Option<SocketAddr>,
    /// The HTTPS port in redirects; `None` for the port of the public listener.
    pub redirect_port: Option<u16>,
    /// The folder of ACME challenges that the redirect listener serves, if any.
    pub acme_challenges: Option<PathBuf>,
    /// The address of the ops listener.
    pub ops_addr: SocketAddr,
    /// Host names, in lower case, that the ops listener accepts for write requests, besides IP addresses and
    /// `localhost`.
    pub ops_allowed_hosts: Vec<String>,
    /// The file to which the bound addresses are written, if any.
    pub announce_file: Option<PathBuf>,
    /// Whether a change of one of `files` reloads the configuration.
    pub watch: bool,
    /// The files that the configuration was read from.
    pub files: Files,
    /// How long a new process may take until it is ready in an upgrade.
    pub upgrade_timeout: Duration,
    /// The certificates of the configuration with their keys; the first is the default.
    pub identities: Vec<Identity>,
    /// The certificates to obtain by ACME, if any. `identities` may then be empty.
    pub acme: Option<crate::acme::Settings>,
    /// Settings of the public listener.
    pub listener: crate::listener::Settings,
    /// The proxies trusted to supply the client address.
    pub proxies: Proxies,
    /// The keys that sign and verify tokens.
    pub keys: Arc<Keys>,
    /// The static tokens, for machines.
    pub static_tokens: StaticTokens,
    /// Settings of the request path as a whole.
    pub flow: FlowSettings,
    /// Rate limits.
    pub limit: limit::Settings,
    /// The routes, which select what is forwarded.
    pub routes: RouteTable,
    /// The services, at the positions that the routes have.
    pub services: Vec<Service>,
    /// The address of the api listener, to which requests are forwarded whose route has no service.
    pub api: Address,
    /// The addresses of the admin listener, for logins and revocations; `None` if both are disabled.
    pub admin: Option<Vec<Address>>,
    /// Whether `POST /auth` issues tokens.
    pub login: bool,
    /// How tokens are checked for revocation; `None` if disabled.
    pub revocation: Option<revocation::Settings>,
    /// Timeouts and limits of upstream connections.
    pub upstream: upstream::Settings,
    /// The response cache; `None` if disabled.
    pub cache: Option<crate::cache::Settings>,
    /// The log.
    pub log: crate::record::log::Settings,
    /// The export of traces; `None` if disabled.
    pub telemetry: Option<holodule_telemetry::Settings>,
    /// The configured values, with their origins.
    pub values: Values,
    /// Problems that do not prevent a start.
    warnings: Vec<String>,
    /// All keys, in the order in which they are read.
    keys_read: Vec<String>,
}

/// The value of `Strict-Transport-Security` for `max_age` in seconds; `None` for 0.
fn hsts(max_age: u64) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("max-age={max_age}")).ok().filter(|_| max_age > 0)
}

/// Settings of the request path that belong to no single stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowSettings {
    /// The value of `Strict-Transport-Security` (RFC 6797, section 6.1.1), if sent.
    pub hsts: Option<HeaderValue>,
    /// Size limits of a request head.
    pub sizes: framing::Settings,
    /// Accepted host names in lower case, besides those of the certificates.
    pub hosts: Vec<String>,
    /// Origins allowed to make cross-origin requests (CORS).
    pub allowed_origins: Origins,
    /// The deadline for the whole body of a login, and for the first byte or the end of a body where none is accepted.
    pub body_timeout: Duration,
    /// The timeout of each read of a request body.
    pub read_timeout: Duration,
    /// Settings of endless responses and WebSocket connections.
    pub stream: StreamSettings,
}

impl Config {
    /// [`Config::read`] for a process that may open `descriptors` files. `files` becomes the files that are read, even if
    /// there are problems.
    fn read_noting(
        file: Option<&Path>,
        environment: Environment,
        descriptors: u64,
        files: &mut Arc<Mutex<Files>>,
    ) -> Result<Self, Problems> {
        let state_directory = acme::state_directory(&environment);
        let mut source = Source::read(file, environment);
        *files = source.files();
        let https_addr = source.parse("https_addr", parse_socket_address);
        let https_addr = https_addr.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8443)));
        let http_addr = source.parse_unless_empty("http_addr", parse_socket_address);
        let redirect_port = listener::read_redirect_port(&mut source);
        let acme_challenges = source.parse_unless_empty("acme_challenges", str::parse::<PathBuf>);
        if acme_challenges.is_some() && http_addr.is_none() {
            source.conflict("acme_challenges", "requires the redirect listener, which http_addr enables");
        }
        let ops_addr = ops::read_address(&mut source);
        let ops_allowed_hosts = read_host_names(&mut source, "ops_allowed_hosts");
        let announce_file = source.parse_unless_empty("announce_file", str::parse::<PathBuf>);
        let watch = source.get_or("watch", false);
        let upgrade_timeout = source.seconds("upgrade_timeout", 60.0, 1.0..=3600.0);
        let acme = acme::read(&mut source, &state_directory, http_addr.is_some());
        let identities = certificates::read(&mut source, acme.is_some());
        let proxies = listener::read_proxies(&mut source);
        let listener = listener::read(&mut source, &proxies);
        let mut flow = read_flow(&mut source, listener.read_timeout);
        flow.hosts.extend(acme.iter().flat_map(|acme| acme.certificates.concat()));
        let limit = limits::read(&mut source);
        let (services, routes) = read_services_and_routes(&mut source);
        if let Some(table) = &routes {
            claims::check_other_uses(&mut source, table, &proxies);
        }
        let keys = token::read_keys(&mut source);
        let static_tokens = token::read_static_tokens(&mut source, routes.as_ref());
        let api = source.parse("upstream.api", str::parse::<Address>);
        let api = api.unwrap_or(Address::Inet(([127, 0, 0, 1], 8080).into()));
        let admin = service_balance::read_admin(&mut source);
        let login = source.get_or("login.enabled", true);
        let revocation = read_revocation(&mut source);
        if let Some(table) = &routes {
            routes::check_own_paths(&mut source, table, routes::OwnPaths::of(table, login, revocation.is_some()));
        }
        let admin = (login || revocation.is_some()).then_some(admin);
        let upstream = upstream::Settings {
            connect_timeout: source.seconds("upstream.connect_timeout", 1.0, 0.01..=60.0),
            read_timeout: source.seconds("upstream.read_timeout", 10.0, 0.01..=3600.0),
            request_timeout: source.seconds("upstream.request_timeout", 30.0, 0.01..=3600.0),
            idle_timeout: source.seconds("upstream.idle_timeout", 30.0, 0.0..=3600.0),
            max_connections: u32::try_from(source.number("upstream.max_connections", 1024, 4..=1_000_000))
                .unwrap_or(u32::MAX),
        };
        listener::check_descriptors(&mut source, &listener, (&upstream, &services), http_addr.is_some(), descriptors);
        let cache = cache::read(&mut source);
        let log = log::read(&mut source);
        let telemetry = holodule_telemetry::read(&mut source, "holodule-gateway");
        let (values, warnings) = (source.values(), source.warnings());
        let keys_read = source.keys_read().map(str::to_owned).collect();
        source.finish_with(|| {
            Some(Self {
                https_addr,
                http_addr,
                redirect_port,
                acme_challenges,
                ops_addr,
                ops_allowed_hosts,
                announce_file,
                watch,
                files: load::read_by(files),
                upgrade_timeout,
                identities: identities?,
                acme,
                listener,
                proxies,
                keys: Arc::new(keys?),
                static_tokens: static_tokens?,
                flow,
                limit,
                routes: routes?,
                services,
                api,
                admin,
                login,
                revocation,
                upstream,
                cache,
                log,
                telemetry,
                values,
                warnings,
                keys_read,
            })
        })
    }

    /// Problems to fix soon, as of `now` (seconds since 1970): secret files with too wide permissions, certificates
    /// that clients reject or soon will, and routes that are probably mistakes. None prevents a start: in containers,
    /// for example, file modes mean little, and an expired certificate must not become an outage.
    pub fn warnings(&self, now: i64) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        warnings.extend(certificates::warnings(&self.identities, now));
        warnings.extend(acme::warnings(self.acme.as_ref(), self.https_addr, self.http_addr));
        let own = routes::OwnPaths::of(&self.routes, self.login, self.revocation.is_some());
        warnings.extend(routes::warnings(&self.routes, own));
        warnings.extend(require::warnings(&self.routes, &self.static_tokens, self.revocation.is_some()));
        let is_accepted = |host: &str| {
            self.flow.hosts.iter().any(|own| own == host)
                || self.identities.iter().any(|identity| identity.covers(host))
        };
        warnings.extend(routes::host_warnings(&self.routes, is_accepted));
        warnings.extend(service::warnings(&self.services, &self.routes));
        warnings.extend(service_tls::warnings(self.services.iter().map(|service| service.tls.as_deref()), now));
        warnings
    }

    /// Valid settings that reduce protection or functions, for the operator to review.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.login {
            notes.push("login.enabled is false: POST /auth issues no tokens".to_owned());
        }
        match self.revocation {
            None => notes.push("revocation.enabled is false: a token is accepted until it expires".to_owned()),
            Some(settings) if settings.when_stale == WhenStale::ServeOn => {
                notes.push(
                    "revocation.when_stale is serve_on: revoked tokens are accepted while revocation data is stale"
                        .to_owned(),
                );
            }
            Some(_) => {}
        }
        if self.flow.hsts.is_none() {
            notes.push("hsts.max_age is 0: Strict-Transport-Security is not sent".to_owned());
        }
        notes.extend(limits::notes(&self.limit, self.admin.is_some()));
        if !self.ops_addr.ip().to_canonical().is_loopback() {
            notes.push(format!("ops_addr {} can be reached from other hosts", self.ops_addr));
        }
        notes.extend(routes::public_notes(&self.routes));
        notes.extend(routes::upgrade_notes(&self.routes));
        notes.extend(routes::cache_notes(&self.routes));
        notes.extend(routes::ticket_notes(&self.routes));
        notes.extend(token::notes(&self.keys, &self.static_tokens));
        notes.extend(listener::notes(&self.proxies));
        notes
    }
}

fn required<T: serde::de::DeserializeOwned>(source: &mut Source, key: &str, what: &str) -> Option<T> {
    let before = source.problems();
    let value = source.get(key);
    if value.is_none() && source.problems() == before {
        source.problem(key, format!("is required: {what}"));
    }
    value
}

fn read_flow(source: &mut Source, read_timeout: Duration) -> FlowSettings {
    let number = |source: &mut Source, key, default: usize| {
        let value = source.number(key, default as u64, 1..=1024 * 1024);
        usize::try_from(value).unwrap_or(default)
    };
    let sizes = framing::Settings::default();
    let hosts = read_host_names(source, "hosts");
    let hosts = hosts.iter().map(|host| normal(host)).collect();
    FlowSettings {
        hsts: hsts(source.whole_seconds("hsts.max_age", 31_536_000, 0..=63_072_000)),
        sizes: framing::Settings {
            max_header_bytes: number(source, "request.max_header_bytes", sizes.max_header_bytes),
            max_header_fields: number(source, "request.max_header_fields", sizes.max_header_fields),
            max_target_bytes: number(source, "request.max_target_bytes", sizes.max_target_bytes),
        },
        hosts,
        allowed_origins: read_origins(source),
        body_timeout: source.seconds("login.body_timeout", 10.0, 0.01..=600.0),
        read_timeout,
        stream: stream::read(source),
    }
}

fn read_origins(source: &mut Source) -> Origins {
    let mut origins = Origins::default();
    for origin in source.get_or("cors.allowed_origins", Vec::<String>::new()) {
        if let Err(error) = origins.allow(&origin) {
            source.problem("cors.allowed_origins", format!("{} {error}", shown(&origin)));
        }
    }
    origins
}

fn read_revocation(source: &mut Source) -> Option<revocation::Settings> {
    let enabled = source.get_or("revocation.enabled", true);
    let when_stale = source.parse("revocation.when_stale", |text| match text {
        "refuse" => Ok(WhenStale::Refuse),
        "serve_on" => Ok(WhenStale::ServeOn),
        _ => Err("must be refuse or serve_on"),
    });
    let capacity = source.number("revocation.capacity", 100_000, 1_000..=10_000_000);
    let settings = revocation::Settings {
        max_age: source.seconds("revocation.max_age", 300.0, 1.0..=86_400.0),
        when_stale: when_stale.unwrap_or(WhenStale::Refuse),
        capacity: usize::try_from(capacity).unwrap_or(100_000),
    };
    enabled.then_some(settings)
}

#[cfg(test)]
mod tests;
