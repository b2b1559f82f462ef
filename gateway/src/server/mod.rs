//! The composition root: binds the listeners, builds the request path, runs pingora's server until it is stopped, and
//! drains connections.

mod acme;
mod defence;
mod file_watch;
mod follow;
mod metrics;
mod observe;
mod ops;
mod plain;
mod probe;
mod redirect;
mod reload;
mod revision;
mod service;
mod signals;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use holodule_settings::VERSION;
use holodule_telemetry::Exporter;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::acme::AcmeError;
use crate::clock::unix_now_millis;
use crate::config::{Config, Problems, Values};
use crate::drain::{self, DrainTrigger};
use crate::listener::{self, Drain, Listener, Start};
use crate::record::Metrics;
use crate::record::log::Writer;
use crate::revocation::Revocation;
use crate::ticket::Tickets;
use crate::token::random_hex;
use crate::upstream::{Upstream, UpstreamClient};
pub use file_watch::Watch;
use follow::Follow;
use metrics::{record_routes, with_labels};
use observe::Observer;
pub use ops::CONFIG as CONFIG_PAGE;
use ops::Ops;
use probe::Probe;
use redirect::Redirect;
use reload::{LoadedValues, Reloadable};
pub use reload::{NotReloaded, ReloadTrigger, Reloaded, Reloader};
use revision::{Admin, Lasting, Revision};
use service::ServiceChecks;
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
    /// The export of traces.
    #[error(transparent)]
    Telemetry(#[from] holodule_telemetry::NotExporting),
}

/// A gateway with bound listeners. It serves once [`Gateway::run`] is called.
pub struct Gateway {
    server: Server,
    stop: Stop,
    addresses: Addresses,
    accepting: watch::Receiver<bool>,
    parts: Reloadable,
    exporter: Option<Exporter>,
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
    pub fn build(mut config: Config, log: Option<&Writer>) -> Result<Self, NotStarted> {
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
        let metrics = Arc::new(with_labels(&config.routes, config.acme.is_some(), Metrics::new)?);
        let configured = std::mem::take(&mut config.identities);
        let (identities, acme) = acme::identities(configured, config.acme.take(), &metrics)?;
        let (announce_file, values, entries) = (config.announce_file.take(), config.values.clone(), config.entries());
        let (drain, draining) = drain::drain(config.listener.drain_timeout);
        let api = Arc::new(Upstream::new("api", config.api.clone(), config.upstream));
        let admin = Admin::default();
        let admin_listener = admin.at(config.admin.clone(), config.upstream).cloned();
        let revocation = config.revocation.zip(admin_listener);
        let feed = revocation.map(|(settings, (upstream, client))| (Revocation::new(client, settings), upstream));
        let revocation = feed.as_ref().map(|(revocation, _)| revocation.clone());
        let telemetry = config.telemetry.as_ref().map(|settings| holodule_telemetry::start(settings, VERSION));
        let (tracer, exporter) = telemetry.transpose()?.unzip();
        let lasting = Lasting {
            metrics: Arc::clone(&metrics),
            identities: Arc::clone(&identities),
            revocation: revocation.clone(),
            started: Instant::now(),
            tickets: Arc::new(Tickets::new(unix_now_millis())),
            draining: draining.clone(),
            log: log.map(Writer::control),
            tracer: tracer.clone(),
            api_client: UpstreamClient::new(Arc::clone(&api)),
            api,
            admin,
            https_port: addresses.https.port(),
            acme_challenges: acme.as_ref().map(|acme| acme.challenges.clone()),
            service_names: Mutex::default(),
            reloads: AtomicU64::new(1),
        };
        let Revision { serving, backends, redirect, allowed_hosts } = lasting.first(config);
        record_routes(&metrics, &serving.handler.routes, &backends.services);
        metrics.reloaded(true, SystemTime::now());
        let parts = Reloadable {
            lasting: Arc::new(lasting),
            serving: Arc::new(ArcSwap::from_pointee(serving)),
            backends: Arc::new(watch::Sender::new(Arc::new(backends))),
            redirect: Arc::new(ArcSwap::from_pointee(redirect)),
            allowed_hosts: Arc::new(ArcSwap::from_pointee(allowed_hosts)),
            entries: Arc::new(ArcSwap::from_pointee(entries.clone())),
            values: Arc::new(Mutex::new(LoadedValues {
                at_start: values.clone(),
                entries_at_start: entries,
                current: values.clone(),
            })),
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
        let observer = Arc::new(Observer(Arc::clone(&metrics)));
        let serving = Arc::clone(&parts.serving);
        let listener = Listener::new(public, Arc::clone(&identities), serving, observer, (start, ends));

        server.bootstrap();
        server.add_service(listener);
        let ops = Ops {
            metrics: Arc::clone(&metrics),
            backends: parts.backends.subscribe(),
            revocation,
            draining,
            serving: Arc::clone(&parts.serving),
            allowed_hosts: Arc::clone(&parts.allowed_hosts),
            entries: Arc::clone(&parts.entries),
            salt: random_hex::<16>().unwrap_or_default(),
            lines: log.map(Writer::lines),
            tracer,
        };
        server.add_service(ops.on(ops_socket));
        if let Some(socket) = redirect_socket {
            let redirect = Redirect { identities, settings: Arc::clone(&parts.redirect) };
            server.add_service(redirect.on(socket));
        }
        if let Some((revocation, backend)) = feed {
            let (serving, metrics) = (Arc::clone(&parts.serving), Arc::clone(&metrics));
            server.add_service(Follow { revocation, backend, serving, metrics });
        }
        if let Some(acme) = acme {
            server.add_service(acme);
        }
        server.add_service(ServiceChecks { backends: parts.backends.subscribe(), metrics: Arc::clone(&metrics) });
        server.add_service(Probe { backends: parts.backends.subscribe(), metrics });
        if let Some(file) = &announce_file {
            about(&values, "announce_file", announce(file, addresses))?;
        }
        Ok(Self { server, stop: Stop { drain, drained }, addresses, accepting: accepted_first, parts, exporter })
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
        tracing::info!(https = %self.addresses.https, ops = %self.addresses.ops, version = VERSION, "serving");
        let signal = Signal { stop: Mutex::new(Some(Box::pin(stop))), parts: self.stop };
        self.server.run(RunArgs { shutdown_signal: Box::new(signal) });
        // Exports the spans of the last requests.
        drop(self.exporter);
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
