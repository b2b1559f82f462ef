//! Which modules may import which, and which may use an external crate.

use std::path::{Path, PathBuf};

#[path = "../../../gateway/crates/settings/tests/imports/mod.rs"]
mod imports;

use imports::{circles, long_files, modules};

/// Each module with the modules that it may import.
const ALLOWED: &[(&str, &[&str])] = &[
    ("hex", &[]),
    ("model", &["hex"]),
    ("clock", &[]),
    ("coalesce", &[]),
    ("calendar", &["hex", "model"]),
    ("store", &["coalesce", "hex", "model"]),
    ("import", &["model"]),
    ("backup", &["hex", "model"]),
    ("password", &["hex", "model"]),
    ("record", &["hex"]),
    ("respond", &[]),
    ("page", &["hex", "model"]),
    ("reference", &[]),
    ("feed", &["clock", "hex", "model", "store"]),
    ("live", &["clock", "coalesce", "feed", "model", "store"]),
    (
        "handler",
        &[
            "backup",
            "calendar",
            "clock",
            "coalesce",
            "feed",
            "hex",
            "import",
            "live",
            "model",
            "page",
            "password",
            "record",
            "reference",
            "respond",
            "store",
        ],
    ),
    ("route", &["handler", "record", "respond"]),
    ("server", &["handler", "record", "respond", "route"]),
    ("upgrade", &["record", "server", "store"]),
    ("config", &["handler", "password", "record", "server", "store"]),
    ("command", &["import", "model", "password", "server"]),
    ("program", &["command", "config", "feed", "handler", "password", "record", "server", "store", "upgrade"]),
];

/// External crates with the modules that may use them. `main` may use all.
const CONFINED: &[(&str, &[&str])] = &[
    ("mongodb", &["store/mongo"]),
    ("redb", &["store/embedded"]),
    ("hyper", &["handler", "route", "server", "command"]),
    ("maud", &["page", "reference"]),
    ("argon2", &["password"]),
    ("bcrypt", &["password"]),
    ("scrypt", &["password"]),
    ("prometheus", &["record"]),
    ("holodule_handover", &["handler", "program", "upgrade"]),
    ("holodule_telemetry", &["config", "handler", "program", "record", "server", "store/trace"]),
    ("holodule_settings", &["backup", "config", "program", "server", "command", "handler/page", "store/embedded/file"]),
];

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn top_level(module: &str) -> &str {
    module.split('/').next().unwrap_or(module)
}

#[test]
fn modules_import_only_what_is_listed() {
    let modules = modules(&source_folder());
    let mut wrong = Vec::new();
    for module in modules.iter().filter(|module| !module.name.is_empty()) {
        let own = top_level(&module.name);
        let (_, allowed) =
            ALLOWED.iter().find(|(name, _)| *name == own).unwrap_or_else(|| panic!("{own} is not listed"));
        for used in &module.uses {
            let used = top_level(used);
            if used != own && !allowed.contains(&used) {
                wrong.push(format!("{} imports {used}", module.name));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    for (name, _) in ALLOWED {
        assert!(modules.iter().any(|module| top_level(&module.name) == *name), "{name} is listed and does not exist");
    }
}

#[test]
fn the_list_of_imports_has_no_circle() {
    for (position, (name, imports)) in ALLOWED.iter().enumerate() {
        for import in *imports {
            let lower = ALLOWED.iter().position(|(name, _)| name == import).unwrap();
            assert!(lower < position, "{name} may import {import}, which is listed below it");
        }
    }
}

#[test]
fn external_crates_are_used_only_where_listed() {
    let modules = modules(&source_folder());
    let mut wrong = Vec::new();
    for (library, homes) in CONFINED {
        let uses = modules.iter().filter(|module| module.outside.contains(*library));
        let names: Vec<_> = uses.map(|module| module.name.as_str()).collect();
        assert!(!names.is_empty(), "{library} is not used");
        let at_home = |name: &str| homes.iter().any(|home| name == *home || name.starts_with(&format!("{home}/")));
        wrong.extend(names.into_iter().filter(|name| !at_home(name)).map(|name| format!("{name} uses {library}")));
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn no_sibling_files_or_folders_import_each_other_in_a_circle() {
    assert_eq!(circles(&modules(&source_folder())), Vec::<String>::new());
}

#[test]
fn no_file_has_more_than_400_lines() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    assert_eq!(long_files(&[source_folder(), tests]), Vec::<PathBuf>::new());
}
