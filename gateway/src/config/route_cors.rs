//! `cors` of `[[route]]`.

use http::HeaderName;
use http::header::HeaderValue;

use super::section::Section;
use crate::cors::{Origins, Policy};
use holodule_settings::{Source, shown};

/// A day, the longest that any browser caches a preflight response.
const MAX_AGE: u64 = 86_400;

/// Reads the CORS policy of a route; `None` without one.
pub(super) fn read(source: &mut Source, section: &mut Section) -> Option<Policy> {
    let mut cors = section.table(source, "cors")?;
    if cors.is_empty() {
        return None;
    }
    let texts = cors.texts(source, "allowed_origins", "the origins, or [] for none");
    let mut origins = Origins::default();
    for origin in texts.iter().flatten() {
        if let Err(error) = origins.allow(origin) {
            cors.problem(source, "allowed_origins", format!("{} {error}", shown(origin)));
        }
    }
    if texts.is_some_and(|texts| texts.is_empty()) {
        for field in cors.names() {
            cors.problem(source, &field, "has no effect, since allowed_origins is empty");
            cors.drop(&field);
        }
    }
    let mut policy = Policy::new(origins);
    if let Some(names) = read_names(source, &mut cors, "allowed_headers") {
        policy.allowed_headers = Policy::list(&names);
    }
    if let Some(names) = read_names(source, &mut cors, "exposed_headers") {
        policy.exposed_headers = Policy::list(&names);
    }
    if let Some(age) = cors.whole_seconds(source, "max_age", 0..=MAX_AGE) {
        policy.max_age = HeaderValue::from(age);
    }
    policy.allows_credentials = cors.flag(source, "allow_credentials");
    cors.finish(source);
    Some(policy)
}

/// The names of headers in `field`; `None` if it is missing. A `*` is refused: browsers do not apply it to
/// `Authorization`, nor to requests with credentials.
fn read_names(source: &mut Source, cors: &mut Section, field: &str) -> Option<Vec<HeaderName>> {
    if !cors.has(field) {
        return None;
    }
    let mut names: Vec<HeaderName> = Vec::new();
    for text in cors.optional_texts(source, field) {
        let reason = match text.parse::<HeaderName>() {
            Ok(_) if text == "*" => "cannot be used: list the names",
            Ok(name) if names.contains(&name) => "appears twice",
            Ok(name) => {
                names.push(name);
                continue;
            }
            Err(_) => "is not a header name",
        };
        cors.problem(source, field, format!("{} {reason}", shown(&text)));
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::super::route_tables::read_routes;
    use super::*;
    use holodule_settings::{Environment, Problem, Problems};

    fn read(cors: &str) -> Result<Option<Policy>, Vec<String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("[[route]]\nmethods = ['GET']\npath = '/a'\ncors = {cors}\n")).unwrap();
        let mut source = Source::read(Some(file.path()), Environment::default());
        let table = read_routes(&mut source);
        let policy = table.and_then(|table| Some(table.iter().next()?.cors.as_deref().cloned()));
        let reported = |problem: Problem| format!("{}: {}", problem.subject(), problem.reason);
        source.finish_with(|| policy).map_err(|Problems(problems)| problems.into_iter().map(reported).collect())
    }

    #[test]
    fn a_policy_has_the_defaults_of_the_gateway() {
        assert_eq!(read("{}").unwrap(), None);
        assert_eq!(read("{ allowed_origins = [] }").unwrap(), Some(Policy::new(Origins::default())));
        let mut origins = Origins::default();
        origins.allow("https://a.example").unwrap();
        assert_eq!(read("{ allowed_origins = ['https://a.example'] }").unwrap(), Some(Policy::new(origins)));
    }

    #[test]
    fn every_field_of_a_policy_is_read() {
        let all = "{ allowed_origins = ['https://a.example'], allowed_headers = ['X-Csrf', 'Authorization'], \
                   exposed_headers = ['Link'], max_age = 60, allow_credentials = true }";
        let policy = read(all).unwrap().unwrap();
        assert_eq!(policy.allowed_headers.unwrap(), "x-csrf, authorization");
        assert_eq!((policy.exposed_headers.unwrap(), policy.max_age), ("link".parse().unwrap(), "60".parse().unwrap()));
        assert!(policy.allows_credentials);
        let none = read("{ allowed_origins = ['https://a.example'], allowed_headers = [], exposed_headers = [] }");
        let none = none.unwrap().unwrap();
        assert_eq!((none.allowed_headers, none.exposed_headers), (None, None));
    }

    #[test]
    fn every_invalid_field_of_a_policy_is_reported() {
        let reported = read(
            "{ allowed_origins = ['*', 'https://A.example', 'https://a.example:443'], allowed_headers = ['*', 'a b', 'X-A', 'x-a'], \
             exposed_headers = 'Link', max_age = 86401, allow_credentials = 1, allowed_methods = [] }",
        )
        .unwrap_err();
        let expected = [
            "route[0].cors.allowed_origins: \"*\" must be a scheme, a host and perhaps a port, as in \
             https://example.org:8443",
            "route[0].cors.allowed_origins: \"https://A.example\" must be in lower case and ASCII, as browsers send it",
            "route[0].cors.allowed_origins: \"https://a.example:443\" must not name the port that its scheme has by \
             default",
            "route[0].cors.allowed_headers: \"*\" cannot be used: list the names",
            "route[0].cors.allowed_headers: \"a b\" is not a header name",
            "route[0].cors.allowed_headers: \"x-a\" appears twice",
            "route[0].cors.exposed_headers: must be a list of strings, not a string",
            "route[0].cors.max_age: must be a whole number of seconds from 0 to 86400, not 86401",
            "route[0].cors.allow_credentials: must be true or false, not 1",
            "route[0].cors.allowed_methods: unknown key",
        ];
        assert_eq!(reported, expected);
        let missing = read("{ max_age = 1 }").unwrap_err();
        assert_eq!(missing, ["route[0].cors.allowed_origins: is required: the origins, or [] for none"]);
        let unused = read("{ allowed_origins = [], max_age = 1 }").unwrap_err();
        assert_eq!(unused, ["route[0].cors.max_age: has no effect, since allowed_origins is empty"]);
        assert_eq!(read("'https://a.example'").unwrap_err(), ["route[0].cors: must be a table, not a string"]);
    }
}
