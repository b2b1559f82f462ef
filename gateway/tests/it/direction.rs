//! Which modules may import which, and which may use an external crate: only what is on a lower floor and listed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[path = "../../crates/settings/tests/imports/mod.rs"]
mod imports;

use imports::{Module, circles, long_files, modules, uses_of};

/// The floors, the highest first.
const FLOORS: [&[&str]; 10] = [
    &["main"],
    &["server"],
    &["flow"],
    &["respond"],
    &["authenticate", "config"],
    &["login", "revocation", "cache", "fan_out", "ticket", "upgrade"],
    &["listener"],
    &["acme", "downstream", "token", "record", "upstream", "route"],
    &["client", "compress", "cors", "framing", "limit", "tls"],
    &["clock", "drain", "health", "scope", "single_flight", "syntax"],
];

/// Every import that is allowed.
const ALLOWED: [(&str, &[&str]); 23] = [
    ("main", &["config", "health", "record", "scope", "server", "token"]),
    (
        "server",
        &[
            "acme",
            "authenticate",
            "cache",
            "clock",
            "config",
            "downstream",
            "drain",
            "fan_out",
            "flow",
            "framing",
            "limit",
            "listener",
            "login",
            "record",
            "revocation",
            "route",
            "syntax",
            "ticket",
            "tls",
            "token",
            "upstream",
        ],
    ),
    (
        "flow",
        &[
            "authenticate",
            "cache",
            "client",
            "clock",
            "compress",
            "config",
            "cors",
            "downstream",
            "drain",
            "fan_out",
            "framing",
            "limit",
            "listener",
            "login",
            "record",
            "respond",
            "revocation",
            "route",
            "scope",
            "ticket",
            "token",
            "upgrade",
            "upstream",
        ],
    ),
    (
        "respond",
        &[
            "authenticate",
            "cors",
            "downstream",
            "framing",
            "limit",
            "login",
            "route",
            "syntax",
            "ticket",
            "token",
            "upgrade",
        ],
    ),
    ("authenticate", &["scope", "syntax", "token"]),
    (
        "config",
        &[
            "acme",
            "cache",
            "client",
            "clock",
            "cors",
            "fan_out",
            "framing",
            "limit",
            "listener",
            "record",
            "revocation",
            "route",
            "scope",
            "syntax",
            "tls",
            "token",
            "upstream",
        ],
    ),
    ("login", &["limit", "scope", "token", "upstream"]),
    ("revocation", &["scope", "single_flight", "token", "upstream"]),
    ("ticket", &["token"]),
    ("cache", &["compress", "downstream", "single_flight", "syntax", "upstream"]),
    ("fan_out", &["client", "upstream"]),
    ("upgrade", &["cors", "downstream", "syntax"]),
    ("listener", &["downstream", "drain", "tls"]),
    ("acme", &["tls"]),
    ("downstream", &["drain", "syntax", "tls"]),
    ("client", &["syntax"]),
    ("cors", &["syntax"]),
    ("record", &["syntax"]),
    ("route", &["client", "compress", "cors", "framing", "limit", "scope", "syntax"]),
    ("framing", &["syntax"]),
    ("upstream", &["syntax", "tls"]),
    ("token", &["scope"]),
    ("compress", &["syntax"]),
];

/// The modules that compose. A stage imports none of them.
const COMPOSING: [&str; 6] = ["main", "server", "flow", "respond", "config", "record"];

/// Modules whose inputs are all arguments: they use neither pingora nor a clock.
const PURE: [&str; 8] = ["token", "route", "limit", "client", "cors", "authenticate", "scope", "compress"];

/// External crates with the modules that may use them. `main` may use all.
const CONFINED: &[(&str, &[&str])] = &[
    ("instant_acme", &["acme"]),
    ("rcgen", &["acme/order", "tls/challenge"]),
    ("h2", &["downstream/http2", "listener", "upstream/error", "upstream/http2"]),
    ("rustls", &["acme/http", "tls", "downstream", "listener", "server", "upstream/tls"]),
    ("tokio_rustls", &["acme/http", "downstream/stream", "listener", "upstream/connection", "upstream/tls"]),
    ("x509_parser", &["tls/identity"]),
    ("jsonwebtoken", &["token"]),
    ("aws_lc_rs", &["acme", "tls", "token", "upgrade/accept", "upstream/balance"]),
    ("hyper", &["acme/http", "upstream", "server"]),
    ("hyper_util", &["acme/http", "upstream", "server"]),
    ("quick_cache", &["cache/store"]),
    ("brotli", &["compress/encoder"]),
    ("flate2", &["compress/encoder"]),
    ("zstd", &["compress/encoder"]),
    ("prometheus", &["record", "server"]),
    ("tracing_subscriber", &["record"]),
    ("pingora", &["cache", "downstream", "flow", "listener", "respond", "server", "upstream"]),
    ("toml", &["config"]),
    ("ipnet", &["client", "config", "listener"]),
    ("rustix", &["config/acme", "server"]),
    ("rlimit", &["config", "server"]),
    ("holodule_handover", &["server"]),
    ("holodule_settings", &["acme", "config", "server"]),
    ("holodule_telemetry", &["config", "flow", "server", "upstream"]),
];

#[test]
fn modules_import_only_what_is_listed() {
    let allowed = BTreeMap::from(ALLOWED);
    let mut wrong = Vec::new();
    for (module, used) in imports_of_the_crate() {
        let allowed = allowed.get(top_level(&module)).copied().unwrap_or_default();
        if !allowed.contains(&top_level(&used)) {
            wrong.push(format!("{module} imports {used}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn every_listed_import_exists() {
    let used: BTreeSet<_> = imports_of_the_crate()
        .into_iter()
        .map(|(from, to)| (top_level(&from).to_owned(), top_level(&to).to_owned()))
        .collect();
    let listed =
        ALLOWED.iter().flat_map(|(from, all)| all.iter().map(move |to| ((*from).to_owned(), (*to).to_owned())));
    assert_eq!(listed.filter(|edge| !used.contains(edge)).collect::<Vec<_>>(), Vec::new());
}

#[test]
fn the_list_goes_downwards_and_no_stage_imports_a_composing_module() {
    let floor = |module: &str| {
        FLOORS.iter().position(|floor| floor.contains(&module)).unwrap_or_else(|| panic!("{module} has no floor"))
    };
    for (module, imports) in ALLOWED {
        for import in imports {
            assert!(floor(module) < floor(import), "{module} -> {import} does not go down");
            let is_stage = !COMPOSING.contains(&module);
            assert!(!(is_stage && COMPOSING.contains(import)), "the stage {module} imports {import}");
        }
    }
    for module in gateway_modules() {
        floor(top_level(&module.name));
    }
}

#[test]
fn external_crates_are_used_only_where_listed() {
    let modules = gateway_modules();
    let mut wrong = Vec::new();
    for (library, homes) in CONFINED {
        let uses = modules.iter().filter(|module| module.outside.contains(*library));
        let names: Vec<_> = uses.map(|module| module.name.as_str()).collect();
        let is_within = |name: &str, home: &str| name == home || name.starts_with(&format!("{home}/"));
        let unused = homes.iter().filter(|home| !names.iter().any(|name| is_within(name, home)));
        wrong.extend(unused.map(|home| format!("{library} is not used in {home}")));
        let elsewhere = names.into_iter().filter(|name| !homes.iter().any(|home| is_within(name, home)));
        wrong.extend(elsewhere.map(|name| format!("{name} uses {library}")));
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn no_sibling_files_or_folders_import_each_other_in_a_circle() {
    assert_eq!(circles(&gateway_modules()), Vec::<String>::new());
    for shared in ["crates/handover/src", "crates/settings/src"] {
        assert_eq!(circles(&modules(&folder(shared))), Vec::<String>::new());
    }
}

#[test]
fn no_file_has_more_than_400_lines() {
    let folders = ["src", "tests", "benches", "crates"].map(folder);
    assert_eq!(long_files(&folders), Vec::<PathBuf>::new());
}

#[test]
fn pure_modules_use_neither_pingora_nor_a_clock() {
    let modules = gateway_modules();
    for pure in PURE {
        let files: Vec<_> = modules.iter().filter(|module| top_level(&module.name) == pure).collect();
        assert!(!files.is_empty(), "{pure} does not exist");
        for module in files {
            assert_names_none_of(module, &["pingora", "Instant", "SystemTime", "tokio"]);
        }
    }
}

#[test]
fn the_cache_policy_receives_the_time_as_an_argument() {
    let modules = gateway_modules();
    let rules: Vec<_> = modules.iter().filter(|module| module.name.starts_with("cache/policy")).collect();
    assert!(rules.len() > 1);
    for module in rules {
        assert_names_none_of(module, &["pingora", "tokio", "::now", "elapsed"]);
    }
}

#[test]
fn the_shared_crates_use_neither_program() {
    for shared in ["crates/handover/src", "crates/settings/src"] {
        let modules = modules(&folder(shared));
        assert!(modules.len() > 3);
        for module in modules {
            let words = ["holodule_gateway", "holodule_backend", "pingora", "hyper", "tokio", "http"];
            assert_names_none_of(&module, &words);
        }
    }
}

fn assert_names_none_of(module: &Module, words: &[&str]) {
    for word in words {
        assert!(!module.names.contains(*word), "{} names {word}", module.name);
    }
}

/// Pairs of a module and one that it imports, each by its path below `src`, where their top-level modules differ.
fn imports_of_the_crate() -> Vec<(String, String)> {
    let main = uses_of("holodule_gateway", &folder("src/main.rs")).into_iter().map(|used| ("main".to_owned(), used));
    let modules = gateway_modules();
    assert!(modules.len() > 10);
    let inside = modules.into_iter().flat_map(|module| {
        let name = module.name;
        module.uses.into_iter().map(move |used| (name.clone(), used))
    });
    main.chain(inside).filter(|(from, to)| top_level(from) != top_level(to)).collect()
}

/// The modules of the library without its root, which only declares them.
fn gateway_modules() -> Vec<Module> {
    modules(&folder("src")).into_iter().filter(|module| !module.name.is_empty()).collect()
}

fn folder(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

fn top_level(module: &str) -> &str {
    module.split('/').next().unwrap_or(module)
}
