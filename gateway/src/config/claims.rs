//! `headers_from_claims` of a `[[route]]`.

use http::header::HeaderName;

use super::section::Section;
use crate::client::Proxies;
use crate::route::{HeaderClaim, Route, RouteTable};
use crate::syntax::is_same_field;
use crate::upstream;
use holodule_settings::{Source, shown, shown_key};

/// Reads a table of claims by header name.
pub(super) fn read_headers_from_claims(source: &mut Source, section: &mut Section) -> Vec<(HeaderName, HeaderClaim)> {
    let Some(mut table) = section.table(source, "headers_from_claims") else { return Vec::new() };
    let mut headers: Vec<(HeaderName, HeaderClaim)> = Vec::new();
    for text in table.names() {
        let key = shown_key(&text);
        let claim = table.text_of(source, &text, &key);
        let name = match text.parse::<HeaderName>() {
            Err(_) => Err("is not a header name"),
            Ok(name) if !upstream::can_carry_claim(&name) => {
                Err("cannot be set: only names that begin with X- or Remote- and have no other meaning")
            }
            Ok(name) if headers.iter().any(|(other, _)| is_same_field(other, &name)) => {
                Err("is another spelling of a name in this table")
            }
            Ok(name) => Ok(name),
        };
        let claim = claim.and_then(|claim| match claim.as_str() {
            "scope" => Some(HeaderClaim::Scope),
            "identity" => Some(HeaderClaim::Identity),
            _ => {
                table.problem(source, &key, "must be \"scope\" or \"identity\"");
                None
            }
        });
        match name {
            Ok(name) => headers.extend(claim.map(|claim| (name, claim))),
            Err(reason) => table.problem(source, &key, reason),
        }
    }
    headers
}

/// Reports where a header with a claim is also read from clients: as a field that responses vary by, or as the address
/// of the client.
pub(super) fn check_other_uses(source: &mut Source, table: &RouteTable, proxies: &Proxies) {
    let claims = table.claim_headers();
    let is_claim = |name: &HeaderName| claims.iter().any(|own| is_same_field(own, name));
    let varying = |route: &Route| route.vary.iter().find(|name| is_claim(name)).map(ToString::to_string);
    for (place, name) in table.iter().enumerate().filter_map(|(place, route)| Some((place, varying(route)?))) {
        let reason =
            format!("{} is in headers_from_claims of a route, and never forwarded from a client", shown(&name));
        source.problem(&format!("route[{place}].vary"), reason);
    }
    if let Some(header) = proxies.header.as_ref().filter(|header| is_claim(header)) {
        let reason = format!("{} is in headers_from_claims of a route", shown(header.as_str()));
        source.problem("client.header", reason);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{listener, read_routes};
    use super::*;

    const FORBIDDEN: &str = "cannot be set: only names that begin with X- or Remote- and have no other meaning";

    fn read(toml: &str) -> Result<Vec<Arc<Route>>, Vec<String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let mut source = Source::read(Some(file.path()), holodule_settings::Environment::default());
        let proxies = listener::read_proxies(&mut source);
        let routes = read_routes(&mut source);
        if let Some(table) = &routes {
            check_other_uses(&mut source, table, &proxies);
        }
        let problems: Vec<_> =
            source.into_problems().iter().map(|problem| format!("{}: {}", problem.key, problem.reason)).collect();
        if problems.is_empty() { Ok(routes.unwrap().iter().cloned().collect()) } else { Err(problems) }
    }

    fn of_one(more: &str) -> Result<Vec<Arc<Route>>, Vec<String>> {
        read(&format!("[[route]]\npath = '/a'\nmethods = ['GET']\n{more}\n"))
    }

    #[test]
    fn claims_are_read_by_header_name() {
        let routes =
            of_one("headers_from_claims = { \"X-Auth-Roles\" = 'scope', \"Remote-User\" = 'identity' }").unwrap();
        let claims: Vec<_> =
            routes[0].headers_from_claims.iter().map(|(name, claim)| (name.as_str(), *claim)).collect();
        let expected = [("remote-user", HeaderClaim::Identity), ("x-auth-roles", HeaderClaim::Scope)];
        assert!(claims.len() == 2 && expected.iter().all(|one| claims.contains(one)), "{claims:?}");
    }

    #[test]
    fn every_error_is_reported_with_its_key() {
        let table = "route[0].headers_from_claims";
        let public = "cannot be given on a public route, whose requests have no token";
        let cached = "cannot be given on a cached route, since a response may depend on them: set cache to false";
        for (text, expected) in [
            ("headers_from_claims = ['X-A']", vec![format!("{table}: must be a table, not a list")]),
            (
                "headers_from_claims = { X-A = 'roles' }",
                vec![format!("{table}.X-A: must be \"scope\" or \"identity\"")],
            ),
            ("headers_from_claims = { X-A = 1 }", vec![format!("{table}.X-A: must be a string, not 1")]),
            ("headers_from_claims = { \"X A\" = 'scope' }", vec![format!("{table}.X A: is not a header name")]),
            ("headers_from_claims = { Host = 'identity' }", vec![format!("{table}.Host: {FORBIDDEN}")]),
            (
                "headers_from_claims = { X_Forwarded_For = 'scope' }",
                vec![format!("{table}.X_Forwarded_For: {FORBIDDEN}")],
            ),
            (
                "headers_from_claims = { X-Auth-Identity = 'scope' }",
                vec![format!("{table}.X-Auth-Identity: {FORBIDDEN}")],
            ),
            (
                "headers_from_claims = { X-A = 'scope', x_a = 'scope' }",
                vec![format!("{table}.x_a: is another spelling of a name in this table")],
            ),
            ("headers_from_claims = { X-A = 'scope' }\npublic = true", vec![format!("{table}: {public}")]),
            ("headers_from_claims = { X-A = 'scope' }\nshared = true", vec![format!("{table}: {cached}")]),
            ("headers_from_claims = { X-A = 'scope' }\ncache = true", vec![format!("{table}: {cached}")]),
        ] {
            assert_eq!(of_one(text).err(), Some(expected), "{text}");
        }
        assert!(of_one("headers_from_claims = { X-A = 'scope' }\nshared = true\ncache = false").is_ok());
    }

    #[test]
    fn a_claim_header_has_no_other_use() {
        let routes = "[[route]]\npath = '/a'\nmethods = ['GET']\nheaders_from_claims = { X-Who = 'identity' }\n\
                      [[route]]\npath = '/b'\nmethods = ['GET']\ncache = true\nvary = ['Accept', 'x_who']\n";
        let problem = "\"x_who\" is in headers_from_claims of a route, and never forwarded from a client";
        assert_eq!(read(routes).err(), Some(vec![format!("route[1].vary: {problem}")]));
        let header = "client.trusted_proxies = ['10.0.0.0/8']\nclient.header = 'X-Who'\n";
        let (first, _) = routes.split_once("[[route]]\npath = '/b'").unwrap();
        let problem = "\"x-who\" is in headers_from_claims of a route";
        assert_eq!(read(&format!("{header}{first}")).err(), Some(vec![format!("client.header: {problem}")]));
    }
}
