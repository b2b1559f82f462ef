//! Reloading the configuration while the gateway serves, all or nothing: everything that can fail is done before anything
//! changes. Requests in flight end with the configuration that they began with.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::runtime;
use tokio::sync::watch;
use tokio::time::timeout;

use super::metrics::{record_certificates, record_routes, with_labels};
use super::redirect;
use super::revision::{Earlier, Lasting, Revision};
use super::service::{Backends, Service};
use crate::config::{Config, Entries, Problems, RELOADED, Values};
use crate::flow::Flow;
use crate::listener::CurrentServing;

/// How long a reload waits until the names of new services are resolved.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a reload failed.
#[derive(Debug, thiserror::Error)]
pub enum NotReloaded {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] Problems),
    /// The TLS library.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// What a reload has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// The names of the keys whose values have changed since the last reload.
    pub changed: Vec<String>,
    /// The names of the keys that differ from those at the start and have no effect until an upgrade.
    pub need_upgrade: Vec<String>,
}

/// The state that a reload replaces.
#[derive(Clone)]
pub(super) struct Reloadable {
    pub(super) lasting: Arc<Lasting>,
    pub(super) serving: CurrentServing<Flow>,
    pub(super) backends: Arc<watch::Sender<Arc<Backends>>>,
    pub(super) redirect: Arc<ArcSwap<redirect::Settings>>,
    /// The host names that the ops listener accepts.
    pub(super) allowed_hosts: Arc<ArcSwap<Vec<String>>>,
    /// The effective values in force.
    pub(super) entries: Arc<ArcSwap<Entries>>,
    /// The configured values at the start, and as of the last reload. Held by a reload from its start to its end.
    pub(super) values: Arc<Mutex<LoadedValues>>,
}

/// The configured values.
pub(super) struct LoadedValues {
    pub(super) at_start: Values,
    pub(super) entries_at_start: Entries,
    pub(super) current: Values,
}

/// Reloads the configuration.
pub struct Reloader {
    pub(super) read: Box<dyn Fn() -> Result<Config, Problems> + Send + Sync>,
    pub(super) parts: Reloadable,
}

/// Starts reloads. Clones start those of the same gateway.
#[derive(Clone)]
pub struct ReloadTrigger(SyncSender<()>);

impl ReloadTrigger {
    /// Starts a reload, after the one that runs. If one is waiting already, that will read the current files.
    pub fn request(&self) {
        let _ = self.0.try_send(());
    }
}

impl Reloader {
    /// Reloads on a thread of its own whenever that is requested: reading may block, for example on a FIFO without a writer
    /// or a network file system, and the program must still serve and stop. The thread ends with the last trigger.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(self) -> io::Result<ReloadTrigger> {
        let (request, requests) = sync_channel(1);
        // The reload logs and counts its result.
        let run = move || requests.into_iter().for_each(|()| drop(self.reload()));
        thread::Builder::new().name("reload".to_owned()).spawn(run)?;
        Ok(ReloadTrigger(request))
    }

    /// Reads the configuration, applies the keys in [`RELOADED`], and reports the result in the log and the metrics.
    /// Requests in progress are not affected.
    ///
    /// # Errors
    /// [`NotReloaded`]; nothing has changed.
    pub fn reload(&self) -> Result<Reloaded, NotReloaded> {
        let mut values = self.parts.values.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        let result = (self.read)().map_err(NotReloaded::from).and_then(|config| self.apply(config, &mut values, now));
        self.parts.lasting.metrics.reloaded(result.is_ok(), now);
        match &result {
            Ok(Reloaded { changed, need_upgrade }) => {
                let changed = changed.join(", ");
                if need_upgrade.is_empty() {
                    tracing::info!(changed, "the configuration was reloaded and all of it is in force");
                } else {
                    tracing::warn!(
                        changed,
                        need_upgrade = need_upgrade.join(", "),
                        "the configuration was reloaded in part: other keys have changed and need an upgrade or a restart"
                    );
                }
            }
            Err(NotReloaded::Config(Problems(problems))) => {
                for problem in problems {
                    tracing::error!(
                        key = problem.subject(),
                        problem = problem.reason,
                        "the configuration is not valid"
                    );
                }
                tracing::error!("the configuration could not be reloaded and all stays as it was");
            }
            Err(error) => tracing::error!(%error, "the configuration could not be reloaded and all stays as it was"),
        }
        result
    }

    /// Applies what can change while the gateway serves.
    fn apply(&self, config: Config, values: &mut LoadedValues, now: SystemTime) -> Result<Reloaded, NotReloaded> {
        let Reloadable { lasting, serving, backends, redirect, allowed_hosts, entries, .. } = &self.parts;
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        for warning in config.warnings(seconds) {
            tracing::warn!(warning, "configuration warning");
        }
        let mut config = config;
        let identities = lasting.identities.prepare(std::mem::take(&mut config.identities))?;
        // From here on, nothing fails.
        let level = config.log.level;
        let (newer, newer_entries) = (config.values.clone(), config.entries());
        let reloaded = Reloaded {
            changed: values.current.changed(&newer).into_iter().map(str::to_owned).collect(),
            need_upgrade: values.at_start.need_restart(&newer, &RELOADED).into_iter().map(str::to_owned).collect(),
        };
        let (before, earlier_backends) = (serving.load_full(), Arc::clone(&backends.borrow()));
        let revision = lasting.next(config, Earlier { flow: &before.handler, backends: &earlier_backends });
        resolve(&revision.backends.services);
        let flow = &revision.serving.handler;
        with_labels(&flow.routes, lasting.acme_challenges.is_some(), |labels| lasting.metrics.add(labels));
        if let Some(log) = &lasting.log {
            log.set_level(level);
        }
        lasting.draining.set_timeout(revision.serving.settings.drain_timeout);
        lasting.identities.replace(identities);
        record_certificates(&lasting.metrics, &lasting.identities);
        record_routes(&lasting.metrics, &flow.routes, &revision.backends.services);
        let (live, accepted, routes) = (Arc::clone(&flow.live), Arc::clone(&flow.accepted), Arc::clone(&flow.routes));
        let Revision { serving: newest, backends: newest_backends, redirect: newest_redirect, allowed_hosts: hosts } =
            revision;
        backends.send_replace(Arc::new(newest_backends));
        // Before the requests: a stream that begins now must find its route.
        live.replace(&accepted, routes, seconds);
        serving.store(Arc::new(newest));
        redirect.store(Arc::new(newest_redirect));
        allowed_hosts.store(Arc::new(hosts));
        entries.store(Arc::new(values.entries_at_start.after_reload(&newer_entries)));
        values.current = newer;
        Ok(reloaded)
    }
}

/// Waits until the names of new services are resolved, so that no request fails for lack of an address.
fn resolve(services: &[Service]) {
    let new: Vec<_> = services.iter().filter(|service| !service.upstream.is_resolved()).collect();
    if new.is_empty() {
        return;
    }
    let resolving = || {
        let Ok(runtime) = runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            // An error is logged by the checks of the service, which resolve the name again.
            let _ = timeout(RESOLVE_TIMEOUT, join_all(new.iter().map(|service| service.upstream.resolve()))).await;
        });
        // The resolver may still be waiting for a name server.
        runtime.shutdown_background();
    };
    // Not on this thread, which may belong to another runtime.
    thread::scope(|scope| {
        let _ = thread::Builder::new().name("resolve".to_owned()).spawn_scoped(scope, resolving);
    });
}
