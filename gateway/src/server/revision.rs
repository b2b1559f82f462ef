//! What one configuration decides, built from the parts of the gateway that outlive a reload.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use holodule_telemetry::Tracer;

use super::redirect;
use super::service::{Backends, Service};
use crate::authenticate::Accepted;
use crate::cache::{self, Cache};
use crate::config::{self, Config};
use crate::downstream::http2::http2_options;
use crate::drain::Draining;
use crate::fan_out::FanOut;
use crate::flow::{Flow, HeadInspector, Live};
use crate::limit::Limits;
use crate::listener::Serving;
use crate::login;
use crate::record::Metrics;
use crate::record::log::Control;
use crate::revocation::Revocation;
use crate::ticket::Tickets;
use crate::tls::Identities;
use crate::upstream::{Address, Upstream, UpstreamClient};

/// The parts of the gateway that outlive a reload.
pub(super) struct Lasting {
    pub(super) metrics: Arc<Metrics>,
    pub(super) identities: Arc<Identities>,
    pub(super) revocation: Option<Revocation>,
    /// The zero of the clock of limits and used tickets.
    pub(super) started: Instant,
    pub(super) tickets: Arc<Tickets>,
    /// Whether the gateway drains.
    pub(super) draining: Draining,
    pub(super) log: Option<Control>,
    /// Starts the spans of requests, if traces are exported.
    pub(super) tracer: Option<Tracer>,
    pub(super) api: Arc<Upstream>,
    pub(super) api_client: UpstreamClient,
    pub(super) admin: Admin,
    /// The port of the public listener.
    pub(super) https_port: u16,
    /// The folder of the http-01 challenges of ACME, if it is enabled.
    pub(super) acme_challenges: Option<PathBuf>,
    /// The names that services have had. Each is leaked once, since errors and metrics refer to it.
    pub(super) service_names: Mutex<BTreeSet<&'static str>>,
    /// The number of reloads.
    pub(super) reloads: AtomicU64,
}

/// The admin listener of the backend, once it is needed.
#[derive(Default)]
pub(super) struct Admin {
    upstream: OnceLock<(Arc<Upstream>, UpstreamClient)>,
    login: OnceLock<Arc<login::Backend>>,
}

impl Admin {
    /// It at `addresses`, unless it is known already.
    pub(super) fn at(
        &self,
        addresses: Option<Vec<Address>>,
        settings: crate::upstream::Settings,
    ) -> Option<&(Arc<Upstream>, UpstreamClient)> {
        let Some(addresses) = addresses else { return self.upstream.get() };
        Some(self.upstream.get_or_init(|| {
            let upstream = Arc::new(Upstream::with_addresses("admin", addresses, settings));
            (Arc::clone(&upstream), UpstreamClient::new(upstream))
        }))
    }

    fn login(&self, client: &UpstreamClient) -> Arc<login::Backend> {
        Arc::clone(self.login.get_or_init(|| Arc::new(login::Backend::new(client.clone()))))
    }
}

/// Everything that a reload replaces at once.
pub(super) struct Revision {
    pub(super) serving: Serving<Flow>,
    pub(super) backends: Backends,
    pub(super) redirect: redirect::Settings,
    pub(super) allowed_hosts: Vec<String>,
}

/// The revision that is replaced.
#[derive(Clone, Copy)]
pub(super) struct Earlier<'a> {
    pub(super) flow: &'a Flow,
    pub(super) backends: &'a Backends,
}

impl Lasting {
    /// The first revision.
    pub(super) fn first(&self, config: Config) -> Revision {
        self.revise(config, None)
    }

    /// The revision that follows `earlier`, from which it takes over the counts of limits, cached responses, connections,
    /// and the health of addresses. Nothing can fail any more: the tables that both share are changed here.
    pub(super) fn next(&self, config: Config, earlier: Earlier<'_>) -> Revision {
        self.revise(config, Some(earlier))
    }

    fn revise(&self, config: Config, earlier: Option<Earlier<'_>>) -> Revision {
        let Config { flow: settings, proxies, keys, static_tokens, limit, mut routes, cache, log, listener, .. } =
            config;
        let Config { services, admin, login, upstream, acme_challenges, redirect_port, ops_allowed_hosts, .. } = config;
        let now = self.started.elapsed();
        if let Some(earlier) = earlier {
            routes.succeed(&earlier.flow.routes, self.reloads.fetch_add(1, Ordering::Relaxed), now);
        }
        let routes = Arc::new(routes);
        let accepted = Arc::new(Accepted { keys, static_tokens });
        let live = earlier.map_or_else(
            || Arc::new(Live::new(Arc::clone(&accepted), Arc::clone(&routes))),
            |earlier| Arc::clone(&earlier.flow.live),
        );
        let limits =
            earlier.map_or_else(|| Limits::new(&limit), |earlier| earlier.flow.limits.with_settings(&limit, now));
        let limits = Arc::new(limits);
        let services: Vec<_> = services.into_iter().map(|service| self.service(service, earlier)).collect();
        let admin = self.admin.at(admin, upstream).filter(|_| login || self.revocation.is_some());
        let uses_api = !routes.has_only_services();
        let upstreams = uses_api.then_some(&self.api).into_iter().chain(admin.map(|(upstream, _)| upstream)).cloned();
        let sizes = settings.sizes;
        let access_log = self.log.as_ref().map(|control| control.access(log.level)).unwrap_or_default();
        let proxies = Arc::new(proxies);
        let inspector = HeadInspector {
            proxies: Arc::clone(&proxies),
            sizes,
            hsts: settings.hsts.clone(),
            limits: Arc::clone(&limits),
            started: self.started,
            allowed_origins: settings.allowed_origins.clone(),
            metrics: Arc::clone(&self.metrics),
            access_log: access_log.clone(),
        };
        let redirect = self.redirect_settings(&settings, redirect_port, acme_challenges);
        let fan_out = earlier.map_or_else(
            || FanOut::new(settings.stream.fan_out),
            |earlier| earlier.flow.fan_out.with_settings(settings.stream.fan_out),
        );
        let flow = Flow {
            settings,
            proxies,
            accepted,
            live,
            login: admin.filter(|_| login).map(|(_, client)| self.admin.login(client)),
            revocation: self.revocation.clone(),
            limits,
            started: self.started,
            tickets: routes.has_tickets().then(|| Arc::clone(&self.tickets)),
            routes,
            api: self.api_client.clone(),
            services: services.iter().map(|service| service.client.clone()).collect(),
            draining: self.draining.clone(),
            fan_out,
            cache: cache.map(|settings| with_cache(settings, earlier)),
            metrics: Arc::clone(&self.metrics),
            access_log,
            tracer: self.tracer.clone(),
        };
        let max_head = sizes.max_header_bytes.saturating_add(sizes.max_target_bytes);
        let serving = Serving {
            handler: flow,
            inspector: Box::new(inspector),
            settings: listener,
            http2: http2_options(max_head, sizes.max_header_fields),
        };
        let backends = Backends { upstreams: upstreams.collect(), services };
        Revision { serving, backends, redirect, allowed_hosts: ops_allowed_hosts }
    }

    fn service(&self, service: config::Service, earlier: Option<Earlier<'_>>) -> Service {
        let earlier = earlier
            .and_then(|earlier| earlier.backends.services.iter().find(|earlier| earlier.upstream.name == service.name));
        let name = earlier.map_or_else(|| self.service_name(&service.name), |earlier| earlier.upstream.name);
        Service::new(service, name, earlier)
    }

    fn service_name(&self, name: &str) -> &'static str {
        let mut names = self.service_names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(name).copied().unwrap_or_else(|| {
            let name: &'static str = name.to_owned().leak();
            names.insert(name);
            name
        })
    }

    fn redirect_settings(
        &self,
        flow: &config::FlowSettings,
        port: Option<u16>,
        challenges: Option<PathBuf>,
    ) -> redirect::Settings {
        let https_port = port.unwrap_or(self.https_port);
        let challenges = self.acme_challenges.iter().cloned().chain(challenges).collect();
        redirect::Settings { hosts: flow.hosts.clone(), sizes: flow.sizes, https_port, challenges }
    }
}

/// The cache of `earlier` with these settings, or a new one.
fn with_cache(settings: cache::Settings, earlier: Option<Earlier<'_>>) -> Cache {
    let before = earlier.and_then(|earlier| earlier.flow.cache.as_ref());
    before.map_or_else(|| Cache::new(settings), |before| before.with_settings(settings))
}
