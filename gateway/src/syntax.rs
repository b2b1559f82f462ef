//! Elements of HTTP field values that several modules parse or write.
//!
//! Pure.

use std::net::Ipv4Addr;

use bytes::BufMut;
use http::header::{CONNECTION, TE};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Whether `byte` may be in a token, such as a field name (`tchar`; RFC 9110, section 5.6.2).
pub fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether `byte` is optional whitespace: a space or a tab (`OWS`; RFC 9110, section 5.6.3).
pub fn is_ows(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Whether `byte` is unreserved in URIs, so that it is never escaped (RFC 3986, section 2.3).
pub const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether two names are one field for some servers, which do not distinguish an underscore from a dash.
pub fn is_same_field(one: &HeaderName, other: &HeaderName) -> bool {
    let (one, other) = (one.as_str().bytes(), other.as_str().bytes());
    let dashed = |byte| if byte == b'_' { b'-' } else { byte };
    one.len() == other.len() && one.zip(other).all(|(one, other)| dashed(one) == dashed(other))
}

/// Removes optional whitespace, spaces and tabs, on both sides (`OWS`; RFC 9110, section 5.6.3).
pub fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The media type in a `Content-Type`, without its parameters (RFC 9110, section 8.3.1).
pub fn media_type(value: &HeaderValue) -> &[u8] {
    trim_ows(value.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default())
}

/// The members of the comma-separated list that all fields called `name` form (RFC 9110, sections 5.3 and 5.6.1),
/// without empty ones. For lists without quoted strings only.
pub fn list_members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]> {
    let fields = headers.get_all(name).into_iter();
    let members = fields.flat_map(|field| field.as_bytes().split(|&byte| byte == b','));
    members.map(trim_ows).filter(|member| !member.is_empty())
}

/// The value of the only field called `name`; `None` if there is no such field, or more than one.
pub fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Whether the sender of a message with these fields closes the connection after it (RFC 9112, section 9.6).
pub fn has_connection_close(headers: &HeaderMap) -> bool {
    list_members(headers, &CONNECTION).any(|option| option.eq_ignore_ascii_case(b"close"))
}

/// Splits off the entity tag at the beginning of `text` (RFC 9110, section 8.8.3).
pub fn entity_tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = opaque_tag(text).strip_prefix(b"\"")?;
    let length = inner.iter().position(|byte| *byte == b'"')?;
    let (tag, rest) = text.split_at_checked(text.len() - inner.len() + length + 1)?;
    let is_etagc = |byte: &u8| *byte == 0x21 || (0x23..=0x7e).contains(byte) || *byte >= 0x80;
    inner.get(..length)?.iter().all(is_etagc).then_some((tag, rest))
}

/// An entity tag without the weakness prefix.
pub fn opaque_tag(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The entity tags of a list (RFC 9110, section 13.1.2), without empty members. After a malformed member, which is
/// `None`, the list ends.
pub fn entity_tags(list: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let text = trim_start(rest?, b", \t");
        if text.is_empty() {
            return None;
        }
        let split = entity_tag(text).and_then(|(tag, after)| {
            let after = trim_start(after, b" \t");
            (after.is_empty() || after.starts_with(b",")).then_some((tag, after))
        });
        rest = split.map(|(_, after)| after);
        Some(split.map(|(tag, _)| tag))
    })
}

/// Removes bytes that are in `of` from the beginning of `text`.
pub fn trim_start<'a>(text: &'a [u8], of: &[u8]) -> &'a [u8] {
    let start = text.iter().position(|byte| !of.contains(byte)).unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

/// Whether the sender of a request with these fields requests trailers (RFC 9110, section 10.1.4).
pub fn accepts_trailers(headers: &HeaderMap) -> bool {
    list_members(headers, &TE).any(|member| member.eq_ignore_ascii_case(b"trailers"))
}

/// Appends `address` in dotted decimal form. Most clients have such an address, and `Display` takes longer than the
/// rest of the field.
pub fn put_ipv4(out: &mut impl BufMut, address: Ipv4Addr) {
    for (place, octet) in address.octets().into_iter().enumerate() {
        if place > 0 {
            out.put_u8(b'.');
        }
        if octet >= 100 {
            out.put_u8(b'0' + octet / 100);
        }
        if octet >= 10 {
            out.put_u8(b'0' + octet / 10 % 10);
        }
        out.put_u8(b'0' + octet % 10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, values: &[&str]) -> HeaderMap {
        let fields = values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap()));
        fields.collect()
    }

    #[test]
    fn only_token_characters_are_in_a_token() {
        for byte in 0..=u8::MAX {
            let is_accepted_in_names = byte != b'"' && HeaderName::from_bytes(&[byte]).is_ok();
            assert_eq!(is_tchar(byte), is_accepted_in_names, "{byte}");
        }
    }

    #[test]
    fn spaces_and_tabs_are_trimmed_and_nothing_else() {
        for (value, trimmed) in [("", ""), (" \t", ""), ("a", "a"), (" \ta b\t ", "a b"), ("\r a \n", "\r a \n")] {
            assert_eq!(trim_ows(value.as_bytes()), trimmed.as_bytes(), "{value:?}");
        }
    }

    #[test]
    fn fields_of_the_same_name_form_one_list() {
        let headers = headers(&CONNECTION, &["a, b ,", "", ",\tc", "d e"]);
        let members: Vec<_> = list_members(&headers, &CONNECTION).collect();
        assert_eq!(members, [&b"a"[..], b"b", b"c", b"d e"]);
        let reversed: Vec<_> = list_members(&headers, &CONNECTION).rev().collect();
        assert_eq!(reversed, [&b"d e"[..], b"c", b"b", b"a"]);
    }

    #[test]
    fn a_list_of_entity_tags_ends_at_a_malformed_member() {
        let tags = |list: &'static str| entity_tags(list.as_bytes()).collect::<Vec<_>>();
        assert_eq!(tags(", \"a,b\" ,,W/\"\"\t,"), [Some(&b"\"a,b\""[..]), Some(b"W/\"\"")]);
        assert_eq!(tags(" ,\t"), []);
        for list in ["\"a\", x, \"b\"", "\"a\", \"b", "\"a\",*"] {
            assert_eq!(tags(list), [Some(&b"\"a\""[..]), None], "{list}");
        }
        assert_eq!(tags("\"a\" \"b\""), [None]);
    }

    #[test]
    fn a_repeated_field_is_not_single() {
        assert_eq!(single(&headers(&CONNECTION, &["a"]), &CONNECTION).unwrap(), "a");
        for values in [&[][..], &["a", "a"]] {
            assert!(single(&headers(&CONNECTION, values), &CONNECTION).is_none());
        }
    }

    #[test]
    fn close_is_one_of_the_connection_options() {
        let closes = |values: &[&str]| has_connection_close(&headers(&CONNECTION, values));
        for values in [&["close"][..], &["CLOSE"], &["keep-alive, close"], &[" x ,\tClose ,"], &["keep-alive", "close"]]
        {
            assert!(closes(values), "{values:?}");
        }
        for values in [
            &[][..],
            &["keep-alive"],
            &["closed"],
            &["x-close"],
            &["close;x=1"],
            &["clo", "se"],
            &[","],
            &["\"close\""],
        ] {
            assert!(!closes(values), "{values:?}");
        }
    }

    #[test]
    fn ipv4_addresses_are_written_like_display() {
        for address in [[0, 9, 10, 99], [100, 101, 199, 200], [255, 255, 255, 255], [127, 0, 0, 1]] {
            let address = Ipv4Addr::from(address);
            let mut out = Vec::new();
            put_ipv4(&mut out, address);
            assert_eq!(out, address.to_string().into_bytes());
        }
    }
}
