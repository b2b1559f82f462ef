//! The canonical form of a path (RFC 3986, section 6.2.2). Other spellings are refused, not normalised, so that
//! no two programs can interpret them differently.

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

/// `unreserved` (RFC 3986, section 2.3).
pub(crate) const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
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

    /// Like [`CanonicalPath::parse`], and accepts `;`, `%2F`, `%2f` and escapes of delimiters in segments, unless a
    /// program that decodes them or drops parameters would find a dot segment, or a segment that begins with a slash.
    ///
    /// # Errors
    /// [`NotCanonical`] with the first reason found.
    pub fn parse_preserving(path: &'a str) -> Result<Self, NotCanonical> {
        if is_trivially_canonical(path.as_bytes()) {
            return Ok(Self::new_unchecked(path));
        }
        Self::parse_by_segment(path, |segment| match check_segment(segment) {
            Ok(()) => Ok(false),
            Err(_) => check_preserved_segment(segment).map(|()| true),
        })
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

    /// What programs may read instead of a path with preserved segments: with slashes decoded, without parameters, both in
    /// either order, or with delimiters decoded alone. Empty segments are left out.
    pub(crate) fn readings(&self) -> [String; 5] {
        let plain = decode_delimiters(self.path);
        let decoded = decode_slashes(&plain);
        let bare = drop_parameters(&plain);
        [drop_parameters(&decoded), decode_slashes(&bare), bare, decoded, plain].map(without_empty_segments)
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

/// `path` with the escapes decoded of delimiters that may also be unescaped.
fn decode_delimiters(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, escape)) = rest.split_once('%') {
        decoded.push_str(before);
        let byte = escape.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(|&byte| is_plain(byte) || byte == b';').zip(escape.get(2..)) {
            Some((byte, after)) => {
                decoded.push(char::from(byte));
                rest = after;
            }
            None => {
                decoded.push('%');
                rest = escape;
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

fn decode_slashes(path: &str) -> String {
    path.replace("%2F", "/").replace("%2f", "/")
}

fn drop_parameters(path: &str) -> String {
    let segments = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    segments.collect::<Vec<_>>().join("/")
}

fn without_empty_segments(path: String) -> String {
    let mut path = path;
    while path.contains("//") {
        path = path.replace("//", "/");
    }
    path
}

/// Checks a segment that a route preserves.
fn check_preserved_segment(segment: &[u8]) -> Result<(), NotCanonical> {
    let mut decoded = Vec::new();
    let mut bytes = segment.iter();
    while let Some(&byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => match (bytes.next(), bytes.next()) {
                (Some(b'2'), Some(b'f')) => b'/',
                (Some(high), Some(low)) => {
                    let (high, low) = upper_hex(high).zip(upper_hex(low)).ok_or(NotCanonical::Escape)?;
                    let byte = high << 4 | low;
                    let is_ambiguous = is_unreserved(byte) || matches!(byte, b'\\' | b'%' | b'?' | b'#');
                    if is_ambiguous || byte.is_ascii_control() {
                        return Err(NotCanonical::Escape);
                    }
                    byte
                }
                _ => return Err(NotCanonical::Escape),
            },
            b';' => byte,
            _ if is_plain(byte) => byte,
            _ => return Err(NotCanonical::Character),
        });
    }
    std::str::from_utf8(&decoded).map_err(|_| NotCanonical::Encoding)?;
    // As a program reads it that decodes slashes and drops parameters.
    let mut parts = decoded.split(|&byte| byte == b'/').map(|part| part.split(|&byte| byte == b';').next());
    let begins_empty = parts.clone().next().flatten().is_none_or(<[u8]>::is_empty);
    let is_dotted = parts.any(|part| matches!(part, Some(b"." | b"..")));
    if begins_empty || is_dotted { Err(NotCanonical::Segment) } else { Ok(()) }
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
    fn a_preserved_segment_may_have_encoded_slashes_and_parameters() {
        for (path, preserved) in [
            ("/a/b", None),
            ("/a/b%2Fc", Some(2)),
            ("/a/@scope%2fname", Some(2)),
            ("/a/b/c;v=1/d%2Fe", Some(4)),
            ("/a;b", Some(0)),
            ("/r/https%3A%2F%2Fexample.org%2Fa.git", Some(2)),
            ("/a/b%2F", Some(2)),
            ("/a/b%3Bc", Some(2)),
            ("/a/%E3%83%9B%2F%E3%83%9B/", Some(2)),
            ("/a/b%2F...%2F.c", Some(2)),
        ] {
            let parsed = CanonicalPath::parse_preserving(path);
            assert_eq!(parsed.map(|path| (path.as_str(), path.preserved())), Ok((path, preserved)), "{path}");
            assert_eq!(CanonicalPath::parse(path).is_ok(), preserved.is_none(), "{path}");
        }
    }

    #[test]
    fn a_preserved_segment_hides_no_dot_segment_and_no_other_escape() {
        for path in [
            "/a/%2F",
            "/a/%2Fb",
            "/a/;b",
            "/a/b%2F..%2Fc",
            "/a/b%2f.%2fc",
            "/a/..%2Fb",
            "/a/..;/b",
            "/a/.;x/b",
            "/a/b%2F..;x",
            "/a/..%3B/b",
            "/a/b%2F..",
            "/a//b%2Fc",
            "/a/../b%2Fc",
            "/a/%2E%2E%2Fb",
            "/a/%2e%2e%2fb",
            "/a/b%252Fc",
            "/a/b%5Cc%2F",
            "/a/b%00%2F",
            "/a/%61%2Fb",
            "/a/b%2Fc%3F",
            "/a/b%2Fc%23",
            "/a/b%2",
            "/a/b%2Fc%",
            "/a/b%3a%2Fc",
            "/a/b%2F\\c",
            "/a/%C0%AF%2Fb",
            "a%2Fb",
            "/a/b%2F%ED%A0%80",
        ] {
            assert!(CanonicalPath::parse_preserving(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_preserved_path_has_readings() {
        let path = CanonicalPath::parse_preserving("/a/b;c%2Fd%2F%2Fe%3Af/g%3Bh").unwrap();
        assert_eq!(
            path.readings(),
            ["/a/b/d/e:f/g", "/a/b/g", "/a/b/g", "/a/b;c/d/e:f/g;h", "/a/b;c%2Fd%2F%2Fe:f/g;h"]
        );
    }

    #[test]
    fn a_prefix_is_stripped_before_a_preserved_segment_only() {
        let path = CanonicalPath::parse_preserving("/a/b%2Fc").unwrap();
        let rest = path.without("/a").unwrap();
        assert_eq!((rest.as_str(), rest.preserved()), ("/b%2Fc", Some(0)));
        assert_eq!(path.without("/a/b%2Fc"), None);
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
