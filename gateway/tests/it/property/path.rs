//! However a path is spelled, it reaches the route that it names, or none.

use std::sync::Arc;

use holodule_gateway::framing::CanonicalPath;
use holodule_gateway::route::{Request, Route, RouteTable, default_routes};
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use crate::support::random::{self, Random};
use crate::support::{Gateway, admin, api, get};

/// Paths to change: those of routes, and those that an attacker wants to reach.
const BASES: [&str; 10] = [
    "/holodules/20201209",
    "/Holodules/20201209",
    "/holoapi/holodules/20201209",
    "/holoapi/Holodules/%E3%83%9B",
    "/holodules/a%20b",
    "/holodules/x/../../users",
    "/auth",
    "/users",
    "/credentials/verify",
    "/metrics",
];

/// Paths to change below a tail.
const TAILS: [&str; 8] = [
    "/files/",
    "/files/a",
    "/files/a/b/c",
    "/files/a%20b/%E3%83%9B/",
    "/files/a/../../users",
    "/files/x/auth",
    "/filesx/a",
    "/users",
];

/// Text that programs are known to interpret differently.
const ODDITIES: [&str; 40] = [
    "/",
    "//",
    "/.",
    "/./",
    "/../",
    "..",
    "%2e",
    "%2E%2E",
    "%2f",
    "%2F",
    "%5c",
    "\\",
    ";",
    ";x=1",
    "%3b",
    "%00",
    "%0d%0a",
    "%c0%af",
    "%C0%AE",
    "%e0%80%af",
    "%F0%80%80%AF",
    "%ED%A0%80",
    "%",
    "%4",
    "%zz",
    "%252e",
    "%25",
    "%u002e",
    "%E3%83%9B",
    "%e3%83%9b",
    " ",
    "\t",
    "?",
    "%3F",
    "#",
    "é",
    "~",
    "%7e",
    "%41",
    "holodules/",
];

/// All but the characters that need no escape in a path: RFC 3986's pchar without the semicolon.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

fn spelling(random: &mut Random) -> String {
    spelling_of(random, &BASES)
}

/// One of `bases` with changes.
fn spelling_of(random: &mut Random, bases: &[&str]) -> String {
    let mut path = random.pick(bases).to_owned();
    for _ in 0..random.below(5) {
        let places: Vec<usize> = path.char_indices().map(|(at, _)| at).chain([path.len()]).collect();
        let at = places[random.below(places.len())];
        let here = path[at..].chars().next();
        match (random.below(8), here) {
            (0, Some(here)) => {
                let mut bytes = [0; 4];
                let escaped: String = here.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")).collect();
                let escaped = if random.one_in(2) { escaped.to_lowercase() } else { escaped };
                path.replace_range(at..at + here.len_utf8(), &escaped);
            }
            (1, Some(here)) => {
                let other = if here.is_lowercase() { here.to_ascii_uppercase() } else { here.to_ascii_lowercase() };
                path.replace_range(at..at + here.len_utf8(), &other.to_string());
            }
            (2, Some(here)) => path.replace_range(at..at + here.len_utf8(), ""),
            (3, _) => path.push('/'),
            (4, _) => path.insert(at, char::from(random.byte())),
            _ => path.insert_str(at, random.pick(&ODDITIES)),
        }
    }
    path
}

/// The forwarded path by a second implementation: the two spellings of the route, with or without the stripped prefix,
/// and one segment in its canonical form.
fn reference(path: &str) -> Option<String> {
    let path = path.strip_prefix("/holoapi").filter(|rest| rest.starts_with('/')).unwrap_or(path);
    let segment = path.strip_prefix("/holodules/").or_else(|| path.strip_prefix("/Holodules/"))?;
    let text = percent_decode_str(segment).decode_utf8().ok()?;
    let separates = |c: char| c.is_ascii_control() || "/\\;%?#".contains(c);
    let canonical = percent_encode(text.as_bytes(), ESCAPED).to_string();
    (canonical == segment && !text.contains(separates) && !["", ".", ".."].contains(&&*text))
        .then(|| format!("/holodules/{segment}"))
}

/// The segments that the most lenient server would find in a path: it decodes repeatedly, treats a backslash as a
/// slash, and ignores parameters, empty segments and case.
fn lenient(path: &str) -> Vec<String> {
    let mut path = path.to_owned();
    loop {
        let decoded = percent_decode_str(&path).decode_utf8_lossy().into_owned();
        if decoded == path {
            break;
        }
        path = decoded;
    }
    let mut segments: Vec<String> = Vec::new();
    for segment in path.replace('\\', "/").split('/') {
        match segment.split([';', '?', '#', '\0']).next().unwrap() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other.to_lowercase()),
        }
    }
    segments
}

/// The forwarded path of a route with the path `/files/{*rest}` and this prefix removed, by a second implementation:
/// every segment is in its canonical form, and only the last may be empty.
fn reference_of_tail(path: &str) -> Option<String> {
    let tail = path.strip_prefix("/files/")?;
    let mut segments: Vec<_> = tail.split('/').collect();
    if segments.last() == Some(&"") {
        segments.pop();
    }
    let is_canonical = |segment: &&str| reference(&format!("/holodules/{segment}")).is_some();
    segments.iter().all(is_canonical).then(|| format!("/{tail}"))
}

fn table() -> RouteTable {
    let routes = default_routes().iter().map(|settings| Arc::new(Route::try_from(settings).unwrap())).collect();
    RouteTable::new(routes, vec!["/holoapi".to_owned()])
}

#[test]
fn a_path_is_forwarded_in_its_canonical_form_or_refused() {
    let table = table();
    let mut forwarded = 0_u64;
    random::check("paths against the route table", 20_000, |random| {
        let path = spelling(random);
        let found = CanonicalPath::parse(&path).ok().and_then(|canonical| {
            let path = table.strip(canonical);
            let request = Request { host: "localhost", method: &Method::GET, path, query: None };
            table.find(|_| true, request).map(|matched| matched.target).ok()
        });
        assert_eq!(found, reference(&path), "{path:?}");
        if let Some(target) = found {
            forwarded += 1;
            let segments = lenient(&path);
            let segments = segments.strip_prefix(&["holoapi".to_owned()]).unwrap_or(&segments);
            assert_eq!(lenient(&target), segments, "{path:?} was forwarded as {target:?}");
            assert_eq!((segments.len(), segments[0].as_str()), (2, "holodules"), "{path:?}");
        }
    });
    assert!(forwarded > 0, "no case was forwarded");
}

#[tokio::test]
async fn a_path_over_the_wire_is_forwarded_in_its_canonical_form_or_refused() {
    let (api, admin) = (api().await, admin().await);
    let settings = [("STRIP_PREFIX", "['/holoapi']"), ("LIMIT_ADDRESS_RATE", "0"), ("LIMIT_IDENTITY_RATE", "0")];
    let gateway = Gateway::start_with(&api, &admin, &settings);
    let (first, cases) = (random::seed(), (random::cases(2000) / 10).max(1));
    let mut connection = gateway.connect().await;
    for number in 0..cases {
        let seed = first.wrapping_add(number);
        let path = spelling(&mut Random::new(seed));
        let (sent, query) = path.split_once('?').map_or((path.as_str(), None), |(sent, query)| (sent, Some(query)));
        let expected = Vec::from_iter(reference(sent));
        let answer = connection.exchange(get(&path, "")).await;
        let seen: Vec<_> = api.seen().into_iter().map(|seen| seen.target).collect();
        // The query may be invalid.
        let refused_for_query = seen.is_empty() && query.is_some() && answer.status == 400;
        if seen != expected && !refused_for_query {
            random::report_seed("paths over the wire", seed);
            panic!("{path:?} was forwarded as {seen:?}");
        }
        api.forget();
        if answer.value("connection") == "close" {
            connection = gateway.connect().await;
        }
    }
    assert!(admin.seen().is_empty());
    random::executed("paths over the wire", cases);
}

#[tokio::test]
async fn a_path_below_a_tail_is_forwarded_to_its_service_in_its_canonical_form_or_refused() {
    let (service, api, admin) = (api().await, api().await, admin().await);
    let services = format!("[{{ name = 'files', addresses = ['{}'] }}]", service.address);
    let settings = [
        ("ROUTE", "[{ path = '/files/{*rest}', strip_prefix = '/files', methods = ['GET'], service = 'files' }]"),
        ("SERVICE", services.as_str()),
        ("LIMIT_ADDRESS_RATE", "0"),
        ("LIMIT_IDENTITY_RATE", "0"),
    ];
    let gateway = Gateway::start_with(&api, &admin, &settings);
    let (first, cases) = (random::seed(), (random::cases(2000) / 10).max(1));
    let mut connection = gateway.connect().await;
    let mut forwarded = 0;
    for number in 0..cases {
        let seed = first.wrapping_add(number);
        let path = spelling_of(&mut Random::new(seed), &TAILS);
        let (sent, query) = path.split_once('?').map_or((path.as_str(), None), |(sent, query)| (sent, Some(query)));
        let expected = Vec::from_iter(reference_of_tail(sent));
        let answer = connection.exchange(get(&path, "")).await;
        let seen: Vec<_> = service.seen().into_iter().map(|seen| seen.target).collect();
        // The query may be invalid.
        let refused_for_query = seen.is_empty() && query.is_some() && answer.status == 400;
        if seen != expected && !refused_for_query {
            random::report_seed("paths below a tail over the wire", seed);
            panic!("{path:?} was forwarded as {seen:?}, not {expected:?}");
        }
        for target in seen {
            forwarded += 1;
            // The most lenient server finds the same segments, none of which leaves the prefix.
            let segments = lenient(sent);
            assert_eq!(segments.strip_prefix(&["files".to_owned()]), Some(lenient(&target).as_slice()), "{path:?}");
        }
        service.forget();
        if answer.value("connection") == "close" {
            connection = gateway.connect().await;
        }
    }
    assert!(forwarded > 0 && api.seen().is_empty() && admin.seen().is_empty());
    random::executed("paths below a tail over the wire", cases);
}
