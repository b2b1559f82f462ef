use super::*;

/// The default route of days.
fn day_route() -> Settings {
    default_routes().into_iter().find(|settings| settings.path == "/holodules/{day}").unwrap()
}

fn table() -> RouteTable {
    let mut settings = default_routes();
    settings.push(Settings {
        methods: vec!["POST".to_owned()],
        path: "/notes".to_owned(),
        query: Query::Names(vec!["page".to_owned()]),
        ..Settings::default()
    });
    let routes = settings.iter().map(|settings| Arc::new(Route::try_from(settings).unwrap())).collect();
    RouteTable::new(routes, vec!["/holoapi".to_owned()])
}

fn target(method: &Method, path: &str, query: Option<&str>) -> Result<String, NoMatch> {
    target_in(&table(), "localhost", method, path, query).map(|(_, target)| target)
}

/// The name of the route and the target of a request.
fn target_in(
    table: &RouteTable,
    host: &str,
    method: &Method,
    path: &str,
    query: Option<&str>,
) -> Result<(String, String), NoMatch> {
    let path = table.strip(CanonicalPath::parse(path).unwrap());
    let matched = table.find(|_| true, Request { host, method, path, query })?;
    Ok((matched.route.name.to_string(), matched.target))
}

#[test]
fn aliases_and_prefixes_match_the_same_route() {
    for path in ["/holodules/20201209", "/Holodules/20201209", "/holoapi/holodules/20201209"] {
        assert_eq!(target(&Method::GET, path, None).as_deref(), Ok("/holodules/20201209"), "{path}");
    }
}

#[test]
fn aliases_are_forwarded_as_the_path_of_their_route() {
    let table = table();
    let forwarded = |path| table.purge_keys(CanonicalPath::parse(path).unwrap()).next().map(Cow::into_owned);
    for path in ["/holodules/1", "/Holodules/1", "/holoapi/holodules/1", "/holoapi/Holodules/1"] {
        assert_eq!(forwarded(path).as_deref(), Some("/holodules/1"), "{path}");
    }
    // The methods of the route do not matter.
    assert_eq!(forwarded("/notes").as_deref(), Some("/notes"));
    assert_eq!(forwarded("/holoapi/holoapi/notes"), None);
}

#[test]
fn other_paths_match_no_route() {
    let paths = [
        "/",
        "/holodules/",
        "/holodules/1/2",
        "/holodules/20201209/",
        "/HOLODULES/1",
        "/holoapi",
        "/holoapix/holodules/1",
        "/holoapi/holoapi/holodules/1",
        "/metrics",
        "/users",
    ];
    for path in paths {
        assert_eq!(target(&Method::GET, path, None), Err(NoMatch::Path), "{path}");
    }
}

#[test]
fn other_methods_yield_the_allowed_methods() {
    let allow = "GET, HEAD".to_owned();
    assert_eq!(target(&Method::POST, "/holodules/1", None), Err(NoMatch::Method { allow }));
}

#[test]
fn a_route_that_is_not_allowed_is_not_found_with_any_method() {
    let table = table();
    let path = CanonicalPath::parse("/holodules/1").unwrap();
    for method in [Method::GET, Method::POST] {
        let request = Request { host: "localhost", method: &method, path, query: None };
        let find = |name: &str| table.find(|route| *route.name == *name, request);
        assert_eq!(find("/notes").unwrap_err(), NoMatch::Path);
        assert_ne!(find("holodules").map(|matched| matched.target), Err(NoMatch::Path));
    }
}

#[test]
fn only_declared_query_names_are_forwarded() {
    assert_eq!(target(&Method::GET, "/holodules/1", Some("a=b")).as_deref(), Ok("/holodules/1"));
    let query = Some("page=2&x=1&page&pages=3&PAGE=4");
    assert_eq!(target(&Method::POST, "/notes", query).as_deref(), Ok("/notes?page=2&page"));
}

#[test]
fn invalid_routes_are_refused() {
    let with = |change: fn(&mut Settings)| {
        let mut settings = day_route();
        change(&mut settings);
        Route::try_from(&settings)
    };
    let field = |change| with(change).err().map(|error| error.field);
    assert_eq!(field(|s| s.methods.clear()), Some("methods"));
    assert_eq!(field(|s| s.methods.push("TRACE".to_owned())), Some("methods"));
    assert_eq!(field(|s| s.aliases.push("/x".to_owned())), Some("aliases"));
    assert_eq!(field(|s| s.path = "holodules".to_owned()), Some("path"));
    assert_eq!(field(|s| s.query = Query::Names(vec!["a b".to_owned()])), Some("query"));
    assert_eq!(field(|s| s.aliases.push("/x/{*day}".to_owned())), Some("aliases"));
    for prefix in ["", "/", "/holodules/", "/holo", "/holodules/{day}", "/holodules/x", "/other", "holodules", "/."] {
        let mut settings = day_route();
        settings.strip_prefix = Some(prefix.to_owned());
        assert_eq!(Route::try_from(&settings).err().map(|error| error.field), Some("strip_prefix"), "{prefix}");
    }
    for template in ["", "x", "/{other}", "/{*day}", "/{day}/{day}", "/a//{day}", "/a/../{day}", "/{day};x"] {
        let mut settings = day_route();
        settings.rewrite = Some(template.to_owned());
        assert_eq!(Route::try_from(&settings).err().map(|error| error.field), Some("rewrite"), "{template}");
        settings.rewrite = Some("/x/{day}".to_owned());
        settings.strip_prefix = Some("/holodules".to_owned());
        assert_eq!(Route::try_from(&settings).err().map(|error| error.field), Some("rewrite"));
    }
}

#[test]
fn every_error_of_a_route_is_reported() {
    let text = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let settings = Settings {
        methods: text(&["TRACE", "PUT", "PUT"]),
        path: "hush".to_owned(),
        aliases: text(&["/a//b"]),
        rewrite: Some("/a/..".to_owned()),
        query: Query::Names(text(&["a b"])),
        cache: Some(true),
        vary: text(&["a b"]),
        compress: text(&["gzip", "GZIP", "gzip"]),
        ..Settings::default()
    };
    let errors = Route::new(&settings).unwrap_err();
    let fields: Vec<_> = errors.iter().map(|error| error.field).collect();
    assert_eq!(
        fields,
        ["path", "aliases", "rewrite", "methods", "methods", "query", "cache", "vary", "compress", "compress"]
    );
    assert!(errors.iter().all(|error| !error.to_string().contains("hush")));
}

fn with(routes: &[Settings]) -> RouteTable {
    RouteTable::new(routes.iter().map(|route| Arc::new(Route::try_from(route).unwrap())).collect(), Vec::new())
}

fn get(path: &str) -> Settings {
    Settings { methods: vec!["GET".to_owned()], path: path.to_owned(), ..Settings::default() }
}

#[test]
fn the_first_route_of_the_host_that_has_the_path_decides() {
    let of = |host: &str, name: &str| Settings {
        name: Some(name.to_owned()),
        hosts: vec![host.to_owned()],
        ..get("/{*rest}")
    };
    let table = with(&[of("a", "of a"), get("/x"), of("b", "of b")]);
    let name = |host, path| target_in(&table, host, &Method::GET, path, None).map(|(name, _)| name);
    assert_eq!(name("a", "/x").as_deref(), Ok("of a"));
    assert_eq!(name("b", "/x").as_deref(), Ok("/x"));
    assert_eq!(name("b", "/y").as_deref(), Ok("of b"));
    assert_eq!((name("c", "/x").as_deref(), name("c", "/y")), (Ok("/x"), Err(NoMatch::Path)));
}

#[test]
fn a_tail_that_is_too_long_matches_no_later_route() {
    let mut later = get("/{*rest}");
    later.name = Some("later".to_owned());
    let table = with(&[get("/{*rest}"), later]);
    let path = |segments| "/a".repeat(segments);
    assert!(target_in(&table, "a", &Method::GET, &path(MAX_TAIL_SEGMENTS), None).is_ok());
    assert_eq!(target_in(&table, "a", &Method::GET, &path(MAX_TAIL_SEGMENTS + 1), None), Err(NoMatch::Path));
}

#[test]
fn a_prefix_is_removed_from_the_path_and_from_aliases() {
    let mut route = get("/app/v1/{*rest}");
    route.aliases = vec!["/old/{*rest}".to_owned()];
    route.strip_prefix = Some("/app".to_owned());
    let mut whole = get("/whole");
    whole.strip_prefix = Some("/whole".to_owned());
    let table = with(&[route, whole]);
    for (path, target) in [("/app/v1/", "/v1/"), ("/app/v1/a/b/", "/v1/a/b/"), ("/old/a", "/v1/a"), ("/whole", "/")] {
        let found = target_in(&table, "a", &Method::GET, path, None).map(|(_, target)| target);
        assert_eq!(found.as_deref(), Ok(target), "{path}");
    }
    let prefixes: Vec<_> = table.iter().map(|route| route.forwarded_prefix().unwrap().to_str().unwrap()).collect();
    assert_eq!(prefixes, ["/app", "/whole"]);
}

#[test]
fn a_rewritten_path_has_the_names_in_another_order() {
    let mut route = get("/{user}/repos/{repo}/{*rest}");
    route.aliases = vec!["/r/{user}/{repo}/{*rest}".to_owned()];
    route.rewrite = Some("/git/{repo}/of/{user}/{*rest}".to_owned());
    let table = with(&[route]);
    for (path, target) in
        [("/u/repos/r/a/b", "/git/r/of/u/a/b"), ("/u/repos/r/", "/git/r/of/u/"), ("/r/u/x/a", "/git/x/of/u/a")]
    {
        let found = target_in(&table, "a", &Method::GET, path, None).map(|(_, target)| target);
        assert_eq!(found.as_deref(), Ok(target), "{path}");
    }
    assert_eq!(table.iter().next().unwrap().forwarded_prefix(), None);
}

#[test]
fn the_whole_query_is_forwarded_byte_for_byte() {
    let mut route = get("/a");
    route.query = Query::All;
    let table = with(&[route]);
    for query in ["", "a", "b=2&a=1&a=1", "&&=%2f&%zz=;?/"] {
        let found = target_in(&table, "a", &Method::GET, "/a", Some(query)).map(|(_, target)| target);
        assert_eq!(found, Ok(format!("/a?{query}")));
    }
    assert_eq!(target_in(&table, "a", &Method::GET, "/a", None).map(|(_, target)| target).as_deref(), Ok("/a"));
}

#[test]
fn the_last_event_id_is_not_part_of_a_shared_target() {
    let shared = Settings { query: Query::All, shared: true, fan_out: true, ..get("/a") };
    let table = with(std::slice::from_ref(&shared));
    for (query, target) in [
        ("last_event_id=1", "/a"),
        ("x=1&last%5fevent_id=1&y=2&last_event_id=3", "/a?x=1&y=2"),
        ("last_event_ids=1", "/a?last_event_ids=1"),
    ] {
        let found = target_in(&table, "a", &Method::GET, "/a", Some(query)).map(|(_, target)| target);
        assert_eq!(found.as_deref(), Ok(target), "{query}");
    }
    let names = Settings { query: Query::Names(vec!["last_event_id".to_owned()]), ..shared };
    assert_eq!(Route::try_from(&names).unwrap_err().field, "query");
    assert!(Route::try_from(&Settings { fan_out: false, ..names }).is_ok());
}

#[test]
fn routes_that_differ_only_in_late_segments_are_told_apart_in_large_tables() {
    let path = |depth: usize, last: usize| format!("{}/{last}", "/a".repeat(depth));
    for depth in [1, 14, 15, 16, 17, 40] {
        let mut routes: Vec<_> = (0..20).map(|last| get(&path(depth, last))).collect();
        routes.push(get("/{*rest}"));
        let table = with(&routes);
        for last in 0..20 {
            let path = path(depth, last);
            assert_eq!(target_in(&table, "a", &Method::GET, &path, None), Ok((path.clone(), path)));
        }
        let other = path(depth, 20);
        assert_eq!(target_in(&table, "a", &Method::GET, &other, None), Ok(("/{*rest}".to_owned(), other)));
    }
}

#[test]
fn the_path_of_a_cookie_is_the_literal_beginning_of_all_paths() {
    for (path, aliases, expected) in [
        ("/", &[][..], "/"),
        ("/{*rest}", &[], "/"),
        ("/app/{*rest}", &[], "/app"),
        ("/app/v1/{id}/x", &[], "/app/v1"),
        ("/app/", &[], "/app"),
        ("/app/x", &[], "/app/x"),
        ("/app/v1/{id}", &["/app/v2/{id}"], "/app"),
        ("/app/v1/{id}", &["/other/v1/{id}"], "/"),
    ] {
        let aliases = aliases.iter().map(|&alias| alias.to_owned()).collect();
        let methods = vec!["GET".to_owned()];
        let route = Route::new(&Settings { path: path.to_owned(), aliases, methods, ..Settings::default() }).unwrap();
        let route = Arc::new(route);
        assert_eq!(RouteTable::new(vec![Arc::clone(&route)], Vec::new()).cookie_path(&route), expected, "{path}");
        assert_eq!(RouteTable::new(vec![Arc::clone(&route)], vec!["/v1".to_owned()]).cookie_path(&route), "/");
    }
}

#[test]
fn the_default_routes_match_in_their_order() {
    let found = |method: Method, path: &str, query: Option<&str>| target_in(&table(), "a", &method, path, query);
    for (path, query, name, target) in [
        ("/holodules/20201209", Some("a=b"), "holodules", "/holodules/20201209"),
        ("/holodules/stream", Some("code=a&code=b"), "live", "/holodules/stream?code=a&code=b"),
        ("/Holodules/stream", None, "live", "/holodules/stream"),
        ("/holoapi/holodules", Some("code=b&x=1&code=a"), "holodule_list", "/holodules?code=b&x=1&code=a"),
        ("/now", Some("group=a"), "now", "/now?group=a"),
        ("/streamers", Some("group=a"), "streamers", "/streamers?group=a"),
        ("/streamers/1", Some("group=a"), "streamer", "/streamers/1"),
        ("/streamers/a/holodules", Some("q=a"), "streamer_holodules", "/streamers/a/holodules?q=a"),
        ("/schedules", Some("keyword=a"), "schedules", "/schedules?keyword=a"),
        ("/schedules/1", Some("keyword=a"), "schedule", "/schedules/1"),
        ("/calendar", Some("a=b"), "calendars", "/calendar"),
        ("/calendar/k.ics", Some("a=b"), "calendar_feed", "/calendar/k.ics"),
        ("/openapi.json", None, "openapi", "/openapi.json"),
        ("/docs/style.css", None, "docs", "/docs/style.css"),
        ("/docs", None, "docs_without_slash", "/docs"),
    ] {
        assert_eq!(found(Method::GET, path, query), Ok((name.to_owned(), target.to_owned())), "{path}");
    }
    assert_eq!(found(Method::DELETE, "/calendar/7", None), Ok(("calendar".to_owned(), "/calendar/7".to_owned())));
    for (method, path, allow) in [
        (Method::GET, "/calendar/7", "DELETE"),
        (Method::DELETE, "/calendar/k.ics", "GET, HEAD"),
        (Method::DELETE, "/calendar", "GET, HEAD, POST"),
        (Method::POST, "/holodules", "GET, HEAD"),
        (Method::HEAD, "/holodules/stream", "GET"),
    ] {
        assert_eq!(found(method, path, None), Err(NoMatch::Method { allow: allow.to_owned() }), "{path}");
    }
    let public: Vec<_> = default_routes().into_iter().filter(|route| route.public).collect();
    assert_eq!(public.iter().map(|route| route.path.as_str()).collect::<Vec<_>>(), ["/calendar/{key}.ics"]);
}

#[test]
fn a_purge_of_a_list_is_one_of_all_lists() {
    let table = table();
    let purged = |path: &str| -> Vec<String> {
        table.purge_keys(CanonicalPath::parse(path).unwrap()).map(Cow::into_owned).collect()
    };
    for path in ["/holodules", "/now", "/streamers/a/holodules", "/schedules/1", "/holoapi/now"] {
        assert_eq!(purged(path), ["/holodules"], "{path}");
    }
    assert_eq!(purged("/holodules/1"), ["/holodules/1"]);
    let with = |change: fn(&mut Settings)| {
        let mut settings = day_route();
        settings.purge_key = Some("/x".to_owned());
        change(&mut settings);
        Route::try_from(&settings).err().map(|error| error.field)
    };
    assert_eq!(with(|_| {}), None);
    assert_eq!(with(|settings| settings.purge_key = Some("x".to_owned())), Some("purge_key"));
    assert_eq!(with(|settings| settings.purge_key = Some("/a//b".to_owned())), Some("purge_key"));
    assert_eq!(with(|settings| settings.cache = Some(false)), Some("purge_key"));
}
