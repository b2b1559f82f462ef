//! Reloading the configuration while the gateway serves. Keys, static tokens and certificates, also those for services,
//! are each replaced atomically. An invalid configuration changes nothing.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::metrics::record_certificates;
use crate::authenticate::Accepted;
use crate::config::{Config, Problems, RELOADED, Values};
use crate::record::Metrics;
use crate::tls::Identities;
use crate::upstream::Tls;

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

/// The state that a reload replaces.
#[derive(Clone)]
pub(super) struct Reloadable {
    /// The configuration at startup.
    pub(super) started_with: Values,
    pub(super) accepted: Arc<ArcSwap<Accepted>>,
    /// Notified of each reload, with the time of the last one that removed or retired a key.
    pub(super) key_removed: Arc<watch::Sender<Option<Instant>>>,
    pub(super) identities: Arc<Identities>,
    /// TLS of each service that has it, by the name of the service.
    pub(super) services: Vec<(String, Arc<Tls>)>,
    pub(super) metrics: Arc<Metrics>,
}

/// Reloads the configuration.
pub struct Reloader {
    pub(super) read: Box<dyn Fn() -> Result<Config, Problems> + Send + Sync>,
    pub(super) parts: Reloadable,
}

impl Reloader {
    /// Reads the configuration, applies the keys in [`RELOADED`], and reports the result in the log and the metrics.
    /// Requests in progress are not affected.
    ///
    /// # Errors
    /// [`NotReloaded`]; nothing has changed.
    pub fn reload(&self) -> Result<(), NotReloaded> {
        let now = SystemTime::now();
        let result = (self.read)().map_err(NotReloaded::from).and_then(|config| self.apply(config, now));
        self.parts.metrics.reloaded(result.is_ok(), now);
        let in_force = RELOADED.map(|key| key.trim_end_matches('.')).join(", ");
        match &result {
            Ok(waiting) if waiting.is_empty() => {
                tracing::info!(in_force, "the configuration was reloaded and all of it is in force");
            }
            Ok(waiting) => tracing::warn!(
                in_force,
                need_restart = waiting.join(", "),
                "the configuration was reloaded in part: other keys have changed and need a restart"
            ),
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
        result.map(|_| ())
    }

    /// Applies what can change while the gateway serves. Returns the changed keys that need a restart.
    fn apply(&self, config: Config, now: SystemTime) -> Result<Vec<String>, NotReloaded> {
        let parts = &self.parts;
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        for warning in config.warnings(seconds) {
            tracing::warn!(warning, "configuration warning");
        }
        let waiting =
            parts.started_with.need_restart(&config.values, &RELOADED).into_iter().map(str::to_owned).collect();
        // Fallible steps first, so that a failure changes nothing.
        parts.identities.replace(config.identities)?;
        record_certificates(&parts.metrics, &parts.identities);
        for (name, tls) in &parts.services {
            let newer = config.services.iter().find(|service| service.name == *name);
            if let Some(newer) = newer.and_then(|service| service.tls.as_ref()) {
                tls.replace(newer);
            }
        }
        let accepted = Arc::new(Accepted { keys: config.keys, static_tokens: config.static_tokens });
        let before = parts.accepted.swap(Arc::clone(&accepted));
        let removed = before.keys.has_key_missing_in(&accepted.keys, seconds).then(Instant::now);
        parts.key_removed.send_modify(|last| *last = removed.or(*last));
        Ok(waiting)
    }
}
