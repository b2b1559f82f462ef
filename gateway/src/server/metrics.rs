//! What the metrics need from the stages and the configuration: label values, the certificates, the routes.

use super::follow::PURGED_BY_FEED;
use super::ops::PURGED_BY_OPS;
use super::service::Service;
use crate::acme::AcmeError;
use crate::authenticate;
use crate::cache;
use crate::flow::TUNNEL_OUTCOMES;
use crate::limit::Limits;
use crate::listener::{ConnectionReaped, ConnectionRefused, HandshakeFailure};
use crate::login;
use crate::record::{Labels, Metrics, RouteInfo};
use crate::revocation;
use crate::route::{self, Route, RouteTable};
use crate::ticket::TicketError;
use crate::tls::{self, Identities, Identity};

/// Records the validity of the certificates in the metrics.
pub(super) fn record_certificates(metrics: &Metrics, identities: &Identities) {
    let all = identities.all();
    let names: Vec<_> = all.iter().map(|identity| identity.first_name()).collect();
    let validity = |identity: &Identity| identity.not_before()..=identity.not_after;
    metrics.certificates().replace(names.iter().zip(&all).map(|(name, identity)| (name.as_str(), validity(identity))));
}

/// Records in the metrics which service each route uses. `services` are in the order of the configuration.
pub(super) fn record_routes(metrics: &Metrics, routes: &RouteTable, services: &[Service]) {
    let configured = routes.iter().map(|route| RouteInfo {
        route: &route.name,
        service: match route.service {
            None => "api",
            Some(place) => services.get(place).map_or("none", |service| service.upstream.name),
        },
        stream: route.stream,
    });
    let own = |(route, service)| RouteInfo { route, service, stream: false };
    let own_routes = [(route::LOGIN, "admin"), (route::LOGOUT, "admin"), (route::NONE, "none")].map(own);
    let ticket = routes.has_tickets().then_some(own((route::TICKET, "none")));
    metrics.routes().replace(configured.chain(own_routes).chain(ticket));
}

/// Calls `use_labels` with the labels of a gateway with these routes, and with certificates by ACME.
pub(super) fn with_labels<T>(routes: &RouteTable, has_acme: bool, use_labels: impl FnOnce(&Labels<'_>) -> T) -> T {
    let failures = HandshakeFailure::ALL.map(HandshakeFailure::label);
    let refused = ConnectionRefused::ALL.map(ConnectionRefused::label);
    let reaped = ConnectionReaped::ALL.map(ConnectionReaped::label);
    let has_tickets = routes.has_tickets();
    let refusals = authenticate::AuthenticationError::LABELS.into_iter().chain([revocation::REVOKED]);
    let refusals: Vec<_> = refusals.chain(TicketError::LABELS.into_iter().filter(|_| has_tickets)).collect();
    let named = |has: fn(&Route) -> bool| {
        routes.iter().filter(move |route| has(route)).map(|route| &*route.name).collect::<Vec<_>>()
    };
    use_labels(&Labels {
        cache: &cache::CacheStatus::LABELS,
        cached_routes: named(|route| route.cached),
        cache_purges: &[PURGED_BY_FEED, PURGED_BY_OPS],
        logins: &login::LoginError::LABELS,
        token_refusals: &refusals,
        restricted_routes: named(Route::has_requirement),
        upgrade_routes: named(|route| route.upgrade.is_some()),
        tunnel_outcomes: &TUNNEL_OUTCOMES,
        rate_limited: &Limits::LABELS,
        acme_results: if has_acme { &AcmeError::RESULTS } else { &[] },
        handshakes: &tls::VERSIONS,
        handshake_failures: &failures,
        connections_refused: &refused,
        connections_reaped: &reaped,
        routes: named(|_| true)
            .into_iter()
            .chain(route::RESERVED_NAMES)
            .chain(has_tickets.then_some(route::TICKET))
            .collect(),
    })
}
