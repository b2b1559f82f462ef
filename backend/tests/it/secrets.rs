//! No report of the backend's configuration contains a secret, wherever the secret was put and however it was mangled.

use std::fs;
use std::path::Path;

use holodule_backend::config::{Config, Source};

use crate::program::command;

#[path = "../../../gateway/crates/settings/tests/leaks/mod.rs"]
mod leaks;

use leaks::{Input, check_forms, check_options, overlay, secrets};

/// All keys.
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

/// Everything that the backend reports of a configuration.
fn report(folder: &Path, input: &Input) -> String {
    let toml = folder.join("backend.toml");
    let read = overlay(input, &toml, &["STORE", "MONGODB_PASSWORD"]);
    format!("{:?}\n{:?}\n{}", read.problems, read.warnings, report_of(Source::read(Some(&toml), read.environment)))
}

fn report_of(source: Source) -> String {
    match Config::from_source(source) {
        Ok(config) => [config.warnings, config.notes, config.effective].concat().join("\n"),
        Err(problems) => format!("{problems}\n{problems:?}"),
    }
}

#[test]
fn no_secret_in_any_option_is_repeated() {
    let folder = tempfile::tempdir().unwrap();
    check_options(&keys(), &[], |input| report(folder.path(), input));
}

#[test]
fn no_secret_in_any_file_is_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mangled");
    check_forms(secrets(), usize::MAX, |value| {
        fs::write(&file, value).unwrap();
        let report = |name: &str| {
            let pairs = [(name, file.to_str().unwrap()), ("MONGODB_USER", "user"), ("MONGODB_HOST", "db.example")];
            let environment = pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
            (format!("in the file of {name}"), report_of(Source::read(None, environment.collect())))
        };
        ["STORE_FILE", "MONGODB_PASSWORD_FILE"].map(report).into()
    });
}

#[test]
fn the_program_repeats_no_secret_at_check_at_start_and_in_its_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = keys().iter().map(|key| key.replace('.', "_").to_uppercase()).collect();
    // Its row is rejected.
    fs::write(folder.path().join("a.csv"), "video_id,datetime\naaaaaaaaaa1,soon\n").unwrap();
    let closed = "http://127.0.0.1:1";
    check_forms(secrets(), 3, |value| {
        let run = |environment: &[(&str, &str)], arguments: &[&str]| {
            let output = command(folder.path()).args(arguments).envs(environment.iter().copied()).output().unwrap();
            assert!(!output.status.success(), "{output:?}");
            let text = [output.stdout, output.stderr].concat();
            (format!("{arguments:?}"), String::from_utf8_lossy(&text).into_owned())
        };
        let all: Vec<_> = names.iter().map(|name| (name.as_str(), value)).collect();
        vec![
            run(&all, &["check", "--show"]),
            run(&all, &["serve"]),
            run(&[("STORE", &format!("embedded:/missing/{value}"))], &["serve"]),
            run(&[("STORE", &format!("mongodb://db.example/?{value}={value}&tls={value}"))], &["serve"]),
            run(&[("HOLODULE_BACKEND_CONFIG", value)], &["check"]),
            run(&[], &["--config", value, "check"]),
            run(&[], &[value]),
            run(&[], &["user", "add", "user01", value]),
            run(&[], &["user", "list", "--admin", value]),
            run(&[], &["import", "--format", value, "a.csv"]),
            run(&[], &["import", "--admin", closed, value]),
            run(&[], &["export", "--admin", closed, "--output", value]),
            run(&[], &["import", "--admin", closed, "a.csv", "--rejects", value]),
        ]
    });
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
fn an_address_in_use_is_reported_with_its_key_and_variable() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (key, name, other) in [("api_addr", "API_ADDR", "ADMIN_ADDR"), ("admin_addr", "ADMIN_ADDR", "API_ADDR")] {
        let output = command(folder.path()).env(name, &address).env(other, "127.0.0.1:0").output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(&format!("{key}, from {name}: cannot listen on {address}: ")), "{text}");
    }
    let announced = [("API_ADDR", "127.0.0.1:0"), ("ADMIN_ADDR", "127.0.0.1:0"), ("ANNOUNCE_FILE", "missing/a.json")];
    let output = command(folder.path()).envs(announced).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("announce_file, from ANNOUNCE_FILE: missing/a.json: "), "{text}");
}
