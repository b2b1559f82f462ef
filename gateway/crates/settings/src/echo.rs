//! How much of a value a message may repeat: the one place that decides it.
//!
//! A secret that was pasted into another option, or given where the path of its file belongs, must
//! not reach a log. So a text is repeated only where it is short and nothing in it resembles a
//! secret; otherwise the message has its key alone. What can hold a secret is never repeated, and does
//! not come here.

use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path};

/// What a message has in place of a text that is not repeated.
const HIDDEN: &str = "(a value that is not shown)";

/// What a message has in place of a key that is not repeated.
const HIDDEN_KEY: &str = "(a key that is not shown)";

/// The longest text that is repeated, in characters.
const MAX_CHARACTERS: usize = 64;
/// The longest path that is repeated, in characters.
const MAX_PATH_CHARACTERS: usize = 200;
/// The longest word of a text that is repeated, in characters.
const MAX_WORD: usize = 16;
/// How many characters may be in words that resemble random ones, as `8a2e` does.
const MAX_RANDOM: usize = 4;

/// `text` in quotes, with control characters escaped, where it may be repeated.
pub fn shown(text: &str) -> String {
    if is_harmless(text, MAX_CHARACTERS) { format!("{text:?}") } else { HIDDEN.to_owned() }
}

/// `path` as it is, where it may be repeated.
pub fn shown_path(path: &Path) -> String {
    let text = path.to_string_lossy();
    if is_harmless_path(&text) { text.into_owned() } else { HIDDEN.to_owned() }
}

/// `message` with `path` in it as [`shown_path`] has it: for errors of others, which repeat it.
pub fn with_shown_path(message: &str, path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.is_empty() || is_harmless_path(&text) { message.to_owned() } else { message.replace(&*text, HIDDEN) }
}

/// `key`, which is unknown, where it may be repeated: it may be a value in the wrong place.
pub fn shown_key(key: &str) -> String {
    if is_harmless(key, MAX_CHARACTERS) { key.escape_debug().to_string() } else { HIDDEN_KEY.to_owned() }
}

/// Whether `text` is a path, or resembles no secret. What is in a folder that exists is a path, however random
/// its name.
fn is_harmless_path(text: &str) -> bool {
    let parent = Path::new(text).parent().filter(|parent| parent.components().any(|part| part != Component::RootDir));
    let is_path = parent.is_some_and(Path::is_dir) && text.chars().count() <= MAX_PATH_CHARACTERS;
    !text.contains(char::is_control) && ((is_path && !resembles_pem(text)) || is_harmless(text, MAX_PATH_CHARACTERS))
}

fn resembles_pem(text: &str) -> bool {
    text.contains("----") || text.contains("PRIVATE") || text.contains("BEGIN")
}

/// Whether no part of `text` resembles a secret: PEM, a JSON Web Token, the user of a URL, or random
/// characters.
fn is_harmless(text: &str, longest: usize) -> bool {
    if text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok() {
        return true;
    }
    // No name, path, pattern or origin has others.
    let is_usual = |character: char| {
        character.is_alphanumeric() || character.is_control() || "./:-_,*[]{}()?=&\"' ".contains(character)
    };
    let is_phrase = text.split_whitespace().count() > 2;
    if text.chars().count() > longest || !text.chars().all(is_usual) || resembles_pem(text) || is_phrase {
        return false;
    }
    let words: Vec<&str> = text.split(|character: char| !character.is_alphanumeric()).collect();
    if let [word] = words.as_slice() {
        // Nothing says what it is meant to be.
        return word.len() <= MAX_WORD && is_of_one_kind(word);
    }
    let resembles_token = |word: &&str| word.starts_with("eyJ") || word.chars().count() > MAX_WORD;
    let is_random = |word: &&&str| !is_of_one_kind(word) && !is_numbered(word);
    !words.iter().any(resembles_token)
        && words.iter().filter(is_random).map(|word| word.len()).sum::<usize>() <= MAX_RANDOM
}

/// Whether `word` is a number, or of letters of one case but for a capital.
fn is_of_one_kind(word: &str) -> bool {
    let rest = word.strip_prefix(char::is_uppercase).unwrap_or(word);
    (word.len() <= 10 && word.bytes().all(|byte| byte.is_ascii_digit()))
        || rest.chars().all(|letter| letter.is_alphabetic() && !letter.is_uppercase())
        || word.chars().all(|letter| letter.is_alphabetic() && !letter.is_lowercase())
}

/// Whether `word` is a name with a short number behind it.
fn is_numbered(word: &str) -> bool {
    let name = word.trim_end_matches(|character: char| character.is_ascii_digit());
    word.len() - name.len() <= 4 && is_of_one_kind(name)
}

/// The text of a deserialiser's or parser's error without the values that it repeats: they are quoted
/// there. What is expected, and what is missing, are names of ours.
pub(crate) fn without_values(message: &str) -> String {
    let (found, expected) = message.split_once(", expected ").map_or((message, None), |(a, b)| (a, Some(b)));
    // A value may hold the words that separate the two.
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
    fn what_an_operator_misspells_is_repeated() {
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
    fn what_resembles_a_secret_is_not() {
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
        let key = Path::new("-----BEGIN\nPRIVATE");
        assert_eq!(with_shown_path("-----BEGIN\nPRIVATE: no such file", key), format!("{HIDDEN}: no such file"));
    }

    #[test]
    fn errors_lose_the_values_that_they_repeat() {
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
