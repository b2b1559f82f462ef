//! Redacts secrets in paths for the logs.

use std::borrow::Cow;
use std::ops::Range;

use super::Pattern;
use crate::framing::CanonicalPath;

/// Replaces text that may contain a secret.
const REDACTED: &str = "...";

/// The minimum number of hexadecimal digits in a run that may be a secret, as in the backend's log. If fewer of the 64
/// digits of the key of a calendar feed are shown, at least 128 bits remain unknown.
const SECRET_DIGITS: usize = 32;

/// The patterns whose last segment is a secret.
#[derive(Clone, Debug, Default)]
pub(super) struct SecretPaths(Vec<SecretPath>);

#[derive(Clone, Debug)]
struct SecretPath {
    pattern: Pattern,
    /// The literal segment before the secret, with its slashes.
    before: String,
}

impl SecretPaths {
    pub(super) fn new<'a>(patterns: impl Iterator<Item = &'a Pattern>) -> Self {
        let secret = |pattern: &Pattern| Some(SecretPath { pattern: pattern.clone(), before: pattern.before_name()? });
        Self(patterns.filter_map(secret).collect())
    }

    /// Returns a canonical path without secrets: the pattern in place of a path that matches one. A client may also
    /// misspell a path with a secret. So if another path contains the segment before a secret, compared without case,
    /// everything after that segment is redacted. That segment may be misspelt as well, so long hexadecimal numbers are
    /// redacted in every path. `strip` removes the prefix of all routes, which patterns do not have.
    pub(super) fn redact<'a>(
        &self,
        path: &'a str,
        strip: impl Fn(CanonicalPath<'a>) -> CanonicalPath<'a>,
    ) -> Cow<'a, str> {
        if self.0.is_empty() {
            return Cow::Borrowed(path);
        }
        let Some(segment) =
            self.0.iter().filter_map(|secret| range_of(path, &secret.before)).min_by_key(|segment| segment.end)
        else {
            return if hides_digits(path) { Cow::Borrowed(REDACTED) } else { redact_digits(path) };
        };
        let Ok(canonical) = CanonicalPath::parse_preserving(path) else { return Cow::Borrowed(REDACTED) };
        let stripped = strip(canonical);
        match self.0.iter().find(|secret| secret.pattern.matches(&stripped)) {
            Some(secret) => Cow::Owned(secret.pattern.to_string()),
            None => {
                let above = redact_digits(path.get(..segment.start).unwrap_or_default());
                Cow::Owned([&above, path.get(segment).unwrap_or_default(), REDACTED].concat())
            }
        }
    }
}

/// The first occurrence of `part` in `path`, compared without case, if more of the path follows it.
fn range_of(path: &str, part: &str) -> Option<Range<usize>> {
    let start = path.as_bytes().windows(part.len()).position(|window| window.eq_ignore_ascii_case(part.as_bytes()))?;
    Some(start..start + part.len()).filter(|range| range.end < path.len())
}

/// Whether a canonical path has digits of a secret that were percent-encoded more than once.
fn hides_digits(path: &str) -> bool {
    if !path.contains("%25") {
        return false;
    }
    let mut decoded = decoded(path);
    // Each layer is shorter than the one around it.
    while decoded.contains('%') {
        let inner = self::decoded(&decoded);
        if inner == decoded {
            break;
        }
        decoded = inner;
    }
    has_digits(&decoded)
}

/// Removes one layer of percent-encoding, of ASCII characters only: digits are.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(u8::is_ascii);
        match byte.zip(part.get(2..)) {
            Some((byte, rest)) => {
                decoded.push(char::from(byte));
                decoded.push_str(rest);
            }
            None => {
                decoded.push('%');
                decoded.push_str(part);
            }
        }
    }
    decoded
}

fn has_digits(text: &str) -> bool {
    !secrets(text).is_empty()
}

/// Redacts each run of [`SECRET_DIGITS`] or more hexadecimal digits, with the punctuation between them.
fn redact_digits(path: &str) -> Cow<'_, str> {
    let secrets = secrets(path);
    if secrets.is_empty() {
        return Cow::Borrowed(path);
    }
    let mut redacted = String::with_capacity(path.len());
    let mut shown = 0;
    for secret in secrets {
        redacted.push_str(path.get(shown..secret.start).unwrap_or_default());
        redacted.push_str(REDACTED);
        shown = secret.end;
    }
    redacted.push_str(path.get(shown..).unwrap_or_default());
    Cow::Owned(redacted)
}

/// The runs of [`SECRET_DIGITS`] or more hexadecimal digits.
///
/// Slashes, line breaks and other punctuation do not end a run: a mail program may have wrapped the secret. Nor do
/// characters that are percent-encoded in a canonical path; their own digits do not count.
fn secrets(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let (mut run, mut digits) = (0..0, 0);
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if character == '%' && text.get(at + 1..at + 3).is_some_and(|code| code.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            characters.nth(1);
        } else if character.is_ascii_hexdigit() {
            run = if digits == 0 { at..at + 1 } else { run.start..at + 1 };
            digits += 1;
        } else if character.is_alphanumeric() {
            found.extend((digits >= SECRET_DIGITS).then(|| run.clone()));
            digits = 0;
        }
    }
    found.extend((digits >= SECRET_DIGITS).then_some(run));
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Route, RouteTable, Settings};

    fn table() -> RouteTable {
        let route = |path: &str, aliases: &[&str], secret_path| {
            let (methods, path) = (vec!["GET".to_owned()], path.to_owned());
            let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
            Arc::new(Route::new(&Settings { methods, path, aliases, secret_path, ..Settings::default() }).unwrap())
        };
        let routes = vec![
            route("/calendar/{key}.ics", &["/c/feeds/{key}"], true),
            route("/calendar", &[], false),
            route("/a/{b}", &[], false),
        ];
        RouteTable::new(routes, vec!["/app".to_owned()])
    }

    #[test]
    fn a_path_with_a_secret_is_replaced_by_its_pattern() {
        let table = table();
        for (path, shown) in [
            ("/calendar/k3y.ics", "/calendar/{key}.ics"),
            ("/app/calendar/k3y.ics", "/calendar/{key}.ics"),
            ("/c/feeds/k3y", "/c/feeds/{key}"),
            // Misspelt.
            ("/calendar/k3y", "/calendar/..."),
            ("/calendar/k3y.ics/", "/calendar/..."),
            ("/Calendar/k3y.ics", "/Calendar/..."),
            ("/app/app/calendar/k3y.ics", "/app/app/calendar/..."),
            ("/x/feeds/k3y", "/x/feeds/..."),
            ("/feeds/calendar/k3y", "/feeds/..."),
            ("/a/calendar/k3y", "/a/calendar/..."),
        ] {
            assert_eq!(table.redacted_path(path), shown, "{path}");
        }
        for path in ["/", "/calendar", "/calendar/", "/calendars/1", "/a/b", "/a/calendar", "/holodules/20201209"] {
            assert_eq!(table.redacted_path(path), path);
        }
        assert_eq!(RouteTable::default().redacted_path("/calendar/k3y.ics"), "/calendar/k3y.ics");
    }

    #[test]
    fn long_hexadecimal_numbers_are_redacted() {
        let table = table();
        let key = "0f".repeat(32);
        for (path, shown) in [
            (format!("/calender/{key}.ics"), "/calender/....ics"),
            (format!("/{key}"), "/..."),
            (format!("/x-{}/\u{30db}/{key}\u{30db}y", key.to_uppercase()), "/x-.../\u{30db}/...\u{30db}y"),
            (format!("/x/{}", &key[32..]), "/x/..."),
            // Separated by punctuation.
            (format!("/calender/{}={}-{}.ics", &key[..30], &key[30..60], &key[60..]), "/calender/....ics"),
            (format!("/x/{}/{}/{}", &key[..30], &key[30..60], &key[60..]), "/x/..."),
            (format!("/x/{}%0D%0A%20{}", &key[..40], &key[40..]), "/x/..."),
            (format!("/x/{}=%0A{}=%0A{}", &key[..22], &key[22..44], &key[44..]), "/x/..."),
            (format!("/x/-{}-{}-/y", &key[..31], &key[31..]), "/x/-...-/y"),
            (format!("/a/{}", &key[32..]), "/..."),
            (format!("/{key}/calendar/k3y"), "/.../calendar/..."),
        ] {
            assert_eq!(table.redacted_path(&path), shown, "{path}");
            assert_eq!(RouteTable::default().redacted_path(&path), path, "no path has a secret");
        }
        for layers in 1..4 {
            let encoded: String = key.bytes().map(|byte| format!("%{}{byte:02X}", "25".repeat(layers))).collect();
            assert_eq!(table.redacted_path(&format!("/calender/{encoded}")), "...");
            let hyphen = format!("%{}2D", "25".repeat(layers));
            assert_eq!(table.redacted_path(&format!("/x/{}{hyphen}{}", &key[..31], &key[33..])), "...");
        }
        assert_eq!(table.redacted_path("/a/100%25"), "/a/100%25");
        let shorter = &key[33..];
        let text = format!("/streamers/{}", "%E3%83%9B".repeat(20));
        for path in [format!("/x/{shorter}"), format!("/{shorter}/x/{shorter}"), format!("/{shorter}ホ{shorter}"), text]
        {
            assert_eq!(table.redacted_path(&path), path, "fewer digits");
        }
    }

    #[test]
    fn a_secret_needs_a_literal_segment_before_it() {
        for (path, is_valid) in
            [("/a/{b}", true), ("/a/b/{*c}", true), ("/{a}", false), ("/a", false), ("/{a}/b/{c}", false)]
        {
            let settings = Settings {
                methods: vec!["GET".to_owned()],
                path: path.to_owned(),
                secret_path: true,
                ..Settings::default()
            };
            assert_eq!(Route::new(&settings).is_ok(), is_valid, "{path}");
        }
    }
}
