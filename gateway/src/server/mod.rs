//! The composition root: binds the listeners, builds the request path, runs pingora's server until it is stopped, and
//! drains connections.

mod acme;
mod defence;
mod file_watch;
mod follow;
mod handover;
mod metrics;
mod observe;
mod ops;
mod plain;
mod probe;
mod readiness;
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
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use holodule_handover::{History, NotTaken, Program, Takeover};
use holodule_settings::VERSION;
use holodule_telemetry::Exporter;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use tokio::sync::watch;

use crate::acme::AcmeError;
use crate::clock::unix_now_millis;
use crate::config::{Config, Problems, Values};
use crate::drain::{self, DrainTrigger};
use crate::listener::{Drain, Listener, Start};
use crate::record::Metrics;
use crate::record::log::Writer;
use crate::revocation::Revocation;
use crate::ticket::Tickets;
use crate::token::random_hex;
use crate::upstream::{Upstream, UpstreamClient};
pub use file_watch::Watch;
use follow::Follow;
pub use handover::Upgrades;
use handover::{GivenUp, Own, Phase, Preparation, Sockets, ready};
use metrics::{record_routes, with_labels};
use observe::Observer;
pub use ops::CONFIG as CONFIG_PAGE;
use ops::Ops;
use probe::Probe;
use readiness::Readiness;
use redirect::Redirect;
use reload::{LoadedValues, Reloadable};
pub use reload::{NotReloaded, ReloadTrigger, Reloaded, Reloader};
use revision::{Admin, Lasting, Revision};
use service::ServiceChecks;
pub use signals::{Signals, Stopped};

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
    /// What it hands to a successor.
    own: Own,
    given_up: GivenUp,
    /// Whether it takes over from another process.
    takes_over: bool,
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
        Self::build_from(config, log, None)
    }

    /// [`Gateway::build`] with the listeners of a predecessor. [`Gateway::run`] then takes over from it: this gateway
    /// accepts connections only once it is ready.
    ///
    /// # Errors
    /// Those of [`Gateway::build`].
    pub fn build_from(
        mut config: Config,
        log: Option<&Writer>,
        mut takeover: Option<Takeover>,
    ) -> Result<Self, NotStarted> {
        raise_descriptor_limit()?;
        let mut sockets = Sockets { takeover: takeover.as_mut(), copies: Vec::new() };
        let mut bind = |key, address| about(&config.values, key, sockets.listen(key, address));
        let public = bind("https_addr", config.https_addr)?;
        let ops_socket = bind("ops_addr", config.ops_addr)?;
        let redirect_socket = config.http_addr.map(|address| bind("http_addr", address)).transpose()?;
        let sockets = sockets.copies;
        let addresses = Addresses {
            https: public.local_addr()?,
            http: redirect_socket.as_ref().map(std::net::TcpListener::local_addr).transpose()?,
            ops: ops_socket.local_addr()?,
        };
        let metrics = Arc::new(with_labels(&config.routes, config.acme.is_some(), Metrics::new)?);
        let configured = std::mem::take(&mut config.identities);
        let (identities, acme) = acme::identities(configured, config.acme.take(), &metrics)?;
        let (announce_file, values, entries) = (config.announce_file.take(), config.values.clone(), config.entries());
        let limit = config.upgrade_timeout;
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
        let readiness = Readiness { backends: parts.backends.subscribe(), revocation: revocation.clone() };
        let takes_over = takeover.is_some();
        let phase = Arc::new(watch::Sender::new(if takes_over { Phase::Preparing } else { Phase::Serving }));
        let old = takeover.as_ref().map(Takeover::draining).unwrap_or_default();
        let history = Arc::new(History::new(takeover.as_ref().map(Takeover::predecessor), Arc::clone(&old)));
        let given_up = GivenUp::default();
        let preparation = takeover.map(|takeover| Preparation {
            takeover,
            readiness: readiness.clone(),
            phase: Arc::clone(&phase),
            announce: announce_file.clone(),
            addresses,
            metrics: Arc::clone(&metrics),
        });
        let ready = Box::pin(ready(preparation, revocation, given_up.clone()));
        let start = Start { ready: Mutex::new(Some(ready)), accepting };
        let observer = Arc::new(Observer(Arc::clone(&metrics)));
        let serving = Arc::clone(&parts.serving);
        let listener = Listener::new(public, Arc::clone(&identities), serving, observer, (start, ends));

        server.bootstrap();
        server.add_service(listener);
        let ops = Ops {
            metrics: Arc::clone(&metrics),
            readiness,
            draining,
            serving: Arc::clone(&parts.serving),
            allowed_hosts: Arc::clone(&parts.allowed_hosts),
            entries: Arc::clone(&parts.entries),
            salt: random_hex::<16>().unwrap_or_default(),
            lines: log.map(Writer::lines),
            tracer,
            history: Arc::clone(&history),
        };
        server.add_service(ops.on(ops_socket, phase.subscribe()));
        if let Some(socket) = redirect_socket {
            let redirect = Redirect { identities, settings: Arc::clone(&parts.redirect) };
            server.add_service(redirect.on(socket, phase.subscribe()));
        }
        if let Some((revocation, backend)) = feed {
            let (serving, metrics) = (Arc::clone(&parts.serving), Arc::clone(&metrics));
            server.add_service(Follow { revocation, backend, serving, metrics });
        }
        if let Some(acme) = acme {
            server.add_service(acme);
        }
        server.add_service(ServiceChecks { backends: parts.backends.subscribe(), metrics: Arc::clone(&metrics) });
        server.add_service(Probe { backends: parts.backends.subscribe(), metrics: Arc::clone(&metrics) });
        if let Some(file) = announce_file.as_ref().filter(|_| !takes_over) {
            about(&values, "announce_file", announce(file, addresses))?;
        }
        let own = Own { sockets, draining: old, phase, history, metrics, limit };
        let stop = Stop { drain, drained };
        Ok(Self { server, stop, addresses, accepting: accepted_first, parts, exporter, own, given_up, takes_over })
    }

    /// The addresses of the listeners.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Resolves once the running gateway accepts connections: with the first heartbeat of the revocation feed, or 2 s
    /// after the start if there is none; after an upgrade, once it has taken over.
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

    /// What hands the sockets of this gateway to a successor, which is started as `program`. Without it, the sockets are
    /// closed when the gateway stops accepting connections; with it, once it is dropped as well.
    pub fn upgrades(&mut self, program: Program) -> Upgrades {
        Upgrades::new(program, &mut self.own)
    }

    /// Serves until `stop` resolves, then drains connections until all have ended or the drain timeout has passed.
    ///
    /// # Errors
    /// This gateway was to take over from another process, and did not. It accepted no connection.
    pub fn run(mut self, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), NotTaken> {
        self.own.sockets.clear();
        let Addresses { https, ops, .. } = self.addresses;
        let message = if self.takes_over { "preparing to take over from another process" } else { "serving" };
        tracing::info!(%https, %ops, version = VERSION, "{message}");
        let given_up = self.given_up.clone();
        let stop = async move {
            tokio::select! {
                () = stop => {}
                () = given_up.wait() => {}
            }
        };
        let signal = Signal { stop: Mutex::new(Some(Box::pin(stop))), parts: self.stop };
        self.server.run(RunArgs { shutdown_signal: Box::new(signal) });
        // Exports the spans of the last requests.
        drop(self.exporter);
        self.given_up.into_result()
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

/// Writes the addresses of the listeners, and the process id, atomically.
fn announce(file: &Path, addresses: Addresses) -> io::Result<()> {
    let Addresses { https, http, ops } = addresses;
    let process = std::process::id();
    let text = serde_json::json!({"https": https, "http": http, "ops": ops, "process": process}).to_string();
    holodule_settings::replace(file, text.as_bytes())
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", holodule_settings::shown_path(file))))
}
