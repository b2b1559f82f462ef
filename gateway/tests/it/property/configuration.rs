//! Configurations of any content are accepted, or refused with a key for each problem and no secret.

use std::collections::BTreeMap;

use holodule_gateway::config::Config;

use crate::support::certificate::certificates;
use crate::support::random::{self, Random};

/// The secret that no message may contain.
const SECRET: &str = "hush hush, this is only for tests";

/// Fewer than for other properties, since each case reads certificates.
const CASES: u64 = 1000;

/// The reference configuration with every key set, and limits that need few file descriptors.
fn reference() -> Vec<String> {
    let is_setting = |rest: &&str| rest.starts_with(|first: char| first == '[' || first.is_ascii_lowercase());
    let text = include_str!("../../../../ops/config/gateway.toml")
        .replace("#max_connections = 15000", "#max_connections = 256")
        .replace("#max_connections = 1024", "#max_connections = 128");
    text.lines().map(|line| line.strip_prefix('#').filter(is_setting).unwrap_or(line).to_owned()).collect()
}

fn value(random: &mut Random) -> String {
    let text = random.pick(&[
        "0",
        "1",
        "-1",
        "3.5",
        "1e400",
        "nan",
        "99999999999999999999",
        "true",
        "[]",
        "[1]",
        "['a']",
        "{}",
        "''",
        "'x'",
        "'10.0.0.0/8'",
        "['10.0.0.0/8', 'x']",
        "'127.0.0.1:0'",
        "'[::1]:0'",
        "[{}]",
        "[{ name = 'a' }]",
        "2020-01-01",
        "'\u{3042}'",
        "\"\\u0000\"",
        "'",
    ]); // fmt: skip
    text.to_owned()
}

/// Changes, repeats, drops or breaks lines.
fn change(random: &mut Random, lines: &mut Vec<String>) {
    for _ in 0..random.below(6) {
        let at = random.below(lines.len());
        match random.below(5) {
            0 | 1 => {
                if let Some((key, _)) = lines[at].split_once(" = ") {
                    lines[at] = format!("{key} = {}", value(random));
                }
            }
            2 => lines.insert(at, lines[at].clone()),
            3 => drop(lines.remove(at)),
            _ => {
                let cut = random.below(lines[at].len() + 1);
                let length = lines[at].char_indices().map(|(index, _)| index).find(|index| *index >= cut).unwrap_or(0);
                lines[at].truncate(length);
            }
        }
    }
}

#[test]
fn a_configuration_is_accepted_or_each_problem_has_a_key_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let certificate = ("TLS_CERTIFICATE".to_owned(), write("cert.pem", &certificates().leaf));
    let private_key = ("TLS_PRIVATE_KEY".to_owned(), write("key.pem", &certificates().key));
    let file = folder.path().join("gateway.toml");
    let names: Vec<String> = reference()
        .iter()
        .filter_map(|line| Some(line.split_once(" = ")?.0.to_uppercase()))
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
        .collect();
    let mut accepted = 0;
    random::check("configurations", CASES, |random| {
        let mut lines = reference();
        // Keys without a default have no valid value here.
        lines.retain(|line| !line.ends_with("= \"\"") && line != "[[certificate]]");
        change(random, &mut lines);
        std::fs::write(&file, lines.join("\n")).unwrap();
        let mut environment = BTreeMap::from([certificate.clone(), private_key.clone()]);
        environment.insert("JWT_SECRET_KEY".to_owned(), SECRET.to_owned());
        for _ in 0..random.below(3) {
            let name = names[random.below(names.len())].clone();
            if random.one_in(2) {
                environment.insert(name, value(random));
            }
        }
        match Config::read(Some(&file), environment.into_iter().collect()) {
            Ok(_) => accepted += 1,
            Err(problems) => {
                assert!(
                    !problems.0.is_empty() && problems.0.iter().all(|problem| !problem.key.is_empty()),
                    "{problems}"
                );
                assert!(!problems.to_string().contains("hush"), "{problems}");
            }
        }
    });
    // All of a few cases may be refused.
    assert!(accepted > 0 || random::cases(CASES) < CASES, "no case was accepted");
}
