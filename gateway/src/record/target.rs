//! The request target and user agent in the access log: bounded, and without possible credentials.

use std::borrow::Cow;

/// Maximum length of a logged path, in bytes.
const MAX_PATH_BYTES: usize = 512;

/// Maximum length of a logged parameter name, in bytes. Tokens are longer.
const MAX_NAME_BYTES: usize = 32;

/// Maximum number of logged query parameters.
const MAX_NAMES: usize = 16;

/// Maximum length of a logged user agent, in bytes.
const MAX_AGENT_BYTES: usize = 256;

/// Replaces what was cut off or is not logged.
const CUT: &str = "...";

/// The canonical `path` and the names of `query`. Values are left out, since tokens and personal data
/// are sent in them; so is what only looks like a name: a parameter without a `=`, one that is too long, or
/// one with characters that no name needs.
pub(super) fn shown<'a>(path: &'a str, query: Option<&str>) -> Cow<'a, str> {
    let path = without_tokens(path);
    let bounded = match path {
        Cow::Borrowed(path) => start(path, MAX_PATH_BYTES),
        Cow::Owned(path) => Cow::Owned(start(&path, MAX_PATH_BYTES).into_owned()),
    };
    let Some(query) = query.filter(|query| !query.is_empty()) else { return bounded };
    let mut shown = bounded.into_owned();
    for (index, parameter) in query.split('&').enumerate() {
        shown.push(if index == 0 { '?' } else { '&' });
        if index == MAX_NAMES {
            shown.push_str(CUT);
            break;
        }
        shown.push_str(parameter.split_once('=').map_or(CUT, |(name, _)| if is_name(name) { name } else { CUT }));
    }
    Cow::Owned(shown)
}

/// Replaces each segment of `path` that looks like a JSON Web Token: three parts, the first of which begins like
/// a JSON object in base64url. A client may have put it there by mistake.
fn without_tokens(path: &str) -> Cow<'_, str> {
    let is_token = |segment: &str| segment.starts_with("eyJ") && segment.matches('.').count() >= 2;
    if !path.contains("/eyJ") || !path.split('/').any(is_token) {
        return Cow::Borrowed(path);
    }
    let segments = path.split('/').map(|segment| if is_token(segment) { CUT } else { segment });
    Cow::Owned(segments.collect::<Vec<_>>().join("/"))
}

/// A user agent, as a client sent it.
pub(super) fn agent(bytes: &[u8]) -> Cow<'_, str> {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => start(text, MAX_AGENT_BYTES),
        Cow::Owned(text) => Cow::Owned(start(&text, MAX_AGENT_BYTES).into_owned()),
    }
}

fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]".contains(&byte);
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(is_plain)
}

/// The first `limit` bytes of `text` at most, followed by [`CUT`] if it is longer.
fn start(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return Cow::Borrowed(text);
    }
    let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    Cow::Owned(text.get(..end).unwrap_or_default().to_owned() + CUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_shows_names_and_no_value() {
        for (query, expected) in [
            (None, "/a"),
            (Some(""), "/a"),
            (Some("day=20201209"), "/a?day"),
            (Some("a[]=1&b.c=2&d-e=3&f_g="), "/a?a[]&b.c&d-e&f_g"),
            (Some("eyJhbGciOiJIUzI1NiJ9.e30.c2ln"), "/a?..."),
            (Some("c2VjcmV0LXRoYXQtaXMtbG9uZ2VyLXRoYW4tYS1uYW1l="), "/a?..."),
            (Some("user%40host=1&=2&&x=3"), "/a?...&...&...&x"),
        ] {
            assert_eq!(shown("/a", query), expected, "{query:?}");
        }
        let many = ["n=1"; 30].join("&");
        assert_eq!(shown("/a", Some(&many)), format!("/a?{}...", "n&".repeat(16)));
    }

    #[test]
    fn a_token_in_the_path_is_not_shown() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJpZGVudGl0eSI6InUifQ.c2lnbmF0dXJl";
        assert_eq!(shown(&format!("/a/{token}/b"), None), "/a/.../b");
        assert_eq!(shown(&format!("/{token}"), Some("x=1")), "/...?x");
        assert_eq!(shown("/eyJ/a.b.c", None), "/eyJ/a.b.c");
    }

    #[test]
    fn a_long_path_and_a_long_agent_are_cut() {
        let path = format!("/{}", "a".repeat(600));
        assert_eq!(shown(&path, None), format!("/{}...", "a".repeat(511)));
        assert_eq!(agent(&[b'a'; 256]), "a".repeat(256));
        assert_eq!(agent("é".repeat(200).as_bytes()), format!("{}...", "é".repeat(128)));
        assert_eq!(agent(&[0xff; 300]), format!("{}...", "\u{fffd}".repeat(85)));
    }
}
