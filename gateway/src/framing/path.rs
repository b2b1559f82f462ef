//! The canonical form of a path (RFC 3986, section 6.2.2). Other spellings are refused, not normalised, so that
//! no two programs can interpret them differently.

mod preserve;

use crate::syntax::is_unreserved;

/// A canonical path: absolute, without empty or dot segments, and with percent-encoding only where it is
/// required.
///
/// A path parsed by [`CanonicalPath::parse_preserving`] may have segments with encoded slashes and the like. Only a
/// route that preserves them may match it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CanonicalPath<'a> {
    path: &'a str,
    /// The first segment that only a route that preserves encoding may match, as the length of what precedes its slash.
    preserved: Option<usize>,
}

/// Why a path is not canonical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCanonical {
    /// It does not begin with `/`.
    #[error("does not begin with a slash")]
    Relative,
    /// `//`, `/./` or `/../`.
    #[error("has an empty or dot segment")]
    Segment,
    /// A character that is not allowed in a path, such as `;` or `\`.
    #[error("has a character that is not allowed in a path")]
    Character,
    /// Percent-encoding that is malformed, in lower case, unnecessary, or of a delimiter or control character.
    #[error("has percent-encoding that is not allowed in a path")]
    Escape,
    /// The decoded path is not UTF-8.
    #[error("is not UTF-8 once decoded")]
    Encoding,
}

/// Returns whether a byte is allowed unescaped in a segment: `pchar` of RFC 3986 without `;`, which only some
/// programs interpret as a delimiter.
const fn is_plain(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

/// The bytes that are allowed unescaped in a path: those of segments, and the separator.
#[expect(clippy::indexing_slicing, reason = "each byte has a place, and this is made by the compiler")]
const LITERAL: [bool; 256] = {
    let mut literal = [false; 256];
    let mut byte = 0;
    while byte < u8::MAX {
        literal[byte as usize] = is_plain(byte) || byte == b'/';
        byte += 1;
    }
    literal
};

/// A fast check in a single pass: no percent-encoding, and no segment that is empty or begins with a dot.
/// Nearly every path passes; `false` does not mean that the path is not canonical.
fn is_trivially_canonical(path: &[u8]) -> bool {
    let mut previous = None;
    for byte in path {
        let is_literal = LITERAL.get(usize::from(*byte)).is_some_and(|literal| *literal);
        let is_empty_or_dotted = previous == Some(b'/') && matches!(byte, b'/' | b'.');
        if !is_literal || is_empty_or_dotted {
            return false;
        }
        previous = Some(*byte);
    }
    path.first() == Some(&b'/')
}

impl<'a> CanonicalPath<'a> {
    /// Returns `path` if it is canonical.
    ///
    /// # Errors
    /// [`NotCanonical`] with the first reason found.
    pub fn parse(path: &'a str) -> Result<Self, NotCanonical> {
        if is_trivially_canonical(path.as_bytes()) {
            return Ok(Self::new_unchecked(path));
        }
        Self::parse_by_segment(path, |segment| check_segment(segment).map(|()| false))
    }

    /// Parses `path` with a check of each segment that returns whether it is preserved.
    fn parse_by_segment(
        path: &'a str,
        check: impl Fn(&[u8]) -> Result<bool, NotCanonical>,
    ) -> Result<Self, NotCanonical> {
        let segments = path.strip_prefix('/').ok_or(NotCanonical::Relative)?;
        let (mut preserved, mut before) = (None, 0);
        // A trailing slash is significant, so an empty last segment is allowed.
        let mut rest = segments.split('/').peekable();
        while let Some(segment) = rest.next() {
            let last = rest.peek().is_none();
            if matches!(segment, "." | "..") || (segment.is_empty() && !last) {
                return Err(NotCanonical::Segment);
            }
            if check(segment.as_bytes())? {
                preserved = preserved.or(Some(before));
            }
            before += 1 + segment.len();
        }
        Ok(Self { path, preserved })
    }

    /// Wraps a `path` that was checked before and has no preserved segment.
    pub(super) fn new_unchecked(path: &'a str) -> Self {
        Self { path, preserved: None }
    }

    /// Wraps a `path` that was checked before, with its first preserved segment.
    pub(super) fn new_preserving(path: &'a str, preserved: Option<usize>) -> Self {
        Self { path, preserved }
    }

    /// The path.
    pub fn as_str(&self) -> &'a str {
        self.path
    }

    /// The first segment that only a route that preserves encoding may match, as the length of what precedes its slash.
    pub fn preserved(&self) -> Option<usize> {
        self.preserved
    }

    /// Strips `prefix` if it ends at a segment boundary, before any preserved segment.
    pub(crate) fn without(self, prefix: &str) -> Option<Self> {
        let rest = self.path.strip_prefix(prefix)?;
        let preserved = match self.preserved {
            None => None,
            Some(before) => Some(before.checked_sub(prefix.len())?),
        };
        rest.starts_with('/').then_some(Self { path: rest, preserved })
    }
}

fn check_segment(segment: &[u8]) -> Result<(), NotCanonical> {
    let mut escaped = Vec::new();
    let mut bytes = segment.iter();
    while let Some(&byte) = bytes.next() {
        if byte == b'%' {
            let (high, low) = (bytes.next().and_then(upper_hex), bytes.next().and_then(upper_hex));
            let (Some(high), Some(low)) = (high, low) else { return Err(NotCanonical::Escape) };
            let byte = high << 4 | low;
            let separates = matches!(byte, b'/' | b'\\' | b';' | b'%' | b'?' | b'#');
            if is_plain(byte) || separates || byte.is_ascii_control() {
                return Err(NotCanonical::Escape);
            }
            escaped.push(byte);
        } else if is_plain(byte) {
            escaped.push(byte);
        } else {
            return Err(NotCanonical::Character);
        }
    }
    // Overlong encodings and lone surrogates are not UTF-8.
    std::str::from_utf8(&escaped).map(|_| ()).map_err(|_| NotCanonical::Encoding)
}

fn upper_hex(byte: &u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_canonical_paths() {
        for path in [
            "/",
            "/auth",
            "/auth/",
            "/holodules/20201209",
            "/a/b.c/~d/e_f-g",
            "/%E3%83%9B",
            "/a%20b",
            "/a:b@c",
            "/.a/..b/...",
        ] {
            assert_eq!(CanonicalPath::parse(path).map(|path| path.as_str()), Ok(path));
        }
    }

    #[test]
    fn the_fast_check_agrees_with_the_full_check() {
        // Every path of up to four of these elements.
        let bytes = b"/.a%;\x7f";
        let mut paths = vec![String::new()];
        for _ in 0..4 {
            let longer =
                paths.iter().flat_map(|path| bytes.iter().map(move |&byte| format!("{path}{}", char::from(byte))));
            paths.extend(longer.collect::<Vec<_>>());
        }
        let by_segments = |path: &str| {
            let segments: Vec<_> = path.split('/').skip(1).collect();
            path.starts_with('/')
                && segments.iter().enumerate().all(|(place, segment)| {
                    let is_last = place + 1 == segments.len();
                    (!segment.is_empty() || is_last)
                        && !matches!(*segment, "." | "..")
                        && check_segment(segment.as_bytes()).is_ok()
                })
        };
        for path in &paths {
            assert_eq!(CanonicalPath::parse(path).is_ok(), by_segments(path), "{path}");
        }
        assert!(paths.iter().any(|path| is_trivially_canonical(path.as_bytes())));
    }

    #[test]
    fn rejects_other_paths() {
        use NotCanonical::{Character, Encoding, Escape, Relative, Segment};
        let cases = [
            ("", Relative),
            ("*", Relative),
            ("auth", Relative),
            ("//", Segment),
            ("//auth", Segment),
            ("/a//b", Segment),
            ("/./a", Segment),
            ("/a/..", Segment),
            ("/a/../b", Segment),
            ("/.", Segment),
            ("/%2e%2e/a", Escape),
            ("/%2E", Escape),
            ("/a%2Fb", Escape),
            ("/a%2fb", Escape),
            ("/a%5Cb", Escape),
            ("/a\\b", Character),
            ("/a;b", Character),
            ("/a%3Bb", Escape),
            ("/a%00", Escape),
            ("/a%0A", Escape),
            ("/%61uth", Escape),
            ("/%", Escape),
            ("/%4", Escape),
            ("/%zz", Escape),
            ("/%e3%83%9b", Escape),
            ("/%25", Escape),
            ("/%C0%AF", Encoding),
            ("/%ED%A0%80", Encoding),
            ("/ホ", Character),
            ("/a b", Character),
            ("/a|b", Character),
            ("/a\"b", Character),
            ("/a?b", Character),
            ("/%3F", Escape),
            ("/%7F", Escape),
        ];
        for (path, reason) in cases {
            assert_eq!(CanonicalPath::parse(path), Err(reason), "{path}");
        }
    }
}
