//! `[[route]]`, read field by field so that every error is reported.

use std::sync::Arc;

use http::header::{HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};

use super::claims::read_headers_from_claims;
use super::require::{read_require, read_require_methods};
use super::section::Section;
use super::service::{Service, Services, read_services};
use super::{NOT_A_HOST, header_rules, is_host_name, normal, route_bounds, route_cors};
use crate::framing::CanonicalPath;
use crate::route::{self, Route, RouteTable};
use crate::upstream;
use holodule_settings::{Source, shown};

/// Reads the services and the routes, and the prefixes that are stripped before matching.
pub(super) fn read_services_and_routes(source: &mut Source) -> (Vec<Service>, Option<RouteTable>) {
    let services = read_services(source);
    let routes = read_table(source, &services);
    (services.valid, routes)
}

/// Reads the routes, and the prefixes that are stripped before matching.
pub(super) fn read_routes(source: &mut Source) -> Option<RouteTable> {
    read_services_and_routes(source).1
}

fn read_table(source: &mut Source, services: &Services) -> Option<RouteTable> {
    let before = source.problems();
    let settings: Vec<(String, Option<route::Settings>)> = match Section::list_without_secrets(source, "route") {
        Some(sections) => sections
            .into_iter()
            .map(|section| (section.path().to_owned(), read_route(source, section, services)))
            .collect(),
        None => route::default_routes().into_iter().map(|settings| (String::new(), Some(settings))).collect(),
    };
    let mut names: Vec<String> = Vec::new();
    let mut routes = Vec::new();
    for (place, settings) in settings {
        let Some(settings) = settings else { continue };
        check_name(source, &place, &settings, &mut names);
        match Route::new(&settings) {
            Ok(route) => {
                if !route.vary.iter().all(can_vary_by) {
                    let reason = "names a field that is not forwarded, or a condition: a response cannot vary by it";
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
    (source.problems() == before).then(|| RouteTable::new(routes, prefixes))
}

/// Reads one route; `None` if a required field is missing.
fn read_route(source: &mut Source, mut section: Section, services: &Services) -> Option<route::Settings> {
    let name = section.text(source, "name");
    let hosts = read_hosts(source, &mut section);
    let methods = section.texts(source, "methods", "the methods that are forwarded");
    let path = section.required(source, "path", "segments, {name} for any one, {*name} at the end for the rest");
    let aliases = section.optional_texts(source, "aliases");
    // An empty text is none, as for the other keys.
    let strip_prefix = section.text(source, "strip_prefix").filter(|prefix| !prefix.is_empty());
    let rewrite = section.text(source, "rewrite").filter(|template| !template.is_empty());
    let encoded = match section.text(source, "encoded").as_deref() {
        None | Some("refuse") => route::Encoded::Refuse,
        Some("preserve") => route::Encoded::Preserve,
        Some(_) => {
            section.problem(source, "encoded", "must be \"refuse\" or \"preserve\"");
            route::Encoded::Refuse
        }
    };
    let query = match section.has_text("query", "*") {
        true => route::Query::All,
        false => route::Query::Names(section.optional_texts(source, "query")),
    };
    let public = section.flag(source, "public");
    let require = read_require(source, &mut section);
    let require_methods = read_require_methods(source, &mut section);
    let headers_from_claims = read_headers_from_claims(source, &mut section);
    let shared = section.flag(source, "shared");
    let cache = section.optional_flag(source, "cache");
    let purge_key = section.text(source, "purge_key").filter(|key| !key.is_empty());
    let stream = section.flag(source, "stream");
    let fan_out = section.flag(source, "fan_out");
    let tickets = section.flag(source, "tickets");
    let vary = section.optional_texts(source, "vary");
    let compress = section.optional_texts(source, "compress");
    let secret_path = section.flag(source, "secret_path");
    let host = match section.text(source, "host").as_deref() {
        None | Some("upstream") => route::Host::Upstream,
        Some("client") => route::Host::Client,
        Some(_) => {
            section.problem(source, "host", "must be \"upstream\" or \"client\"");
            route::Host::Upstream
        }
    };
    let bounds = route_bounds::read(source, &mut section);
    let request_headers = header_rules::read_for_requests(source, &mut section);
    let response_headers = header_rules::read_for_responses(source, &mut section);
    let cors = route_cors::read(source, &mut section);
    let service_name = section.text(source, "service");
    let service = find_service(source, &section, service_name.as_deref(), services);
    let upgrade = match section.text(source, "upgrade").as_deref() {
        None | Some("") => None,
        Some("websocket") => {
            if service.is_some_and(|place| services.is_http2(place)) {
                section.problem(source, "upgrade", "cannot be given for a service with http = \"2\"");
            }
            Some(route::Upgrade::WebSocket)
        }
        Some(_) => {
            section.problem(source, "upgrade", "must be \"websocket\"");
            None
        }
    };
    section.finish(source);
    Some(route::Settings {
        name,
        hosts,
        methods: methods?,
        path: path?,
        aliases,
        strip_prefix,
        rewrite,
        encoded,
        query,
        public,
        require,
        require_methods,
        headers_from_claims,
        shared,
        cache,
        purge_key,
        stream,
        fan_out,
        tickets,
        vary,
        compress,
        secret_path,
        host,
        bounds,
        request_headers,
        response_headers,
        cors,
        service,
        service_name,
        upgrade,
    })
}

/// The position of the service of a route.
fn find_service(source: &mut Source, section: &Section, name: Option<&str>, services: &Services) -> Option<usize> {
    let name = name?;
    let found = services.find(name).filter(|_| !name.is_empty());
    if found.is_none() {
        let hint = if name == "api" { ": without one, requests go to upstream.api" } else { "" };
        section.problem(source, "service", format!("{} is not a service{hint}", shown(name)));
    }
    found
}

/// Reads the hosts of a route, in the form in which those of requests are compared.
fn read_hosts(source: &mut Source, section: &mut Section) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    for host in section.optional_texts(source, "hosts") {
        let normal = normal(&host);
        if !is_host_name(&host) {
            section.problem(source, "hosts", format!("{} {NOT_A_HOST}", shown(&host)));
        } else if hosts.contains(&normal) {
            section.problem(source, "hosts", format!("{} appears twice", shown(&host)));
        }
        hosts.push(normal);
    }
    hosts
}

/// Reports a name that is reserved or appears in `names`, the names of the earlier routes.
fn check_name(source: &mut Source, place: &str, settings: &route::Settings, names: &mut Vec<String>) {
    let name = settings.shown_name();
    let reason = if route::RESERVED_NAMES.contains(&name) {
        "is the gateway's own"
    } else if names.iter().any(|other| other == name) {
        "appears twice"
    } else {
        names.push(name.to_owned());
        return;
    };
    source.problem(&format!("{place}.name"), format!("{} {reason}", shown(name)));
}

/// Whether a cached response may vary by the request field `name`.
fn can_vary_by(name: &HeaderName) -> bool {
    upstream::is_forwarded(name) && !CONDITIONS.contains(name)
}

/// Fields that make a request conditional or partial (RFC 9110, sections 13.1 and 14.2).
const CONDITIONS: [HeaderName; 6] = [IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE];

#[cfg(test)]
mod tests {
    use super::*;
    use holodule_settings::Problems;

    fn read(toml: &str) -> Result<RouteTable, Vec<String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let mut source = Source::read(Some(file.path()), holodule_settings::Environment::default());
        let table = read_routes(&mut source);
        let reported = |problem: holodule_settings::Problem| format!("{}: {}", problem.subject(), problem.reason);
        source.finish_with(|| table).map_err(|Problems(problems)| problems.into_iter().map(reported).collect())
    }

    #[test]
    fn every_field_of_a_route_is_read() {
        let table = read(
            "[[route]]\nname = 'app'\nhosts = ['App.example.', '::1']\nmethods = ['GET', 'PROPFIND']\npath = '/app/{*rest}'\n\
             aliases = ['/a/{*rest}']\nstrip_prefix = '/app'\nencoded = 'preserve'\nquery = '*'\npublic = true\n\
             shared = true\ncache = false\nvary = ['Accept']\nhost = 'client'\nupgrade = 'websocket'\n\
             [[route]]\nmethods = ['GET']\npath = '/b'\nhosts = []\nstrip_prefix = ''\nrewrite = ''\nencoded = 'refuse'\n\
             query = ['a']\npublic = false\nstream = true\nupgrade = ''\n",
        )
        .unwrap();
        let routes: Vec<_> = table.iter().collect();
        assert_eq!((&*routes[0].name, routes[0].allow.as_str()), ("app", "GET, PROPFIND"));
        assert_eq!(
            (routes[0].hosts.as_slice(), routes[0].public),
            (&["app.example".to_owned(), "[::1]".to_owned()][..], true)
        );
        assert_eq!(routes[0].prefixes(), Some(("", "/app")));
        assert_eq!((routes[0].upgrade, routes[1].upgrade), (Some(route::Upgrade::WebSocket), None));
        assert!(routes[1].hosts.is_empty() && !routes[1].public && routes[1].prefixes().is_none());
        assert_eq!(routes.iter().map(|route| route.stream).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn every_invalid_field_of_a_route_is_reported() {
        let reported = read(
            "[[route]]\nmethods = ['GET']\npath = '/a/{*rest}/b'\n\
             [[route]]\nmethods = ['GET']\npath = '/b'\nhosts = ['a:1', 'b', 'B.']\nencoded = 'preserve'\npublic = 1\n\
             [[route]]\nmethods = ['GET']\npath = '/c/{d}'\nstrip_prefix = '/c/{d}'\nencoded = 'keep'\nquery = 'all'\n\
             [[route]]\nmethods = ['GET']\npath = '/d/{e}'\nrewrite = '/{f}'\nquery = ['*']\n\
             [[route]]\nmethods = ['GET']\npath = '/e'\nstrip_prefix = '/e'\nrewrite = '/f'\nhosts = 'a'\nupgrade = 'h2c'\n\
             [[route]]\nmethods = ['GET']\npath = '/f'\nstream = true\nshared = true\n\
             [[route]]\nmethods = ['POST']\npath = '/g'\nupgrade = 'websocket'\n\
             [[route]]\nmethods = ['GET']\npath = '/h'\nshared = true\nupgrade = 'websocket'\n\
             [[route]]\nmethods = ['POST']\npath = '/i'\nfan_out = true\nvary = ['Accept']\n\
             headers_from_claims = { X-Roles = 'scope' }\n\
             [[route]]\nmethods = ['GET']\npath = '/j'\nfan_out = true\nshared = true\ncache = true\n",
        )
        .unwrap_err();
        let expected = [
            "route[1].hosts: \"a:1\" is not a host name: no scheme, port or wildcard",
            "route[1].hosts: \"B.\" appears twice",
            "route[1].public: must be true or false, not 1",
            "route[2].encoded: must be \"refuse\" or \"preserve\"",
            "route[2].query: must be a list of strings, not a string",
            "route[4].hosts: must be a list of strings, not a string",
            "route[4].upgrade: must be \"websocket\"",
            "route[0].path: \"/a/{*rest}/b\" has a {*name} that is not its last segment",
            "route[1].encoded: can be \"preserve\" only with a {*name} in the path",
            "route[2].strip_prefix: \"/c/{d}\" must be one or more of the first segments of path, all literal, without a \
             trailing slash",
            "route[3].rewrite: \"/{f}\" has a name that path does not have",
            "route[3].query: \"*\" has a character outside A-Z a-z 0-9 - . _ ~",
            "route[4].rewrite: and strip_prefix cannot both be given",
            "route[5].stream: cannot be true on a cached route: set cache to false",
            "route[6].upgrade: can be given only with GET among the methods",
            "route[7].upgrade: cannot be given on a cached route: set cache to false",
            "route[8].fan_out: requires shared, since all users receive the same stream",
            "route[8].fan_out: can be true only with GET among the methods",
            "route[8].fan_out: cannot be true with vary: no field of a client's request is forwarded",
            "route[8].fan_out: cannot be true with headers_from_claims: no identity is forwarded",
            "route[9].fan_out: cannot be true on a cached route: remove cache",
        ];
        assert_eq!(reported, expected);
    }
}
