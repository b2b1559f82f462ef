//! `[listener]`, and `[client]`: how connections are taken, and whose they are.

use http::HeaderName;
use http::header::FORWARDED;

use crate::client::{Proxies, parse_network};
use crate::listener::Settings;
use crate::upstream;
use holodule_settings::{Source, shown};

/// The descriptors of everything but connections of clients and to the backends: the ops
/// listener's connections, the other sockets, files.
const RESERVED_DESCRIPTORS: u64 = 256;

/// The connections that the redirect listener takes at once. What it serves costs next to
/// nothing, so they are short.
pub const MAX_REDIRECT_CONNECTIONS: u16 = 1024;

/// What is allowed, but worth knowing before it runs.
pub(super) fn remarks(proxies: &Proxies) -> Option<String> {
    if proxies.trusted.is_empty() {
        return None;
    }
    let trusted: Vec<_> = proxies.trusted.iter().map(ToString::to_string).collect();
    let how = proxies.header.as_ref().map_or("the PROXY protocol", HeaderName::as_str);
    Some(format!("client.trusted_proxies: {} can tell any client's address by {how}", trusted.join(", ")))
}

/// The proxies that are believed, and how they tell whom they speak for.
pub(super) fn read_proxies(source: &mut Source) -> Proxies {
    let mut trusted = Vec::new();
    for text in source.get_or("client.trusted_proxies", Vec::<String>::new()) {
        match parse_network(&text) {
            Ok(network) => trusted.push(network),
            Err(error) => source.problem("client.trusted_proxies", format!("{} {error}", shown(&text))),
        }
    }
    let header = source.parse("client.header", |name| match name.parse::<HeaderName>() {
        // Another grammar than that of the list.
        Ok(FORWARDED) => Err("must be a list of addresses as X-Forwarded-For is, which Forwarded is not"),
        Ok(name) => Ok(name),
        Err(_) => Err("is no header name"),
    });
    let header = header.unwrap_or(HeaderName::from_static("x-forwarded-for"));
    let proxy_protocol = source.get_or("listener.proxy_protocol", false);
    if proxy_protocol && trusted.is_empty() {
        source.conflict("listener.proxy_protocol", "needs client.trusted_proxies: it is believed of no one else");
    }
    Proxies { trusted, header: (!proxy_protocol).then_some(header) }
}

/// The port that redirects name, where it is not that of the public listener.
pub(super) fn read_redirect_port(source: &mut Source) -> Option<u16> {
    let port: u16 = source.get("redirect.port")?;
    if port == 0 {
        source.problem("redirect.port", "0 is no port that a client can connect to: must be within 1 and 65535");
    }
    Some(port)
}

/// How connections are taken.
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

/// Tells where `available` descriptors are too few for all the connections there may be: then
/// the caps would not hold, and a client could take the descriptors that others need.
pub(super) fn check_descriptors(
    source: &mut Source,
    settings: &Settings,
    upstream: &upstream::Settings,
    redirects: bool,
    available: u64,
) {
    let upstreams = 2 * u64::from(upstream.max_connections);
    let redirects = if redirects { u64::from(MAX_REDIRECT_CONNECTIONS) } else { 0 };
    let others = upstreams + redirects + RESERVED_DESCRIPTORS;
    if u64::from(settings.max_connections) + others > available {
        source.conflict(
            "listener.max_connections",
            format!(
                "{} do not fit the hard limit of {available} open files: {upstreams} are for the backends and {} for \
                 other things, which leaves {}; raise the limit (ulimit -Hn, LimitNOFILE of systemd), or lower this \
                 or upstream.max_connections",
                settings.max_connections,
                others - upstreams,
                available.saturating_sub(others),
            ),
        );
    }
}
