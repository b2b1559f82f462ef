//! Paths in the log, without the keys of calendar feeds.

use percent_encoding::percent_decode_str;

/// The longest path that is logged, in bytes.
const LIMIT: usize = 512;
/// The minimum number of hexadecimal digits in a row that may be a key, as in the gateway's log. Of the 64 digits of a
/// key, fewer leave at least 128 bits unknown. The ids of streamers and schedules may have 24, as an `ObjectId` has.
const KEY_DIGITS: usize = 32;
/// How many layers of percent-encoding are removed. A path with more of them is redacted.
const LAYERS: usize = 4;
/// Replaces a path that may have a key.
const REDACTED: &str = "{redacted}";

/// The path for the log, on each listener.
///
/// A path that has, or may have, the key of a calendar feed is replaced by a pattern, whether it matches a route or
/// not: the key in a mistyped path, or in one that was sent to the wrong listener, is valid for the feed too.
pub(super) fn logged(path: &str) -> String {
    let Some(decoded) = decoded(path) else { return REDACTED.to_owned() };
    let below = decoded.trim_start_matches('/').strip_prefix("calendar/");
    if below.is_some_and(|below| !below.is_empty()) {
        return if decoded.ends_with(".ics") { "/calendar/{key}.ics" } else { "/calendar/{id}" }.to_owned();
    }
    if has_key(&decoded) {
        return REDACTED.to_owned();
    }
    bounded(path, LIMIT)
}

/// The path in lower case and without percent-encoding; `None` if it was encoded too often.
fn decoded(path: &str) -> Option<String> {
    let mut path = path.to_owned();
    for _ in 0..LAYERS {
        let decoded = percent_decode_str(&path).decode_utf8_lossy().into_owned();
        if decoded == path {
            return Some(path.to_ascii_lowercase());
        }
        path = decoded;
    }
    None
}

/// Slashes, line breaks and other punctuation do not end a run of digits: a mail program may have wrapped the key.
fn has_key(path: &str) -> bool {
    let text: String = path.chars().filter(|character| character.is_alphanumeric()).collect();
    text.split(|character: char| !character.is_ascii_hexdigit()).any(|digits| digits.len() >= KEY_DIGITS)
}

/// The first `limit` bytes of `text`, with three dots if it was longer.
pub(super) fn bounded(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    format!("{}...", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_shows_a_key() {
        let key = "0f".repeat(32);
        assert_eq!(logged(&format!("/calendar/{key}.ics")), "/calendar/{key}.ics");
        assert_eq!(logged("/calendar/0123"), "/calendar/{id}");
        let encoded: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for path in [
            format!("/calendar/{key}"),
            format!("/Calendar/{key}.ics"),
            format!("/%63alendar%2F{key}.ics"),
            format!("//calendar/{encoded}.ics"),
            format!("/calendar/{encoded}.ics/"),
            format!("/api/calendar/{key}.ics"),
            format!("/{key}"),
            format!("/x/{encoded}"),
            format!("/{}", key.to_uppercase()),
            format!("/holodules/{key}"),
            format!("/{}", &key[32..]),
            format!("/x/{}", encoded.replace('%', "%25")),
            format!("/x/{}", encoded.replace('%', "%25252525252525")),
            format!("/users/{key}/password"),
            format!("/x/{}%0D%0A%20{}", &key[..40], &key[40..]),
            format!("/x/{}=%0A{}=%0A{}", &key[..22], &key[22..44], &key[44..]),
            format!("/x/{}-{}", &key[..31], &key[31..]),
            format!("/x/{}/{}/{}", &key[..22], &key[22..44], &key[44..]),
        ] {
            let shown = logged(&path);
            let is_pattern = ["/calendar/{key}.ics", "/calendar/{id}", REDACTED].contains(&shown.as_str());
            assert!(is_pattern, "{path} is logged as {shown}");
        }
    }

    #[test]
    fn other_paths_are_logged() {
        for path in [
            "/calendar",
            "/calendar/",
            "/holodules/20201209",
            "/streamers/HL0501/holodules",
            "/calendars",
            "/schedules/5fd0e1a2b3c4d5e6f7a8b9c0",
            "/users/user%2001/password",
            "/users/100%25",
            "/page/assets/main.js",
        ] {
            assert_eq!(logged(path), path);
        }
    }

    #[test]
    fn long_text_is_truncated() {
        assert_eq!(bounded("é", 2), "é");
        assert_eq!(bounded("éé", 3), "é...");
        assert_eq!(logged(&"/".repeat(600)).len(), LIMIT + 3);
    }
}
