//! Routes that hardly mean what they say, and what to write instead.

use super::{Pattern, Route, Table};

/// The methods of IANA's registry that can be forwarded.
const REGISTERED: &str = "ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT COPY DELETE GET HEAD LABEL LINK LOCK MERGE MKACTIVITY \
                          MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE OPTIONS ORDERPATCH PATCH POST PROPFIND \
                          PROPPATCH PUT QUERY REBIND REPORT SEARCH UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE \
                          UPDATEREDIRECTREF VERSION-CONTROL";

/// The place of a route among all, and what its author should know.
pub type Advice = (usize, String);

impl Table {
    /// What is doubtful about the routes, in their order. All of it works as it is written.
    pub fn advice(&self) -> Vec<Advice> {
        let mut advice = Vec::new();
        for (place, route) in self.routes.iter().enumerate() {
            let of_route = route.patterns().filter_map(advice_on_pattern).chain(advice_on_methods(route));
            advice.extend(of_route.chain(self.advice_on_prefixes(route)).map(|text| (place, text)));
            let earlier = self.routes.get(..place).unwrap_or_default();
            advice.extend(
                advice_on_order(route, &earlier.iter().map(AsRef::as_ref)).into_iter().map(|text| (place, text)),
            );
        }
        advice
    }

    /// The routes with a path or an alias that clients reach as `path`, with or without a prefix that
    /// is taken off: the place of each, and what it is written as. Only literal paths count, since
    /// `{name}` takes others as well.
    pub fn literal<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (usize, String)> + 'a {
        let is_it = move |text: &str| {
            text == path || self.strip_prefix.iter().any(|prefix| text.strip_prefix(prefix.as_str()) == Some(path))
        };
        let routes = self.routes.iter().enumerate();
        let texts = routes.flat_map(|(place, route)| route.patterns().map(move |text| (place, text.to_string())));
        texts.filter(move |(_, text)| is_it(text))
    }

    fn advice_on_prefixes(&self, route: &Route) -> Vec<String> {
        let mut advice = Vec::new();
        for text in route.patterns().map(ToString::to_string) {
            for prefix in &self.strip_prefix {
                if let Some(rest) = text.strip_prefix(prefix.as_str()).filter(|rest| rest.starts_with('/')) {
                    advice.push(format!(
                        "{text:?} begins with {prefix:?}, which strip_prefix takes off before routes are matched: write {rest:?}"
                    ));
                }
            }
        }
        advice
    }
}

impl Route {
    /// The path, and its aliases.
    fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        std::iter::once(&self.path).chain(&self.aliases)
    }
}

/// What other programs would take for a pattern, and a slash at the end.
fn advice_on_pattern(pattern: &Pattern) -> Option<String> {
    let text = pattern.to_string();
    let mut stars = 0;
    let instead: Vec<_> = text
        .split('/')
        .map(|segment| match segment.strip_prefix(':') {
            Some(name) if is_name(name) => format!("{{{name}}}"),
            _ if segment.contains('*') => {
                stars += 1;
                if stars == 1 { "{name}".to_owned() } else { format!("{{name{stars}}}") }
            }
            _ => segment.to_owned(),
        })
        .collect();
    let instead = instead.join("/");
    if stars > 0 {
        return Some(format!(
            "{text:?} has a *, which is a literal character and no wildcard: write {instead:?}, where a name in braces \
             takes any one segment; several segments need a route for each depth"
        ));
    }
    if instead != text {
        return Some(format!(
            "{text:?} has a segment that begins with a colon, which is a literal character: write {instead:?}"
        ));
    }
    let bare = text.strip_suffix('/').filter(|bare| !bare.is_empty())?;
    Some(format!(
        "{text:?} ends with a slash and takes no path without it: write {bare:?}, with {text:?} among the aliases where \
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

/// Which paths of `route` the routes before it take already.
fn advice_on_order<'a>(route: &Route, earlier: &(impl Iterator<Item = &'a Route> + Clone)) -> Vec<String> {
    let taker = |pattern: &Pattern| {
        earlier.clone().find(|other| other.patterns().any(|taken| taken.covers(pattern))).map(|other| &*other.name)
    };
    let takers: Vec<_> = route.patterns().map(|pattern| (pattern, taker(pattern))).collect();
    let first = takers.first().and_then(|(_, taker)| *taker);
    if let Some(first) = first
        && takers.iter().all(|(_, taker)| taker.is_some())
    {
        return vec![format!(
            "no request reaches the route {:?}: the earlier route {first:?} takes its path, and the first that has a \
             path decides, whatever the method; put this one before it, or add its methods there",
            route.name
        )];
    }
    let taken = takers.iter().filter_map(|(pattern, taker)| Some((pattern, (*taker)?)));
    taken
        .map(|(pattern, taker)| {
            let pattern = pattern.to_string();
            format!("no request reaches {pattern:?}: the earlier route {taker:?} takes it; put this one before it")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Settings, shipped};
    use super::*;

    /// A table of routes by their methods, path and aliases, and what is said of it.
    fn table(routes: &[(&[&str], &[&str])], prefixes: &[&str]) -> Table {
        let route = |(methods, paths): &(&[&str], &[&str])| {
            let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            let settings = Settings {
                name: None,
                methods: owned(methods),
                path: paths[0].to_owned(),
                aliases: owned(&paths[1..]),
                query: Vec::new(),
                shared: false,
                cache: None,
                vary: Vec::new(),
                host: crate::route::Host::Upstream,
            };
            Arc::new(Route::try_from(&settings).unwrap())
        };
        let prefixes = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
        Table::new(routes.iter().map(route).collect(), prefixes)
    }

    fn advice(routes: &[(&[&str], &[&str])]) -> Vec<Advice> {
        table(routes, &[]).advice()
    }

    #[test]
    fn what_means_what_it_says_gets_no_advice() {
        let shipped: Vec<_> = shipped().iter().map(|settings| Arc::new(Route::try_from(settings).unwrap())).collect();
        assert_eq!(Table::new(shipped, vec!["/holoapi".to_owned()]).advice(), []);
        let all: Vec<_> = REGISTERED.split(' ').collect();
        assert_eq!(advice(&[(&all, &["/"]), (&["GET"], &["/a/b", "/a/c:d"]), (&["GET"], &["/a/{b}"])]), []);
        // The same segments in another number, or in another case.
        assert_eq!(advice(&[(&["GET"], &["/a/{b}"]), (&["GET"], &["/a"]), (&["GET"], &["/A/b"])]), []);
        assert_eq!(advice(&[(&["GET"], &["/{a}/{b}"]), (&["GET"], &["/a/b/c"])]), []);
    }

    #[test]
    fn patterns_of_other_programs_are_shown_in_ours() {
        for (path, instead) in [
            ("/a/*", "write \"/a/{name}\","),
            ("/*/b/*", "write \"/{name}/b/{name2}\","),
            ("/a/**", "write \"/a/{name}\","),
            ("/a/x*", "write \"/a/{name}\","),
            ("/a/:id", "write \"/a/{id}\""),
            ("/a/", "write \"/a\", with \"/a/\" among the aliases"),
            ("/a/{b}/", "write \"/a/{b}\","),
        ] {
            let told = advice(&[(&["GET"], &[path])]);
            assert_eq!(told.len(), 1, "{path}: {told:?}");
            assert!(told[0].1.contains(instead), "{path}: {told:?}");
            let of_alias = advice(&[(&["POST"], &["/x"]), (&["GET"], &["/y", &path.replace("{b}", "b")])]);
            assert_eq!(of_alias.len(), 1, "{path}: {of_alias:?}");
            assert_eq!(of_alias[0].0, 1, "{path}");
        }
    }

    #[test]
    fn methods_that_no_client_sends_are_named_with_the_right_one() {
        let told = advice(&[(&["get", "Post", "FETCH", "PUT"], &["/a"])]);
        let expected = ["\"get\" is not \"GET\"", "\"Post\" is not \"POST\"", "\"FETCH\" is in no registry"];
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for ((_, told), expected) in told.iter().zip(expected) {
            assert!(told.contains(expected), "{told}");
        }
    }

    #[test]
    fn a_route_behind_one_that_takes_all_its_paths_is_named_whatever_its_methods() {
        for (first, second) in [
            (&["/a"][..], &["/a"][..]),
            (&["/a/{b}"], &["/a/b"]),
            (&["/a/{b}"], &["/a/{c}"]),
            (&["/x/{b}", "/a/{b}"], &["/a/{c}", "/x/{c}"]),
        ] {
            let told = advice(&[(&["GET"], first), (&["POST"], second)]);
            assert_eq!(told.len(), 1, "{first:?} {second:?}: {told:?}");
            assert_eq!(told[0].0, 1);
            assert!(told[0].1.starts_with("no request reaches the route"), "{told:?}");
        }
        let partly = advice(&[(&["GET"], &["/a"]), (&["GET"], &["/b", "/a"])]);
        assert_eq!(partly.len(), 1, "{partly:?}");
        assert!(partly[0].1.starts_with("no request reaches \"/a\": the earlier route \"/a\""), "{partly:?}");
        // A name takes no empty segment.
        let told = advice(&[(&["GET"], &["/a/{b}"]), (&["GET"], &["/a/"])]);
        assert!(told.iter().all(|(_, text)| !text.starts_with("no request")), "{told:?}");
    }

    #[test]
    fn a_prefix_that_is_taken_off_is_no_part_of_a_route() {
        let table = table(&[(&["GET"], &["/old/a"]), (&["GET"], &["/older/a", "/old"])], &["/old"]);
        let told = table.advice();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].0 == 0 && told[0].1.ends_with("write \"/a\""), "{told:?}");
    }

    #[test]
    fn a_literal_path_is_found_as_an_alias_and_behind_a_prefix() {
        let table = table(
            &[
                (&["GET"], &["/auth"]),
                (&["GET"], &["/b", "/auth"]),
                (&["GET"], &["/old/auth"]),
                (&["GET"], &["/auth/"]),
            ],
            &["/old"],
        );
        let found: Vec<_> = table.literal("/auth").collect();
        let expected = [(0, "/auth"), (1, "/auth"), (2, "/old/auth")];
        assert_eq!(found, expected.map(|(place, text)| (place, text.to_owned())));
    }
}
