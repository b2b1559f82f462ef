//! No secret is in anything that the backend says of its configuration, wherever the secret was put and however
//! it was mangled.

use std::fs;
use std::path::Path;

use holodule_backend::config::{Config, Source};

use crate::program::command;

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

#[test]
fn the_program_repeats_no_secret_at_check_at_start_and_in_its_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys();
    let names: Vec<String> = keys.iter().map(|key| key.replace('.', "_").to_uppercase()).collect();
    for secret in secrets() {
        let search = Search::new(&secret.text);
        for (how, value) in mangled(&secret.text).iter().take(3) {
            let check = |environment: &[(&str, &str)], arguments: &[&str]| {
                let output = command(folder.path()).args(arguments).envs(environment.iter().copied()).output().unwrap();
                assert!(!output.status.success(), "{output:?}");
                let said = [output.stdout, output.stderr].concat();
                search.check(&format!("{} {how}, {arguments:?}", secret.kind), &String::from_utf8_lossy(&said));
            };
            let all: Vec<_> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
            check(&all, &["check", "--show"]);
            check(&all, &["serve"]);
            check(&[("STORE", &format!("embedded:/missing/{value}"))], &["serve"]);
            check(&[("STORE", &format!("mongodb://db.example/?{value}={value}&tls={value}"))], &["serve"]);
            check(&[("HOLODULE_BACKEND_CONFIG", value)], &["check"]);
            check(&[], &["--config", value, "check"]);
            check(&[], &[value]);
            check(&[], &["user", "add", "user01", value]);
            check(&[], &["user", "list", "--admin", value]);
            check(&[], &["import", "--format", value, "a.csv"]);
        }
    }
}

#[test]
fn the_configuration_in_force_is_shown_with_origins_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("backend.toml"), "drain = 7\n[log]\nlevel = 'warn'\n").unwrap();
    fs::write(folder.path().join(".env"), "MONGODB_USER=holo\nMONGODB_PASSWORD='hu#s$h'\nMONGODB_HOST=db.example\n")
        .unwrap();
    let check = |environment: &[(&str, &str)], show: &[&str]| {
        let arguments = [&["--config", "backend.toml", "check"], show].concat();
        let output = command(folder.path()).args(arguments).envs(environment.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let shown = check(&[("API_ADDR", "127.0.0.1:0"), ("DRIAN", "hush"), ("HOST", "hush")], &["--show"]);
    for line in [
        "api_addr = \"127.0.0.1:0\"  # from API_ADDR",
        "admin_addr = \"127.0.0.1:8081\"  # default",
        "drain = 7  # from the configuration file",
        "log.level = \"warn\"  # from the configuration file",
        "log.format = \"auto\"  # default",
        "mongodb_host = \"db.example\"  # from MONGODB_HOST in .env",
        "mongodb_password = (secret)  # from MONGODB_PASSWORD in .env",
        "mongodb_user = (secret)  # from MONGODB_USER in .env",
        "# store is not set",
        "password.argon2_memory_kib = 19456  # default",
        "warning: the variable DRIAN is not known and is ignored; is DRAIN meant?",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    assert!(!shown.contains("hu#s$h") && !shown.contains("hush") && !shown.contains("holo\""), "{shown}");
    assert!(!shown.contains("HOST is not known"), "{shown}");
    assert!(!check(&[], &[]).contains("api_addr"));
}

#[test]
fn an_address_that_is_taken_is_reported_with_its_key_and_its_variable() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (key, name, other) in [("api_addr", "API_ADDR", "ADMIN_ADDR"), ("admin_addr", "ADMIN_ADDR", "API_ADDR")] {
        let output = command(folder.path()).env(name, &address).env(other, "127.0.0.1:0").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(&format!("{key}, from {name}: cannot listen on {address}: ")), "{said}");
    }
    let announced = [("API_ADDR", "127.0.0.1:0"), ("ADMIN_ADDR", "127.0.0.1:0"), ("ANNOUNCE_FILE", "missing/a.json")];
    let output = command(folder.path()).envs(announced).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("announce_file, from ANNOUNCE_FILE: missing/a.json: "), "{said}");
}
