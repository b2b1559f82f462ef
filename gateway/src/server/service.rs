//! The health checks of the services: of each address at an interval, with DNS resolution.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Uri};
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service as PingoraService;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::config;
use crate::record::Metrics;
use crate::upstream::{Upstream, UpstreamClient};

/// The maximum interval until the first success, so that a required service does not delay the start.
const INITIAL_INTERVAL: Duration = Duration::from_millis(250);

/// The interval at which the names of a service are resolved again.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(2);

/// The maximum size of a response, in bytes.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// A service with the state of its addresses.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) upstream: Arc<Upstream>,
    pub(super) required: bool,
    /// Each address with an upstream of its own for its checks, which compete with requests for no connection.
    pub(super) addresses: Vec<(String, Arc<Upstream>)>,
    health_path: Option<Uri>,
    health_interval: Duration,
}

impl Service {
    pub(super) fn new(service: config::Service) -> Self {
        let config::Service { name, addresses, balancing, settings, tls, required, health_path, health_interval } =
            service;
        // Every error of the upstream client has the name. It is leaked once at the start, since services are not
        // reloaded.
        let name: &'static str = name.leak();
        let checked = |address: &crate::upstream::Address| {
            (address.to_string(), Arc::new(Upstream::new(name, address.clone(), settings).with_tls(tls.clone())))
        };
        let checked = addresses.iter().map(checked).collect();
        let upstream = Arc::new(Upstream::balanced(name, addresses, settings, &balancing).with_tls(tls));
        Self { upstream, required, addresses: checked, health_path, health_interval }
    }

    /// Sets the state of the address at `place`, and that of the service: up while one of its addresses is.
    fn set_up(&self, metrics: &Metrics, place: usize, is_up: bool) {
        let Some((text, address)) = self.addresses.get(place) else { return };
        address.set_up(is_up);
        self.upstream.note_check(place, is_up, self.health_path.is_some());
        let any = self.addresses.iter().any(|(_, address)| address.is_up());
        self.upstream.set_up(any);
        metrics.upstream_up(self.upstream.name, any);
        metrics.service_address_up(self.upstream.name, text, is_up);
    }
}

/// The service of pingora that sends the checks.
pub(super) struct ServiceChecks {
    pub(super) services: Vec<Service>,
    pub(super) metrics: Arc<Metrics>,
}

#[async_trait]
impl PingoraService for ServiceChecks {
    async fn start_service(&mut self, _: Option<ListenFds>, mut shutdown: ShutdownWatch, _: usize) {
        let mut checks = JoinSet::new();
        for service in &self.services {
            checks.spawn(resolve(Arc::clone(&service.upstream)));
            for place in 0..service.addresses.len() {
                checks.spawn(watch(service.clone(), place, Arc::clone(&self.metrics)));
            }
        }
        // Dropping the set aborts the checks. A closed channel means shutdown as well.
        let _ = shutdown.changed().await;
    }

    fn name(&self) -> &str {
        "service checks"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}

/// Resolves the names of a service again and again.
async fn resolve(upstream: Arc<Upstream>) {
    loop {
        let result = upstream.resolve().await;
        // The check of the address logs the error.
        sleep(if result.is_ok() { RESOLVE_INTERVAL } else { INITIAL_INTERVAL }).await;
    }
}

/// Checks one address of a service.
async fn watch(service: Service, place: usize, metrics: Arc<Metrics>) {
    let Some((text, address)) = service.addresses.get(place) else { return };
    let client = UpstreamClient::new(Arc::clone(address));
    let mut was_up = None;
    loop {
        let checked = match address.resolve().await {
            Ok(()) => check(&client, service.health_path.as_ref()).await,
            Err(error) => Err(format!("the name cannot be resolved: {error}")),
        };
        let is_up = checked.is_ok();
        service.set_up(&metrics, place, is_up);
        if was_up != Some(is_up) {
            let name = address.name;
            match &checked {
                Ok(()) => tracing::info!(service = name, address = text, "the address of the service is up"),
                Err(error) => {
                    tracing::warn!(service = name, address = text, error, "the address of the service is down");
                }
            }
            was_up = Some(is_up);
        }
        let is_new = !address.was_reached();
        sleep(if is_new { service.health_interval.min(INITIAL_INTERVAL) } else { service.health_interval }).await;
    }
}

/// Checks that a connection succeeds, or that the response to `GET` of `path` has a status of 200 to 399.
async fn check(client: &UpstreamClient, path: Option<&Uri>) -> Result<(), String> {
    let Some(path) = path else {
        return client.upstream().check_connection().await.map_err(|error| error.to_string());
    };
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = path.clone();
    let response = client.send(request, MAX_RESPONSE_BYTES).await.map_err(|error| error.to_string())?;
    let status = response.status();
    if status.is_success() || status.is_redirection() { Ok(()) } else { Err(format!("status {}", status.as_u16())) }
}
