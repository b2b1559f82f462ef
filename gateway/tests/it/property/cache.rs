//! `Cache-Control` with any directives in any spelling: no response is stored without permission or served for longer
//! than permitted.

use std::time::{Duration, SystemTime};

use holodule_gateway::cache::policy::{Arrival, Freshness, Lifetime, storable};
use http::header::{CACHE_CONTROL, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::support::random::{self, Random};

const DIRECTIVES: [&str; 22] = [
    "public",
    "public",
    "s-maxage=5",
    "s-maxage=\"5\"",
    "s-maxage=7",
    "max-age=0",
    "max-age=6",
    "max-age=-1",
    "max-age=99999999999",
    "stale-while-revalidate=30",
    "stale-if-error=86400",
    "stale-if-error=x",
    "must-revalidate",
    "proxy-revalidate",
    "no-cache",
    "no-cache=\"x-a, x-b\"",
    "private",
    "private=\"set-cookie\"",
    "no-store",
    "immutable",
    "x=\"private, no-store\"",
    "x=\"\\\", public, s-maxage=5, \"",
];

const ODDITIES: [&str; 14] =
    ["\"", "\\", ",", ",,", "=", ";", " ", "\t", "\"\"", "=\"", "\",", "private", "no-store", "x"];

/// Lines of `Cache-Control` with some of `directives`, in lower or upper case, with any white space.
fn lines(random: &mut Random, directives: &[&str]) -> Vec<Vec<u8>> {
    let mut lines = vec![Vec::new()];
    for _ in 0..random.below(6) {
        if random.one_in(4) {
            lines.push(Vec::new());
        }
        let line = lines.last_mut().unwrap();
        if !line.is_empty() {
            line.extend_from_slice(random.pick(&[",", ", ", " ,\t", ",,", ", ,"]).as_bytes());
        }
        let directive = random.pick(directives).as_bytes();
        let is_upper = random.one_in(4);
        line.extend(directive.iter().map(|byte| if is_upper { byte.to_ascii_uppercase() } else { *byte }));
    }
    lines
}

fn lifetime(lines: &[Vec<u8>]) -> Option<Lifetime> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(CACHE_CONTROL, HeaderValue::from_bytes(line).ok()?);
    }
    headers.insert(ETAG, HeaderValue::from_static("\"x\""));
    storable(StatusCode::OK, &headers, &[], Arrival { at: SystemTime::UNIX_EPOCH, delay: Duration::ZERO })
}

/// A parser that knows only quotes and commas: the directives of a line in lower case, with the text after `=`.
fn reference(line: &[u8]) -> Vec<(String, Option<String>)> {
    let (mut members, mut is_quoted, mut is_escaped) = (vec![String::new()], false, false);
    for &byte in line {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b',' if !is_quoted => {
                members.push(String::new());
                continue;
            }
            _ => (),
        }
        members.last_mut().unwrap().push(char::from(byte.to_ascii_lowercase()));
    }
    let split = |member: &String| match member.split_once('=') {
        Some((name, argument)) => (name.trim().to_owned(), Some(argument.trim().trim_matches('"').to_owned())),
        None => (member.trim().to_owned(), None),
    };
    members.iter().map(split).collect()
}

#[test]
fn nothing_is_stored_or_served_against_the_directives() {
    let mut stored = 0_u64;
    random::check("Cache-Control against a reference", 50_000, |random| {
        let mut lines = lines(random, &DIRECTIVES);
        for _ in 0..random.below(3) {
            let line = random.below(lines.len());
            let line = &mut lines[line];
            let at = random.below(line.len() + 1);
            match random.below(3) {
                0 if at < line.len() => drop(line.remove(at)),
                1 if at < line.len() => line[at] = random.byte(),
                _ => drop(line.splice(at..at, random.pick(&ODDITIES).bytes())),
            }
        }
        let Some(lifetime) = lifetime(&lines) else { return };
        stored += 1;
        let shown: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
        let directives: Vec<_> = lines.iter().flat_map(|line| reference(line)).collect();
        let has = |name: &str| directives.iter().any(|(directive, _)| directive == name);
        let max = |name: &str| {
            let named = directives.iter().filter(|(directive, _)| directive == name);
            let arguments = named.filter_map(|(_, argument)| argument.as_ref());
            let seconds = arguments.filter_map(|argument| argument.parse::<u64>().ok());
            Duration::from_secs(seconds.max().unwrap_or_default().min(1 << 31))
        };
        assert!(!has("private") && !has("no-store"), "{shown:?}");
        assert!(directives.contains(&("public".to_owned(), None)) || has("s-maxage"), "{shown:?}");
        assert!(lifetime.fresh <= max("s-maxage").max(max("max-age")), "{shown:?} {lifetime:?}");
        assert!(lifetime.while_revalidate <= max("stale-while-revalidate"), "{shown:?} {lifetime:?}");
        assert!(lifetime.if_error <= max("stale-if-error"), "{shown:?} {lifetime:?}");
        let stale = lifetime.while_revalidate + lifetime.if_error;
        assert!(!has("no-cache") || lifetime.freshness(Duration::ZERO) == Freshness::Expired, "{shown:?} {lifetime:?}");
        assert!(!has("must-revalidate") && !has("proxy-revalidate") || stale.is_zero(), "{shown:?} {lifetime:?}");
    });
    assert!(stored > 0, "no case was stored");
}

#[test]
fn a_response_with_valid_directives_is_stored_for_their_lifetime() {
    random::check("Cache-Control that permits storage", 5_000, |random| {
        let allowed = ["public", "s-maxage=5", "stale-if-error=9", "max-age=7", "immutable", "x=\"private, no-store\""];
        let mut lines = lines(random, &allowed);
        lines.push(b"s-maxage=\"5\"".to_vec());
        let stored = lifetime(&lines).unwrap_or_else(|| panic!("{lines:?} is not stored"));
        assert_eq!(stored.fresh, Duration::from_secs(5), "{lines:?}");
    });
}
