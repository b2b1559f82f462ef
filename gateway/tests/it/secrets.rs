//! No report about the configuration contains a secret, wherever it was written and however it was mangled.

use std::fs;
use std::path::Path;

use holodule_gateway::config::{Config, Entries};

use crate::program::{Program, command, folder};
use crate::support::certificate::certificates;
use crate::support::{admin, api, until};

#[path = "../../crates/settings/tests/leaks/mod.rs"]
mod leaks;

use leaks::{Input, Search, check_forms, check_options, overlay, secrets};

const TABLES: &[(&str, &[&str])] = &[
    ("key", &["kid", "secret", "secret_file", "retire_at", "without_kid"]),
    ("static_token", &["name", "sha256", "routes", "expires", "scopes"]),
    (
        "route",
        &[
            "name",
            "hosts",
            "methods",
            "path",
            "aliases",
            "strip_prefix",
            "rewrite",
            "encoded",
            "query",
            "allow",
            "deny",
            "limit",
            "max_body_bytes",
            "timeout",
            "request_headers",
            "response_headers",
            "compress",
            "cors",
            "public",
            "require",
            "require_methods",
            "headers_from_claims",
            "shared",
            "cache",
            "stream",
            "tickets",
            "upgrade",
            "vary",
            "host",
            "service",
        ],
    ),
    (
        "service",
        &[
            "name",
            "addresses",
            "connect_timeout",
            "read_timeout",
            "request_timeout",
            "idle_timeout",
            "max_connections",
            "required",
            "health_path",
            "health_interval",
            "policy",
            "hash_by",
            "cookie",
            "eject_after",
            "eject_time",
            "eject_max_time",
            "eject_on_5xx",
            "max_queue",
            "tls",
        ],
    ),
    ("certificate", &["certificate", "private_key"]),
];

/// The keys of the reference configuration, the tables, and the file of the secret.
fn keys() -> Vec<String> {
    let mut keys: Vec<String> =
        ["jwt_secret_key_file", "certificate", "key", "static_token", "route", "service"].map(str::to_owned).into();
    let mut section = String::new();
    for line in include_str!("../../../ops/config/gateway.toml").lines() {
        let Some(setting) = line.strip_prefix('#').or(Some(line)).filter(|line| !line.starts_with([' ', '#'])) else {
            continue;
        };
        if let Some(name) = setting.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            section = if name.starts_with('[') { "-".to_owned() } else { format!("{name}.") };
        } else if let Some((key, _)) = setting.split_once(" = ").filter(|_| section != "-") {
            keys.push(format!("{section}{key}"));
        }
    }
    assert!(keys.len() > 50, "{keys:?}");
    keys
}

/// Everything that the gateway reports about a configuration.
fn report(folder: &Path, input: &Input) -> String {
    let toml = folder.join("gateway.toml");
    let read = overlay(input, &toml, &["JWT_SECRET_KEY", "KEY"]);
    let overlaid = format!("{:?}\n{:?}\n{:?}\n", read.problems, read.warnings, read.environment);
    overlaid + &report_of(&toml, read.environment)
}

fn report_of(toml: &Path, environment: holodule_settings::Environment) -> String {
    match Config::read(Some(toml), environment) {
        Ok(config) => {
            let differences = config.entries().differences_from(&Entries::default());
            let differences = differences.iter().map(ToString::to_string).collect();
            let lines = [config.warnings(0), config.notes(), config.effective(), differences].concat();
            format!("{}\n{:?}", lines.join("\n"), config.values)
        }
        Err(problems) => format!("{problems}\n{problems:?}"),
    }
}

#[test]
fn no_secret_in_any_option_is_repeated() {
    let folder = tempfile::tempdir().unwrap();
    check_options(&keys(), TABLES, |input| report(folder.path(), input));
}

#[test]
fn no_secret_in_any_file_is_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("cert.pem"), &certificates().leaf).unwrap();
    fs::write(path("key.pem"), &certificates().key).unwrap();
    let toml = folder.path().join("gateway.toml");
    fs::write(&toml, "").unwrap();
    let key = leaks::Secret { kind: "a valid key", text: certificates().key.clone() };
    check_forms(secrets().into_iter().chain([key]).collect(), usize::MAX, |value| {
        fs::write(path("mangled"), value).unwrap();
        let report = |name: &str| {
            let mangled = match name {
                "KEY" => format!("[{{ kid = 'a', secret_file = '{}' }}]", path("mangled")),
                "STATIC_TOKEN" => format!("[{{ name = 'a', sha256_file = '{}' }}]", path("mangled")),
                "CERTIFICATE" => format!("[{{ certificate = '{0}', private_key = '{0}' }}]", path("mangled")),
                _ => path("mangled"),
            };
            let pairs = [("TLS_CERTIFICATE", path("cert.pem")), ("TLS_PRIVATE_KEY", path("key.pem")), (name, mangled)];
            let environment = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            (format!("in the file of {name}"), report_of(&toml, environment))
        };
        ["TLS_CERTIFICATE", "TLS_PRIVATE_KEY", "JWT_SECRET_KEY_FILE", "KEY", "STATIC_TOKEN", "CERTIFICATE"]
            .map(report)
            .into()
    });
}

#[test]
fn a_key_without_line_breaks_has_its_own_message() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("cert.pem"), &certificates().leaf).unwrap();
    let toml = folder.path().join("gateway.toml");
    fs::write(&toml, "").unwrap();
    let lines: Vec<&str> = certificates().key.lines().collect();
    for text in [lines.concat(), lines.join("\\n"), lines.join(" ")] {
        fs::write(path("key.pem"), text).unwrap();
        let pairs = [("TLS_CERTIFICATE", path("cert.pem")), ("TLS_PRIVATE_KEY", path("key.pem"))];
        let report = report_of(&toml, pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
        assert!(report.contains("tls.private_key, from TLS_PRIVATE_KEY: "), "{report}");
        assert!(report.contains("the PEM has lost its line breaks"), "{report}");
    }
}

/// The output of a run of the program that fails.
fn run(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = command(folder).args(arguments).envs(environment.iter().copied()).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_program_repeats_no_secret_at_check_at_start_and_in_its_arguments() {
    let folder = folder();
    let names: Vec<String> = keys().iter().map(|key| key.replace('.', "_").to_uppercase()).collect();
    check_forms(secrets(), 3, |value| {
        let environment: Vec<_> = names.iter().map(|name| (name.as_str(), value)).collect();
        let mut texts = Vec::new();
        for arguments in [
            &["check", "--show"][..],
            &["serve"],
            &["--config", value, "check"],
            &[value],
            &["check", value],
            &["static-token", "new", value, value],
            &["static-token", "new", "a", "--expires", value],
            &["static-token", "new", &format!("{value} ")],
        ] {
            texts.push((arguments[0].to_owned(), run(folder.path(), arguments, &environment)));
        }
        let help = command(folder.path()).arg("--help").env("HOLODULE_GATEWAY_CONFIG", value).output().unwrap();
        texts.push(("--help".to_owned(), String::from_utf8_lossy(&help.stdout).into_owned()));
        texts
    });
}

#[tokio::test]
async fn a_reload_repeats_no_secret() {
    let (api, admin, folder) = (api().await, admin().await, folder());
    let path = folder.path();
    let good = fs::read_to_string(path.join("gateway.toml")).unwrap();
    let program = Program::start(path, &api, &admin, &[]).await;
    let result = "gateway_config_last_reload_successful";
    let key = &certificates().key;
    let one_line: String = key.lines().collect();
    fs::write(path.join("one-line.pem"), &one_line).unwrap();
    for wrong in [
        good.replace("'key.pem'", "'one-line.pem'"),
        good.replace("'key.pem'", &leaks::quoted(key)),
        good.replace("'key.pem'", &leaks::quoted(&one_line)),
        format!("strip_prefix = [{}]\n{good}", leaks::quoted(&one_line)),
        format!("{good}\n{key}"),
    ] {
        for (text, expected) in [(&wrong, 0.0), (&good, 1.0)] {
            fs::write(path.join("gateway.toml"), text).unwrap();
            program.signal("-HUP");
            until("the configuration is read again", async || program.metric(result).await == expected).await;
        }
    }
    let log = program.stop();
    assert_eq!(log.matches("all stays as it was").count(), 5, "{log}");
    assert!(log.contains("the PEM has lost its line breaks"), "{log}");
    Search::new(key).check("the log", &log);
}

#[test]
fn an_address_that_is_taken_is_reported_with_its_key_and_its_variable() {
    let folder = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (key, name) in [("https_addr", "HTTPS_ADDR"), ("ops_addr", "OPS_ADDR"), ("http_addr", "HTTP_ADDR")] {
        let report = run(folder.path(), &["--config", "gateway.toml"], &[(name, &address)]);
        assert!(report.contains(&format!("{key}, from {name}: cannot listen on {address}: ")), "{report}");
    }
    let report = run(folder.path(), &["--config", "gateway.toml"], &[("ANNOUNCE_FILE", "missing/announced.json")]);
    assert!(report.contains("announce_file, from ANNOUNCE_FILE: missing/announced.json: "), "{report}");
}
