//! Errors and warnings about the routes as a whole.

use std::path::Path;
use std::sync::Arc;

use super::{SECRET_VARIABLES, read_routes};
use crate::route::{Route, RouteTable, TICKET, Upgrade};
use holodule_settings::{Overlaid, Problems, Source, environment, shown, shown_name};

/// The names that a new static token is checked against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StaticTokenNames {
    /// The routes, which it may be valid for.
    pub routes: Vec<String>,
    /// The names of the other static tokens, which are taken.
    pub static_tokens: Vec<String>,
}

impl StaticTokenNames {
    /// Reads the names from `file`, the `.env` file at `dotenv` and the environment. Secrets are not read.
    ///
    /// # Errors
    /// Every problem of the routes, of `dotenv` and of the file as a whole.
    pub fn load(file: Option<&Path>, dotenv: &Path) -> Result<Self, Problems> {
        let Overlaid { environment, problems, .. } = environment(dotenv, &SECRET_VARIABLES);
        Problems::join(problems, Self::read(Source::read(file, environment)))
    }

    fn read(mut source: Source) -> Result<Self, Problems> {
        let routes = read_routes(&mut source).unwrap_or_default();
        let tables = source.tables("static_token");
        let name = |table: &toml::Table| table.get("name").and_then(toml::Value::as_str).map(str::to_owned);
        let static_tokens = tables.iter().filter_map(name).collect();
        let problems = source.into_problems();
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        Ok(Self { routes: routes.iter().map(|route| route.name.to_string()).collect(), static_tokens })
    }
}

/// The paths that the gateway handles itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnPaths {
    /// `/auth`.
    pub(super) login: bool,
    /// `/auth/logout`.
    pub(super) logout: bool,
    /// `/auth/ticket`.
    pub(super) ticket: bool,
}

impl OwnPaths {
    /// Those of a gateway with `table`.
    pub(super) fn of(table: &RouteTable, login: bool, logout: bool) -> Self {
        Self { login, logout, ticket: table.has_tickets() }
    }

    fn paths(self) -> impl Iterator<Item = &'static str> {
        [("/auth", self.login), ("/auth/logout", self.logout), (TICKET_PATH, self.ticket)]
            .into_iter()
            .filter_map(|(path, own)| own.then_some(path))
    }
}

/// The path that issues tickets.
const TICKET_PATH: &str = "/auth/ticket";

/// Reports each route that is shadowed by an own path while login is enabled, or by that of tickets; and a route that
/// has the name of the latter.
pub(super) fn check_own_paths(source: &mut Source, table: &RouteTable, own: OwnPaths) {
    for path in own.paths().filter(|path| own.login || *path == TICKET_PATH) {
        let remedy = if path == TICKET_PATH { "tickets to false on every route" } else { "login.enabled to false" };
        for (place, text) in table.find_literal(path) {
            source.problem(
                &format!("route[{place}]"),
                format!("{text:?} is the gateway's own path {path}: take the route out, or set {remedy}"),
            );
        }
    }
    for (place, _) in table.iter().enumerate().filter(|(_, route)| own.ticket && *route.name == *TICKET) {
        source.problem(
            &format!("route[{place}].name"),
            format!("{TICKET:?} is the gateway's own, since there are tickets"),
        );
    }
}

/// Warnings about the routes, each with its number.
pub(super) fn warnings(table: &RouteTable, own: OwnPaths) -> Vec<String> {
    let mut warnings: Vec<_> = table.advice().iter().map(|(place, text)| format!("route[{place}]: {text}")).collect();
    for path in own.paths() {
        let reported = table.find_literal(path).map(|(place, text)| {
            format!("route[{place}]: no request reaches {text:?}, since the gateway answers {path} itself: take it out")
        });
        warnings.extend(reported);
    }
    warnings
}

/// The routes of services whose responses are cached only because all users share them. A service that is not written
/// for a shared cache gets some requests twice.
pub(super) fn cache_notes(table: &RouteTable) -> Vec<String> {
    let routes = table.iter().enumerate().filter(|(_, route)| route.is_service_cached_by_default);
    routes
        .map(|(place, route)| {
            format!(
                "route[{place}] {} caches responses, since `shared` is true: unless their Cache-Control has public or \
                 s-maxage, the first request for each reaches the service twice; set `cache` to true or false",
                shown_name(&route.name)
            )
        })
        .collect()
}

/// A warning for each host of a route that `is_accepted` refuses: 421 comes before the route.
pub(super) fn host_warnings(table: &RouteTable, is_accepted: impl Fn(&str) -> bool) -> Vec<String> {
    let hosts = table.iter().enumerate().flat_map(|(place, route)| route.hosts.iter().map(move |host| (place, host)));
    let refused = hosts.filter(|(_, host)| !is_accepted(host));
    refused
        .map(|(place, host)| {
            format!(
                "route[{place}].hosts: requests for {} get 421, since no certificate has the name: add one, or add the \
                 name to `hosts`",
                shown(host)
            )
        })
        .collect()
}

/// A note for each route whose connections may switch protocols.
pub(super) fn upgrade_notes(table: &RouteTable) -> Vec<String> {
    let routes = table.iter().enumerate().filter(|(_, route)| route.upgrade == Some(Upgrade::WebSocket));
    let note = |(place, route): (usize, &Arc<Route>)| {
        format!("route[{place}] {} accepts WebSocket connections", shown_name(&route.name))
    };
    routes.map(note).collect()
}

/// A note for each route that accepts tickets.
pub(super) fn ticket_notes(table: &RouteTable) -> Vec<String> {
    let routes = table.iter().enumerate().filter(|(_, route)| route.tickets);
    routes
        .map(|(place, route)| {
            let patterns = route.patterns().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            format!(
                "route[{place}] {} accepts tickets: GET of {patterns} may have ?ticket= instead of a token",
                shown_name(&route.name)
            )
        })
        .collect()
}

/// A note for each public route.
pub(super) fn public_notes(table: &RouteTable) -> Vec<String> {
    let routes = table.iter().enumerate().filter(|(_, route)| route.public);
    routes
        .map(|(place, route)| {
            let hosts = if route.hosts.is_empty() { "every host".to_owned() } else { route.hosts.join(", ") };
            let patterns = route.patterns().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            format!(
                "route[{place}] {} is public: {} of {patterns} for {hosts} need no token",
                shown_name(&route.name),
                route.allow
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::route_tables::read_services_and_routes;
    use super::*;
    use holodule_settings::Environment;

    #[test]
    fn a_route_of_a_service_that_is_cached_by_default_has_a_note() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let service = "[[service]]\nname = 'wiki'\naddresses = ['127.0.0.1:1']\n";
        let notes = |fields: &str| {
            let route = format!("{service}[[route]]\nname = 'a'\nmethods = ['GET']\npath = '/a'\n{fields}\n");
            std::fs::write(file.path(), route).unwrap();
            let mut source = Source::read(Some(file.path()), Environment::default());
            cache_notes(&read_services_and_routes(&mut source).1.unwrap())
        };
        let noted = notes("shared = true\nservice = 'wiki'");
        assert_eq!(noted.len(), 1);
        assert!(noted[0].starts_with("route[0] \"a\" caches responses"), "{noted:?}");
        for fields in [
            "shared = true",
            "service = 'wiki'",
            "shared = true\nservice = 'wiki'\ncache = true",
            "shared = true\nservice = 'wiki'\ncache = false",
        ] {
            assert!(notes(fields).is_empty(), "{fields}");
        }
    }
}
