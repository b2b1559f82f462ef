use super::*;

fn table() -> RouteTable {
    let mut settings = default_routes();
    settings.push(Settings {
        name: None,
        methods: vec!["POST".to_owned()],
        path: "/notes".to_owned(),
        aliases: Vec::new(),
        query: vec!["page".to_owned()],
        shared: false,
        cache: None,
        vary: Vec::new(),
        host: Host::Upstream,
    });
    let routes = settings.iter().map(|settings| Arc::new(Route::try_from(settings).unwrap())).collect();
    RouteTable::new(routes, vec!["/holoapi".to_owned()])
}

fn target(method: &Method, path: &str, query: Option<&str>) -> Result<String, NoMatch> {
    let table = table();
    let path = table.strip(CanonicalPath::parse(path).unwrap());
    table.find(|_| true, method, &path, query).map(|matched| matched.target)
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
    let forwarded = |path| table.forwarded_path(CanonicalPath::parse(path).unwrap()).map(Cow::into_owned);
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
        "/holodules",
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
        let find = |name: &str| table.find(|route| *route.name == *name, &method, &path, None);
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
        let mut settings = default_routes().remove(0);
        change(&mut settings);
        Route::try_from(&settings)
    };
    let field = |change| with(change).err().map(|error| error.field);
    assert_eq!(field(|s| s.methods.clear()), Some("methods"));
    assert_eq!(field(|s| s.methods.push("TRACE".to_owned())), Some("methods"));
    assert_eq!(field(|s| s.aliases.push("/x".to_owned())), Some("aliases"));
    assert_eq!(field(|s| s.path = "holodules".to_owned()), Some("path"));
    assert_eq!(field(|s| s.query.push("a b".to_owned())), Some("query"));
}

#[test]
fn every_error_of_a_route_is_reported() {
    let text = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let settings = Settings {
        name: None,
        methods: text(&["TRACE", "PUT", "PUT"]),
        path: "hush".to_owned(),
        aliases: text(&["/a//b"]),
        query: text(&["a b"]),
        shared: false,
        cache: Some(true),
        vary: text(&["a b"]),
        host: Host::Upstream,
    };
    let errors = Route::new(&settings).unwrap_err();
    let fields: Vec<_> = errors.iter().map(|error| error.field).collect();
    assert_eq!(fields, ["path", "aliases", "methods", "methods", "query", "cache", "vary"]);
    assert!(errors.iter().all(|error| !error.to_string().contains("hush")));
}
