//! Whatever the routes and the path: `;`, `%2F` and encoded delimiters pass only in the tail of the first route that
//! matches, if it preserves them, and if every way to decode them leads to that route. The reference works on texts.

use std::sync::Arc;

use holodule_gateway::framing::CanonicalPath;
use holodule_gateway::route::{Encoded, MAX_TAIL_SEGMENTS, Request, Route, RouteTable, Settings};
use http::Method;

use super::route::{HOSTS, bound, path, replaced, route};
use crate::support::random::{self, Random};

const ODDITIES: [&str; 14] =
    ["%2F", "%2f", ";", ";a", "%3B", "%3A", "a%2F", "%2Fa", "..;", "%2F..", ".%2f", "a;b", "a%2Fb", "%2F%2F"];

/// Inserts oddities at the ends of segments, so that no escape is broken.
fn with_oddities(random: &mut Random, mut path: String) -> String {
    for _ in 0..=random.below(2) {
        let bytes = path.as_bytes();
        let is_end = |&at: &usize| bytes[at - 1] == b'/' || bytes.get(at).is_none_or(|&byte| byte == b'/');
        let ends: Vec<usize> = (1..=path.len()).filter(is_end).collect();
        let at = ends[random.below(ends.len())];
        path.insert_str(at, random.pick(&ODDITIES));
    }
    path
}

fn without_delimiters(text: &str) -> String {
    text.replace("%3A", ":").replace("%3B", ";")
}

fn without_slashes(text: &str) -> String {
    text.replace("%2F", "/").replace("%2f", "/")
}

fn without_parameters(text: &str) -> String {
    let bare = text.split('/').map(|segment| segment.split_once(';').map_or(segment, |(bare, _)| bare));
    bare.collect::<Vec<_>>().join("/")
}

fn is_odd(segment: &str) -> bool {
    [";", "%2F", "%2f", "%3A", "%3B"].iter().any(|odd| segment.contains(odd))
}

/// Whether no program finds a dot segment in it, nothing but parameters, or that it begins with a slash.
fn is_harmless(segment: &str) -> bool {
    let decoded = without_slashes(&without_delimiters(segment));
    let is_harmless = |part: &str| !part.starts_with(';') && ![".", ".."].contains(&part.split(';').next().unwrap());
    !decoded.starts_with('/') && decoded.split('/').all(is_harmless)
}

/// The number of the first route that matches a text, and its pattern.
fn first<'a>(routes: &'a [Settings], host: &str, text: &str) -> Option<(usize, &'a str)> {
    let of_host = |route: &Settings| route.hosts.is_empty() || route.hosts.iter().any(|own| own == host);
    routes.iter().enumerate().filter(|(_, route)| of_host(route)).find_map(|(number, route)| {
        let mut patterns = std::iter::once(&route.path).chain(&route.aliases);
        Some((number, patterns.find(|pattern| bound(pattern, text).is_some())?.as_str()))
    })
}

/// The first route that matches an odd path and its pattern, if the path is accepted.
fn reference<'a>(routes: &'a [Settings], host: &str, path: &str) -> Option<(usize, &'a str)> {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let (last, others) = segments.split_last()?;
    let is_plain = |segment: &&str| !segment.is_empty() && ![".", ".."].contains(segment);
    if !others.iter().all(is_plain) || [".", ".."].contains(last) {
        return None;
    }
    let (number, pattern) = first(routes, host, path)?;
    let in_tail_from = pattern.split('/').skip(1).position(|segment| segment.starts_with("{*"))?;
    let plain = without_delimiters(path);
    let readings = [
        plain.clone(),
        without_slashes(&plain),
        without_parameters(&plain),
        without_parameters(&without_slashes(&plain)),
        without_slashes(&without_parameters(&plain)),
    ];
    let leads_elsewhere = readings.into_iter().any(|mut reading| {
        while reading.contains("//") {
            reading = reading.replace("//", "/");
        }
        first(routes, host, &reading).is_none_or(|(other, _)| other != number)
    });
    let is_accepted = routes[number].encoded == Encoded::Preserve
        && segments.iter().filter(|segment| is_odd(segment)).all(|segment| is_harmless(segment))
        && segments.iter().position(|segment| is_odd(segment)).is_some_and(|at| at >= in_tail_from)
        && !leads_elsewhere;
    is_accepted.then_some((number, pattern))
}

#[test]
fn encoded_slashes_pass_only_where_every_way_to_decode_them_leads_to_the_same_route() {
    let (mut accepted, mut refused) = (0_u64, 0_u64);
    random::check("preserved paths against the reference", 4000, |random| {
        let count = 1 + random.below(20);
        let mut routes: Vec<_> = (0..count).map(|number| route(random, number)).collect();
        for route in &mut routes {
            if route.path.contains("{*") && !random.one_in(4) {
                route.encoded = Encoded::Preserve;
            }
            route.methods = vec!["GET".to_owned()];
        }
        let valid = routes.iter().map(|settings| Arc::new(Route::try_from(settings).unwrap())).collect();
        let table = RouteTable::new(valid, Vec::new());
        for _ in 0..20 {
            let path = path(random, &routes);
            let path = with_oddities(random, path);
            if CanonicalPath::parse(&path).is_ok() {
                continue;
            }
            let host = random.pick(&HOSTS);
            let expected = reference(&routes, host, &path);
            let parsed = CanonicalPath::parse_preserving(&path).ok();
            let is_accepted = parsed.is_some_and(|path| table.preserves(host, path));
            assert_eq!(is_accepted, expected.is_some(), "{path:?} for {host} of {routes:#?}");
            let request = parsed.map(|path| Request { host, method: &Method::GET, path, query: None });
            let found = request.and_then(|request| table.find(|_| true, request).ok());
            let Some((number, pattern)) = expected else {
                assert!(found.is_none(), "{path:?} for {host} of {routes:#?}");
                refused += 1;
                continue;
            };
            accepted += 1;
            let names = bound(pattern, &path).unwrap();
            let is_long = names
                .iter()
                .any(|(name, value)| name.starts_with("{*") && value.split('/').count() > MAX_TAIL_SEGMENTS);
            if is_long {
                assert!(found.is_none());
                continue;
            }
            let settings = &routes[number];
            let mut target = replaced(settings.rewrite.as_ref().unwrap_or(&settings.path), &names);
            if let Some(prefix) = &settings.strip_prefix {
                target.replace_range(..prefix.len(), "");
            }
            let found = found.map(|found| (found.route.name.to_string(), found.target));
            assert_eq!(found, Some((number.to_string(), target)), "{path:?} for {host} of {routes:#?}");
        }
    });
    assert!(accepted > 0 && refused > 0, "{accepted} {refused}");
}
