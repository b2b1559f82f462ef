//! Decides, in one place, which values a message may repeat.
//!
//! A secret that was pasted into another option, or set instead of the path of its file, must not reach a log. So a
//! text is repeated only if it is short and no part of it resembles a secret; otherwise the message has only the key.
//! Values of options that can hold secrets are never repeated, and are not passed to this module.

use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path};

/// The placeholder for a text that is not repeated.
const HIDDEN: &str = "(a value that is not shown)";

/// The placeholder for a key that is not repeated.
const HIDDEN_KEY: &str = "(a key that is not shown)";

/// The length of the shortest secret that a configuration of the gateway accepts, in bytes.
const SHORTEST_SECRET: usize = 32;
/// The longest repeated text, in characters.
const MAX_CHARACTERS: usize = 64;
/// The longest repeated path, in characters.
const MAX_PATH_CHARACTERS: usize = 200;
/// The longest word of a repeated text, in characters.
const MAX_WORD: usize = 16;
/// The maximum number of characters in words that look random, such as `8a2e`.
const MAX_RANDOM: usize = 4;

/// `text` in quotes with control characters escaped, or a placeholder.
pub fn shown(text: &str) -> String {
    if is_harmless(text, MAX_CHARACTERS) { format!("{text:?}") } else { HIDDEN.to_owned() }
}

/// The name of a route, a service, a key or a static token in a valid configuration, in quotes. Access logs and metrics
/// contain these names, so only one that is long enough for a secret is checked like other texts.
pub fn shown_name(name: &str) -> String {
    let is_short = name.len() < SHORTEST_SECRET && !name.contains(char::is_control) && !resembles_pem(name);
    if is_short { format!("{name:?}") } else { shown(name) }
}

/// `path`, or a placeholder.
pub fn shown_path(path: &Path) -> String {
    let text = path.to_string_lossy();
    if is_harmless_path(&text) { text.into_owned() } else { HIDDEN.to_owned() }
}

/// `message` with `path` in it replaced as by [`shown_path`], for errors of libraries that repeat it.
pub fn with_shown_path(message: &str, path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.is_empty() || is_harmless_path(&text) { message.to_owned() } else { message.replace(&*text, HIDDEN) }
}

/// An unknown `key`, or a placeholder: it may be a misplaced value.
pub fn shown_key(key: &str) -> String {
    if is_harmless(key, MAX_CHARACTERS) { key.escape_debug().to_string() } else { HIDDEN_KEY.to_owned() }
}

/// Whether `text` is a path or does not resemble a secret. What exists is a path, and anything in an existing folder,
/// however random its name; the folders `/`, `.` and `..` do not count, since they always exist.
fn is_harmless_path(text: &str) -> bool {
    let path = Path::new(text);
    let is_named = |folder: &&Path| folder.components().any(|part| matches!(part, Component::Normal(_)));
    let exists = path.symlink_metadata().is_ok() || path.parent().filter(is_named).is_some_and(Path::is_dir);
    let is_path = exists && text.chars().count() <= MAX_PATH_CHARACTERS;
    !text.contains(char::is_control) && ((is_path && !resembles_pem(text)) || is_harmless(text, MAX_PATH_CHARACTERS))
}

fn resembles_pem(text: &str) -> bool {
    text.contains("----") || text.contains("PRIVATE") || text.contains("BEGIN")
}

/// Whether no part of `text` resembles a secret: PEM, a JSON Web Token, the user of a URL, or random characters.
fn is_harmless(text: &str, longest: usize) -> bool {
    if text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok() {
        return true;
    }
    // Names, paths, patterns and origins have no others.
    let is_usual = |character: char| {
        character.is_alphanumeric() || character.is_control() || "./:-_,*[]{}()?=&\"' ".contains(character)
    };
    let is_phrase = text.split_whitespace().count() > 2;
    if text.chars().count() > longest || !text.chars().all(is_usual) || resembles_pem(text) || is_phrase {
        return false;
    }
    let words: Vec<&str> = text.split(|character: char| !character.is_alphanumeric()).collect();
    if let [word] = words.as_slice() {
        // There is no context that shows what it is.
        return word.len() <= MAX_WORD && is_of_one_kind(word);
    }
    let resembles_token = |word: &&str| word.starts_with("eyJ") || word.chars().count() > MAX_WORD;
    let is_random = |word: &&&str| !is_of_one_kind(word) && !is_numbered(word);
    !words.iter().any(resembles_token)
        && words.iter().filter(is_random).map(|word| word.len()).sum::<usize>() <= MAX_RANDOM
}

/// Whether `word` is a number, or letters of one case, possibly capitalised.
fn is_of_one_kind(word: &str) -> bool {
    let rest = word.strip_prefix(char::is_uppercase).unwrap_or(word);
    (word.len() <= 10 && word.bytes().all(|byte| byte.is_ascii_digit()))
        || rest.chars().all(|letter| letter.is_alphabetic() && !letter.is_uppercase())
        || word.chars().all(|letter| letter.is_alphabetic() && !letter.is_lowercase())
}

/// Whether `word` is a name followed by a short number.
fn is_numbered(word: &str) -> bool {
    let name = word.trim_end_matches(|character: char| character.is_ascii_digit());
    word.len() - name.len() <= 4 && is_of_one_kind(name)
}

/// The message of a deserializer or parser without values, which it quotes. Expected and missing items are fixed names.
pub(crate) fn without_values(message: &str) -> String {
    let (found, expected) = message.split_once(", expected ").map_or((message, None), |(a, b)| (a, Some(b)));
    // A value may contain the separator.
    let expected = expected.and_then(|expected| expected.rsplit(", expected ").next());
    let found = match found.split_once('`') {
        Some(("missing field ", _)) => found.to_owned(),
        _ => found.split(['"', '`']).next().unwrap_or_default().trim_end().to_owned(),
    };
    match expected {
        Some(expected) => format!("{found}, expected {}", line_of(expected)),
        None => line_of(&found).to_owned(),
    }
}

fn line_of(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_values_are_repeated() {
        for text in [
            "",
            "nginx",
            "*",
            "a:1",
            "/a/",
            "TRACE",
            "a b",
            "0.0.0.0/0",
            "10.0.0.0/33",
            "https://a.example:8443/",
            "localhost:8443",
            "/holodules/{day",
            "api-2.example.org:http",
            "[::1]:x",
            "2001:db8:85a3::8a2e:370:7334",
        ] {
            assert_eq!(shown(text), format!("{text:?}"));
        }
        assert_eq!(shown("a\tb"), "\"a\\tb\"");
        for path in ["/etc/holodule/cert.pem", "certs/dev/key.pem", ".env"] {
            assert_eq!(shown_path(Path::new(path)), path);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("8f3a11e0-77b2.pem");
        assert_eq!(shown_path(&path), path.to_str().unwrap());
        assert_eq!(shown_path(&folder.path().join("missing/8f3a11e0-77b2.pem")), HIDDEN);
    }

    #[test]
    fn names_are_shown_unless_they_are_long_enough_for_a_secret() {
        for name in ["docs2", "v2docs3", "wiki-2026b", "/holodules/{day}", "a b c", "8f3a11e0-77b2", "ドキュメント"]
        {
            assert_eq!(shown_name(name), format!("{name:?}"));
        }
        assert_eq!(shown_name("streams-of-the-archive-since-year-2020"), "\"streams-of-the-archive-since-year-2020\"");
        for secret in ["0123456789abcdef0123456789abcdef", "BEGIN PRIVATE", "a\u{7}"] {
            assert_eq!(shown_name(secret), shown(secret));
        }
        assert_eq!(shown_name("0123456789abcdef0123456789abcdef"), HIDDEN);
    }

    #[test]
    fn values_that_resemble_secrets_are_not_repeated() {
        for text in [
            "-----BEGIN PRIVATE KEY-----",
            "MC4CAQAwBQYDK2VwBCIEIJ",
            "eyJhbGciOiJIUzI1NiJ9.e30.c2ln",
            "a.eyJh.b",
            "mongodb://user:word@host/db",
            "user:word@host",
            "hunter2",
            "p4ssw0rd",
            "pa$$word",
            "password01",
            "correct horse battery staple",
            "8f3a11",
            "holodule_0123456789abcdef0123456789abcdef",
            "aB3-x9Z_q7K-m2P",
            "https://example.org/Zm9vYmFyYmF6cXV4",
            "12345678901",
            &"a.".repeat(40),
        ] {
            assert_eq!(shown(text), HIDDEN, "{text}");
            assert_eq!(shown_path(Path::new(text)).contains(text), text.starts_with("a.a."), "{text}");
        }
        for folder in ["/", "./", "../", "/./", "/../"] {
            assert_eq!(shown_path(&Path::new(folder).join("4f3c2b1a09f8e7d6c5b4a392")), HIDDEN, "{folder}");
        }
        let key = Path::new("-----BEGIN\nPRIVATE");
        assert_eq!(with_shown_path("-----BEGIN\nPRIVATE: no such file", key), format!("{HIDDEN}: no such file"));
    }

    #[test]
    fn errors_are_stripped_of_values() {
        for (message, expected) in [
            ("invalid type: string \"hush\", expected u16", "invalid type: string, expected u16"),
            ("invalid type: string \"hush, expected hush\", expected u16", "invalid type: string, expected u16"),
            ("invalid type: integer `5`, expected a string", "invalid type: integer, expected a string"),
            ("invalid value: integer `-5`, expected u64", "invalid value: integer, expected u64"),
            ("unknown field `hush`, expected `a` or `b`", "unknown field, expected `a` or `b`"),
            ("missing field `methods`", "missing field `methods`"),
            ("duplicate key `hush` in table", "duplicate key"),
            (
                "string values must be quoted, expected literal string",
                "string values must be quoted, expected literal string",
            ),
        ] {
            assert_eq!(without_values(message), expected);
        }
    }
}
