//! The service that obtains and renews certificates by ACME.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use tokio::time::sleep;

use super::NotStarted;
use super::metrics::record_certificates;
use crate::acme::{Acme, Event, INTERVAL, Outcome, Settings, Storage};
use crate::clock::unix_now;
use crate::record::Metrics;
use crate::tls::{Identities, Identity};

/// The service.
pub(super) struct Certificates {
    acme: Acme,
    identities: Arc<Identities>,
    metrics: Arc<Metrics>,
    /// The folder of the http-01 challenges.
    pub(super) challenges: PathBuf,
}

/// The certificates `configured`, and those of `settings` that are stored, with the service for them.
pub(super) fn identities(
    configured: Vec<Identity>,
    settings: Option<Settings>,
    metrics: &Arc<Metrics>,
) -> Result<(Arc<Identities>, Option<Certificates>), NotStarted> {
    let Some(settings) = settings else {
        let identities = Arc::new(Identities::new(configured)?);
        record_certificates(metrics, &identities);
        return Ok((identities, None));
    };
    let storage = Storage::open(&settings)?;
    let challenges = storage.http_challenges();
    let identities = Arc::new(Identities::with_acme(configured, Arc::new(storage.clone()))?);
    let acme = Acme::new(settings, storage);
    let mut service =
        Certificates { acme, identities: Arc::clone(&identities), metrics: Arc::clone(metrics), challenges };
    let events = service.acme.load();
    service.apply(&events);
    record_certificates(metrics, &identities);
    Ok((identities, Some(service)))
}

impl Certificates {
    /// Serves new certificates, and reports what has happened.
    fn apply(&self, events: &[Event]) {
        if events.iter().any(|event| matches!(event.outcome, Outcome::Obtained | Outcome::Loaded)) {
            match self.identities.replace_obtained(self.acme.identities()) {
                Ok(()) => record_certificates(&self.metrics, &self.identities),
                Err(error) => tracing::error!(%error, "the certificates by ACME cannot be served"),
            }
        }
        for Event { name, outcome } in events {
            match outcome {
                Outcome::Obtained => {
                    tracing::info!(certificate = name, "a certificate was obtained by ACME and is served");
                    self.metrics.acme().attempt("success");
                }
                Outcome::Loaded => {
                    tracing::info!(certificate = name, "a certificate by ACME was loaded and is served");
                }
                Outcome::Failed { error, retry_at } => {
                    let next_attempt_s = retry_at.saturating_sub(unix_now());
                    tracing::error!(
                        certificate = name,
                        %error,
                        next_attempt_s,
                        "no certificate could be obtained by ACME; any earlier one is still served"
                    );
                    self.metrics.acme().attempt(error.label());
                }
                Outcome::NotLoaded(error) => {
                    tracing::error!(certificate = name, %error, "a stored certificate cannot be used");
                }
            }
        }
        for state in self.acme.states() {
            self.metrics.acme().certificate(state.name, state.renewal, state.failures);
        }
    }
}

#[async_trait]
impl Service for Certificates {
    async fn start_service(&mut self, _: Option<ListenFds>, mut shutdown: ShutdownWatch, _: usize) {
        loop {
            tokio::select! {
                events = self.acme.step(unix_now()) => self.apply(&events),
                // A closed channel means the same as a change.
                _ = shutdown.changed() => return,
            }
            tokio::select! {
                () = sleep(INTERVAL) => {}
                _ = shutdown.changed() => return,
            }
        }
    }

    fn name(&self) -> &str {
        "acme"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}
