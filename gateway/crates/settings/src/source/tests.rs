//! Tests of [`Source`].

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn source(toml: &str, environment: &[(&str, &str)]) -> Source {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), toml).unwrap();
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Source::read(Some(file.path()), environment)
}

#[test]
fn a_long_number_of_seconds_is_not_repeated() {
    for (value, repeats) in [("7200.5", true), ("4929123412341234", false), ("nan", false), ("1e300", false)] {
        let mut source = source(&format!("timeout = {value}"), &[]);
        source.seconds("timeout", 1.0, 0.1..=600.0);
        let message = source.finish().unwrap_err().to_string();
        assert!(message.contains("timeout: must be a number of seconds from 0.1 to 600, not "), "{message}");
        assert_eq!(message.contains(value), repeats, "{message}");
    }
}

#[test]
fn the_environment_wins_over_the_file() {
    let mut source = source("[a]\nport = 1\nname = 'file'", &[("A_PORT", "2"), ("A_NAME", "7")]);
    assert_eq!(source.get::<u16>("a.port"), Some(2));
    assert_eq!(source.get::<String>("a.name"), Some("7".to_owned()), "text is not converted if text is expected");
    assert!(source.finish().is_ok());
}

#[test]
fn all_problems_are_reported_together() {
    let mut source = source("a = 'x'\nb = 99\nc = 1\n[d]\ne = 2", &[]);
    let _: Option<u16> = source.get("a");
    source.number("b", 1, 1..=10);
    let _: Option<u16> = source.get("d.f");
    let Problems(problems) = source.finish().unwrap_err();
    let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["a", "b", "c", "d.e"]);
}

#[test]
fn a_secret_comes_from_its_file_and_is_never_shown() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hush\n").unwrap();
    let mut source = source("key = 'other'", &[("KEY_FILE", file.path().to_str().unwrap())]);
    let secret = source.secret("key").unwrap();
    assert_eq!(secret.expose(), "hush");
    assert_eq!(format!("{secret:?}"), "[secret]");
}

#[test]
fn a_readable_file_with_a_secret_causes_a_warning() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "key = 'hush'\nname = 'a'").unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut source = Source::read(Some(file.path()), Environment::new());
    let _: Option<String> = source.get("name");
    assert_eq!(source.warnings(), [""; 0]);
    assert!(source.secret("key").is_some());
    let path = file.path().display();
    assert_eq!(source.warnings(), [format!("{path} holds a secret and can be read by every user of this machine")]);
}

#[test]
fn a_secret_file_that_is_not_a_path_is_reported() {
    let mut source = source("key = 'hush'\nkey_file = 5", &[]);
    assert!(source.secret("key").is_none());
    let text = source.finish().unwrap_err().to_string();
    assert!(text.contains("key_file: must be a string, in quotes") && !text.contains("hush"), "{text}");
}

#[test]
fn a_value_of_another_type_is_not_repeated_and_has_its_origin() {
    let mut source = source("a = 'hush'\nb = ['hush']\nd = 99999999999\nf = '300'", &[("C_D", "hush"), ("E", "[hush")]);
    let _: (Option<u16>, Option<String>) = (source.get("a"), source.get("b"));
    let _: (Option<bool>, Vec<Table>) = (source.get("c.d"), source.tables("e"));
    source.number("d", 1, 0..=10);
    source.whole_seconds("f", 1, 1..=86_400);
    let text = source.finish().unwrap_err().to_string();
    let expected = "the configuration has 6 problems:\n  \
         a: must be a whole number from 0 to 65535, not a string\n  \
         b: must be a string, not a list\n  \
         c.d, from C_D: must be true or false, not a string\n  \
         e, from E: must be a list of tables\n  \
         d: must be a whole number from 0 to 10, not this number\n  \
         f: must be a whole number of seconds from 1 to 86400, not a number in quotes\n";
    assert_eq!(text, expected);
}

#[test]
fn a_value_in_place_of_a_section_is_not_an_unknown_key() {
    let mut source = source("log = 5\nlogs = 5\n[a]\nb = 1", &[]);
    let _: (Option<String>, Option<u16>) = (source.get("log.level"), source.get("a.b"));
    let text = source.finish().unwrap_err().to_string();
    assert!(text.contains("  log: must be a section, as in [log], not 5\n  logs: unknown key\n"), "{text}");
}

#[test]
fn a_byte_order_mark_before_the_file_is_ignored() {
    let mut source = source("\u{feff}a = 1", &[]);
    assert_eq!(source.get::<u16>("a"), Some(1));
    assert!(source.finish().is_ok());
}

#[test]
fn keys_that_may_be_in_a_broken_file_are_not_missing() {
    let mut source = source("a = ", &[("B", "x")]);
    source.problem("a", "is required");
    source.conflict("b", "does not go with a");
    let _: Option<u16> = source.get("b");
    let Problems(problems) = source.finish().unwrap_err();
    let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).skip(1).collect();
    assert_eq!(keys, ["b"]);
}

#[test]
fn a_broken_file_is_reported_without_its_text() {
    for toml in [
        "jwt_secret_key = 'hush",
        "jwt_secret_key = hush",
        "jwt_secret_key = \"hush\\q\"",
        "jwt_secret_key = 'hush' hush",
        "jwt_secret_key = 'hush'\njwt_secret_key = 'hush'",
        "hush",
    ] {
        let text = source(toml, &[]).finish().unwrap_err().to_string();
        assert!(text.contains("(line ") && !text.contains("hush"), "{text}");
    }
}
