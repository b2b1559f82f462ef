//! The composition root: binds the listeners, builds the request path, runs pingora's server until it is stopped, and
//! drains connections.

mod acme;
mod defence;
mod follow;
mod metrics;
mod observe;
mod ops;
mod plain;
mod probe;
mod redirect;
mod reload;
mod service;
mod signals;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::acme::AcmeError;
use crate::authenticate::Accepted;
use crate::cache::Cache;
use crate::clock::unix_now_millis;
use crate::config::{Config, Problems, Values};
use crate::downstream::http2::http2_options;
use crate::drain::{self, DrainTrigger};
use crate::flow::{Flow, HeadInspector};
use crate::limit::Limits;
use crate::listener::{self, Drain, Listener, Protocols, Start};
use crate::login;
use crate::record::log::Writer;
use crate::revocation::Revocation;
use crate::ticket::Tickets;
use crate::upstream::{Upstream, UpstreamClient};
use follow::Follow;
use metrics::{metrics, record_routes};
use observe::Observer;
use ops::Ops;
use probe::Probe;
use redirect::Redirect;
use reload::Reloadable;
pub use reload::{NotReloaded, Reloader};
use service::{Service, ServiceChecks};
pub use signals::Signals;

/// How long the public listener waits for the revocation feed at startup.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(2);

/// The gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// A listener or the announce file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The TLS library.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The storage of certificates by ACME.
    #[error("acme.storage: {0}")]
    Acme(#[from] AcmeError),
    /// The metrics.
    #[error("the metrics cannot be set up: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A gateway with bound listeners. It serves once [`Gateway::run`] is called.
pub struct Gateway {
    server: Server,
    stop: Stop,
    addresses: Addresses,
    accepting: watch::Receiver<bool>,
    parts: Reloadable,
}

/// The addresses of the listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The public listener.
    pub https: SocketAddr,
    /// The redirect listener, if enabled.
    pub http: Option<SocketAddr>,
    /// The ops listener.
    pub ops: SocketAddr,
}

/// The two channels of a shutdown: to start draining, and to be notified when it is complete.
struct Stop {
    drain: DrainTrigger,
    drained: watch::Receiver<bool>,
}

impl Gateway {
    /// Binds the listeners and builds everything that serves them. `log` receives the access log and reports how many
    /// lines were lost.
    ///
    /// # Errors
    /// [`NotStarted`], with the address or the file in the message.
    pub fn build(config: Config, log: Option<&Writer>) -> Result<Self, NotStarted> {
        raise_descriptor_limit()?;
        let bind = |key, address| about(&config.values, key, listener::bind(address));
        let public = bind("https_addr", config.https_addr)?;
        let ops_socket = bind("ops_addr", config.ops_addr)?;
        let redirect_socket = config.http_addr.map(|address| bind("http_addr", address)).transpose()?;
        let addresses = Addresses {
            https: public.local_addr()?,
            http: redirect_socket.as_ref().map(std::net::TcpListener::local_addr).transpose()?,
            ops: ops_socket.local_addr()?,
        };
        let metrics = Arc::new(metrics(&config)?);

        let uses_api = !config.routes.has_only_services();
        let api = Arc::new(Upstream::new("api", config.api, config.upstream));
        let tls =
            config.services.iter().filter_map(|service| Some((service.name.clone(), service.tls.clone()?))).collect();
        let services: Vec<_> = config.services.into_iter().map(Service::new).collect();
        record_routes(&metrics, &config.routes, &services);
        let admin =
            config.admin.map(|addresses| Arc::new(Upstream::with_addresses("admin", addresses, config.upstream)));
        let upstreams: Vec<_> = uses_api.then_some(&api).into_iter().chain(&admin).cloned().collect();

        let (identities, acme) = acme::identities(config.identities, config.acme, &metrics)?;
        let redirect = Redirect {
            identities: Arc::clone(&identities),
            hosts: config.flow.hosts.clone(),
            sizes: config.flow.sizes,
            https_port: config.redirect_port.unwrap_or(addresses.https.port()),
            challenges: acme.iter().map(|acme| acme.challenges.clone()).chain(config.acme_challenges).collect(),
        };
        let limits = Arc::new(Limits::new(&config.limit));
        let started = Instant::now();
        let proxies = Arc::new(config.proxies);
        let sizes = config.flow.sizes;
        let http2 =
            http2_options(sizes.max_header_bytes.saturating_add(sizes.max_target_bytes), sizes.max_header_fields);
        let access_log = log.map(Writer::access).unwrap_or_default();
        let inspector = HeadInspector {
            proxies: Arc::clone(&proxies),
            sizes: config.flow.sizes,
            hsts: config.flow.hsts.clone(),
            limits: Arc::clone(&limits),
            started,
            allowed_origins: config.flow.allowed_origins.clone(),
            metrics: Arc::clone(&metrics),
            access_log: access_log.clone(),
        };
        let accepted = Accepted { keys: config.keys, static_tokens: config.static_tokens };
        let accepted = Arc::new(ArcSwap::from_pointee(accepted));
        let admin_client = admin.as_ref().map(|admin| UpstreamClient::new(Arc::clone(admin)));
        let revocation = config.revocation.zip(admin_client.clone());
        let revocation = revocation.map(|(settings, backend)| Revocation::new(backend, settings));
        let api = UpstreamClient::new(api);
        let cache = config.cache.map(Cache::new);
        let (drain, draining) = drain::drain(config.listener.drain_timeout);
        let key_removed = Arc::new(watch::Sender::new(None));
        let flow = Flow {
            settings: config.flow,
            proxies,
            accepted: Arc::clone(&accepted),
            login: admin_client.clone().filter(|_| config.login).map(login::Backend::new),
            revocation: revocation.clone(),
            limits,
            started,
            tickets: config.routes.has_tickets().then(|| Tickets::new(unix_now_millis())),
            routes: config.routes.clone(),
            api,
            services: services.iter().map(|service| UpstreamClient::new(Arc::clone(&service.upstream))).collect(),
            key_removed: key_removed.subscribe(),
            draining: draining.clone(),
            cache: cache.clone(),
            metrics: Arc::clone(&metrics),
            access_log,
        };
        metrics.reloaded(true, SystemTime::now());
        let parts = Reloadable {
            started_with: config.values,
            accepted,
            key_removed,
            identities: Arc::clone(&identities),
            services: tls,
            metrics: Arc::clone(&metrics),
        };
        let mut server = Server::new_with_opt_and_conf(None, server_conf());

        let (done, drained) = watch::channel(false);
        let ends = Drain { requested: draining.clone(), done };
        let (accepting, accepted_first) = watch::channel(false);
        let first_beat = revocation.clone();
        let ready: StopFuture = Box::pin(async move {
            let Some(revocation) = first_beat else { return };
            if timeout(ACCEPT_TIMEOUT, revocation.first_beat()).await.is_err() {
                tracing::warn!("the revocation feed is not connected; accepting connections without it");
            }
        });
        let start = Start { ready: Mutex::new(Some(ready)), accepting };
        let protocols = Protocols { identities, http2 };
        let observer = Arc::new(Observer(Arc::clone(&metrics)));
        let listener = Listener::new(
            public,
            protocols,
            Arc::new(flow),
            Arc::new(inspector),
            observer,
            config.listener,
            (start, ends),
        );

        server.bootstrap();
        server.add_service(listener);
        let lines = log.map(Writer::lines);
        let ops = Ops {
            metrics: Arc::clone(&metrics),
            upstreams: upstreams.clone(),
            services: services.clone(),
            revocation: revocation.clone(),
            draining,
            cache: cache.clone(),
            routes: config.routes,
            allowed_hosts: config.ops_allowed_hosts,
            lines,
        };
        server.add_service(ops.on(ops_socket));
        if let Some(socket) = redirect_socket {
            server.add_service(redirect.on(socket));
        }
        if let Some((revocation, admin)) = revocation.zip(admin) {
            server.add_service(Follow { revocation, backend: admin, cache, metrics: Arc::clone(&metrics) });
        }
        if let Some(acme) = acme {
            server.add_service(acme);
        }
        if !services.is_empty() {
            server.add_service(ServiceChecks { services, metrics: Arc::clone(&metrics) });
        }
        server.add_service(Probe::new(upstreams, metrics));
        if let Some(file) = &config.announce_file {
            about(&parts.started_with, "announce_file", announce(file, addresses))?;
        }
        Ok(Self { server, stop: Stop { drain, drained }, addresses, accepting: accepted_first, parts })
    }

    /// The addresses of the listeners.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Resolves once the running gateway accepts connections: with the first heartbeat of the revocation feed, or 2 s
    /// after the start if there is none.
    pub fn accepting(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut accepting = self.accepting.clone();
        async move {
            // An error means that the listener has stopped.
            let _ = accepting.wait_for(|accepting| *accepting).await;
        }
    }

    /// A handle that reloads the configuration with `read` while the gateway serves.
    pub fn reloader(&self, read: impl Fn() -> Result<Config, Problems> + Send + Sync + 'static) -> Reloader {
        Reloader { read: Box::new(read), parts: self.parts.clone() }
    }

    /// Serves until `stop` resolves, then drains connections until all have ended or the drain timeout has passed.
    pub fn run(self, stop: impl Future<Output = ()> + Send + 'static) {
        tracing::info!(https = %self.addresses.https, ops = %self.addresses.ops, version = holodule_settings::VERSION, "serving");
        let signal = Signal { stop: Mutex::new(Some(Box::pin(stop))), parts: self.stop };
        self.server.run(RunArgs { shutdown_signal: Box::new(signal) });
    }
}

/// Adds the configuration key, and the variable that its value is from, to the error in `result`.
fn about<T>(values: &Values, key: &str, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", values.subject(key))))
}

/// Raises the soft limit of file descriptors to the hard limit, against which the configuration was checked.
fn raise_descriptor_limit() -> io::Result<()> {
    let (soft, hard) = rlimit::Resource::NOFILE.get()?;
    if soft < hard {
        rlimit::Resource::NOFILE.set(hard, hard).map_err(|error| {
            io::Error::new(error.kind(), format!("the limit of open files cannot be raised to {hard}: {error}"))
        })?;
    }
    Ok(())
}

/// The settings of pingora's server. It has no grace period, since [`Signal`] returns only when all connections are
/// drained.
fn server_conf() -> ServerConf {
    ServerConf {
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        threads: 1,
        ..ServerConf::default()
    }
}

/// Resolves when the gateway should stop.
type StopFuture = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Waits for the stop future, drains, and only then lets pingora exit.
struct Signal {
    stop: Mutex<Option<StopFuture>>,
    parts: Stop,
}

#[async_trait]
impl ShutdownSignalWatch for Signal {
    async fn recv(&self) -> ShutdownSignal {
        let stop = self.stop.lock().ok().and_then(|mut stop| stop.take());
        if let Some(stop) = stop {
            stop.await;
        }
        tracing::info!("stopping: draining connections");
        self.parts.drain.begin();
        let mut drained = self.parts.drained.clone();
        // An error means that the listener has stopped, so nothing is left to drain.
        let _ = drained.wait_for(|drained| *drained).await;
        ShutdownSignal::FastShutdown
    }
}

/// Writes the addresses of the listeners atomically.
fn announce(file: &Path, addresses: Addresses) -> io::Result<()> {
    let Addresses { https, http, ops } = addresses;
    let text = serde_json::json!({"https": https, "http": http, "ops": ops}).to_string();
    holodule_settings::replace(file, text.as_bytes())
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", holodule_settings::shown_path(file))))
}
