//! The `Cache-Control` of a response.
//!
//! The `headers` crate is not used: it is case-sensitive, ignores `private` with an argument, and uses the last of two
//! different ages.

use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;

use crate::syntax::{is_tchar, trim_start};

/// The maximum number of seconds. Greater numbers count as this one (RFC 9111, section 1.2.2).
pub(super) const MAX_SECONDS: u32 = 1 << 31;

/// The directives of a response (RFC 9111, section 5.2.2) and the extensions for stale responses (RFC 5861). Unknown
/// directives are ignored.
///
/// A restricting directive applies in any form: with an unexpected argument, or with one that names only some fields. A
/// permitting directive applies only in its defined form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Directives {
    /// `no-store`; also set by a malformed line, which may have contained it.
    pub(super) no_store: bool,
    /// `no-cache`, with or without field names.
    pub(super) no_cache: bool,
    /// `private`, with or without field names.
    pub(super) private: bool,
    /// `public`.
    pub(super) public: bool,
    /// `must-revalidate` or `proxy-revalidate`, which are equal for a shared cache.
    pub(super) must_revalidate: bool,
    /// `max-age`.
    pub(super) max_age: Seconds,
    /// `s-maxage`.
    pub(super) s_maxage: Seconds,
    /// `stale-while-revalidate`.
    pub(super) stale_while_revalidate: Seconds,
    /// `stale-if-error`.
    pub(super) stale_if_error: Seconds,
}

/// The argument of a directive in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Seconds {
    /// The directive is absent.
    #[default]
    Absent,
    /// The directive is present once, or repeated with the same argument.
    Given(Duration),
    /// The argument is malformed, or repeated with different values. Counts as zero (RFC 9111, section 4.2.1).
    Invalid,
}

impl Seconds {
    /// The duration; zero if it is absent or invalid.
    pub(super) fn or_zero(self) -> Duration {
        match self {
            Self::Given(seconds) => seconds,
            Self::Absent | Self::Invalid => Duration::ZERO,
        }
    }

    fn add(&mut self, argument: Option<&[u8]>) {
        *self = match (*self, argument.and_then(delta_seconds)) {
            (Self::Absent, Some(seconds)) => Self::Given(seconds),
            (Self::Given(before), Some(seconds)) if before == seconds => *self,
            _ => Self::Invalid,
        };
    }
}

impl Directives {
    /// Parses all `Cache-Control` lines of a response.
    pub(super) fn parse(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            let mut rest = trim_start(line.as_bytes(), b", \t");
            while !rest.is_empty() {
                let Some((directive, after)) = Directive::parse(rest) else {
                    directives.no_store = true;
                    break;
                };
                directives.add(directive);
                rest = trim_start(after, b", \t");
            }
        }
        directives
    }

    fn add(&mut self, Directive { name, argument }: Directive<'_>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("no-store") {
            self.no_store = true;
        } else if is("no-cache") {
            self.no_cache = true;
        } else if is("private") {
            self.private = true;
        } else if is("public") {
            self.public |= argument.is_none();
        } else if is("must-revalidate") || is("proxy-revalidate") {
            self.must_revalidate = true;
        } else if is("max-age") {
            self.max_age.add(argument);
        } else if is("s-maxage") {
            self.s_maxage.add(argument);
        } else if is("stale-while-revalidate") {
            self.stale_while_revalidate.add(argument);
        } else if is("stale-if-error") {
            self.stale_if_error.add(argument);
        }
    }
}

/// `1*DIGIT`, at most [`MAX_SECONDS`] (RFC 9111, section 1.2.2); `None` for anything else.
pub(super) fn delta_seconds(text: &[u8]) -> Option<Duration> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number = text.iter().fold(0_u32, |number, digit| {
        number.saturating_mul(10).saturating_add(u32::from(digit.wrapping_sub(b'0'))).min(MAX_SECONDS)
    });
    is_number.then(|| Duration::from_secs(number.into()))
}

/// One directive.
struct Directive<'a> {
    name: &'a [u8],
    /// Without quotes. Escapes are not decoded, since no argument that is used here contains one.
    argument: Option<&'a [u8]>,
}

impl<'a> Directive<'a> {
    /// Parses the directive at the beginning of `list`, and returns the rest; `None` if it is malformed.
    fn parse(list: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (name, rest) = token(list)?;
        let (argument, rest) = match rest.strip_prefix(b"=") {
            None => (None, rest),
            Some(rest) => {
                let (argument, rest) = rest.strip_prefix(b"\"").map_or_else(|| token(rest), quoted)?;
                (Some(argument), rest)
            }
        };
        let rest = trim_start(rest, b" \t");
        (rest.is_empty() || rest.starts_with(b",")).then_some((Self { name, argument }, rest))
    }
}

/// Splits off the token (RFC 9110, section 5.6.2) at the beginning of `text`.
fn token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|&byte| !is_tchar(byte)).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(token, _)| !token.is_empty())
}

/// Splits off a quoted string (RFC 9110, section 5.6.4) whose opening quote was removed from `text`.
fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut is_escaped = false;
    let end = text.iter().position(|&byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::super::headers;
    use super::*;

    fn parse(lines: &[&str]) -> Directives {
        let fields: Vec<_> = lines.iter().map(|line| ("cache-control", *line)).collect();
        Directives::parse(&headers(&fields))
    }

    fn given(seconds: u64) -> Seconds {
        Seconds::Given(Duration::from_secs(seconds))
    }

    /// RFC 9111, section 5.2.2, and RFC 5861, sections 3 and 4.
    #[test]
    fn every_directive_is_parsed() {
        let read = parse(&["public, max-age=0, s-maxage=5, stale-while-revalidate=30, stale-if-error=86400"]);
        let expected = Directives {
            public: true,
            max_age: given(0),
            s_maxage: given(5),
            stale_while_revalidate: given(30),
            stale_if_error: given(86400),
            ..Directives::default()
        };
        assert_eq!(read, expected);
        let restricts = Directives {
            no_store: true,
            no_cache: true,
            private: true,
            must_revalidate: true,
            ..Directives::default()
        };
        assert_eq!(parse(&["no-store, no-cache, private, must-revalidate"]), restricts);
        assert!(parse(&["proxy-revalidate"]).must_revalidate);
        assert_eq!(parse(&[]), Directives::default());
        assert_eq!(parse(&[""]), Directives::default());
    }

    /// RFC 9111, section 5.2: case-insensitive names, arguments as token or quoted string; RFC 9110, sections 5.3 and
    /// 5.6.1: several lines are one list, which may have empty members.
    #[test]
    fn equivalent_forms_are_parsed_alike() {
        let expected = parse(&["public, s-maxage=5"]);
        for lines in [
            &["PUBLIC,S-MaxAge=5"][..],
            &["s-maxage=\"5\",public"],
            &["s-maxage=005 ,\t public"],
            &[", ,public,,\ts-maxage=5 , "],
            &["public", "s-maxage=5"],
            &["s-maxage=5", "", "public"],
            &["public, s-maxage=5", "s-maxage=5"],
        ] {
            assert_eq!(parse(lines), expected, "{lines:?}");
        }
    }

    /// RFC 9111, section 5.2.3.
    #[test]
    fn unknown_directives_are_ignored() {
        for unknown in [
            "immutable",
            "no-transform",
            "x=y",
            "x=\"private, no-store\"",
            "x=\"a\\\", no-store, b\"",
            "x=\"\\\\\"",
            "privately",
            "no-stored=1",
            "x=\"\"",
            "community=\"\u{e9}\"",
        ] {
            assert_eq!(parse(&["public", unknown, "s-maxage=5"]), parse(&["public, s-maxage=5"]), "{unknown}");
        }
    }

    /// RFC 9111, sections 5.2.2.4 and 5.2.2.7: a cache may ignore the field names.
    #[test]
    fn a_restriction_applies_with_any_argument() {
        assert!(parse(&["private=\"set-cookie\""]).private);
        assert!(parse(&["private=x"]).private);
        assert!(parse(&["no-cache=\"set-cookie, x\""]).no_cache);
        assert!(parse(&["no-store=0"]).no_store);
        assert!(parse(&["must-revalidate=0"]).must_revalidate);
        assert!(!parse(&["public=\"x\""]).public);
    }

    /// RFC 9111, section 1.2.2.
    #[test]
    fn too_many_seconds_are_replaced_by_the_maximum() {
        for text in ["2147483648", "2147483649", "4294967296", "18446744073709551616", &"9".repeat(1000)] {
            assert_eq!(parse(&[&format!("max-age={text}")]).max_age, given(1 << 31), "{text}");
        }
        assert_eq!(parse(&["max-age=2147483647"]).max_age, given((1 << 31) - 1));
    }

    /// RFC 9111, section 4.2.1: invalid or contradictory freshness information counts as stale.
    #[test]
    fn invalid_seconds_count_as_zero() {
        for lines in [
            &["max-age"][..],
            &["max-age=-1"],
            &["max-age=1.5"],
            &["max-age=x"],
            &["max-age=\"\""],
            &["max-age=\"5 \""],
            &["max-age=\"\\5\""],
            &["max-age=5, max-age=6"],
            &["max-age=5", "max-age=6"],
            &["max-age=5", "max-age=x", "max-age=5"],
            &["max-age=x", "max-age=5"],
        ] {
            assert_eq!(parse(lines).max_age, Seconds::Invalid, "{lines:?}");
            assert_eq!(parse(lines).max_age.or_zero(), Duration::ZERO);
            assert!(!parse(lines).no_store, "{lines:?}");
        }
    }

    /// RFC 9110, section 5.6: a malformed line may contain a restriction.
    #[test]
    fn a_malformed_line_forbids_storing() {
        for line in [
            "public; s-maxage=5",
            "public s-maxage=5",
            "max-age = 5",
            "max-age=",
            "max-age=,",
            "=5",
            "x=\"no end",
            "x=\"no end\\\"",
            "\"private\"",
            "x=\"a\"b",
            "x=a\"b\"",
            "x=y=z",
            "pub\u{e9}lic",
            "(comment)",
        ] {
            assert!(parse(&[line]).no_store, "{line}");
            assert!(parse(&["public, s-maxage=5", line]).no_store, "{line}");
            assert!(parse(&[&format!("public, s-maxage=5, {line}")]).no_store, "{line}");
        }
    }
}
