//! Warnings about valid routes that are probably mistakes, with a suggestion.

use super::{Pattern, Route, RouteTable};

/// The methods in IANA's registry that can be forwarded.
const REGISTERED: &str = "ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT COPY DELETE GET HEAD LABEL LINK LOCK MERGE MKACTIVITY \
                          MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE OPTIONS ORDERPATCH PATCH POST PROPFIND \
                          PROPPATCH PUT QUERY REBIND REPORT SEARCH UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE \
                          UPDATEREDIRECTREF VERSION-CONTROL";

/// The index of a route, and the warning.
pub type Advice = (usize, String);

impl RouteTable {
    /// The warnings about all routes, in their order.
    pub fn advice(&self) -> Vec<Advice> {
        let mut advice = Vec::new();
        for (index, route) in self.routes.iter().enumerate() {
            let of_route = route.patterns().filter_map(advice_on_pattern).chain(advice_on_methods(route));
            advice.extend(of_route.chain(self.advice_on_prefixes(route)).map(|text| (index, text)));
            let earlier = self.routes.get(..index).unwrap_or_default();
            advice.extend(
                advice_on_order(route, &earlier.iter().map(AsRef::as_ref)).into_iter().map(|text| (index, text)),
            );
        }
        advice
    }

    /// The routes that clients reach as the literal `path`, with or without a stripped prefix: the index of each, and
    /// its pattern. Patterns with `{name}` are left out, since they match other paths as well.
    pub fn find_literal<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (usize, String)> + 'a {
        let is_reached_as = move |text: &str| {
            text == path || self.strip_prefix.iter().any(|prefix| text.strip_prefix(prefix.as_str()) == Some(path))
        };
        let routes = self.routes.iter().enumerate();
        let texts = routes.flat_map(|(index, route)| route.patterns().map(move |text| (index, text.to_string())));
        texts.filter(move |(_, text)| is_reached_as(text))
    }

    fn advice_on_prefixes(&self, route: &Route) -> Vec<String> {
        let mut advice = Vec::new();
        for text in route.patterns().map(ToString::to_string) {
            for prefix in &self.strip_prefix {
                if let Some(rest) = text.strip_prefix(prefix.as_str()).filter(|rest| rest.starts_with('/')) {
                    advice.push(format!(
                        "{text:?} begins with {prefix:?}, which strip_prefix removes before routes are matched: write {rest:?}"
                    ));
                }
            }
        }
        advice
    }
}

impl Route {
    /// The path and the aliases.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        std::iter::once(&self.path).chain(&self.aliases)
    }

    /// Whether it is for all hosts that `other` is for.
    fn covers_hosts_of(&self, other: &Self) -> bool {
        self.hosts.is_empty() || (!other.hosts.is_empty() && other.hosts.iter().all(|host| self.has_host(host)))
    }
}

/// Warns about pattern syntax of other programs, and about a trailing slash.
fn advice_on_pattern(pattern: &Pattern) -> Option<String> {
    let text = pattern.to_string();
    let mut stars = 0;
    let last = text.matches('/').count();
    let instead: Vec<_> = text
        .split('/')
        .enumerate()
        .map(|(index, segment)| match segment.strip_prefix(':') {
            Some(name) if is_name(name) => format!("{{{name}}}"),
            _ if segment.starts_with("{*") => segment.to_owned(),
            _ if segment.contains('*') => {
                stars += 1;
                let name = if stars == 1 { "name".to_owned() } else { format!("name{stars}") };
                if index == last && segment == "**" { format!("{{*{name}}}") } else { format!("{{{name}}}") }
            }
            _ => segment.to_owned(),
        })
        .collect();
    let instead = instead.join("/");
    if stars > 0 {
        return Some(format!(
            "{text:?} has a *, which is a literal character and no wildcard: write {instead:?}, where a name in braces \
             matches any one segment; {{*name}} as the last segment matches the rest of the path"
        ));
    }
    if instead != text {
        return Some(format!(
            "{text:?} has a segment that begins with a colon, which is a literal character: write {instead:?}"
        ));
    }
    let bare = text.strip_suffix('/').filter(|bare| !bare.is_empty())?;
    Some(format!(
        "{text:?} ends with a slash and matches no path without it: write {bare:?}, with {text:?} among the aliases if \
         both are meant"
    ))
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn advice_on_methods(route: &Route) -> Vec<String> {
    let is_registered = |method: &str| REGISTERED.split(' ').any(|registered| registered == method);
    let mut advice = Vec::new();
    for method in route.methods.iter().map(http::Method::as_str).filter(|method| !is_registered(method)) {
        let upper = method.to_ascii_uppercase();
        advice.push(if is_registered(&upper) {
            format!("the method {method:?} is not {upper:?}, since case matters, and no usual client sends it: write {upper:?}")
        } else {
            format!("the method {method:?} is in no registry, and no usual client sends it: write GET, POST or another")
        });
    }
    advice
}

/// Warns about paths of `route` that earlier routes match first.
fn advice_on_order<'a>(route: &Route, earlier: &(impl Iterator<Item = &'a Route> + Clone)) -> Vec<String> {
    let shadowing = |pattern: &Pattern| {
        earlier
            .clone()
            .filter(|other| other.covers_hosts_of(route))
            .find(|other| other.patterns().any(|earlier_pattern| earlier_pattern.covers(pattern)))
            .map(|other| &*other.name)
    };
    let shadowed_by: Vec<_> = route.patterns().map(|pattern| (pattern, shadowing(pattern))).collect();
    let first = shadowed_by.first().and_then(|(_, shadowing)| *shadowing);
    if let Some(first) = first
        && shadowed_by.iter().all(|(_, shadowing)| shadowing.is_some())
    {
        return vec![format!(
            "no request reaches the route {:?}: the earlier route {first:?} matches its path, and the first match \
             decides, whatever the method; put this one before it, or add its methods there",
            route.name
        )];
    }
    let shadowed = shadowed_by.iter().filter_map(|(pattern, shadowing)| Some((pattern, (*shadowing)?)));
    shadowed
        .map(|(pattern, shadowing)| {
            let pattern = pattern.to_string();
            format!(
                "no request reaches {pattern:?}: the earlier route {shadowing:?} matches it; put this one before it"
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Settings, default_routes};
    use super::*;

    /// A table of routes from their methods, path and aliases.
    fn table(routes: &[(&[&str], &[&str])], prefixes: &[&str]) -> RouteTable {
        let route = |(methods, paths): &(&[&str], &[&str])| {
            let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            let settings = Settings {
                name: None,
                methods: owned(methods),
                path: paths[0].to_owned(),
                aliases: owned(&paths[1..]),
                ..Settings::default()
            };
            Arc::new(Route::try_from(&settings).unwrap())
        };
        let prefixes = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
        RouteTable::new(routes.iter().map(route).collect(), prefixes)
    }

    fn advice(routes: &[(&[&str], &[&str])]) -> Vec<Advice> {
        table(routes, &[]).advice()
    }

    #[test]
    fn valid_routes_cause_no_warnings() {
        let default_routes: Vec<_> =
            default_routes().iter().map(|settings| Arc::new(Route::try_from(settings).unwrap())).collect();
        assert_eq!(RouteTable::new(default_routes, vec!["/holoapi".to_owned()]).advice(), []);
        let all: Vec<_> = REGISTERED.split(' ').collect();
        assert_eq!(advice(&[(&all, &["/"]), (&["GET"], &["/a/b", "/a/c:d"]), (&["GET"], &["/a/{b}"])]), []);
        // A different number of segments, or a different case.
        assert_eq!(advice(&[(&["GET"], &["/a/{b}"]), (&["GET"], &["/a"]), (&["GET"], &["/A/b"])]), []);
        assert_eq!(advice(&[(&["GET"], &["/{a}/{b}"]), (&["GET"], &["/a/b/c"])]), []);
    }

    #[test]
    fn patterns_of_other_programs_are_translated() {
        for (path, instead) in [
            ("/a/*", "write \"/a/{name}\","),
            ("/*/b/*", "write \"/{name}/b/{name2}\","),
            ("/a/**", "write \"/a/{*name}\","),
            ("/a/**/b", "write \"/a/{name}/b\","),
            ("/a/x*", "write \"/a/{name}\","),
            ("/a/:id", "write \"/a/{id}\""),
            ("/a/", "write \"/a\", with \"/a/\" among the aliases"),
            ("/a/{b}/", "write \"/a/{b}\","),
        ] {
            let warnings = advice(&[(&["GET"], &[path])]);
            assert_eq!(warnings.len(), 1, "{path}: {warnings:?}");
            assert!(warnings[0].1.contains(instead), "{path}: {warnings:?}");
            let of_alias = advice(&[(&["POST"], &["/x"]), (&["GET"], &["/y", &path.replace("{b}", "b")])]);
            assert_eq!(of_alias.len(), 1, "{path}: {of_alias:?}");
            assert_eq!(of_alias[0].0, 1, "{path}");
        }
    }

    #[test]
    fn unknown_methods_cause_a_suggestion() {
        let warnings = advice(&[(&["get", "Post", "FETCH", "PUT"], &["/a"])]);
        let expected = ["\"get\" is not \"GET\"", "\"Post\" is not \"POST\"", "\"FETCH\" is in no registry"];
        assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
        for ((_, warning), expected) in warnings.iter().zip(expected) {
            assert!(warning.contains(expected), "{warning}");
        }
    }

    #[test]
    fn shadowed_routes_cause_a_warning_whatever_their_methods() {
        for (first, second) in [
            (&["/a"][..], &["/a"][..]),
            (&["/a/{b}"], &["/a/b"]),
            (&["/a/{b}"], &["/a/{c}"]),
            (&["/x/{b}", "/a/{b}"], &["/a/{c}", "/x/{c}"]),
        ] {
            let warnings = advice(&[(&["GET"], first), (&["POST"], second)]);
            assert_eq!(warnings.len(), 1, "{first:?} {second:?}: {warnings:?}");
            assert_eq!(warnings[0].0, 1);
            assert!(warnings[0].1.starts_with("no request reaches the route"), "{warnings:?}");
        }
        for (first, second) in
            [("/a/{*b}", "/a/{c}/d"), ("/a/{*b}", "/a/{*c}"), ("/{*b}", "/"), ("/a/{*b}", "/a/b/{*c}")]
        {
            let warnings = advice(&[(&["GET"], &[first]), (&["POST"], &[second])]);
            assert!(
                warnings.iter().any(|(index, text)| *index == 1 && text.starts_with("no request reaches")),
                "{first} {second}: {warnings:?}"
            );
        }
        for (first, second) in [("/a/{*b}", "/a"), ("/a/b/{*c}", "/a/{*b}"), ("/a/{b}", "/a/{*b}")] {
            let warnings = advice(&[(&["GET"], &[first]), (&["POST"], &[second])]);
            assert_eq!(warnings, [], "{first} {second}");
        }
        let partly = advice(&[(&["GET"], &["/a"]), (&["GET"], &["/b", "/a"])]);
        assert_eq!(partly.len(), 1, "{partly:?}");
        assert!(partly[0].1.starts_with("no request reaches \"/a\": the earlier route \"/a\""), "{partly:?}");
        // A name matches no empty segment.
        let warnings = advice(&[(&["GET"], &["/a/{b}"]), (&["GET"], &["/a/"])]);
        assert!(warnings.iter().all(|(_, text)| !text.starts_with("no request")), "{warnings:?}");
    }

    #[test]
    fn a_route_shadows_only_routes_of_its_own_hosts() {
        let of = |hosts: &[&str], path: &str| {
            let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            let (methods, path) = (vec!["GET".to_owned()], path.to_owned());
            Arc::new(Route::try_from(&Settings { hosts, methods, path, ..Settings::default() }).unwrap())
        };
        for (first, second, is_shadowed) in [
            (&[][..], &["a"][..], true),
            (&["a"], &["a"], true),
            (&["a", "b"], &["b"], true),
            (&["a"], &[], false),
            (&["a"], &["a", "b"], false),
            (&["a"], &["b"], false),
        ] {
            let table = RouteTable::new(vec![of(first, "/{*rest}"), of(second, "/x")], Vec::new());
            assert_eq!(table.advice().len(), usize::from(is_shadowed), "{first:?} {second:?}: {:?}", table.advice());
        }
    }

    #[test]
    fn a_route_with_a_stripped_prefix_causes_a_warning() {
        let table = table(&[(&["GET"], &["/old/a"]), (&["GET"], &["/older/a", "/old"])], &["/old"]);
        let warnings = table.advice();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].0 == 0 && warnings[0].1.ends_with("write \"/a\""), "{warnings:?}");
    }

    #[test]
    fn a_literal_path_is_found_as_an_alias_and_with_a_prefix() {
        let table = table(
            &[
                (&["GET"], &["/auth"]),
                (&["GET"], &["/b", "/auth"]),
                (&["GET"], &["/old/auth"]),
                (&["GET"], &["/auth/"]),
            ],
            &["/old"],
        );
        let found: Vec<_> = table.find_literal("/auth").collect();
        let expected = [(0, "/auth"), (1, "/auth"), (2, "/old/auth")];
        assert_eq!(found, expected.map(|(index, text)| (index, text.to_owned())));
    }
}
