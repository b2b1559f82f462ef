//! The configuration: what an operator wrote, turned once into settings that cannot be wrong.
//!
//! The stages declare their settings; this module imports and fills them. Every problem is
//! told together, by key, and no secret is echoed.

mod cache;
mod certificates;
mod entry;
mod limits;
mod listener;
mod route_tables;
mod routes;
mod token;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use holodule_settings::{Environment, Problem, Problems, Secret, Values};
use holodule_settings::{Overlaid, Source, environment, shown};
use http::HeaderValue;
use tracing::level_filters::LevelFilter;

pub use listener::MAX_REDIRECT_CONNECTIONS;
use route_tables::read_routes;
pub use routes::Names;
pub use token::EVERY_ROUTE;

use crate::client::Proxies;
use crate::cors::Origins;
use crate::framing;
use crate::limit;
use crate::record::log;
use crate::revocation::{self, WhenStale};
use crate::route::Table;
use crate::tls::Identity;
use crate::token::{Keys, StaticTokens};
use crate::upstream::{self, Address};

/// The variables that hold secrets: the key of the tokens, in its short form and its long one.
const SECRET_VARIABLES: [&str; 2] = ["JWT_SECRET_KEY", "KEY"];

/// What takes effect at a reload, without a restart: keys, and sections, which end with a dot.
pub const RELOADED: [&str; 5] = ["certificate", "key", "static_token", "tls.", "token."];

/// Everything the gateway needs to run.
pub struct Config {
    /// Where the public listener binds.
    pub https_addr: SocketAddr,
    /// Where the redirect listener binds, if at all.
    pub http_addr: Option<SocketAddr>,
    /// The port of https that the redirect listener names; `None` for that of the public listener.
    pub redirect_port: Option<u16>,
    /// The folder of ACME challenges that the redirect listener shows, if any.
    pub acme_challenges: Option<PathBuf>,
    /// Where the ops listener binds.
    pub ops_addr: SocketAddr,
    /// The names by which the ops listener may be asked to write, in lower case, besides addresses
    /// and `localhost`.
    pub ops_allowed_hosts: Vec<String>,
    /// The file that tells the bound addresses once they are, if any.
    pub announce_file: Option<PathBuf>,
    /// The certificates with their keys, the one that is shown by default first.
    pub identities: Vec<Identity>,
    /// The public listener.
    pub listener: crate::listener::Settings,
    /// Whose word on a client's address is taken.
    pub proxies: Proxies,
    /// The keys of the tokens.
    pub keys: Arc<Keys>,
    /// The tokens of machines.
    pub static_tokens: StaticTokens,
    /// The corridor.
    pub corridor: Corridor,
    /// How much one client may ask for.
    pub limit: limit::Settings,
    /// What is forwarded.
    pub routes: Table,
    /// Where the routes go.
    pub api: Address,
    /// Where logins are checked and revocations are heard of; `None` where both are off.
    pub admin: Option<Address>,
    /// Whether `POST /auth` makes tokens.
    pub login: bool,
    /// How revocations are followed; `None` where they are off.
    pub revocation: Option<revocation::Settings>,
    /// How long a backend may take.
    pub upstream: upstream::Settings,
    /// What is kept of its answers; `None` where nothing is.
    pub cache: Option<crate::cache::Settings>,
    /// The log.
    pub log: log::Settings,
    /// What was given.
    pub given: Values,
    /// What is wrong but does not keep the gateway from serving.
    warnings: Vec<String>,
    /// Every key there is, in the order in which they are read.
    keys_read: Vec<String>,
}

/// `Strict-Transport-Security` for so many seconds; 0 sends none.
fn hsts(max_age: u64) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("max-age={max_age}")).ok().filter(|_| max_age > 0)
}

/// What the corridor needs to know besides its stages' own settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corridor {
    /// What `Strict-Transport-Security` says (RFC 6797, section 6.1.1), if anything.
    pub hsts: Option<HeaderValue>,
    /// How large a request may be.
    pub sizes: framing::Settings,
    /// Host names that are ours besides those of the certificate, in lower case.
    pub hosts: Vec<String>,
    /// The origins whose pages may use us from a browser.
    pub allowed_origins: Origins,
    /// For the whole body of a login, and for the first byte or the end of a body where none is taken.
    pub body_timeout: Duration,
    /// For each read of a request's body.
    pub read_timeout: Duration,
}

impl Config {
    /// Reads the configuration from `file` below the process's environment, which is over the
    /// `.env` file at `dotenv`, where there is one.
    ///
    /// # Errors
    /// As [`Config::read`], and every problem of `dotenv`.
    pub fn load(file: Option<&Path>, dotenv: &Path) -> Result<Self, Problems> {
        let Overlaid { environment, problems, warnings } = environment(dotenv, &SECRET_VARIABLES);
        let mut config = Problems::join(problems, Self::read(file, environment))?;
        config.warnings.extend(warnings);
        Ok(config)
    }

    /// Reads the configuration from `file` below `environment`.
    ///
    /// # Errors
    /// Every problem there is, unknown keys among them.
    pub fn read(file: Option<&Path>, environment: Environment) -> Result<Self, Problems> {
        // Where the system does not tell how many there may be, none can be counted on.
        Self::read_within(file, environment, rlimit::Resource::NOFILE.get_hard().unwrap_or(0))
    }

    /// [`Config::read`] for a process that may have so many descriptors.
    fn read_within(file: Option<&Path>, environment: Environment, descriptors: u64) -> Result<Self, Problems> {
        let mut source = Source::read(file, environment);
        let https_addr = source.parse("https_addr", socket_address);
        let https_addr = https_addr.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8443)));
        let http_addr = source.parse_unless_empty("http_addr", socket_address);
        let redirect_port = listener::read_redirect_port(&mut source);
        let acme_challenges = source.parse_unless_empty("acme_challenges", str::parse::<PathBuf>);
        if acme_challenges.is_some() && http_addr.is_none() {
            source.conflict("acme_challenges", "is shown by the redirect listener, which http_addr turns on");
        }
        let ops_addr = source.parse("ops_addr", socket_address);
        let ops_addr = ops_addr.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9180)));
        let ops_allowed_hosts = host_names(&mut source, "ops_allowed_hosts");
        let announce_file = source.parse_unless_empty("announce_file", str::parse::<PathBuf>);
        let identities = certificates::read(&mut source);
        let proxies = listener::read_proxies(&mut source);
        let listener = listener::read(&mut source, &proxies);
        let corridor = read_corridor(&mut source, listener.read_timeout);
        let limit = limits::read(&mut source);
        let routes = read_routes(&mut source);
        let keys = token::read_keys(&mut source);
        let static_tokens = token::read_static_tokens(&mut source, routes.as_ref());
        let api = source.parse("upstream.api", str::parse::<Address>);
        let api = api.unwrap_or(Address::Inet(([127, 0, 0, 1], 8080).into()));
        let admin = source.parse("upstream.admin", str::parse::<Address>);
        let admin = admin.unwrap_or(Address::Inet(([127, 0, 0, 1], 8081).into()));
        let login = source.get_or("login.enabled", true);
        let revocation = read_revocation(&mut source);
        if let Some(table) = &routes {
            routes::check_own(&mut source, table, routes::Own { login, logout: revocation.is_some() });
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
        listener::check_descriptors(&mut source, &listener, &upstream, http_addr.is_some(), descriptors);
        let cache = cache::read(&mut source);
        let log = read_log(&mut source);
        let (given, warnings) = (source.values(), source.warnings());
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
                identities: identities?,
                listener,
                proxies,
                keys: Arc::new(keys?),
                static_tokens: static_tokens?,
                corridor,
                limit,
                routes: routes?,
                api,
                admin,
                login,
                revocation,
                upstream,
                cache,
                log,
                given,
                warnings,
                keys_read,
            })
        })
    }

    /// What should be fixed soon, at `now` (seconds since 1970): files with secrets that others may
    /// read or change, certificates that clients refuse or soon will, routes that hardly mean what
    /// they say. None keeps the gateway from serving, since there are places, such as containers, where
    /// the modes of files mean little, and since a mistake of the administrator must not become an outage.
    pub fn warnings(&self, now: i64) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        warnings.extend(certificates::warnings(&self.identities, now));
        warnings.extend(routes::warnings(
            &self.routes,
            routes::Own { login: self.login, logout: self.revocation.is_some() },
        ));
        warnings
    }

    /// Every key with the value in force and its origin, a line each. Secrets are masked.
    pub fn effective(&self) -> Vec<String> {
        let mut defaults: toml::Table = reference().parse().unwrap_or_default();
        // The reference has these for people to fill in.
        for key in ["certificate", "jwt_secret_key"] {
            defaults.remove(key);
        }
        self.given.effective(self.keys_read.iter().map(String::as_str), &defaults)
    }

    /// What is allowed, but worth knowing before it runs.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if !self.login {
            remarks.push("login.enabled is false: POST /auth makes no tokens".to_owned());
        }
        match self.revocation {
            None => remarks.push("revocation.enabled is false: a token opens the door until it expires".to_owned()),
            Some(settings) if settings.when_stale == WhenStale::ServeOn => {
                remarks.push("revocation.when_stale is serve_on: without news of revocations, none holds".to_owned());
            }
            Some(_) => {}
        }
        if self.corridor.hsts.is_none() {
            remarks.push("hsts.max_age is 0: browsers are not told to stay with https".to_owned());
        }
        remarks.extend(limits::remarks(&self.limit, self.admin.is_some()));
        if !self.ops_addr.ip().to_canonical().is_loopback() {
            remarks.push(format!("ops_addr {} can be reached from other hosts", self.ops_addr));
        }
        remarks.extend(token::remarks(&self.keys, &self.static_tokens));
        remarks.extend(listener::remarks(&self.proxies));
        remarks
    }
}

/// The reference with every setting in force: a line that begins with `#` and no space is one.
fn reference() -> String {
    let is_setting = |rest: &&str| rest.starts_with(|first: char| first == '[' || first.is_ascii_lowercase());
    let text = include_str!("../../../ops/config/gateway.toml");
    let lines = text.lines().map(|line| line.strip_prefix('#').filter(is_setting).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

fn required<T: serde::de::DeserializeOwned>(source: &mut Source, key: &str, what: &str) -> Option<T> {
    let before = source.problems();
    let value = source.get(key);
    if value.is_none() && source.problems() == before {
        source.problem(key, format!("is required: {what}"));
    }
    value
}

fn read_corridor(source: &mut Source, read_timeout: Duration) -> Corridor {
    let number = |source: &mut Source, key, default: usize| {
        let value = source.number(key, default as u64, 1..=1024 * 1024);
        usize::try_from(value).unwrap_or(default)
    };
    let sizes = framing::Settings::default();
    let hosts = host_names(source, "hosts");
    let hosts = hosts.into_iter().map(|host| framing::normal_host(&host).map_or(host.clone(), Into::into)).collect();
    Corridor {
        hsts: hsts(source.number("hsts.max_age", 31_536_000, 0..=63_072_000)),
        sizes: framing::Settings {
            max_header_bytes: number(source, "request.max_header_bytes", sizes.max_header_bytes),
            max_header_fields: number(source, "request.max_header_fields", sizes.max_header_fields),
            max_target_bytes: number(source, "request.max_target_bytes", sizes.max_target_bytes),
        },
        hosts,
        allowed_origins: read_origins(source),
        body_timeout: source.seconds("login.body_timeout", 10.0, 0.01..=600.0),
        read_timeout,
    }
}

/// A list of host names or addresses, in lower case.
fn host_names(source: &mut Source, key: &str) -> Vec<String> {
    let hosts: Vec<String> = source.get_or(key, Vec::new());
    for host in &hosts {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_name =
            !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if !is_name && bare.parse::<IpAddr>().is_err() {
            source.problem(key, format!("{} is no host name: no scheme, port or wildcard", shown(host)));
        }
    }
    hosts.iter().map(|host| host.to_ascii_lowercase()).collect()
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

/// Where a listener is bound. Names are none, since one may stand for several addresses.
fn socket_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "must be an IP address with a port, as in 127.0.0.1:8443 or [::]:443")
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

fn read_log(source: &mut Source) -> log::Settings {
    log::Settings {
        format: source.parse("log.format", str::parse::<log::Format>).unwrap_or(log::Format::Auto),
        level: source
            .parse("log.level", |text| {
                text.parse::<LevelFilter>().map_err(|_| "must be off, error, warn, info, debug or trace")
            })
            .unwrap_or(LevelFilter::INFO),
    }
}

#[cfg(test)]
mod tests;
