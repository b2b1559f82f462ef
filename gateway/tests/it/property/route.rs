//! Whatever the routes and the path: the first route in the file that matches decides, and forwards what its pattern
//! says. The reference reads the configuration's texts segment by segment and has no index.

use std::collections::BTreeMap;
use std::sync::Arc;

use holodule_gateway::framing::CanonicalPath;
use holodule_gateway::route::{MAX_TAIL_SEGMENTS, NoMatch, Query, Request, Route, RouteTable, Settings};
use http::Method;

use crate::support::random::{self, Random};

/// Few texts, so that patterns overlap and paths match.
pub(super) const LITERALS: [&str; 6] = ["a", "b", "ab", "%E3%83%9B", "a.b", "..a"];
pub(super) const HOSTS: [&str; 3] = ["a.example", "b.example", "[::1]"];
pub(super) const METHODS: [&str; 4] = ["GET", "POST", "OPTIONS", "PURGE"];

/// A pattern, mostly with the names of `names` in their order.
fn pattern(random: &mut Random, names: &[String]) -> String {
    let mut text = String::new();
    for name in names {
        for _ in 0..random.below(3) {
            text.push('/');
            text.push_str(random.pick(&LITERALS));
        }
        text.push_str(&format!("/{{{name}}}"));
    }
    let has_tail = names.last().is_some_and(|name| name.starts_with('*'));
    if !has_tail {
        for _ in 0..random.below(3) {
            text.push('/');
            text.push_str(random.pick(&LITERALS));
        }
        if text.is_empty() || random.one_in(4) {
            text.push('/');
        }
    }
    text
}

pub(super) fn route(random: &mut Random, number: usize) -> Settings {
    let mut names: Vec<String> = (0..random.below(3)).map(|name| format!("n{name}")).collect();
    if random.one_in(3) {
        names.push("*rest".to_owned());
    }
    let path = pattern(random, &names);
    let aliases = (0..random.below(3)).map(|_| pattern(random, &names)).collect();
    let hosts = HOSTS.iter().filter(|_| random.one_in(3)).map(|host| (*host).to_owned()).collect();
    let methods: Vec<_> = METHODS.iter().filter(|_| random.one_in(2)).map(|method| (*method).to_owned()).collect();
    let methods = if methods.is_empty() { vec!["GET".to_owned()] } else { methods };
    let mut settings =
        Settings { name: Some(number.to_string()), hosts, methods, path, aliases, ..Settings::default() };
    match random.below(4) {
        0 => {
            // As many of the first segments as are literal, or fewer.
            let literals =
                settings.path.split('/').skip(1).take_while(|segment| !segment.is_empty() && !segment.contains('{'));
            let literals: Vec<_> = literals.collect();
            let count = random.below(literals.len() + 1);
            if count > 0 {
                settings.strip_prefix = Some(format!("/{}", literals[..count].join("/")));
            }
        }
        1 => {
            let mut some: Vec<_> = names.iter().filter(|_| random.one_in(2)).cloned().collect();
            if some.len() > 1 && !some.last().unwrap().starts_with('*') {
                some.reverse();
            }
            settings.rewrite = Some(pattern(random, &some));
        }
        _ => {}
    }
    if random.one_in(2) {
        settings.query = Query::All;
    }
    settings.public = random.one_in(3);
    settings
}

/// A path, often one that a pattern of `routes` matches.
pub(super) fn path(random: &mut Random, routes: &[Settings]) -> String {
    let mut text = String::new();
    if random.one_in(4) {
        for _ in 0..=random.below(4) {
            text.push('/');
            text.push_str(random.pick(&LITERALS));
        }
    } else {
        let route = &routes[random.below(routes.len())];
        let patterns: Vec<_> = std::iter::once(&route.path).chain(&route.aliases).collect();
        for segment in patterns[random.below(patterns.len())].split('/').skip(1) {
            if segment.starts_with("{*") {
                for _ in 0..random.below(4) {
                    text.push('/');
                    text.push_str(random.pick(&LITERALS));
                }
                if random.one_in(40) {
                    text.push_str(&"/x".repeat(MAX_TAIL_SEGMENTS - 2));
                }
                if random.one_in(2) {
                    text.push('/');
                }
            } else {
                text.push('/');
                text.push_str(if segment.starts_with('{') { random.pick(&LITERALS) } else { segment });
            }
        }
    }
    if random.one_in(8) {
        text.push_str(random.pick(&["/", "/a", "x"]));
    }
    if text.is_empty() { "/".to_owned() } else { text }
}

/// What each name of `pattern` stands for in `path`, if it matches.
pub(super) fn bound(pattern: &str, path: &str) -> Option<BTreeMap<String, String>> {
    let path: Vec<&str> = path.split('/').skip(1).collect();
    let pattern: Vec<&str> = pattern.split('/').skip(1).collect();
    let mut names = BTreeMap::new();
    for (place, expected) in pattern.iter().enumerate() {
        if expected.starts_with("{*") {
            let rest = path.get(place..).filter(|rest| !rest.is_empty())?;
            names.insert((*expected).to_owned(), rest.join("/"));
            return Some(names);
        }
        let segment = *path.get(place)?;
        if expected.starts_with('{') {
            if segment.is_empty() {
                return None;
            }
            names.insert((*expected).to_owned(), segment.to_owned());
        } else if *expected != segment {
            return None;
        }
    }
    (path.len() == pattern.len()).then_some(names)
}

pub(super) fn replaced(template: &str, names: &BTreeMap<String, String>) -> String {
    let segments = template.split('/').map(|segment| names.get(segment).map_or(segment, String::as_str));
    segments.collect::<Vec<_>>().join("/")
}

/// The name of the route and the target, or 404 or 405.
fn reference(routes: &[Settings], request: &Request<'_>) -> Result<(String, String), u16> {
    let path = request.path.as_str();
    let of_host = |route: &&Settings| route.hosts.is_empty() || route.hosts.iter().any(|host| host == request.host);
    let (route, names) = routes
        .iter()
        .filter(of_host)
        .find_map(|route| {
            let mut patterns = std::iter::once(&route.path).chain(&route.aliases);
            Some((route, patterns.find_map(|pattern| bound(pattern, path))?))
        })
        .ok_or(404_u16)?;
    if names.iter().any(|(name, value)| name.starts_with("{*") && value.split('/').count() > MAX_TAIL_SEGMENTS) {
        return Err(404);
    }
    if !route.methods.iter().any(|method| method == request.method.as_str()) {
        return Err(405);
    }
    let mut target = replaced(route.rewrite.as_ref().unwrap_or(&route.path), &names);
    if let Some(prefix) = &route.strip_prefix {
        target.replace_range(..prefix.len(), "");
        if target.is_empty() {
            target.push('/');
        }
    }
    if let (Query::All, Some(query)) = (&route.query, request.query) {
        target.push('?');
        target.push_str(query);
    }
    Ok((route.name.clone().unwrap(), target))
}

#[test]
fn the_first_route_that_matches_decides_in_tables_of_any_size_and_whether_a_token_is_needed() {
    let (mut matched, mut with_tail, mut public, mut refused) = (0_u64, 0_u64, 0_u64, 0_u64);
    random::check("routes against the reference", 3000, |random| {
        // Some with an index and some without.
        let count = 1 + random.below(30);
        let routes: Vec<_> = (0..count).map(|number| route(random, number)).collect();
        let valid = routes
            .iter()
            .map(|settings| Arc::new(Route::new(settings).unwrap_or_else(|errors| panic!("{settings:?}: {errors:?}"))));
        let table = RouteTable::new(valid.collect(), Vec::new());
        for _ in 0..20 {
            let path = path(random, &routes);
            let method: Method = random.pick(&METHODS).parse().unwrap();
            let host = if random.one_in(4) { "c.example" } else { random.pick(&HOSTS) };
            let query = Some("a=%2f&b").filter(|_| random.one_in(2));
            let Ok(canonical) = CanonicalPath::parse(&path) else { continue };
            let request = Request { host, method: &method, path: canonical, query };
            let found = table.find(|_| true, request).map(|found| (found.route.name.to_string(), found.target));
            let found = found.map_err(|refusal| if refusal == NoMatch::Path { 404 } else { 405 });
            let expected = reference(&routes, &request);
            assert_eq!(found, expected, "{request:?} of {routes:#?}");
            let without_token = table.find_public(request).map(|found| (found.route.name.to_string(), found.target));
            let is_public = |(name, _): &(String, String)| routes[name.parse::<usize>().unwrap()].public;
            assert_eq!(without_token, expected.clone().ok().filter(is_public), "{request:?} of {routes:#?}");
            public += u64::from(without_token.is_some());
            match expected {
                Ok((name, target)) => {
                    matched += 1;
                    let pattern = &routes[name.parse::<usize>().unwrap()].path;
                    with_tail += u64::from(pattern.contains("{*"));
                    let forwarded = target.split('?').next().unwrap();
                    assert!(CanonicalPath::parse(forwarded).is_ok(), "{forwarded:?}");
                    let purged = table.purge_keys(canonical).any(|purged| purged == forwarded);
                    assert!(purged, "a purge of {path:?} leaves {forwarded:?}");
                }
                Err(_) => refused += 1,
            }
        }
    });
    // It would show nothing if all were refused, or none.
    assert!(matched > 0 && with_tail > 0 && public > 0 && refused > 0, "{matched} {with_tail} {public} {refused}");
}
