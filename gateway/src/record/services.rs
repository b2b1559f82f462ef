//! The metrics of the services, for each address. The configuration determines the series.

use std::time::Duration;

use prometheus::{Counter, IntCounterVec, IntGaugeVec, Opts, Registry};

/// The labels of each metric.
const LABELS: [&str; 2] = ["service", "address"];

/// The metrics of the services.
pub(super) struct Services {
    up: IntGaugeVec,
    ejected: IntGaugeVec,
    in_flight: IntGaugeVec,
    queued: IntGaugeVec,
    requests: IntCounterVec,
    failures: IntCounterVec,
    ejections: IntCounterVec,
    connections: IntCounterVec,
    connect_seconds: prometheus::CounterVec,
}

/// The state of one address of a service.
#[derive(Clone, Copy, Debug)]
pub struct ServiceAddress<'a> {
    /// The name of the service.
    pub service: &'a str,
    /// The address as configured.
    pub address: &'a str,
    /// Whether it passed the last health check; `None` before the first.
    pub is_up: Option<bool>,
    /// Whether it is ejected.
    pub is_ejected: bool,
    /// Requests whose response is not complete.
    pub in_flight: u64,
    /// Requests that wait for a connection to it.
    pub queued: u64,
    /// Requests that were sent to it since the start.
    pub requests: u64,
    /// Failures since the start.
    pub failures: u64,
    /// Ejections since the start.
    pub ejections: u64,
    /// Connections that were opened since the start.
    pub connections: u64,
    /// The sum of the times that opening them took.
    pub connect_time: Duration,
}

impl Services {
    /// Registers the metrics, without series.
    ///
    /// # Errors
    /// Two metrics have the same name: a bug in this file.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &LABELS)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let gauges = |name: &str, help: &str| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), &LABELS)?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let seconds = Opts::new(
            "gateway_service_connect_seconds_total",
            "Seconds that opening the connections to an address of a service took, in total.",
        );
        let connect_seconds = prometheus::CounterVec::new(seconds, &LABELS)?;
        registry.register(Box::new(connect_seconds.clone()))?;
        Ok(Self {
            up: gauges("gateway_service_address_up", "Whether an address of a service passed the last health check.")?,
            ejected: gauges(
                "gateway_service_address_ejected",
                "Whether an address of a service is ejected because of failures.",
            )?,
            in_flight: gauges("gateway_service_requests_in_flight", "Requests in flight to an address of a service.")?,
            queued: gauges(
                "gateway_service_requests_queued",
                "Requests that wait for a connection to an address of a service.",
            )?,
            requests: counters(
                "gateway_service_requests_total",
                "Requests sent to an address of a service, retries included.",
            )?,
            failures: counters(
                "gateway_service_failures_total",
                "Failed connections and requests to an address of a service.",
            )?,
            ejections: counters("gateway_service_ejections_total", "Ejections of an address of a service.")?,
            connections: counters(
                "gateway_service_connections_total",
                "Connections opened to an address of a service.",
            )?,
            connect_seconds,
        })
    }

    /// Removes the series of one address.
    pub(super) fn remove(&self, service: &str, address: &str) {
        let labels = &[service, address];
        for gauges in [&self.up, &self.ejected, &self.in_flight, &self.queued] {
            // Fails if there is none.
            let _ = gauges.remove_label_values(labels);
        }
        for counters in [&self.requests, &self.failures, &self.ejections, &self.connections] {
            let _ = counters.remove_label_values(labels);
        }
        let _ = self.connect_seconds.remove_label_values(labels);
    }

    /// Sets the metrics of one address.
    pub(super) fn set(&self, state: &ServiceAddress<'_>) {
        let labels = &[state.service, state.address];
        let gauge = |gauges: &IntGaugeVec, value: u64| {
            gauges.with_label_values(labels).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        let counter = |counters: &IntCounterVec, value: u64| {
            let counter = counters.with_label_values(labels);
            counter.inc_by(value.saturating_sub(counter.get()));
        };
        if let Some(is_up) = state.is_up {
            gauge(&self.up, is_up.into());
        }
        gauge(&self.ejected, state.is_ejected.into());
        gauge(&self.in_flight, state.in_flight);
        gauge(&self.queued, state.queued);
        counter(&self.requests, state.requests);
        counter(&self.failures, state.failures);
        counter(&self.ejections, state.ejections);
        counter(&self.connections, state.connections);
        let seconds: Counter = self.connect_seconds.with_label_values(labels);
        seconds.inc_by((state.connect_time.as_secs_f64() - seconds.get()).max(0.0));
    }
}
