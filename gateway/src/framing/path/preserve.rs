//! Paths with segments that only a route that preserves encoding may match: with encoded slashes, parameters, and
//! encoded delimiters.

use super::{CanonicalPath, NotCanonical, check_segment, is_plain, is_trivially_canonical, upper_hex};
use crate::syntax::is_unreserved;

impl<'a> CanonicalPath<'a> {
    /// Like [`CanonicalPath::parse`], and accepts `;`, `%2F`, `%2f` and escapes of delimiters in segments, unless a
    /// program that decodes them or drops parameters would find a dot segment, or a segment that begins with a slash or
    /// is nothing but parameters.
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

    /// What programs may read instead of a path with preserved segments: with slashes decoded, without parameters, both in
    /// either order, or with delimiters decoded alone. Empty segments are left out.
    pub(crate) fn readings(&self) -> [String; 5] {
        let plain = decode_delimiters(self.path);
        let decoded = decode_slashes(&plain);
        let bare = drop_parameters(&plain);
        [drop_parameters(&decoded), decode_slashes(&bare), bare, decoded, plain].map(without_empty_segments)
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
    let mut parts = decoded.split(|&byte| byte == b'/');
    let is_dotted = |part: &[u8]| matches!(part.split(|&byte| byte == b';').next(), Some(b"." | b".."));
    let is_hidden = decoded.starts_with(b"/") || parts.any(|part| part.starts_with(b";") || is_dotted(part));
    if is_hidden { Err(NotCanonical::Segment) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            "/a/b%2F;c",
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
}
