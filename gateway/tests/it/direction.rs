//! Which module may import which: only what lies on a lower floor, and only what is listed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The floors, the highest first.
const FLOORS: [&[&str]; 9] = [
    &["main"],
    &["server"],
    &["flow"],
    &["respond"],
    &["authenticate", "config"],
    &["login", "revocation", "cache"],
    &["listener"],
    &["downstream", "token", "limit", "record", "upstream", "client", "cors", "route"],
    &["framing", "tls"],
];

/// Every import that is allowed.
const ALLOWED: [(&str, &[&str]); 12] = [
    ("main", &["config", "record", "server", "token"]),
    (
        "server",
        &[
            "authenticate",
            "cache",
            "config",
            "downstream",
            "flow",
            "framing",
            "limit",
            "listener",
            "login",
            "record",
            "revocation",
            "route",
            "tls",
            "upstream",
        ],
    ),
    (
        "flow",
        &[
            "authenticate",
            "cache",
            "client",
            "config",
            "cors",
            "downstream",
            "framing",
            "limit",
            "listener",
            "login",
            "record",
            "respond",
            "revocation",
            "route",
            "token",
            "upstream",
        ],
    ),
    ("respond", &["authenticate", "cors", "downstream", "framing", "limit", "login", "route", "token"]),
    ("authenticate", &["token"]),
    (
        "config",
        &[
            "cache",
            "client",
            "cors",
            "framing",
            "limit",
            "listener",
            "record",
            "revocation",
            "route",
            "tls",
            "token",
            "upstream",
        ],
    ),
    ("login", &["limit", "token", "upstream"]),
    ("revocation", &["token", "upstream"]),
    ("cache", &["downstream", "upstream"]),
    ("listener", &["downstream", "tls"]),
    ("downstream", &["tls"]),
    ("route", &["framing"]),
];

/// Who composes; a stage knows none of them.
const NO_STAGES: [&str; 6] = ["main", "server", "flow", "respond", "config", "record"];

/// What works with what it is given: neither pingora nor a clock.
const PURE: [&str; 6] = ["token", "route", "limit", "client", "cors", "authenticate"];

#[test]
fn modules_import_only_what_is_listed() {
    let allowed = BTreeMap::from(ALLOWED);
    for (module, imports) in imports_of_the_crate() {
        let allowed: BTreeSet<_> = allowed.get(module.as_str()).copied().unwrap_or_default().iter().copied().collect();
        let new: Vec<_> = imports.iter().filter(|import| !allowed.contains(import.as_str())).collect();
        assert!(new.is_empty(), "{module} imports {new:?}, which is no listed edge");
    }
}

#[test]
fn the_list_goes_downwards_and_no_stage_knows_who_composes_it() {
    let floor = |module: &str| {
        FLOORS.iter().position(|floor| floor.contains(&module)).unwrap_or_else(|| panic!("{module} has no floor"))
    };
    for (module, imports) in ALLOWED {
        for import in imports {
            assert!(floor(module) < floor(import), "{module} -> {import} does not go down");
            let is_stage = !NO_STAGES.contains(&module);
            assert!(!(is_stage && NO_STAGES.contains(import)), "the stage {module} imports {import}");
        }
    }
    for module in imports_of_the_crate().keys() {
        floor(module);
    }
}

#[test]
fn what_is_pure_knows_neither_pingora_nor_a_clock() {
    let sources = sources();
    for module in PURE {
        for (path, code) in sources.iter().filter(|(path, _)| module_of(path).as_deref() == Some(module)) {
            for word in ["pingora", "Instant", "SystemTime", "tokio"] {
                assert!(!code.contains(word), "{} mentions {word}", path.display());
            }
        }
    }
    assert!(sources.iter().any(|(path, _)| module_of(path).as_deref() == Some("token")));
}

#[test]
fn the_rules_of_the_cache_are_told_the_time() {
    let sources = sources();
    let rules: Vec<_> = sources.iter().filter(|(path, _)| path.starts_with("cache/policy")).collect();
    assert!(rules.len() > 1);
    for (path, code) in rules {
        for word in ["pingora", "tokio", "::now", "elapsed"] {
            assert!(!code.contains(word), "{} mentions {word}", path.display());
        }
    }
}

/// The modules that read settings, or use what the crate that reads them offers.
const USES_SETTINGS: [&str; 3] = ["config", "main", "server"];

#[test]
fn settings_are_read_in_few_places_by_a_crate_that_knows_no_program() {
    for (path, code) in sources() {
        let allowed = module_of(&path).is_some_and(|module| USES_SETTINGS.contains(&module.as_str()));
        assert!(allowed || !code.contains("holodule_settings"), "{} names holodule_settings", path.display());
    }
    let settings = sources_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/settings/src"));
    assert!(settings.len() > 3);
    for (path, code) in settings {
        for word in ["holodule_gateway", "holodule_backend", "pingora", "hyper", "tokio", "http::"] {
            assert!(!code.contains(word), "crates/settings: {} mentions {word}", path.display());
        }
    }
}

#[test]
fn the_scan_sees_every_way_to_import() {
    let code = code(
        "use crate::a::B;\nlet x = crate::b::c(); // crate::d\n//! crate::e\nuse crate::{f, g};\nuse holodule_gateway::h::I;\n#[cfg(test)]\nmod tests {\n    use crate::j;\n}\n",
    );
    let imports = imports(&code, "here");
    assert_eq!(imports, ["a", "b", "f", "g", "h"].map(str::to_owned).into());
}

/// The modules, each with the modules it imports.
fn imports_of_the_crate() -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, code) in sources() {
        let Some(module) = module_of(&path) else { continue };
        // From the top of a module `super` is the crate, which would be an import in disguise.
        let is_top = path.components().count() == 1 || path.ends_with("mod.rs");
        assert!(!is_top || !code.contains("super::"), "{} imports by super::", path.display());
        assert!(!code.contains("super::super"), "{} imports by super::super", path.display());
        found.entry(module.clone()).or_default().extend(imports(&code, &module));
    }
    assert!(found.len() > 10, "{found:?}");
    found
}

/// The files of the crate, by their paths below `src`, without comments and unit tests.
fn sources() -> Vec<(PathBuf, String)> {
    sources_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

fn sources_in(root: &Path) -> Vec<(PathBuf, String)> {
    let mut folders = vec![root.to_owned()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let below = path.strip_prefix(root).unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if below.file_name().is_some_and(|name| name != "tests.rs") {
                sources.push((below, code(&std::fs::read_to_string(&path).unwrap())));
            }
        }
    }
    sources
}

/// The top-level module that a file belongs to; `lib.rs` only names the modules.
fn module_of(path: &Path) -> Option<String> {
    let first = path.components().next()?.as_os_str().to_str()?;
    Some(first.trim_end_matches(".rs").to_owned()).filter(|module| module != "lib")
}

/// `text` without comments and without the unit tests, which stand at the end of a file.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

fn imports(code: &str, own: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in ["crate::", "holodule_gateway::"] {
        for rest in code.split(root).skip(1) {
            let names = match rest.strip_prefix('{') {
                Some(list) => list.split('}').next().unwrap(),
                None => rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap(),
            };
            let names = names.split(',').map(|name| name.trim().split("::").next().unwrap().to_owned());
            found.extend(names.filter(|name| !name.is_empty() && name != own));
        }
    }
    found
}
