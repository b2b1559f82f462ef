//! `require` and `require_methods` of a `[[route]]`.

use holodule_settings::{Source, shown_key, shown_name};

use super::section::Section;
use crate::route::{Route, RouteTable};
use crate::scope::{Requirement, Scopes};
use crate::token::{Routes, StaticToken, StaticTokens};

/// Reads `require`: a table with either `any` or `all`.
pub(super) fn read_require(source: &mut Source, section: &mut Section) -> Option<Requirement> {
    let table = section.table(source, "require")?;
    read(source, table)
}

/// Reads `require_methods`: a table of requirements by method.
pub(super) fn read_require_methods(source: &mut Source, section: &mut Section) -> Vec<(String, Requirement)> {
    let Some(mut methods) = section.table(source, "require_methods") else { return Vec::new() };
    let mut requirements = Vec::new();
    for method in methods.names() {
        let Some(table) = methods.table_of(source, &method, &shown_key(&method)) else { continue };
        requirements.extend(read(source, table).map(|requirement| (method, requirement)));
    }
    requirements
}

fn read(source: &mut Source, mut table: Section) -> Option<Requirement> {
    let names: Vec<_> = ["any", "all"].into_iter().filter(|field| table.has(field)).collect();
    let requirement = match names.as_slice() {
        [field] => {
            let scopes = read_scopes(source, &mut table, field);
            scopes.map(if *field == "any" { Requirement::Any } else { Requirement::All })
        }
        _ => {
            source.problem(table.path(), "must have either any or all, a list of roles");
            // Not reported as unknown as well.
            names.iter().for_each(|field| table.drop(field));
            None
        }
    };
    table.finish(source);
    requirement
}

fn read_scopes(source: &mut Source, table: &mut Section, field: &str) -> Option<Scopes> {
    let names = table.texts(source, field, "")?;
    match Scopes::new(&names) {
        Ok(scopes) if scopes.is_empty() => table.problem(source, field, "must have at least one role"),
        Ok(scopes) => return Some(scopes),
        Err(error) => table.problem(source, field, error.to_string()),
    }
    None
}

/// Warnings about routes that require roles: of a gateway that receives no changes of roles, and of static tokens that
/// are for a route and have none of its roles.
pub(super) fn warnings(table: &RouteTable, static_tokens: &StaticTokens, has_revocation: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    for (place, route) in table.iter().enumerate().filter(|(_, route)| route.has_requirement()) {
        if !has_revocation {
            warnings.push(format!(
                "route[{place}].require: without revocation, users keep the roles of their login until their tokens \
                 expire: set revocation.enabled to true"
            ));
        }
        for token in static_tokens.iter().filter(|token| is_useless(token, route)) {
            warnings.push(format!(
                "route[{place}].require: the static token {} is for this route and gets 403 for every method: add the \
                 roles to its scopes",
                shown_name(token.name())
            ));
        }
    }
    warnings
}

/// Whether `token` names `route` and has the scopes for none of its methods.
fn is_useless(token: &StaticToken, route: &Route) -> bool {
    let is_refused = |method| route.requirement(method).is_some_and(|required| !required.is_met_by(token.scopes()));
    matches!(token.routes(), Routes::Named(_)) && token.may_use(&route.name) && route.methods.iter().all(is_refused)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::super::read_routes;
    use super::*;
    use crate::token::Digest;

    fn read_table(route: &str) -> Result<RouteTable, Vec<String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("[[route]]\npath = '/a'\nmethods = ['GET', 'POST']\n{route}\n")).unwrap();
        let mut source = Source::read(Some(file.path()), holodule_settings::Environment::default());
        let routes = read_routes(&mut source);
        let problems: Vec<_> =
            source.into_problems().iter().map(|problem| format!("{}: {}", problem.key, problem.reason)).collect();
        routes.ok_or(problems)
    }

    #[test]
    fn both_forms_of_a_table_are_read() {
        let scopes = |text: &str| Scopes::parse(text).unwrap();
        for text in [
            "require = { any = ['viewer', 'editor'] }\nrequire_methods = { POST = { all = ['editor', 'admin'] } }",
            "[route.require]\nany = ['viewer', 'editor']\n[route.require_methods.POST]\nall = ['editor', 'admin']",
        ] {
            let table = read_table(text).unwrap();
            let route = table.iter().next().unwrap();
            assert_eq!(route.requirement(&Method::GET), Some(&Requirement::Any(scopes("editor viewer"))));
            assert_eq!(route.requirement(&Method::POST), Some(&Requirement::All(scopes("admin editor"))));
        }
    }

    #[test]
    fn every_error_is_reported_with_its_key() {
        let either = "must have either any or all, a list of roles";
        let name = "must be printable ASCII characters without space, \" and \\";
        for (text, expected) in [
            ("require = ['a']", vec!["route[0].require: must be a table, not a list".to_owned()]),
            ("require = {}", vec![format!("route[0].require: {either}")]),
            ("require = { any = ['a'], all = ['b'] }", vec![format!("route[0].require: {either}")]),
            (
                "require = { some = ['a'] }",
                vec![format!("route[0].require: {either}"), "route[0].require.some: unknown key".to_owned()],
            ),
            (
                "require = { any = 'a' }",
                vec!["route[0].require.any: must be a list of strings, not a string".to_owned()],
            ),
            ("require = { any = [] }", vec!["route[0].require.any: must have at least one role".to_owned()]),
            ("require = { all = ['a', 'b c'] }", vec![format!("route[0].require.all: {name}")]),
            ("require = { all = [''] }", vec![format!("route[0].require.all: {name}")]),
            ("require_methods = 1", vec!["route[0].require_methods: must be a table, not 1".to_owned()]),
            (
                "require_methods = { POST = 1 }",
                vec!["route[0].require_methods.POST: must be a table, not 1".to_owned()],
            ),
            (
                "require_methods = { GET = { any = [] }, POST = { all = ['\"'] } }",
                vec![
                    "route[0].require_methods.GET.any: must have at least one role".to_owned(),
                    format!("route[0].require_methods.POST.all: {name}"),
                ],
            ),
            (
                "require_methods = { PUT = { any = ['a'] } }",
                vec!["route[0].require_methods: \"PUT\" is not among the methods".to_owned()],
            ),
            (
                "public = true\nrequire = { any = ['a'] }",
                vec!["route[0].require: cannot be given on a public route, whose requests have no token".to_owned()],
            ),
        ] {
            assert_eq!(read_table(text).err(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_static_token_without_any_role_of_its_route_causes_a_warning() {
        let table =
            read_table("name = 'a'\nrequire = { any = ['viewer'] }\nrequire_methods = { POST = { any = ['editor'] } }");
        let table = table.unwrap();
        let warned = |routes: Routes, scopes: &str| {
            let token = StaticToken::new("m", Digest::of(b""), routes, None).unwrap();
            let token = token.with_scopes(Scopes::parse(scopes).unwrap());
            !warnings(&table, &StaticTokens::new(vec![token]).unwrap(), true).is_empty()
        };
        let named = || Routes::Named(vec!["a".to_owned()]);
        assert!(warned(named(), "") && warned(named(), "other"));
        assert!(!warned(named(), "viewer") && !warned(named(), "editor"));
        assert!(!warned(Routes::All, "") && !warned(Routes::Named(vec!["b".to_owned()]), ""));
    }
}
