//! What an answer is kept under: everything that the request for it may tell the backend.

use std::sync::Arc;

use http::HeaderValue;
use http::header::GetAll;

/// The key of an answer (RFC 9111, section 2): the host, the target, the identity where the answer
/// is one user's own, and the fields that the route declares. Two requests of one key are the
/// same to the backend, since a fill sends nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Each part behind its length, so that no two lists of parts make one key.
    bytes: Arc<[u8]>,
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
    pub fn new<'a>(parts: Parts<'_>, fields: impl Iterator<Item = GetAll<'a, HeaderValue>>) -> Self {
        let Parts { host, target, identity } = parts;
        let mut bytes = Vec::with_capacity(host.len() + target.len() + identity.map_or(0, str::len) + 3 * LENGTH_BYTES);
        // RFC 9110, section 4.2.3: a host is the same in any case.
        let lower = host.bytes().map(|byte| byte.to_ascii_lowercase());
        push(&mut bytes, host.len(), lower);
        push(&mut bytes, target.len(), target.bytes());
        match identity {
            Some(identity) => push(&mut bytes, identity.len(), identity.bytes()),
            None => bytes.extend_from_slice(&ABSENT.to_le_bytes()),
        }
        for values in fields {
            for value in values {
                push(&mut bytes, value.len(), value.as_bytes().iter().copied());
            }
            bytes.extend_from_slice(&ABSENT.to_le_bytes());
        }
        Self { bytes: bytes.into() }
    }

    /// How much memory it takes, in bytes.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }
}

const LENGTH_BYTES: usize = size_of::<u32>();

/// A part that is not there, which is not an empty one; and the end of a field's values.
const ABSENT: u32 = u32::MAX;

fn push(bytes: &mut Vec<u8>, length: usize, part: impl Iterator<Item = u8>) {
    // What comes from a request's head is far shorter.
    let length = u32::try_from(length).unwrap_or(ABSENT - 1);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend(part);
}

#[cfg(test)]
mod tests {
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
    fn a_host_is_the_same_in_any_case() {
        assert_eq!(key("Example.ORG:8443", "/b", None, &[]), key("example.org:8443", "/b", None, &[]));
    }
}
