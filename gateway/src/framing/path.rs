//! The one form of a path (RFC 3986, section 6.2.2). What has another spelling of the same
//! path is refused, not mended, so that no two programs read it differently.

/// A path in its one form: absolute, no empty or dot segment, and an escape only for what
/// cannot stand for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CanonicalPath<'a>(&'a str);

/// Why a path is not in its one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCanonical {
    /// It does not begin with `/`.
    #[error("does not begin with a slash")]
    Relative,
    /// `//`, `/./` or `/../`.
    #[error("has an empty or dot segment")]
    Segment,
    /// A character that must not stand in a path, `;` and `\` among them.
    #[error("has a character that may not stand in a path")]
    Character,
    /// An escape that is broken, in lower case, or of a character that stands for itself,
    /// separates, or controls.
    #[error("has an escape that may not stand in a path")]
    Escape,
    /// What the escapes spell is not UTF-8.
    #[error("does not spell UTF-8")]
    Encoding,
}

/// RFC 3986, section 2.3.
pub(crate) const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What may stand unescaped in a segment: RFC 3986's `pchar` without `;`, which some
/// programs take for the start of parameters and others for a character.
const fn is_plain(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

/// The bytes that stand for themselves in a path: the plain ones, and what separates segments.
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

/// Whether `path` is in the one form for reasons that one look at each byte tells: no escape, and no
/// segment that is empty or begins with a dot. Nearly every path is; of others this says nothing.
fn is_plainly_canonical(path: &[u8]) -> bool {
    let mut previous = None;
    for byte in path {
        let is_literal = LITERAL.get(usize::from(*byte)).is_some_and(|literal| *literal);
        let begins_oddly = previous == Some(b'/') && matches!(byte, b'/' | b'.');
        if !is_literal || begins_oddly {
            return false;
        }
        previous = Some(*byte);
    }
    path.first() == Some(&b'/')
}

impl<'a> CanonicalPath<'a> {
    /// Takes `path` where it is in the one form.
    ///
    /// # Errors
    /// [`NotCanonical`], with the first reason found.
    pub fn parse(path: &'a str) -> Result<Self, NotCanonical> {
        if is_plainly_canonical(path.as_bytes()) {
            return Ok(Self(path));
        }
        let segments = path.strip_prefix('/').ok_or(NotCanonical::Relative)?;
        // A trailing slash is a spelling of its own: an empty last segment is allowed.
        let mut rest = segments.split('/').peekable();
        while let Some(segment) = rest.next() {
            let last = rest.peek().is_none();
            if matches!(segment, "." | "..") || (segment.is_empty() && !last) {
                return Err(NotCanonical::Segment);
            }
            check_segment(segment.as_bytes())?;
        }
        Ok(Self(path))
    }

    /// `path`, which is known to be canonical.
    pub(super) fn of_checked(path: &'a str) -> Self {
        Self(path)
    }

    /// The path.
    pub fn as_str(&self) -> &'a str {
        self.0
    }

    /// What follows `prefix`, where that ends at a segment.
    pub(crate) fn without(self, prefix: &str) -> Option<Self> {
        let rest = self.0.strip_prefix(prefix)?;
        rest.starts_with('/').then_some(Self(rest))
    }

    /// The segments, without the leading slash.
    pub(crate) fn segments(self) -> impl Iterator<Item = &'a str> {
        self.0.split('/').skip(1)
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
    // Overlong forms and lone surrogates are not UTF-8.
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
    fn canonical_paths_are_taken_as_they_are() {
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
    fn a_path_that_one_look_takes_is_taken_segment_by_segment_too() {
        // Every path of up to four of these.
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
        assert!(paths.iter().any(|path| is_plainly_canonical(path.as_bytes())));
    }

    #[test]
    fn everything_else_is_refused() {
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
