//! Validators and conditional requests (RFC 9110, section 13): those of clients and those that revalidate stored
//! responses.

use std::time::SystemTime;

use http::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::date;
use crate::compress;
use crate::syntax::{entity_tag, entity_tags, opaque_tag, single, trim_ows};

/// An entity tag (RFC 9110, section 8.8.3) as received: `"x"` or `W/"x"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag(HeaderValue);

impl EntityTag {
    /// Parses an entity tag; `None` if `value` is not exactly one.
    pub fn parse(value: &HeaderValue) -> Option<Self> {
        let (_, rest) = entity_tag(value.as_bytes())?;
        rest.is_empty().then(|| Self(value.clone()))
    }

    /// The entity tag of a response; `None` if it has none or several.
    fn of(headers: &HeaderMap) -> Option<Self> {
        single(headers, &ETAG).and_then(Self::parse)
    }

    /// Whether it is a weak validator.
    pub fn is_weak(&self) -> bool {
        self.0.as_bytes().starts_with(b"W/")
    }

    /// Strong comparison (RFC 9110, section 8.8.3.2).
    pub fn strongly_equals(&self, other: &Self) -> bool {
        !self.is_weak() && self == other
    }

    /// Weak comparison (RFC 9110, section 8.8.3.2).
    pub fn weakly_equals(&self, other: &Self) -> bool {
        opaque_tag(self.0.as_bytes()) == opaque_tag(other.0.as_bytes())
    }
}

/// The result of a conditional request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionalResult {
    /// The complete response.
    Full,
    /// `304`: the client already has the response (RFC 9110, section 15.4.5).
    NotModified,
}

/// The validators of a stored response. They are parsed once, when it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// Whether the response has a success status. Otherwise conditions are ignored (RFC 9110, section 13.2.1).
    is_success: bool,
    /// Whether clients may have compressed forms of the response, each with its own tag.
    has_forms: bool,
    etag: Option<EntityTag>,
    /// As received, since it is sent back in this form, and parsed.
    last_modified: Option<(HeaderValue, SystemTime)>,
}

impl Validators {
    /// The validators of a response. Malformed or repeated ones are ignored.
    pub fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        Self::of_forms(status, headers, false)
    }

    /// The validators of a response of which clients may have compressed forms, if `has_forms`.
    pub fn of_forms(status: StatusCode, headers: &HeaderMap, has_forms: bool) -> Self {
        if !status.is_success() {
            return Self::default();
        }
        let modified = date(headers, &LAST_MODIFIED);
        let last_modified = single(headers, &LAST_MODIFIED).cloned().zip(modified);
        Self { is_success: true, has_forms, etag: EntityTag::of(headers), last_modified }
    }

    /// Whether the response can be revalidated.
    pub fn can_revalidate(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }

    /// Makes `request` conditional on this response (RFC 9111, section 4.3.1). Existing conditions are replaced.
    pub fn add_conditions(&self, request: &mut HeaderMap) {
        request.remove(IF_NONE_MATCH);
        request.remove(IF_MODIFIED_SINCE);
        if let Some(etag) = &self.etag {
            request.insert(IF_NONE_MATCH, etag.0.clone());
        }
        if let Some((value, _)) = &self.last_modified {
            request.insert(IF_MODIFIED_SINCE, value.clone());
        }
    }

    /// Evaluates the conditions in the fields of a GET or HEAD `request` (RFC 9110, section 13.2.2; RFC 9111,
    /// section 4.3.2).
    ///
    /// Malformed lists and dates count as conditions that do not match. A response without `Last-Modified` is not
    /// compared by `Date`, since it may change within one second.
    pub fn evaluate(&self, request: &HeaderMap) -> ConditionalResult {
        let is_known = if !self.is_success {
            false
        } else if request.contains_key(IF_NONE_MATCH) {
            // `If-Modified-Since` is ignored then (section 13.1.3).
            self.is_matched_by(request)
        } else {
            let since = date(request, &IF_MODIFIED_SINCE);
            since.zip(self.last_modified.as_ref()).is_some_and(|(since, (_, modified))| *modified <= since)
        };
        if is_known { ConditionalResult::NotModified } else { ConditionalResult::Full }
    }

    /// Whether `If-None-Match` matches this response by weak comparison (RFC 9110, section 13.1.2).
    fn is_matched_by(&self, request: &HeaderMap) -> bool {
        if single(request, &IF_NONE_MATCH).is_some_and(|value| trim_ows(value.as_bytes()) == b"*") {
            return true;
        }
        let Some(own) = self.etag.as_ref().map(|etag| etag.0.as_bytes()) else { return false };
        let mut is_match = false;
        for line in request.get_all(IF_NONE_MATCH) {
            for tag in entity_tags(line.as_bytes()) {
                let Some(found) = tag else { return false };
                is_match |= match self.has_forms {
                    true => compress::is_matched(found, own),
                    false => opaque_tag(found) == opaque_tag(own),
                };
            }
        }
        is_match
    }

    /// Whether a `304` with the validators `other` is about this response (RFC 9111, section 4.3.4): by its strong tag,
    /// otherwise by whichever validator it has. A `304` without validators answers a request about this response, and
    /// matches.
    pub(super) fn matches_not_modified(&self, other: &Self) -> bool {
        match (&other.etag, &other.last_modified) {
            (Some(tag), _) if !tag.is_weak() => self.etag.as_ref().is_some_and(|own| own.strongly_equals(tag)),
            (Some(tag), _) => self.etag.as_ref().is_some_and(|own| own.weakly_equals(tag)),
            (None, Some((_, modified))) => self.last_modified.as_ref().is_some_and(|(_, own)| own == modified),
            (None, None) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::headers;
    use super::*;

    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn etag(text: &str) -> Option<EntityTag> {
        EntityTag::parse(&text.parse().unwrap())
    }

    fn validators(fields: &[(&'static str, &str)]) -> Validators {
        Validators::of(StatusCode::OK, &headers(fields))
    }

    fn evaluate(stored: &Validators, request: &[(&'static str, &str)]) -> ConditionalResult {
        stored.evaluate(&headers(request))
    }

    /// RFC 9110, section 8.8.3.
    #[test]
    fn an_entity_tag_is_quoted() {
        for text in ["\"\"", "\"xyzzy\"", "W/\"xyzzy\"", "\"a,b\"", "\"\\\"", "\"!#~\"", "\"\u{e9}\""] {
            assert!(etag(text).is_some(), "{text}");
        }
        for text in [
            "",
            "x",
            "\"x",
            "x\"",
            "w/\"x\"",
            "W\"x\"",
            "W/x",
            "W/W/\"x\"",
            "\"x\" ",
            "\"a\"b\"",
            "\"a b\"",
            "\"\t\"",
            "*",
            "\"",
            "W/\"",
        ] {
            assert!(etag(text).is_none(), "{text}");
        }
    }

    /// RFC 9110, section 8.8.3.2: the table.
    #[test]
    fn tags_compare_strongly_and_weakly() {
        for (one, other, strongly, weakly) in [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
            ("\"1\"", "\"2\"", false, false),
        ] {
            for (one, other) in [(one, other), (other, one)] {
                let (one, other) = (etag(one).unwrap(), etag(other).unwrap());
                assert_eq!((one.strongly_equals(&other), one.weakly_equals(&other)), (strongly, weakly));
            }
        }
    }

    /// RFC 9110, section 13.1.2.
    #[test]
    fn a_list_matches_a_tag() {
        let stored = validators(&[("etag", "\"x\"")]);
        let weak = validators(&[("etag", "W/\"x\"")]);
        for list in
            ["*", "\"x\"", "W/\"x\"", "\"y\", \"x\"", "\"y\",,W/\"x\" ,", ",\"x\"", "\"a,b\", \"x\"", "\"x\"\t,\"y\""]
        {
            assert_eq!(evaluate(&stored, &[("if-none-match", list)]), ConditionalResult::NotModified, "{list}");
            assert_eq!(evaluate(&weak, &[("if-none-match", list)]), ConditionalResult::NotModified, "{list}");
        }
        for list in ["\"y\"", "\"X\"", "\"xx\"", "\"y\", W/\"z\"", "", ",", "\"a, \"", "\"y,x\""] {
            assert_eq!(evaluate(&stored, &[("if-none-match", list)]), ConditionalResult::Full, "{list}");
        }
        let two = [("if-none-match", "\"y\""), ("if-none-match", "\"x\"")];
        assert_eq!(evaluate(&stored, &two), ConditionalResult::NotModified);
        assert_eq!(evaluate(&validators(&[]), &two), ConditionalResult::Full);
    }

    /// A malformed list is ignored completely.
    #[test]
    fn a_malformed_list_does_not_match() {
        let stored = validators(&[("etag", "\"x\"")]);
        for list in [
            "x",
            "\"x",
            "\"x\" \"y\"",
            "\"x\"; q=1",
            "\"x\", y",
            "\"x\", *",
            "*, \"x\"",
            "**",
            "w/\"x\"",
            "\"x\"y",
            "\"x\", \"a b\"",
        ] {
            assert_eq!(evaluate(&stored, &[("if-none-match", list)]), ConditionalResult::Full, "{list}");
        }
        assert_eq!(evaluate(&stored, &[("if-none-match", "\"x\""), ("if-none-match", "*")]), ConditionalResult::Full);
    }

    /// RFC 9110, section 13.1.2: "if the origin server has a current representation".
    #[test]
    fn an_asterisk_matches_every_response() {
        assert_eq!(evaluate(&validators(&[]), &[("if-none-match", "*")]), ConditionalResult::NotModified);
    }

    /// RFC 9110, section 13.1.3.
    #[test]
    fn a_date_matches_responses_not_modified_since() {
        let stored = validators(&[("last-modified", MODIFIED)]);
        let since = |date| evaluate(&stored, &[("if-modified-since", date)]);
        assert_eq!(
            [BEFORE, MODIFIED, AFTER].map(since),
            [ConditionalResult::Full, ConditionalResult::NotModified, ConditionalResult::NotModified]
        );
        assert_eq!(since("Sunday, 06-Nov-94 08:49:37 GMT"), ConditionalResult::NotModified);
        for bad in ["", "now", "784111778", "Sun, 06 Nov 1994 08:49:37 UTC"] {
            assert_eq!(since(bad), ConditionalResult::Full, "{bad}");
        }
        let twice = [("if-modified-since", AFTER), ("if-modified-since", AFTER)];
        assert_eq!(evaluate(&stored, &twice), ConditionalResult::Full);
        assert_eq!(
            evaluate(&validators(&[("etag", "\"x\"")]), &[("if-modified-since", AFTER)]),
            ConditionalResult::Full
        );
        assert_eq!(
            evaluate(&validators(&[("date", MODIFIED)]), &[("if-modified-since", AFTER)]),
            ConditionalResult::Full
        );
    }

    /// RFC 9110, sections 13.1.3 and 13.2.2.
    #[test]
    fn a_date_is_ignored_beside_a_list() {
        let stored = validators(&[("etag", "\"x\""), ("last-modified", MODIFIED)]);
        for list in ["\"y\"", "", "junk"] {
            assert_eq!(
                evaluate(&stored, &[("if-none-match", list), ("if-modified-since", AFTER)]),
                ConditionalResult::Full
            );
        }
        let named = [("if-none-match", "\"x\""), ("if-modified-since", BEFORE)];
        assert_eq!(evaluate(&stored, &named), ConditionalResult::NotModified);
    }

    /// RFC 9110, section 13.2.1.
    #[test]
    fn conditions_on_errors_are_ignored() {
        let stored = Validators::of(StatusCode::NOT_FOUND, &headers(&[("etag", "\"x\""), ("last-modified", MODIFIED)]));
        for request in [("if-none-match", "*"), ("if-none-match", "\"x\""), ("if-modified-since", AFTER)] {
            assert_eq!(evaluate(&stored, &[request]), ConditionalResult::Full);
        }
        assert!(!stored.can_revalidate());
        assert_eq!(evaluate(&validators(&[("etag", "\"x\"")]), &[]), ConditionalResult::Full);
    }

    /// RFC 9111, section 4.3.1.
    #[test]
    fn a_revalidation_request_has_the_validators_as_received() {
        let conditional = |stored: &Validators| {
            let mut request =
                headers(&[("accept", "a"), ("if-none-match", "\"theirs\""), ("if-modified-since", AFTER)]);
            stored.add_conditions(&mut request);
            request
        };
        let both = validators(&[("etag", "W/\"x\""), ("last-modified", MODIFIED)]);
        let expected = [("accept", "a"), ("if-none-match", "W/\"x\""), ("if-modified-since", MODIFIED)];
        assert_eq!(conditional(&both), headers(&expected));
        assert!(both.can_revalidate());
        for fields in [
            &[][..],
            &[("etag", "x")],
            &[("etag", "\"x\""), ("etag", "\"y\"")],
            &[("last-modified", "x")],
            &[("last-modified", MODIFIED), ("last-modified", MODIFIED)],
        ] {
            assert_eq!(conditional(&validators(fields)), headers(&[("accept", "a")]), "{fields:?}");
            assert!(!validators(fields).can_revalidate(), "{fields:?}");
        }
    }
}
