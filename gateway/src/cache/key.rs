//! What an answer is kept under: everything that the request for it may tell the backend.

use std::io::{self, Write};

use http::HeaderValue;
use http::header::GetAll;

/// The longest key that takes no memory besides its place, in bytes: nearly every one.
const SHORT_BYTES: usize = 120;

/// The key of an answer (RFC 9111, section 2): the host, the target, the identity where the answer
/// is one user's own, and the fields that the route declares. Two requests of one key are the
/// same to the backend, since a fill sends nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(Bytes);

/// Each part behind its length, so that no two lists of parts make one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Bytes {
    /// So many bytes, and zeros.
    Short(usize, [u8; SHORT_BYTES]),
    /// More than would be short.
    Long(Vec<u8>),
}

/// What a key is made of.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The host that was asked for, port included: without it, one site would be answered with
    /// another's page (CVE-2026-2836).
    pub host: &'a str,
    /// The canonical path and the declared query.
    pub target: &'a str,
    /// Whose answer it is; `None` where every user gets the same.
    pub identity: Option<&'a str>,
}

impl Key {
    /// The key of `parts` and of all values of the declared fields, in the order in which they are
    /// declared: the backend is sent each of them, and may join them (RFC 9110, section 5.3).
    pub fn new<'a>(parts: Parts<'_>, fields: impl Iterator<Item = GetAll<'a, HeaderValue>> + Clone) -> Self {
        let mut short = [0; SHORT_BYTES];
        let mut free = short.as_mut_slice();
        let mut key = if write(&mut free, &parts, fields.clone()).is_ok() {
            let left = free.len();
            Self(Bytes::Short(SHORT_BYTES - left, short))
        } else {
            let mut long = Vec::with_capacity(2 * SHORT_BYTES);
            // Memory takes whatever is written to it.
            let _ = write(&mut long, &parts, fields);
            Self(Bytes::Long(long))
        };
        // RFC 9110, section 4.2.3: a host is the same in any case.
        if let Some(host) = key.bytes_mut().get_mut(LENGTH_BYTES..LENGTH_BYTES + parts.host.len()) {
            host.make_ascii_lowercase();
        }
        key
    }

    /// All of it.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Short(length, bytes) => bytes.get(..*length).unwrap_or(bytes),
            Bytes::Long(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Bytes::Short(_, bytes) => bytes,
            Bytes::Long(bytes) => bytes,
        }
    }
}

const LENGTH_BYTES: usize = size_of::<u32>();

/// A part that is not there, which is not an empty one; and the end of a field's values.
const ABSENT: [u8; LENGTH_BYTES] = u32::MAX.to_le_bytes();

/// Writes the parts one after the other.
///
/// # Errors
/// There is no room.
fn write<'a>(
    out: &mut impl Write,
    parts: &Parts<'_>,
    fields: impl Iterator<Item = GetAll<'a, HeaderValue>>,
) -> io::Result<()> {
    write_part(out, parts.host.as_bytes())?;
    write_part(out, parts.target.as_bytes())?;
    match parts.identity {
        Some(identity) => write_part(out, identity.as_bytes())?,
        None => out.write_all(&ABSENT)?,
    }
    for values in fields {
        for value in values {
            write_part(out, value.as_bytes())?;
        }
        out.write_all(&ABSENT)?;
    }
    Ok(())
}

fn write_part(out: &mut impl Write, part: &[u8]) -> io::Result<()> {
    // What comes from a request's head is far shorter.
    let length = u32::try_from(part.len()).unwrap_or(u32::MAX - 1);
    out.write_all(&length.to_le_bytes())?;
    out.write_all(part)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http::{HeaderMap, HeaderName};

    use super::*;

    fn key(host: &str, target: &str, identity: Option<&str>, fields: &[&[&'static str]]) -> Key {
        let names: Vec<_> =
            (0..fields.len()).map(|place| HeaderName::try_from(format!("x-{place}")).unwrap()).collect();
        let mut headers = HeaderMap::new();
        for (name, values) in names.iter().zip(fields) {
            for value in *values {
                headers.append(name, HeaderValue::from_static(value));
            }
        }
        Key::new(Parts { host, target, identity }, names.iter().map(|name| headers.get_all(name)))
    }

    #[test]
    fn every_part_tells_keys_apart() {
        let keys = [
            key("a", "/b", None, &[]),
            key("a", "/c", None, &[]),
            key("a:1", "/b", None, &[]),
            key("a", "/b", Some(""), &[]),
            key("a", "/b", Some("c"), &[]),
            key("a", "/b", None, &[&[]]),
            key("a", "/b", None, &[&[""]]),
            key("a", "/b", None, &[&["c"]]),
            key("a", "/b", None, &[&["c", "d"]]),
            key("a", "/b", None, &[&["d", "c"]]),
            key("a", "/b", None, &[&["c, d"]]),
            key("a", "/b", None, &[&["c"], &["d"]]),
            key("a", "/b", None, &[&[], &["c"]]),
            key("a", "/b", None, &[&["c"], &[]]),
            key("a/", "b", None, &[]),
        ];
        for (index, one) in keys.iter().enumerate() {
            for (other_index, other) in keys.iter().enumerate() {
                assert_eq!(one == other, index == other_index, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn keys_of_every_length_are_told_apart_to_their_ends() {
        let mut seen = HashSet::new();
        for length in 0..3 * SHORT_BYTES {
            for last in ["b", "c", "\0"] {
                let target = format!("/{}{last}", "a".repeat(length));
                let key = key("A", &target, None, &[&["d"]]);
                assert_eq!(key, self::key("a", &target, None, &[&["d"]]));
                let bytes = key.as_bytes().to_vec();
                assert_eq!(bytes.len(), 5 * LENGTH_BYTES + 2 + target.len());
                assert!(bytes.starts_with(b"\x01\0\0\0a") && bytes.ends_with(&ABSENT));
                assert!(seen.insert(bytes));
            }
        }
    }

    #[test]
    fn a_host_is_the_same_in_any_case() {
        assert_eq!(key("Example.ORG:8443", "/b", None, &[]), key("example.org:8443", "/b", None, &[]));
        assert_ne!(key("a", "/B", Some("C"), &[&["D"]]), key("a", "/b", Some("C"), &[&["D"]]));
        assert_ne!(key("a", "/B", Some("C"), &[&["D"]]), key("a", "/B", Some("c"), &[&["D"]]));
    }
}
