//! Paths in the log, without the keys of calendar feeds.

use percent_encoding::percent_decode_str;

use super::label::Listener;

/// The longest path that is logged, in bytes.
const LIMIT: usize = 512;
/// The minimum number of hexadecimal digits in a row that may be a key, as in the gateway's log. Of the 64 digits of a
/// key, fewer leave at least 128 bits unknown. The ids of streamers and schedules may have 24, as an `ObjectId` has.
const KEY_DIGITS: usize = 32;

/// The path for the log.
///
/// On the api listener, a path that has, or may have, the key of a calendar feed is replaced by a pattern, whether it
/// matches a route or not: the key in a mistyped path is valid for the feed too.
pub(super) fn logged(listener: Listener, path: &str) -> String {
    if listener == Listener::Api {
        let decoded = percent_decode_str(path).decode_utf8_lossy().to_ascii_lowercase();
        let below = decoded.trim_start_matches('/').strip_prefix("calendar/");
        if below.is_some_and(|below| !below.is_empty()) {
            return if decoded.ends_with(".ics") { "/calendar/{key}.ics" } else { "/calendar/{id}" }.to_owned();
        }
        if has_key(&decoded) {
            return "{redacted}".to_owned();
        }
    }
    bounded(path, LIMIT)
}

fn has_key(path: &str) -> bool {
    path.split(|character: char| !character.is_ascii_hexdigit()).any(|digits| digits.len() >= KEY_DIGITS)
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
        let api = |path: &str| logged(Listener::Api, path);
        assert_eq!(api(&format!("/calendar/{key}.ics")), "/calendar/{key}.ics");
        assert_eq!(api("/calendar/0123"), "/calendar/{id}");
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
        ] {
            let shown = api(&path);
            assert!(!shown.contains("0f0f") && !shown.contains("%30"), "{path} is logged as {shown}");
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
        ] {
            assert_eq!(logged(Listener::Api, path), path);
        }
        let mark = "0".repeat(64);
        assert_eq!(logged(Listener::Admin, &mark), mark);
    }

    #[test]
    fn long_text_is_truncated() {
        assert_eq!(bounded("é", 2), "é");
        assert_eq!(bounded("éé", 3), "é...");
        assert_eq!(logged(Listener::Api, &"/".repeat(600)).len(), LIMIT + 3);
    }
}
