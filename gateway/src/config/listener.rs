//! `[listener]`, `[redirect]` and `[client]`.

use http::HeaderName;
use http::header::FORWARDED;

use super::Service;
use crate::client::{Proxies, parse_network};
use crate::listener::Settings;
use crate::upstream;
use holodule_settings::{Source, shown};

/// File descriptors for everything but client, redirect and upstream connections: the ops listener, other sockets,
/// files.
const RESERVED_DESCRIPTORS: u64 = 256;

/// The maximum number of concurrent connections of the redirect listener. They are short, since its responses cost
/// next to nothing.
pub const MAX_REDIRECT_CONNECTIONS: u16 = 1024;

/// Notes about valid settings, for the operator to review.
pub(super) fn notes(proxies: &Proxies) -> Option<String> {
    if proxies.trusted.is_empty() {
        return None;
    }
    let trusted: Vec<_> = proxies.trusted.iter().map(ToString::to_string).collect();
    let how = proxies.header.as_ref().map_or("the PROXY protocol", HeaderName::as_str);
    Some(format!("client.trusted_proxies: {} can set any client address by {how}", trusted.join(", ")))
}

/// Reads the trusted proxies, and how they pass on the client address.
pub(super) fn read_proxies(source: &mut Source) -> Proxies {
    let mut trusted = Vec::new();
    for text in source.get_or("client.trusted_proxies", Vec::<String>::new()) {
        match parse_network(&text) {
            Ok(network) => trusted.push(network),
            Err(error) => source.problem("client.trusted_proxies", format!("{} {error}", shown(&text))),
        }
    }
    let header = source.parse("client.header", |name| match name.parse::<HeaderName>() {
        // Its syntax differs from the list in X-Forwarded-For.
        Ok(FORWARDED) => Err("must have the syntax of X-Forwarded-For; Forwarded is not supported"),
        Ok(name) => Ok(name),
        Err(_) => Err("is not a header name"),
    });
    let header = header.unwrap_or(HeaderName::from_static("x-forwarded-for"));
    let proxy_protocol = source.get_or("listener.proxy_protocol", false);
    if proxy_protocol && trusted.is_empty() {
        source.conflict(
            "listener.proxy_protocol",
            "requires client.trusted_proxies: the header is accepted only from these",
        );
    }
    Proxies { trusted, header: (!proxy_protocol).then_some(header) }
}

/// Reads the HTTPS port in redirects, if it differs from the port of the public listener.
pub(super) fn read_redirect_port(source: &mut Source) -> Option<u16> {
    let port: u16 = source.get("redirect.port")?;
    if port == 0 {
        source.problem("redirect.port", "must be a port that a client can connect to: 1 to 65535, not 0");
    }
    Some(port)
}

/// Reads the settings of the public listener.
pub(super) fn read(source: &mut Source, proxies: &Proxies) -> Settings {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = source.number("listener.workers", cores as u64, 1..=1024);
    let max_connections = source.number("listener.max_connections", 15_000, 1..=1_000_000);
    let per_address = source.number("listener.max_connections_per_address", 2_000, 1..=1_000_000);
    Settings {
        handshake_timeout: source.seconds("listener.handshake_timeout", 10.0, 0.01..=600.0),
        header_timeout: source.seconds("listener.header_timeout", 10.0, 0.01..=600.0),
        keepalive_timeout: source.seconds("listener.keepalive_timeout", 60.0, 0.01..=3600.0),
        read_timeout: source.seconds("listener.read_timeout", 10.0, 0.01..=600.0),
        write_timeout: source.seconds("listener.write_timeout", 30.0, 0.01..=3600.0),
        max_connections: u32::try_from(max_connections).unwrap_or(u32::MAX),
        max_connections_per_address: u32::try_from(per_address).unwrap_or(u32::MAX),
        proxy_protocol: proxies.header.is_none(),
        trusted_proxies: proxies.trusted.clone(),
        workers: usize::try_from(workers).unwrap_or(1),
        drain_timeout: source.seconds("drain_timeout", 10.0, 0.0..=600.0),
    }
}

/// Reports a problem if the connection limits together exceed the `available` file descriptors. Otherwise clients could
/// exhaust them before a limit applies.
pub(super) fn check_descriptors(
    source: &mut Source,
    settings: &Settings,
    (upstream, services): (&upstream::Settings, &[Service]),
    redirects: bool,
    available: u64,
) {
    // Each address has a health check, on a connection of its own.
    let of_service = |service: &Service| u64::from(service.settings.max_connections) + service.addresses.len() as u64;
    let upstreams = 2 * u64::from(upstream.max_connections) + services.iter().map(of_service).sum::<u64>();
    let redirects = if redirects { u64::from(MAX_REDIRECT_CONNECTIONS) } else { 0 };
    let others = upstreams + redirects + RESERVED_DESCRIPTORS;
    if u64::from(settings.max_connections) + others > available {
        source.conflict(
            "listener.max_connections",
            format!(
                "{} do not fit the hard limit of {available} open files: {upstreams} are for the backends and {} for \
                 other things, which leaves {}; raise the limit (ulimit -Hn, LimitNOFILE of systemd), or lower this \
                 or {}",
                settings.max_connections,
                others - upstreams,
                available.saturating_sub(others),
                if services.is_empty() {
                    "upstream.max_connections"
                } else {
                    "max_connections of upstream or a service"
                },
            ),
        );
    }
}
