//! Entity tags of compressed responses (RFC 9110, section 8.8.3).
//!
//! Each form of a representation has its own tag: `"abc"` becomes `"abc-gzip"`, and `W/"abc"` becomes `W/"abc-gzip"`.
//! The mapping is reversible for every tag: a tag of the backend that itself ends like a mapped one becomes
//! `"abc-gzip-identity"` where its response is not compressed.

use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Encoding;
use crate::syntax::{entity_tag, entity_tags, opaque_tag, single};

/// The end of a tag within its quotes, with the form that it marks; `None` is identity.
const SUFFIXES: [(&[u8], Option<Encoding>); 4] = [
    (b"-zstd", Some(Encoding::Zstd)),
    (b"-br", Some(Encoding::Br)),
    (b"-gzip", Some(Encoding::Gzip)),
    (b"-identity", None),
];

/// The conditions that have entity tags.
const CONDITIONS: [HeaderName; 3] = [IF_MATCH, IF_NONE_MATCH, IF_RANGE];

/// What happens to the `ETag` of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagChange {
    /// It is sent as it is, or there is none.
    Keep,
    /// This one is sent.
    Replace(HeaderValue),
    /// None is sent, since it cannot be mapped.
    Remove,
}

/// The `ETag` of a response with the fields `headers` of the backend, if it is sent in `encoding`; `None` is identity.
pub fn tag_of(headers: &HeaderMap, encoding: Option<Encoding>) -> TagChange {
    // Most tags end differently, and their responses are not compressed.
    if encoding.is_none() && !headers.get(ETAG).is_some_and(|value| split(value.as_bytes()).2) {
        return TagChange::Keep;
    }
    let parsed = single(headers, &ETAG).filter(|value| is_tag(value));
    match (parsed, encoding) {
        (Some(value), encoding) => mapped(value, encoding).map_or(TagChange::Keep, TagChange::Replace),
        (None, Some(_)) if headers.contains_key(ETAG) => TagChange::Remove,
        (None, _) => TagChange::Keep,
    }
}

/// Whether `value` is exactly one entity tag.
fn is_tag(value: &HeaderValue) -> bool {
    entity_tag(value.as_bytes()).is_some_and(|(_, rest)| rest.is_empty())
}

/// The tag of a form of a response with the tag `own` of the backend; `None` if it is the same.
fn mapped(own: &HeaderValue, encoding: Option<Encoding>) -> Option<HeaderValue> {
    let suffix = match encoding {
        None if split(own.as_bytes()).2 => b"-identity",
        None => return None,
        Some(_) => SUFFIXES.iter().find(|(_, form)| *form == encoding).map(|(suffix, _)| *suffix)?,
    };
    let open = own.as_bytes().strip_suffix(b"\"")?;
    HeaderValue::from_bytes(&[open, suffix, b"\""].concat()).ok()
}

/// Splits a tag of a client: the original tag without its last quote, its form, and whether it had a suffix.
fn split(tag: &[u8]) -> (&[u8], Option<Encoding>, bool) {
    let open = tag.strip_suffix(b"\"").unwrap_or(tag);
    let found = SUFFIXES.iter().find_map(|(suffix, form)| Some((open.strip_suffix(*suffix)?, *form)));
    found.map_or((open, None, false), |(open, form)| (open, form, true))
}

/// Whether the tag `found` of a client denotes any form of a response with the tag `own` of the backend, by weak
/// comparison.
pub fn is_matched(found: &[u8], own: &[u8]) -> bool {
    opaque_tag(own).strip_suffix(b"\"") == Some(opaque_tag(split(found).0))
}

/// Restores the tags of the backend in the conditions of `request`, which is forwarded.
///
/// A range with the tag of a compressed form in `If-Range` is removed with its condition: the client has the beginning
/// of the compressed body, and the backend would continue the other one. The condition is false (RFC 9110,
/// section 13.1.5), so the whole response follows. A malformed list is forwarded as it is.
pub fn restore(request: &mut HeaderMap) {
    if !request.keys().any(|name| CONDITIONS.contains(name)) {
        return;
    }
    for name in [IF_MATCH, IF_NONE_MATCH] {
        restore_list(request, &name);
    }
    let Some(value) = single(request, &IF_RANGE).filter(|value| is_tag(value)) else { return };
    match split(value.as_bytes()) {
        (_, Some(_), _) => {
            request.remove(RANGE);
            request.remove(IF_RANGE);
        }
        (open, None, true) => {
            if let Ok(value) = HeaderValue::from_bytes(&[open, b"\""].concat()) {
                request.insert(IF_RANGE, value);
            }
        }
        (_, None, false) => {}
    }
}

fn restore_list(request: &mut HeaderMap, name: &HeaderName) {
    if !request.contains_key(name) {
        return;
    }
    let restored: Vec<_> = request.get_all(name).iter().map(restored_line).collect();
    if restored.iter().all(Option::is_none) {
        return;
    }
    let lines: Vec<_> = request.get_all(name).iter().cloned().collect();
    request.remove(name);
    for (line, restored) in lines.into_iter().zip(restored) {
        request.append(name, restored.unwrap_or(line));
    }
}

/// A list with the tags of the backend; `None` if it has no others, or is malformed.
fn restored_line(line: &HeaderValue) -> Option<HeaderValue> {
    let mut restored = Vec::with_capacity(line.len());
    let mut has_changed = false;
    for tag in entity_tags(line.as_bytes()) {
        let (open, _, had_suffix) = split(tag?);
        has_changed |= had_suffix;
        if !restored.is_empty() {
            restored.extend_from_slice(b", ");
        }
        restored.extend_from_slice(open);
        restored.push(b'"');
    }
    if has_changed { HeaderValue::from_bytes(&restored).ok() } else { None }
}

/// The `ETag` of a `304` about a response with the fields `received` of the backend: that of the form that the client
/// has.
///
/// It is the one in `If-None-Match`, preferably in the `preferred` coding, since a client updates only a stored
/// response with the tag of the `304` (RFC 9111, section 4.3.4). If the list does not name it, it is that of the
/// `preferred` coding. `None` if it is that of the backend, or there is none.
pub fn not_modified_tag(request: &HeaderMap, received: &HeaderMap, preferred: Option<Encoding>) -> Option<HeaderValue> {
    let own = single(received, &ETAG).filter(|value| is_tag(value))?;
    let lines = request.get_all(IF_NONE_MATCH);
    let tags = lines.iter().flat_map(|line| entity_tags(line.as_bytes())).map_while(|tag| tag);
    let mut found = None;
    for tag in tags.filter(|tag| is_matched(tag, own.as_bytes())) {
        let (_, form, _) = split(tag);
        if form == preferred {
            return mapped(own, form);
        }
        found.get_or_insert(form);
    }
    mapped(own, found.unwrap_or(preferred))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> HeaderValue {
        HeaderValue::from_str(text).unwrap()
    }

    fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (name.clone(), value(line))).collect()
    }

    fn forms() -> impl Iterator<Item = Option<Encoding>> {
        Encoding::ALL.into_iter().map(Some).chain([None])
    }

    #[test]
    fn each_form_has_its_own_tag() {
        let tag = |own: &str, form| match tag_of(&headers(&ETAG, &[own]), form) {
            TagChange::Keep => own.to_owned(),
            TagChange::Replace(tag) => tag.to_str().unwrap().to_owned(),
            TagChange::Remove => String::new(),
        };
        for (own, zstd, br, gzip, identity) in [
            ("\"abc\"", "\"abc-zstd\"", "\"abc-br\"", "\"abc-gzip\"", "\"abc\""),
            ("W/\"abc\"", "W/\"abc-zstd\"", "W/\"abc-br\"", "W/\"abc-gzip\"", "W/\"abc\""),
            ("\"\"", "\"-zstd\"", "\"-br\"", "\"-gzip\"", "\"\""),
            ("\"a-gzip\"", "\"a-gzip-zstd\"", "\"a-gzip-br\"", "\"a-gzip-gzip\"", "\"a-gzip-identity\""),
            (
                "\"a-identity\"",
                "\"a-identity-zstd\"",
                "\"a-identity-br\"",
                "\"a-identity-gzip\"",
                "\"a-identity-identity\"",
            ),
            ("malformed", "", "", "", "malformed"),
        ] {
            let tags =
                [Some(Encoding::Zstd), Some(Encoding::Br), Some(Encoding::Gzip), None].map(|form| tag(own, form));
            assert_eq!(tags, [zstd, br, gzip, identity]);
        }
        let twice = headers(&ETAG, &["\"a\"", "\"b\""]);
        assert_eq!((tag_of(&twice, Some(Encoding::Br)), tag_of(&twice, None)), (TagChange::Remove, TagChange::Keep));
        assert_eq!(tag_of(&HeaderMap::new(), Some(Encoding::Br)), TagChange::Keep);
    }

    #[test]
    fn every_form_matches_its_own_tag_and_is_restored_to_it() {
        let tags = ["\"\"", "\"a\"", "W/\"a\"", "\"a-gzip\"", "\"-br\"", "W/\"a-br-identity\"", "\"a,b -\u{e9}\""];
        for own in tags.map(|tag| tag.replace(' ', "")) {
            for form in forms() {
                let own = HeaderValue::from_bytes(own.as_bytes()).unwrap();
                let sent = mapped(&own, form).unwrap_or_else(|| own.clone());
                assert!(is_matched(sent.as_bytes(), own.as_bytes()), "{sent:?}");
                assert_eq!(split(sent.as_bytes()).1, form, "{sent:?}");
                for name in [IF_MATCH, IF_NONE_MATCH] {
                    let mut request = HeaderMap::from_iter([(name.clone(), sent.clone())]);
                    restore(&mut request);
                    assert_eq!(request, HeaderMap::from_iter([(name, own.clone())]));
                }
                for other in [&b"\"b\""[..], b"\"a-gzip-gzip\"", b"\"A\""] {
                    assert!(!is_matched(sent.as_bytes(), other), "{sent:?} {other:?}");
                }
            }
        }
    }

    #[test]
    fn lists_are_restored_and_malformed_ones_forwarded() {
        for (line, restored) in [
            ("\"a-gzip\", W/\"b-br\" ,,\"c\"", "\"a\", W/\"b\", \"c\""),
            ("\"a\",\"b\"", "\"a\",\"b\""),
            ("*", "*"),
            ("\"a-gzip\", x", "\"a-gzip\", x"),
            ("\"a-gzip", "\"a-gzip"),
            ("\"a-gzip\" \"b\"", "\"a-gzip\" \"b\""),
            ("", ""),
        ] {
            let mut request = headers(&IF_MATCH, &[line]);
            restore(&mut request);
            assert_eq!(request, headers(&IF_MATCH, &[restored]), "{line}");
        }
        let mut request = headers(&IF_NONE_MATCH, &["\"a\"", "\"b-br\"", "x"]);
        restore(&mut request);
        assert_eq!(request, headers(&IF_NONE_MATCH, &["\"a\"", "\"b\"", "x"]));
    }

    /// The backend would continue the body that is not compressed.
    #[test]
    fn a_range_of_a_compressed_form_is_not_forwarded() {
        let restored = |condition: &str| {
            let mut request = HeaderMap::from_iter([(RANGE, value("bytes=1-")), (IF_RANGE, value(condition))]);
            restore(&mut request);
            (request.remove(RANGE).is_some(), request.remove(IF_RANGE).map(|value| value.to_str().unwrap().to_owned()))
        };
        for tag in ["\"a-gzip\"", "W/\"a-br\"", "\"a-zstd\""] {
            assert_eq!(restored(tag), (false, None));
        }
        assert_eq!(restored("\"a-gzip-identity\""), (true, Some("\"a-gzip\"".to_owned())));
        for same in ["\"a\"", "Sun, 06 Nov 1994 08:49:37 GMT", "\"a-gzip\", \"b\"", "a-gzip"] {
            assert_eq!(restored(same), (true, Some(same.to_owned())));
        }
    }

    #[test]
    fn a_304_has_the_tag_of_the_form_that_the_client_has() {
        let own = headers(&ETAG, &["\"a\""]);
        for (lines, preferred, expected) in [
            (&["\"a-gzip\""][..], Some(Encoding::Gzip), "\"a-gzip\""),
            (&["\"a-gzip\""], None, "\"a-gzip\""),
            (&["\"a-gzip\""], Some(Encoding::Br), "\"a-gzip\""),
            (&["\"a\""], Some(Encoding::Br), "\"a\""),
            (&["\"b\", \"a\"", "\"a-br\""], Some(Encoding::Br), "\"a-br\""),
            (&["\"b\", \"a-gzip\"", "\"a-br\""], None, "\"a-gzip\""),
            (&["*"], Some(Encoding::Br), "\"a-br\""),
            (&["*"], None, "\"a\""),
            (&[], Some(Encoding::Zstd), "\"a-zstd\""),
        ] {
            let tag = not_modified_tag(&headers(&IF_NONE_MATCH, lines), &own, preferred);
            assert_eq!(tag.unwrap_or_else(|| value("\"a\"")), value(expected), "{lines:?}");
        }
    }
}
