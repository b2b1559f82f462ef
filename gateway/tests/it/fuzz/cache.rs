//! The cache policy. Whatever the fields of a response are, nothing is stored or served against them, and no field that
//! belongs to one client is stored.
//!
//! Input is three parts with an empty line between them: the fields of a response, those of a later `304`, and those of
//! a request. A line `!404` sets the status of the response.

use std::time::{Duration, SystemTime};

use holodule_gateway::cache::policy::{
    Arrival, ConditionalResult, Freshness, Lifetime, NOT_FOUND_FRESHNESS, Validators, freshened, storable,
    storable_fields,
};
use http::header::{
    AGE, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, SET_COOKIE, TRANSFER_ENCODING, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

const DECLARED: [HeaderName; 2] = [http::header::ACCEPT, http::header::ACCEPT_LANGUAGE];

/// The greatest number of seconds (RFC 9111, section 1.2.2).
const MAX: Duration = Duration::from_secs(1 << 31);

/// Checks the parts of `data`.
pub fn check(data: &[u8]) {
    let mut parts = data.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut status = StatusCode::OK;
    let mut next = || {
        let mut headers = HeaderMap::new();
        for line in parts.by_ref().take_while(|line| !line.is_empty()).take(64) {
            if let Some(number) = line.strip_prefix(b"!") {
                status = StatusCode::from_bytes(number).unwrap_or(status);
            }
            let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        }
        headers
    };
    let (response, later, request) = (next(), next(), next());
    let arrival =
        Arrival { at: SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777), delay: Duration::from_millis(1500) };
    let lifetime = storable(status, &response, &DECLARED, arrival);
    if let Some(lifetime) = &lifetime {
        check_stored(status, &response, lifetime);
        check_freshness(lifetime);
    }
    check_joined(status, &response, arrival, lifetime);
    let stored = check_storable_fields(&response);
    check_freshened(&stored, &later);
    check_conditions(status, &response, &request);
}

/// A parser that knows only quotes and commas: the directives of a line in lower case, with the text after `=`.
fn directives(line: &[u8]) -> Vec<(String, Option<String>)> {
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

fn check_stored(status: StatusCode, response: &HeaderMap, lifetime: &Lifetime) {
    let lines = response.get_all(CACHE_CONTROL).iter();
    let directives: Vec<_> = lines.flat_map(|line| directives(line.as_bytes())).collect();
    let has = |name: &str| directives.iter().any(|(directive, _)| directive == name);
    let max = |name: &str| {
        let named = directives.iter().filter(|(directive, _)| directive == name);
        let arguments = named.filter_map(|(_, argument)| argument.as_ref());
        // A number that is too large means the maximum.
        let is_number = |text: &&String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = arguments.filter(is_number).map(|text| text.parse::<u64>().unwrap_or(u64::MAX));
        Duration::from_secs(seconds.max().unwrap_or_default()).min(MAX)
    };
    assert!(!has("private") && !has("no-store"), "{response:?}");
    assert!(directives.contains(&("public".to_owned(), None)) || has("s-maxage"), "{response:?}");
    assert!(!response.contains_key(SET_COOKIE) && !response.contains_key(CONTENT_RANGE), "{response:?}");
    for line in response.get_all(VARY) {
        for name in line.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            let is_declared = DECLARED.iter().any(|declared| name.eq_ignore_ascii_case(declared.as_str().as_bytes()));
            assert!(name.is_empty() || is_declared, "{response:?}");
        }
    }
    assert!(matches!(status, StatusCode::OK | StatusCode::NOT_FOUND));
    if has("s-maxage") || has("max-age") || has("no-cache") {
        let bound = if has("s-maxage") { max("s-maxage") } else { max("max-age") };
        assert!(lifetime.fresh <= bound, "{response:?} {lifetime:?}");
    }
    assert!(lifetime.fresh <= MAX && lifetime.initial_age <= MAX);
    assert!(status != StatusCode::NOT_FOUND || lifetime.fresh <= NOT_FOUND_FRESHNESS);
    assert!(lifetime.while_revalidate <= max("stale-while-revalidate"), "{response:?} {lifetime:?}");
    assert!(lifetime.if_error <= max("stale-if-error"), "{response:?} {lifetime:?}");
    if has("must-revalidate") || has("proxy-revalidate") || has("no-cache") || status != StatusCode::OK {
        assert!(lifetime.while_revalidate.is_zero() && lifetime.if_error.is_zero(), "{response:?} {lifetime:?}");
    }
    assert!(!has("no-cache") || lifetime.freshness(Duration::ZERO) == Freshness::Expired, "{response:?} {lifetime:?}");
}

/// A stored response gets older and never younger.
fn check_freshness(lifetime: &Lifetime) {
    let rank = |resident| match lifetime.freshness(resident) {
        Freshness::Fresh => 0,
        Freshness::StaleWhileRevalidate => 1,
        Freshness::StaleIfError => 2,
        Freshness::Expired => 3,
    };
    let mut before = 0;
    for bit in 0..40 {
        let resident = Duration::from_secs((1 << bit) - 1);
        assert!(rank(resident) >= before, "{lifetime:?}");
        before = rank(resident);
        assert!(lifetime.freshness(resident) != Freshness::Fresh || lifetime.initial_age + resident < lifetime.fresh);
    }
    assert_eq!(before, 3, "{lifetime:?}");
}

/// Several lines mean no more than one line with commas (RFC 9110, section 5.3).
fn check_joined(status: StatusCode, response: &HeaderMap, arrival: Arrival, lifetime: Option<Lifetime>) {
    let lines: Vec<&[u8]> = response.get_all(CACHE_CONTROL).iter().map(HeaderValue::as_bytes).collect();
    if lifetime.is_none() || lines.len() < 2 {
        return;
    }
    let mut joined = response.clone();
    joined.insert(CACHE_CONTROL, HeaderValue::from_bytes(&lines.join(&b", "[..])).unwrap());
    assert_eq!(storable(status, &joined, &DECLARED, arrival), lifetime, "{response:?}");
}

/// The stored fields belong neither to a client nor to the connection.
fn check_storable_fields(response: &HeaderMap) -> HeaderMap {
    let stored = storable_fields(response);
    for name in [&SET_COOKIE, &CONNECTION, &TRANSFER_ENCODING] {
        assert!(!stored.contains_key(name), "{stored:?}");
    }
    for line in response.get_all(CONNECTION) {
        for option in line.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            assert!(HeaderName::from_bytes(option).is_ok_and(|name| !stored.contains_key(name)) || !is_token(option));
        }
    }
    assert!(stored.iter().all(|(name, value)| response.get_all(name).iter().any(|sent| sent == value)));
    assert_eq!(storable_fields(&stored), stored);
    stored
}

fn is_token(text: &[u8]) -> bool {
    HeaderName::from_bytes(text).is_ok()
}

/// A `304` changes neither the body nor what describes it, and its age counts.
fn check_freshened(stored: &HeaderMap, later: &HeaderMap) {
    let Some(fresh) = freshened(stored, later) else { return };
    let values = |headers: &HeaderMap, name: &HeaderName| headers.get_all(name).iter().cloned().collect::<Vec<_>>();
    for name in [&CONTENT_ENCODING, &CONTENT_LENGTH, &CONTENT_RANGE, &CONTENT_TYPE] {
        assert_eq!(values(&fresh, name), values(stored, name));
    }
    for name in [&AGE, &DATE] {
        assert_eq!(values(&fresh, name), values(&storable_fields(later), name));
    }
    assert_eq!(storable_fields(&fresh), fresh, "the same rules apply to the fields of a 304");
    assert_eq!(freshened(&fresh, later).as_ref(), Some(&fresh), "applying it again changes nothing");
}

/// `304` is the response only if the request names the stored response.
fn check_conditions(status: StatusCode, response: &HeaderMap, request: &HeaderMap) {
    let validators = Validators::of(status, response);
    let mut asked = request.clone();
    validators.add_conditions(&mut asked);
    if validators.can_revalidate() {
        assert_eq!(validators.evaluate(&asked), ConditionalResult::NotModified, "its own validators match");
    }
    if validators.evaluate(request) == ConditionalResult::Full {
        return;
    }
    assert!(status.is_success());
    let lines: Vec<&[u8]> = request.get_all(IF_NONE_MATCH).iter().map(HeaderValue::as_bytes).collect();
    if lines.is_empty() {
        assert!(request.contains_key(IF_MODIFIED_SINCE) && response.contains_key(LAST_MODIFIED));
        return;
    }
    let is_any = lines.len() == 1 && lines[0].trim_ascii() == b"*";
    let tag = response.get(ETAG).map(|tag| tag.as_bytes().strip_prefix(b"W/").unwrap_or(tag.as_bytes()));
    let names = |tag: &[u8]| lines.iter().any(|line| line.windows(tag.len()).any(|part| part == tag));
    assert!(is_any || tag.is_some_and(|tag| tag.len() >= 2 && names(tag)), "{request:?} {response:?}");
}
