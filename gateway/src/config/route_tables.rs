//! `[[route]]`: what is forwarded, read field by field so that every error is reported.

use std::sync::Arc;

use http::header::{HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};

use super::entry::Entry;
use crate::framing::CanonicalPath;
use crate::route::{self, Route, Table};
use crate::upstream;
use holodule_settings::{Source, shown};

/// Reads the routes, and the prefixes that are taken off before one is looked for.
pub(super) fn read_routes(source: &mut Source) -> Option<Table> {
    let before = source.problems();
    let settings: Vec<(String, Option<route::Settings>)> = match Entry::plain_list(source, "route") {
        Some(entries) => {
            entries.into_iter().map(|entry| (entry.path().to_owned(), read_route(source, entry))).collect()
        }
        None => route::shipped().into_iter().map(|settings| (String::new(), Some(settings))).collect(),
    };
    let mut names: Vec<String> = Vec::new();
    let mut routes = Vec::new();
    for (place, settings) in settings {
        let Some(settings) = settings else { continue };
        check_name(source, &place, &settings, &mut names);
        match Route::new(&settings) {
            Ok(route) => {
                if !route.vary.iter().all(may_be_declared) {
                    let reason = "names a field that is not passed on, or a condition: nothing can vary by it";
                    source.problem(&format!("{place}.vary"), reason);
                }
                routes.push(Arc::new(route));
            }
            Err(wrong) => {
                for error in wrong {
                    let value = error.value.map(|value| format!("{} ", shown(&value))).unwrap_or_default();
                    source.problem(&format!("{place}.{}", error.field), format!("{value}{}", error.reason));
                }
            }
        }
    }
    let prefixes: Vec<String> = source.get_or("strip_prefix", Vec::new());
    for prefix in &prefixes {
        if prefix.ends_with('/') || CanonicalPath::parse(prefix).is_err() {
            let reason = format!("{} must be a canonical path without a trailing slash", shown(prefix));
            source.problem("strip_prefix", reason);
        }
    }
    (source.problems() == before).then(|| Table::new(routes, prefixes))
}

/// The fields of one route; `None` where one is missing that has to be there.
fn read_route(source: &mut Source, mut entry: Entry) -> Option<route::Settings> {
    let name = entry.text(source, "name");
    let methods = entry.texts(source, "methods", "the methods that are forwarded");
    let path = entry.required(source, "path", "segments, and {name} for any one");
    let aliases = entry.texts_or_none(source, "aliases");
    let query = entry.texts_or_none(source, "query");
    let shared = entry.flag(source, "shared");
    let cache = entry.flag_if_given(source, "cache");
    let vary = entry.texts_or_none(source, "vary");
    let host = match entry.text(source, "host").as_deref() {
        None | Some("upstream") => route::Host::Upstream,
        Some("client") => route::Host::Client,
        Some(_) => {
            entry.problem(source, "host", "must be \"upstream\" or \"client\"");
            route::Host::Upstream
        }
    };
    entry.finish(source);
    Some(route::Settings { name, methods: methods?, path: path?, aliases, query, shared, cache, vary, host })
}

/// Notes where the name of a route is another one's. `names` has those of the routes before it.
fn check_name(source: &mut Source, place: &str, settings: &route::Settings, names: &mut Vec<String>) {
    let name = settings.name.as_ref().unwrap_or(&settings.path);
    let reason = if route::RESERVED_NAMES.contains(&name.as_str()) {
        "is the gateway's own"
    } else if names.contains(name) {
        "appears twice"
    } else {
        names.push(name.clone());
        return;
    };
    source.problem(&format!("{place}.name"), format!("{} {reason}", shown(name)));
}

/// Whether a kept answer may vary by the request field `name`.
fn may_be_declared(name: &HeaderName) -> bool {
    upstream::is_passed_on(name) && !IS_A_CONDITION.contains(name)
}

/// Those that ask for less than an answer (RFC 9110, sections 13.1 and 14.2).
const IS_A_CONDITION: [HeaderName; 6] =
    [IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE];
