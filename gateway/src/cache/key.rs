//! The key of a stored response: everything that the request to the backend depends on.

use std::io::{self, Write};

use http::HeaderValue;
use http::header::GetAll;

/// The maximum length of a key that is not allocated, in bytes. Nearly all keys are shorter.
const INLINE_BYTES: usize = 120;

/// The key of a response (RFC 9111, section 2): the host, the route, the target, the identity if the response
/// belongs to one user, and the fields that the route declares. A request that fills the cache contains nothing else, so that requests
/// of one key are equal for the backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey(KeyBytes);

/// Each part is preceded by its length, so that different parts never make the same key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum KeyBytes {
    /// The length, and the bytes padded with zeros.
    Inline(usize, [u8; INLINE_BYTES]),
    /// A longer key.
    Heap(Vec<u8>),
}

/// The parts of a key.
#[derive(Clone, Copy, Debug)]
pub struct KeyParts<'a> {
    /// The requested host and port. Without it, one site would get the responses of another (CVE-2026-2836).
    pub host: &'a str,
    /// The name of the route, which no other route has. Routes may forward to the same target with other rights,
    /// headers or services, so they share no entries.
    pub route: &'a str,
    /// The canonical path and the declared query.
    pub target: &'a str,
    /// The user to whom the response belongs; `None` if it is the same for all users.
    pub identity: Option<&'a str>,
}

impl CacheKey {
    /// The key of `parts` and of all values of the declared `fields`, in the order of their declaration. The backend
    /// gets all values, and may join them (RFC 9110, section 5.3).
    pub fn new<'a>(parts: KeyParts<'_>, fields: impl Iterator<Item = GetAll<'a, HeaderValue>> + Clone) -> Self {
        let mut inline = [0; INLINE_BYTES];
        let mut free = inline.as_mut_slice();
        let mut key = if write(&mut free, &parts, fields.clone()).is_ok() {
            let left = free.len();
            Self(KeyBytes::Inline(INLINE_BYTES - left, inline))
        } else {
            let mut heap = Vec::with_capacity(2 * INLINE_BYTES);
            // Writing to a `Vec` cannot fail.
            let _ = write(&mut heap, &parts, fields);
            Self(KeyBytes::Heap(heap))
        };
        // Hosts are case-insensitive (RFC 9110, section 4.2.3).
        if let Some(host) = key.bytes_mut().get_mut(LENGTH_BYTES..LENGTH_BYTES + parts.host.len()) {
            host.make_ascii_lowercase();
        }
        key
    }

    /// The serialized key.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            KeyBytes::Inline(length, bytes) => bytes.get(..*length).unwrap_or(bytes),
            KeyBytes::Heap(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            KeyBytes::Inline(_, bytes) => bytes,
            KeyBytes::Heap(bytes) => bytes,
        }
    }
}

const LENGTH_BYTES: usize = size_of::<u32>();

/// An absent part, which differs from an empty one; also the end of the values of a field.
const ABSENT: [u8; LENGTH_BYTES] = u32::MAX.to_le_bytes();

/// Writes all parts.
///
/// # Errors
/// `out` is full.
fn write<'a>(
    out: &mut impl Write,
    parts: &KeyParts<'_>,
    fields: impl Iterator<Item = GetAll<'a, HeaderValue>>,
) -> io::Result<()> {
    write_part(out, parts.host.as_bytes())?;
    write_part(out, parts.route.as_bytes())?;
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
    // Parts are far shorter, since they are from a request head.
    let length = u32::try_from(part.len()).unwrap_or(u32::MAX - 1);
    out.write_all(&length.to_le_bytes())?;
    out.write_all(part)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http::{HeaderMap, HeaderName};

    use super::*;

    fn key(host: &str, target: &str, identity: Option<&str>, fields: &[&[&'static str]]) -> CacheKey {
        key_of(KeyParts { host, route: "r", target, identity }, fields)
    }

    fn key_of(parts: KeyParts<'_>, fields: &[&[&'static str]]) -> CacheKey {
        let names: Vec<_> =
            (0..fields.len()).map(|place| HeaderName::try_from(format!("x-{place}")).unwrap()).collect();
        let mut headers = HeaderMap::new();
        for (name, values) in names.iter().zip(fields) {
            for value in *values {
                headers.append(name, HeaderValue::from_static(value));
            }
        }
        CacheKey::new(parts, names.iter().map(|name| headers.get_all(name)))
    }

    #[test]
    fn every_part_distinguishes_keys() {
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
            key_of(KeyParts { host: "a", route: "s", target: "/b", identity: None }, &[]),
            key_of(KeyParts { host: "a", route: "", target: "/b", identity: None }, &[]),
            key_of(KeyParts { host: "a", route: "r/b", target: "", identity: None }, &[]),
        ];
        for (index, one) in keys.iter().enumerate() {
            for (other_index, other) in keys.iter().enumerate() {
                assert_eq!(one == other, index == other_index, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn keys_of_every_length_differ_in_their_last_byte() {
        let mut seen = HashSet::new();
        for length in 0..3 * INLINE_BYTES {
            for last in ["b", "c", "\0"] {
                let target = format!("/{}{last}", "a".repeat(length));
                let key = key("A", &target, None, &[&["d"]]);
                assert_eq!(key, self::key("a", &target, None, &[&["d"]]));
                let bytes = key.as_bytes().to_vec();
                assert_eq!(bytes.len(), 6 * LENGTH_BYTES + 3 + target.len());
                assert!(bytes.starts_with(b"\x01\0\0\0a") && bytes.ends_with(&ABSENT));
                assert!(seen.insert(bytes));
            }
        }
    }

    #[test]
    fn hosts_are_case_insensitive() {
        assert_eq!(key("Example.ORG:8443", "/b", None, &[]), key("example.org:8443", "/b", None, &[]));
        assert_ne!(key("a", "/B", Some("C"), &[&["D"]]), key("a", "/b", Some("C"), &[&["D"]]));
        assert_ne!(key("a", "/B", Some("C"), &[&["D"]]), key("a", "/B", Some("c"), &[&["D"]]));
    }
}
