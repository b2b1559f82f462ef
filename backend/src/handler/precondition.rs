//! The preconditions of a write (RFC 9110, section 13.1).

use http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};

use crate::model::{Precondition, Versions};
use crate::respond::HttpError;

/// The maximum number of entity tags in a request.
const TAGS: usize = 16;

/// Parses `If-Match` and `If-None-Match`.
///
/// # Errors
/// `400` if one is malformed or has too many tags: to ignore it would overwrite what the client wants to protect.
pub(super) fn parse(headers: &HeaderMap) -> Result<Precondition, HttpError> {
    Ok(Precondition {
        // A weak tag never matches in the strong comparison (RFC 9110, section 8.8.3.2).
        one_of: versions(headers, &IF_MATCH, |weak| !weak)?,
        none_of: versions(headers, &IF_NONE_MATCH, |_| true)?,
    })
}

/// `412`: the stored holodule does not meet the preconditions.
pub(super) fn failed() -> HttpError {
    HttpError::new(StatusCode::PRECONDITION_FAILED, "the stored holodule does not meet If-Match or If-None-Match")
}

/// The versions of a header; `None` without the header. `counts` returns whether a tag can match, given whether it is
/// weak.
fn versions(
    headers: &HeaderMap,
    name: &HeaderName,
    counts: impl Fn(bool) -> bool,
) -> Result<Option<Versions>, HttpError> {
    let malformed = || HttpError::bad_request(format!("{name} is neither * nor at most {TAGS} entity tags"));
    let mut lines = headers.get_all(name).iter().peekable();
    if lines.peek().is_none() {
        return Ok(None);
    }
    let lines: Vec<&str> = lines.map(|line| line.to_str()).collect::<Result<_, _>>().map_err(|_| malformed())?;
    let list = lines.join(",");
    if list.trim() == "*" {
        return Ok(Some(Versions::Any));
    }
    let (mut tags, mut number, mut rest) = (Vec::new(), 0, list.as_str());
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        if rest.is_empty() {
            break;
        }
        let opaque = rest.strip_prefix("W/").unwrap_or(rest);
        let end = opaque.strip_prefix('"').and_then(|inner| inner.find('"')).ok_or_else(malformed)?;
        let (tag, after) = opaque.split_at_checked(end + 2).ok_or_else(malformed)?;
        let after = after.trim_start_matches([' ', '\t']);
        number += 1;
        if number > TAGS || !(after.is_empty() || after.starts_with(',')) {
            return Err(malformed());
        }
        if counts(opaque.len() < rest.len()) {
            tags.push(tag.to_owned());
        }
        rest = after;
    }
    if number == 0 { Err(malformed()) } else { Ok(Some(Versions::Tagged(tags))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(lines: &[(&'static str, &'static str)]) -> Result<Precondition, HttpError> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        parse(&headers)
    }

    #[test]
    fn both_headers_are_lists_of_tags_or_any() {
        let tagged = |tags: &[&str]| Some(Versions::Tagged(tags.iter().map(|tag| (*tag).to_owned()).collect()));
        assert!(parsed(&[]).unwrap().is_none());
        assert_eq!(parsed(&[("if-none-match", " * ")]).unwrap().none_of, Some(Versions::Any));
        let both = parsed(&[("if-match", "\"a\""), ("if-match", "\"b,c\" ,W/\"d\"")]).unwrap();
        assert_eq!((both.one_of, both.none_of), (tagged(&["\"a\"", "\"b,c\""]), None), "a weak tag is equal to none");
        assert_eq!(parsed(&[("if-none-match", "W/\"d\"")]).unwrap().none_of, tagged(&["\"d\""]));
    }

    #[test]
    fn a_malformed_precondition_is_refused() {
        let many = "\"a\",".repeat(TAGS + 1);
        for value in ["", ",", "a", "\"a", "\"a\" b", "\"a\"\"b\"", "*, \"a\"", "w/\"a\"", many.leak() as &str] {
            for name in ["if-match", "if-none-match"] {
                assert_eq!(parsed(&[(name, value)]).unwrap_err().status, StatusCode::BAD_REQUEST, "{name}: {value}");
            }
        }
    }
}
