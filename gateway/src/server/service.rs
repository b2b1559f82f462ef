//! The health checks of the services: of each address at an interval, with DNS resolution.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service as PingoraService;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::config::{self, HealthCheck};
use crate::record::{Metrics, ServiceAddress};
use crate::upstream::{self, AddressFigures, Upstream, UpstreamClient};

/// The maximum interval until the first success, so that a required service does not delay the start.
const INITIAL_INTERVAL: Duration = Duration::from_millis(250);

/// The interval at which the names of a service are resolved again.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(2);

/// The maximum size of a response, in bytes.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// The maximum time of a check: a service may be allowed to take much longer for its responses.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// What the gateway forwards requests to, as of the last reload.
pub(super) struct Backends {
    /// The api and admin listeners of the backend that are in use.
    pub(super) upstreams: Vec<Arc<Upstream>>,
    /// The services, in the order of the configuration.
    pub(super) services: Vec<Service>,
}

/// A service with the state of its addresses. Clones share it.
#[derive(Clone)]
pub(super) struct Service {
    /// Sends requests to it.
    pub(super) client: UpstreamClient,
    pub(super) upstream: Arc<Upstream>,
    pub(super) required: bool,
    /// Each address with an upstream of its own for its checks, which compete with requests for no connection.
    pub(super) addresses: Vec<(String, Arc<Upstream>)>,
    health: HealthCheck,
    /// What it was made of.
    settings: config::Service,
}

impl Service {
    /// A service with this configuration, called `name`. `earlier` is the service with the same name of the previous
    /// configuration, from which it takes over the state of addresses, and connections if no key of the service but
    /// `required` and those of the checks has changed.
    pub(super) fn new(service: config::Service, name: &'static str, earlier: Option<&Self>) -> Self {
        if let Some(same) = earlier.and_then(|earlier| earlier.with_checks_of(&service)) {
            return same;
        }
        let config::Service { addresses, balancing, settings, is_http2, tls, required, health, .. } = service.clone();
        let of_checks = upstream::Settings {
            connect_timeout: settings.connect_timeout.min(CHECK_TIMEOUT),
            read_timeout: settings.read_timeout.min(CHECK_TIMEOUT),
            request_timeout: settings.request_timeout.min(CHECK_TIMEOUT),
            ..settings
        };
        let checked = |address: &upstream::Address| {
            let text = address.to_string();
            let checked = Upstream::new(name, address.clone(), of_checks).with_protocol(tls.clone(), is_http2);
            let before = earlier.and_then(|earlier| earlier.addresses.iter().find(|(other, _)| *other == text));
            let checked = match before {
                Some((_, before)) => checked.succeeding(before),
                None => checked,
            };
            (text, Arc::new(checked))
        };
        let checked = addresses.iter().map(checked).collect();
        let upstream = Upstream::balanced(name, addresses, settings, &balancing).with_protocol(tls.clone(), is_http2);
        let upstream = match earlier {
            Some(earlier) => Arc::new(upstream.succeeding(&earlier.upstream)),
            None => Arc::new(upstream),
        };
        let client = UpstreamClient::new(Arc::clone(&upstream));
        Self { client, upstream, required, addresses: checked, health, settings: service }
    }

    /// This service with `required` and the checks of `newer`; `None` if anything else differs. The certificates for TLS
    /// are those that `newer` has read.
    fn with_checks_of(&self, newer: &config::Service) -> Option<Self> {
        let config::Service { required, health, .. } = newer.clone();
        let settings = config::Service { required, health: health.clone(), ..self.settings.clone() };
        if settings != *newer {
            return None;
        }
        if let (Some(own), Some(newer)) = (&self.settings.tls, &newer.tls) {
            own.replace(newer);
        }
        Some(Self { required, health, settings, ..self.clone() })
    }

    /// Whether the checks of `other` are the same as those of this service.
    fn is_checked_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.upstream, &other.upstream) && self.health == other.health
    }

    /// Updates the metrics of each address.
    pub(super) fn record(&self, metrics: &Metrics) {
        for ((text, address), figures) in self.addresses.iter().zip(self.upstream.figures()) {
            let AddressFigures { requests, failures, ejections, is_ejected, in_flight, .. } = figures;
            let AddressFigures { connections, connect_time, queued, .. } = figures;
            metrics.service_address(&ServiceAddress {
                service: self.upstream.name,
                address: text,
                is_up: address.was_checked().then(|| address.is_up()),
                is_ejected,
                in_flight,
                queued,
                requests,
                failures,
                ejections,
                connections,
                connect_time,
            });
        }
    }

    /// The state of each address, as on `/readyz`.
    pub(super) fn states(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.addresses.iter().zip(self.upstream.figures()).map(|((text, address), figures)| {
            let state = match (address.is_up(), figures.is_ejected) {
                (false, _) => "down",
                (true, true) => "ejected",
                (true, false) => "up",
            };
            (text.as_str(), state)
        })
    }

    /// Sets the state of the address at `place`, and that of the service: up while one of its addresses is.
    fn set_up(&self, metrics: &Metrics, place: usize, is_up: bool) {
        let Some((_, address)) = self.addresses.get(place) else { return };
        address.set_up(is_up);
        self.upstream.note_check(place, is_up, self.health.path.is_some());
        let any = self.addresses.iter().any(|(_, address)| address.is_up());
        self.upstream.set_up(any);
        metrics.upstream_up(self.upstream.name, any);
    }
}

/// The service of pingora that sends the checks.
pub(super) struct ServiceChecks {
    pub(super) backends: watch::Receiver<Arc<Backends>>,
    pub(super) metrics: Arc<Metrics>,
}

/// The checks of one service. Dropping them ends them.
struct Checks {
    service: Service,
    tasks: JoinSet<()>,
}

impl Checks {
    fn start(service: &Service, metrics: &Arc<Metrics>) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(resolve(Arc::clone(&service.upstream)));
        for place in 0..service.addresses.len() {
            tasks.spawn(watch(service.clone(), place, Arc::clone(metrics)));
        }
        Self { service: service.clone(), tasks }
    }
}

impl ServiceChecks {
    /// Checks `services`, and no longer the others in `running`, whose series end.
    async fn replace(&self, running: Vec<Checks>, services: &[Service]) -> Vec<Checks> {
        let (remaining, ended): (Vec<_>, Vec<_>) = running
            .into_iter()
            .partition(|checks| services.iter().any(|service| service.is_checked_as(&checks.service)));
        for Checks { service, mut tasks } in ended {
            tasks.shutdown().await;
            let name = service.upstream.name;
            let newer = services.iter().find(|newer| newer.upstream.name == name);
            if newer.is_none() {
                self.metrics.remove_upstream(name);
            }
            for (address, _) in &service.addresses {
                if !newer.is_some_and(|newer| newer.addresses.iter().any(|(other, _)| other == address)) {
                    self.metrics.remove_service_address(name, address);
                }
            }
        }
        let mut all = remaining;
        for service in services {
            if !all.iter().any(|checks| service.is_checked_as(&checks.service)) {
                all.push(Checks::start(service, &self.metrics));
            }
        }
        all
    }
}

#[async_trait]
impl PingoraService for ServiceChecks {
    async fn start_service(&mut self, _: Option<ListenFds>, mut shutdown: ShutdownWatch, _: usize) {
        let mut running = Vec::new();
        loop {
            let backends = Arc::clone(&self.backends.borrow_and_update());
            running = self.replace(running, &backends.services).await;
            tokio::select! {
                changed = self.backends.changed() => if changed.is_err() { break },
                // A closed channel means shutdown as well.
                _ = shutdown.changed() => return,
            }
        }
        // Nothing can reload any more. Dropping the checks aborts them.
        let _ = shutdown.changed().await;
    }

    fn name(&self) -> &str {
        "service checks"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}

/// Resolves the names of a service repeatedly.
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
    // After a reload the address may have been checked before.
    let mut was_up = address.was_checked().then(|| address.is_up());
    let mut verdict = Verdict { is_up: was_up, contradictions: 0 };
    loop {
        let checked = match address.resolve().await {
            Ok(()) => check(&client, &service.health).await,
            Err(error) => Err(format!("the name cannot be resolved: {error}")),
        };
        let is_up = verdict.after(checked.is_ok(), &service.health);
        service.set_up(&metrics, place, is_up);
        if was_up != Some(is_up) {
            let name = address.name;
            match &checked {
                Err(error) if !is_up => {
                    tracing::warn!(service = name, address = text, error, "the address of the service is down");
                }
                _ => tracing::info!(service = name, address = text, "the address of the service is up"),
            }
            was_up = Some(is_up);
        }
        let is_new = !address.was_reached();
        let interval = service.health.interval;
        sleep(if is_new { interval.min(INITIAL_INTERVAL) } else { interval }).await;
    }
}

/// Whether an address is up, as of its last checks.
#[derive(Debug, Default)]
struct Verdict {
    is_up: Option<bool>,
    /// The checks in a row that contradict it.
    contradictions: u64,
}

impl Verdict {
    /// Whether the address is up after a check that has succeeded or failed. The first check decides alone.
    fn after(&mut self, has_succeeded: bool, health: &HealthCheck) -> bool {
        let was_up = *self.is_up.get_or_insert(has_succeeded);
        if was_up == has_succeeded {
            self.contradictions = 0;
            return was_up;
        }
        self.contradictions += 1;
        let needed = if has_succeeded { health.successes } else { health.failures };
        if self.contradictions < needed {
            return was_up;
        }
        *self = Self { is_up: Some(has_succeeded), contradictions: 0 };
        has_succeeded
    }
}

/// Checks that a connection succeeds, or that the response to `GET` of the path has the expected status.
async fn check(client: &UpstreamClient, health: &HealthCheck) -> Result<(), String> {
    let Some(path) = &health.path else {
        return client.upstream().check_connection().await.map_err(|error| error.to_string());
    };
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = path.clone();
    let response = client.send(request, MAX_RESPONSE_BYTES).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let is_expected = match health.status {
        Some(expected) => status.as_u16() == expected,
        None => status.is_success() || status.is_redirection(),
    };
    if is_expected { Ok(()) } else { Err(format!("status {}", status.as_u16())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_that_accepts_and_sends_nothing_is_down_after_ten_seconds() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hour = Duration::from_secs(3600);
        let settings = upstream::Settings {
            connect_timeout: hour,
            read_timeout: hour,
            request_timeout: hour,
            idle_timeout: hour,
            max_connections: 4,
        };
        let health = HealthCheck {
            path: Some("/live".parse().unwrap()),
            status: None,
            interval: Duration::from_secs(2),
            failures: 1,
            successes: 1,
        };
        let service = config::Service {
            name: "app".to_owned(),
            addresses: vec![upstream::Address::Inet(listener.local_addr().unwrap())],
            balancing: upstream::Balancing::default(),
            settings,
            tls: None,
            is_http2: false,
            required: false,
            health: health.clone(),
        };
        let service = Service::new(service, "app", None);
        let client = UpstreamClient::new(Arc::clone(&service.addresses[0].1));
        let began = tokio::time::Instant::now();
        check(&client, &health).await.unwrap_err();
        assert_eq!(began.elapsed().as_secs(), CHECK_TIMEOUT.as_secs());
    }

    #[test]
    fn a_verdict_changes_after_enough_checks_in_a_row() {
        let health = HealthCheck { path: None, status: None, interval: Duration::ZERO, failures: 3, successes: 2 };
        let mut verdict = Verdict::default();
        for (checks, expected) in [("+--+--", "++++++"), ("-+-+--+++", "-------++"), ("----", "++--")] {
            let after: String =
                (checks.chars()).map(|check| if verdict.after(check == '+', &health) { '+' } else { '-' }).collect();
            assert_eq!(after, expected, "{checks}");
        }
    }
}
