//! `tracestate`: the lists that each tracing system adds to (W3C Trace Context, section 3.3).

use http::header::{HeaderMap, HeaderValue};

use crate::context::TRACESTATE;

/// The maximum number of members (section 3.3.1.1).
const MAX_MEMBERS: usize = 32;
/// The maximum length of a key and of a value (sections 3.3.1.3.1 and 3.3.1.3.2).
const MAX_LENGTH: usize = 256;

/// Whether the `tracestate` fields of a request are valid together, or absent. Invalid ones are not passed on.
pub fn is_valid_state(headers: &HeaderMap) -> bool {
    is_valid(headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes))
}

fn is_valid<'a>(fields: impl Iterator<Item = &'a [u8]>) -> bool {
    let members = fields.flat_map(|field| field.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    let mut keys: Vec<&[u8]> = Vec::new();
    for member in members.filter(|member| !member.is_empty()) {
        let Some(equals) = member.iter().position(|&byte| byte == b'=') else { return false };
        let Some((key, [_, value @ ..])) = member.split_at_checked(equals) else { return false };
        if keys.len() == MAX_MEMBERS || keys.contains(&key) || !is_key(key) || !is_value(value) {
            return false;
        }
        keys.push(key);
    }
    true
}

fn is_key(key: &[u8]) -> bool {
    let is_inner = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@')
    };
    let starts = key.first().is_some_and(|&first| first.is_ascii_lowercase() || first.is_ascii_digit());
    starts && key.len() <= MAX_LENGTH && key.iter().all(|&byte| is_inner(byte))
}

fn is_value(value: &[u8]) -> bool {
    let is_character = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b',' && byte != b'=';
    !value.is_empty() && value.len() <= MAX_LENGTH && value.iter().all(|&byte| is_character(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_lists() {
        let longest = format!("{}={}", "k".repeat(256), "v".repeat(256));
        let most = (0..32).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        for text in ["", "a=1", "a=1, b=2", "a=1,,b=2", " a=1 \t, b=2", "1@vendor=x y", "a_b-c*d/e=!~", &longest, &most]
        {
            assert!(is_valid([text.as_bytes()].into_iter()), "{text}");
        }
        assert!(is_valid([b"a=1".as_slice(), b"b=2"].into_iter()));
        assert!(is_valid_state(&HeaderMap::new()));
    }

    #[test]
    fn invalid_lists() {
        let key = format!("{}=v", "k".repeat(257));
        let value = format!("k={}", "v".repeat(257));
        let many = (0..33).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        for text in
            ["a", "=1", "a=", "A=1", "-a=1", "a=b=c", "a=1,a=2", "a b=1", "a=\u{e9}", "a=\t1", &key, &value, &many]
        {
            assert!(!is_valid([text.as_bytes()].into_iter()), "{text}");
        }
        assert!(!is_valid([b"a=1".as_slice(), b"a=2"].into_iter()));
    }
}
