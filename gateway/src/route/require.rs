//! What each method of a route requires of a principal.

use http::Method;

use super::Settings;
use super::errors::Errors;
use crate::scope::Requirement;

/// The requirements of a route by method. A method that is not listed requires nothing.
#[derive(Debug, Default)]
pub(super) struct Requirements(Vec<(Method, Requirement)>);

impl Requirements {
    /// Those of a route with `methods`.
    pub(super) fn new(settings: &Settings, methods: &[Method], errors: &mut Errors) -> Self {
        for (name, _) in &settings.require_methods {
            if !methods.iter().any(|method| method.as_str() == name) {
                errors.push("require_methods", Some(name), "is not among the methods");
            }
        }
        for (field, is_given) in
            [("require", settings.require.is_some()), ("require_methods", !settings.require_methods.is_empty())]
        {
            if is_given && settings.public {
                errors.push(field, None, "cannot be given on a public route, whose requests have no token");
            }
        }
        let own = |method: &str| settings.require_methods.iter().find(|(name, _)| name == method).map(|(_, own)| own);
        let required = |method: &Method| match (own(method.as_str()), method) {
            (Some(own), _) => Some(own),
            // A HEAD has the header of the response to a GET.
            (None, &Method::HEAD) => own("GET").or(settings.require.as_ref()),
            (None, _) => settings.require.as_ref(),
        };
        Self(methods.iter().filter_map(|method| Some((method.clone(), required(method)?.clone()))).collect())
    }

    /// Whether no method requires anything.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What `method` requires.
    pub(super) fn of(&self, method: &Method) -> Option<&Requirement> {
        self.0.iter().find(|(own, _)| own == method).map(|(_, requirement)| requirement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Route;
    use crate::scope::Scopes;

    fn any(names: &str) -> Requirement {
        Requirement::Any(Scopes::parse(names).unwrap())
    }

    fn settings(methods: &[&str], require: Option<&str>, of_methods: &[(&str, &str)]) -> Settings {
        Settings {
            path: "/a".to_owned(),
            methods: methods.iter().map(|method| (*method).to_owned()).collect(),
            require: require.map(any),
            require_methods: of_methods.iter().map(|(method, names)| ((*method).to_owned(), any(names))).collect(),
            ..Settings::default()
        }
    }

    fn required(settings: &Settings, method: &str) -> Option<Requirement> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Route::try_from(settings).unwrap().requirement(&method).cloned()
    }

    #[test]
    fn a_method_has_its_own_requirement_or_that_of_the_route() {
        let both = settings(&["GET", "POST", "OPTIONS"], Some("viewer"), &[("POST", "editor")]);
        for (method, names) in [("GET", "viewer"), ("POST", "editor"), ("OPTIONS", "viewer")] {
            assert_eq!(required(&both, method), Some(any(names)), "{method}");
        }
        let one = settings(&["GET", "POST"], None, &[("POST", "editor")]);
        assert_eq!((required(&one, "GET"), required(&one, "POST")), (None, Some(any("editor"))));
        let route = Route::try_from(&settings(&["GET"], None, &[])).unwrap();
        assert!(!route.has_requirement() && route.requirement(&Method::GET).is_none());
    }

    #[test]
    fn a_head_requires_what_a_get_does_unless_it_is_listed() {
        let get = settings(&["GET", "HEAD"], Some("viewer"), &[("GET", "editor")]);
        assert_eq!(required(&get, "HEAD"), Some(any("editor")));
        let both = settings(&["GET", "HEAD"], None, &[("GET", "editor"), ("HEAD", "viewer")]);
        assert_eq!(required(&both, "HEAD"), Some(any("viewer")));
        let head = settings(&["GET", "HEAD"], None, &[("HEAD", "viewer")]);
        assert_eq!((required(&head, "GET"), required(&head, "HEAD")), (None, Some(any("viewer"))));
    }

    #[test]
    fn unknown_methods_and_public_routes_are_refused() {
        let fields = |settings: &Settings| -> Vec<_> {
            Route::new(settings).unwrap_err().into_iter().map(|error| (error.field, error.value)).collect()
        };
        let unknown = settings(&["GET"], None, &[("POST", "a"), ("get", "a")]);
        let expected = ["POST", "get"].map(|method| ("require_methods", Some(method.to_owned())));
        assert_eq!(fields(&unknown), expected);
        let public = Settings { public: true, ..settings(&["GET"], Some("a"), &[("GET", "a")]) };
        assert_eq!(fields(&public), [("require", None), ("require_methods", None)]);
    }
}
