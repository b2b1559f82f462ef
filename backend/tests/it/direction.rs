//! Which module may know which: the corridor has no way back.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each module with those that it may import, itself always included.
const ALLOWED: &[(&str, &[&str])] = &[
    ("hex", &[]),
    ("model", &["hex"]),
    ("sharing", &[]),
    ("store", &["hex", "model"]),
    ("import", &["model"]),
    ("backup", &["hex", "model"]),
    ("password", &["hex", "model"]),
    ("record", &["hex"]),
    ("respond", &[]),
    ("feed", &["hex", "model", "store"]),
    ("handler", &["backup", "feed", "hex", "import", "model", "password", "record", "respond", "sharing", "store"]),
    ("route", &["handler", "record", "respond"]),
    ("server", &["handler", "record", "respond", "route"]),
    ("config", &["handler", "password", "record", "server", "store"]),
    ("command", &["import", "model", "password", "server"]),
    ("program", &["command", "config", "feed", "handler", "password", "record", "server", "store"]),
];

/// Crates that only these modules may name.
const CONFINED: &[(&str, &[&str])] = &[
    ("mongodb", &["store/mongo"]),
    ("redb", &["store/embedded"]),
    ("hyper", &["handler", "route", "server", "command"]),
    ("argon2", &["password"]),
    ("bcrypt", &["password"]),
    ("scrypt", &["password"]),
    ("prometheus", &["record"]),
    ("holodule_settings", &["backup", "config", "program", "server", "command"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The first segments after each `crate::` of the code, nested groups included.
fn imported(text: &str) -> BTreeSet<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = BTreeSet::new();
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]).collect();
    for (_, after) in code.match_indices("crate::").map(|(at, word)| (at, &code[at + word.len()..])) {
        match after.strip_prefix('{') {
            Some(group) => {
                let group = group.split(';').next().unwrap();
                let mut depth = 0;
                for part in group.split_inclusive(['{', '}', ',']) {
                    if depth == 0 {
                        found.insert(name(part.trim()));
                    }
                    depth += i32::from(part.ends_with('{')) - i32::from(part.ends_with('}'));
                }
            }
            None => {
                found.insert(name(after));
            }
        }
    }
    found.remove("");
    found
}

#[test]
fn every_import_goes_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for file in files {
        let relative = file.strip_prefix(&root).unwrap().with_extension("").to_str().unwrap().to_owned();
        let module = relative.split('/').next().unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        if !["lib", "main"].contains(&module) {
            let (_, allowed) =
                ALLOWED.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("{module} is new"));
            seen.insert(module.to_owned());
            for other in imported(&text) {
                if other != module && !allowed.contains(&other.as_str()) {
                    wrong.push(format!("{relative} imports {other}"));
                }
            }
        }
        for (library, homes) in CONFINED {
            let named =
                [format!("use {library}::"), format!(" {library}::"), format!("({library}::"), format!("<{library}::")];
            let at_home = module == "main" || homes.iter().any(|home| relative.starts_with(home));
            if !at_home
                && text
                    .lines()
                    .any(|line| !line.trim_start().starts_with("//") && named.iter().any(|n| line.contains(n)))
            {
                wrong.push(format!("{relative} names {library}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(seen.len(), ALLOWED.len(), "a module of the list is gone");
}

#[test]
fn groups_are_taken_apart() {
    let text = "use crate::{a, b::{c, d}, e};\n// crate::f\nuse crate::g::h;\nlet x = crate::i();";
    assert_eq!(imported(text).into_iter().collect::<Vec<_>>(), ["a", "b", "e", "g", "i"]);
}
