//! `request_headers` and `response_headers` of `[[route]]`.

use http::header::{HeaderName, HeaderValue, SET_COOKIE};

use super::section::Section;
use crate::route::HeaderRules;
use crate::syntax::is_same_field;
use crate::upstream::{is_settable_in_requests, is_settable_in_responses};
use holodule_settings::{Source, shown};

/// Reads the rules for requests.
pub(super) fn read_for_requests(source: &mut Source, section: &mut Section) -> HeaderRules {
    let rules = section.table(source, "request_headers");
    rules.map(|rules| read(source, rules, |name, _| is_settable_in_requests(name))).unwrap_or_default()
}

/// Reads the rules for responses. `Set-Cookie` may be removed but not set: there may be several, each of one user.
pub(super) fn read_for_responses(source: &mut Source, section: &mut Section) -> HeaderRules {
    let may =
        |name: &HeaderName, sets: bool| is_settable_in_responses(name) && !(sets && is_same_field(name, &SET_COOKIE));
    let rules = section.table(source, "response_headers");
    rules.map(|rules| read(source, rules, may)).unwrap_or_default()
}

/// Reads the rules. `is_allowed` decides whether a field may be removed or, with true, set.
fn read(source: &mut Source, mut rules: Section, is_allowed: impl Fn(&HeaderName, bool) -> bool) -> HeaderRules {
    let mut read = HeaderRules::default();
    for text in rules.optional_texts(source, "remove") {
        if let Some(name) = read_name(source, &rules, ("remove", &text), &read, |name| is_allowed(name, false)) {
            read.remove.push(name);
        }
    }
    if let Some(mut set) = rules.table(source, "set") {
        for text in set.names() {
            let value = set.text(source, &text);
            let name = read_name(source, &rules, ("set", &text), &read, |name| is_allowed(name, true));
            let value = value.and_then(|value| {
                let parsed = HeaderValue::from_str(&value).ok().filter(|_| value.trim() == value);
                if parsed.is_none() {
                    let reason = format!("{} has a value that is not visible ASCII text", shown(&text));
                    rules.problem(source, "set", reason);
                }
                parsed
            });
            if let Some(rule) = name.zip(value) {
                read.set.push(rule);
            }
        }
    }
    rules.finish(source);
    read
}

/// The name of a rule in `field`, unless it is invalid or has a rule in `read` already.
fn read_name(
    source: &mut Source,
    rules: &Section,
    (field, text): (&str, &str),
    read: &HeaderRules,
    is_allowed: impl Fn(&HeaderName) -> bool,
) -> Option<HeaderName> {
    let reason = match text.parse::<HeaderName>() {
        Err(_) => "is not a header name",
        Ok(name) if !is_allowed(&name) => "cannot be changed: the gateway or the protocol determines it",
        Ok(name) if read.removes(&name) => "appears twice",
        Ok(name) => return Some(name),
    };
    rules.problem(source, field, format!("{} {reason}", shown(text)));
    None
}
