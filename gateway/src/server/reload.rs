//! Reading the configuration again while the gateway serves: what opens the door and the
//! certificates change at once, each as a whole; a configuration with a mistake changes nothing.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::tell_expiries;
use crate::authenticate::Accepted;
use crate::config::{Config, Problems, RELOADED, Values};
use crate::record::Metrics;
use crate::tls::Identities;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum NotReloaded {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] Problems),
    /// The TLS library.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// What a reload replaces.
#[derive(Clone)]
pub(super) struct Parts {
    /// What the gateway was started with.
    pub(super) given: Values,
    pub(super) accepted: Arc<ArcSwap<Accepted>>,
    pub(super) identities: Arc<Identities>,
    pub(super) metrics: Arc<Metrics>,
}

/// Reads the configuration again where it is asked to.
pub struct Reloader {
    pub(super) read: Box<dyn Fn() -> Result<Config, Problems> + Send + Sync>,
    pub(super) parts: Parts,
}

impl Reloader {
    /// Reads the configuration, puts in force what can change, and tells in log and metrics what
    /// became of it. Requests under way end as they began.
    ///
    /// # Errors
    /// [`NotReloaded`], with everything as it was.
    pub fn reload(&self) -> Result<(), NotReloaded> {
        let now = SystemTime::now();
        let result = (self.read)().map_err(NotReloaded::from).and_then(|config| self.put_in_force(config, now));
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

    /// Puts in force what can change while the gateway serves. The keys that have changed and that need
    /// a restart.
    fn put_in_force(&self, config: Config, now: SystemTime) -> Result<Vec<String>, NotReloaded> {
        let parts = &self.parts;
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        for warning in config.warnings(i64::try_from(seconds).unwrap_or(i64::MAX)) {
            tracing::warn!(warning, "configuration warning");
        }
        let waiting = parts.given.need_restart(&config.values, &RELOADED).into_iter().map(str::to_owned).collect();
        // What can fail comes first.
        parts.identities.replace(config.identities)?;
        tell_expiries(&parts.metrics, &parts.identities);
        parts.accepted.store(Arc::new(Accepted { keys: config.keys, static_tokens: config.static_tokens }));
        Ok(waiting)
    }
}
