//! No secret is in anything that the backend says of its configuration, wherever the secret was put and however
//! it was mangled.

use std::fs;
use std::path::Path;

use holodule_backend::config::{Config, Source};

#[path = "../../../gateway/crates/settings/tests/leaks/mod.rs"]
mod leaks;

use leaks::{Input, Search, inputs, mangled, secrets};

/// Every key that is read.
fn keys() -> Vec<String> {
    let mut keys: Vec<String> = ["store", "mongodb_user", "mongodb_password", "mongodb_host"].map(str::to_owned).into();
    keys.extend(["store_file", "mongodb_password_file"].map(str::to_owned));
    let mut section = String::new();
    for line in include_str!("../../../ops/config/backend.toml").lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            keys.push(format!("{section}{key}"));
        }
    }
    assert!(keys.len() > 30, "{keys:?}");
    keys
}

/// Everything that the backend says of a configuration.
fn say(folder: &Path, input: &Input) -> String {
    let [toml, dotenv] = ["backend.toml", ".env"].map(|name| folder.join(name));
    fs::write(&toml, &input.toml).unwrap();
    fs::write(&dotenv, &input.dotenv).unwrap();
    let process = input.process.clone().into_iter().collect();
    let read = holodule_settings::overlay(process, &dotenv, &["STORE", "MONGODB_PASSWORD"]);
    format!("{:?}\n{:?}\n{}", read.problems, read.warnings, said_of(Source::read(Some(&toml), read.environment)))
}

fn said_of(source: Source) -> String {
    match Config::from_source(source) {
        Ok(config) => [config.warnings, config.notes, config.effective].concat().join("\n"),
        Err(problems) => format!("{problems}\n{problems:?}"),
    }
}

#[test]
fn no_secret_in_any_option_is_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys();
    let mut count = 0;
    for secret in secrets() {
        let search = Search::new(&secret.text);
        let ways = mangled(&secret.text);
        assert!(ways.len() >= 20);
        for (round, (how, value)) in ways.into_iter().enumerate() {
            for input in inputs(&format!("{} {how}", secret.kind), &value, round, &keys, &[]) {
                search.check(&input.what, &say(folder.path(), &input));
                count += 1;
            }
        }
    }
    assert!(count > 8 * 20 * 20, "{count}");
}

#[test]
fn no_secret_in_any_file_is_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mangled");
    for secret in secrets() {
        let search = Search::new(&secret.text);
        for (how, value) in mangled(&secret.text) {
            fs::write(&file, &value).unwrap();
            for name in ["STORE_FILE", "MONGODB_PASSWORD_FILE"] {
                let mut process = vec![(name.to_owned(), file.to_str().unwrap().to_owned())];
                process.push(("MONGODB_USER".to_owned(), "user".to_owned()));
                process.push(("MONGODB_HOST".to_owned(), "db.example".to_owned()));
                let said = said_of(Source::read(None, process.into_iter().collect()));
                search.check(&format!("{} {how} in the file of {name}", secret.kind), &said);
            }
        }
    }
}
