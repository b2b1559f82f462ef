//! Whether what somebody has is still what there is: conditional requests (RFC 9110, section 13),
//! those of clients and our own.

use std::time::SystemTime;

use http::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{date, single};

/// An entity tag (RFC 9110, section 8.8.3) as it was written: `"x"` or `W/"x"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag(HeaderValue);

impl EntityTag {
    /// Reads the one tag that `value` is; `None` where it is none.
    pub fn parse(value: &HeaderValue) -> Option<Self> {
        let (_, rest) = tag(value.as_bytes())?;
        rest.is_empty().then(|| Self(value.clone()))
    }

    /// The tag of an answer; `None` where it has none or several.
    fn of(headers: &HeaderMap) -> Option<Self> {
        single(headers, &ETAG).and_then(Self::parse)
    }

    /// Whether it only says that two answers serve the same purpose, not that they are the same.
    pub fn is_weak(&self) -> bool {
        self.0.as_bytes().starts_with(b"W/")
    }

    /// Whether both are strong and alike (RFC 9110, section 8.8.3.2).
    pub fn strongly_equals(&self, other: &Self) -> bool {
        !self.is_weak() && self == other
    }

    /// Whether both are alike, weak or not (RFC 9110, section 8.8.3.2).
    pub fn weakly_equals(&self, other: &Self) -> bool {
        opaque(self.0.as_bytes()) == opaque(other.0.as_bytes())
    }
}

/// What a conditional request is to be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole stored answer.
    Whole,
    /// `304`: the client has it (RFC 9110, section 15.4.5).
    NotModified,
}

/// By what a stored answer is told from others: read once, when it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// Whether there is a representation. Conditions are about one, and nobody's condition is
    /// heeded where the answer without it were no success (RFC 9110, section 13.2.1).
    is_success: bool,
    etag: Option<EntityTag>,
    /// As it was written, which is how it is asked about.
    last_modified: Option<(HeaderValue, SystemTime)>,
}

impl Validators {
    /// Those of an answer. One that is malformed or stated twice is none.
    pub fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        if !status.is_success() {
            return Self::default();
        }
        let modified = date(headers, &LAST_MODIFIED);
        let last_modified = single(headers, &LAST_MODIFIED).cloned().zip(modified);
        Self { is_success: true, etag: EntityTag::of(headers), last_modified }
    }

    /// Whether the backend can be asked if the answer still holds.
    pub fn can_revalidate(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }

    /// Makes a request ask the backend whether the answer still holds (RFC 9111, section 4.3.1),
    /// in place of what the request asked itself.
    pub fn ask(&self, request: &mut HeaderMap) {
        request.remove(IF_NONE_MATCH);
        request.remove(IF_MODIFIED_SINCE);
        if let Some(etag) = &self.etag {
            request.insert(IF_NONE_MATCH, etag.0.clone());
        }
        if let Some((value, _)) = &self.last_modified {
            request.insert(IF_MODIFIED_SINCE, value.clone());
        }
    }

    /// What a GET or HEAD with the conditions in `request` is to be answered with (RFC 9110,
    /// section 13.2.2; RFC 9111, section 4.3.2).
    ///
    /// A list of tags that breaks the grammar, and a date that is none, are no reason to keep an
    /// answer back. An answer without `Last-Modified` is not compared by its `Date`: within one
    /// second it may have changed.
    pub fn evaluate(&self, request: &HeaderMap) -> Verdict {
        let is_known = if !self.is_success {
            false
        } else if request.contains_key(IF_NONE_MATCH) {
            // Then the other condition does not count (section 13.1.3).
            self.is_named_in(request)
        } else {
            let since = date(request, &IF_MODIFIED_SINCE);
            since.zip(self.last_modified.as_ref()).is_some_and(|(since, (_, modified))| *modified <= since)
        };
        if is_known { Verdict::NotModified } else { Verdict::Whole }
    }

    /// Whether `If-None-Match` names this answer (RFC 9110, section 13.1.2), by weak comparison.
    fn is_named_in(&self, request: &HeaderMap) -> bool {
        if single(request, &IF_NONE_MATCH).is_some_and(|value| value.as_bytes().trim_ascii() == b"*") {
            return true;
        }
        let Some(own) = self.etag.as_ref().map(|etag| opaque(etag.0.as_bytes())) else { return false };
        let mut is_named = false;
        for line in request.get_all(IF_NONE_MATCH) {
            let mut rest = line.as_bytes();
            loop {
                let start = rest.iter().position(|byte| !b", \t".contains(byte)).unwrap_or(rest.len());
                rest = rest.get(start..).unwrap_or_default();
                if rest.is_empty() {
                    break;
                }
                let Some((found, after)) = tag(rest) else { return false };
                let after = after.trim_ascii_start();
                if !after.is_empty() && !after.starts_with(b",") {
                    return false;
                }
                is_named |= opaque(found) == own;
                rest = after;
            }
        }
        is_named
    }

    /// Whether a `304` with the validators of `other` speaks of this answer (RFC 9111,
    /// section 4.3.4): by a strong tag if it has one, else by what it has. One that has none was
    /// given to a question about this answer alone, and speaks of it.
    pub(super) fn are_confirmed_by(&self, other: &Self) -> bool {
        match (&other.etag, &other.last_modified) {
            (Some(tag), _) if !tag.is_weak() => self.etag.as_ref().is_some_and(|own| own.strongly_equals(tag)),
            (Some(tag), _) => self.etag.as_ref().is_some_and(|own| own.weakly_equals(tag)),
            (None, Some((_, modified))) => self.last_modified.as_ref().is_some_and(|(_, own)| own == modified),
            (None, None) => true,
        }
    }
}

/// The entity tag at the beginning of `text`, and the rest.
fn tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = opaque(text).strip_prefix(b"\"")?;
    let length = inner.iter().position(|byte| *byte == b'"')?;
    let (tag, rest) = text.split_at_checked(text.len() - inner.len() + length + 1)?;
    let is_etagc = |byte: &u8| *byte == 0x21 || (0x23..=0x7e).contains(byte) || *byte >= 0x80;
    inner.get(..length)?.iter().all(is_etagc).then_some((tag, rest))
}

/// An entity tag without what marks it as weak.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
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

    fn verdict(stored: &Validators, request: &[(&'static str, &str)]) -> Verdict {
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
    fn a_list_names_a_tag() {
        let stored = validators(&[("etag", "\"x\"")]);
        let weak = validators(&[("etag", "W/\"x\"")]);
        for list in
            ["*", "\"x\"", "W/\"x\"", "\"y\", \"x\"", "\"y\",,W/\"x\" ,", ",\"x\"", "\"a,b\", \"x\"", "\"x\"\t,\"y\""]
        {
            assert_eq!(verdict(&stored, &[("if-none-match", list)]), Verdict::NotModified, "{list}");
            assert_eq!(verdict(&weak, &[("if-none-match", list)]), Verdict::NotModified, "{list}");
        }
        for list in ["\"y\"", "\"X\"", "\"xx\"", "\"y\", W/\"z\"", "", ",", "\"a, \"", "\"y,x\""] {
            assert_eq!(verdict(&stored, &[("if-none-match", list)]), Verdict::Whole, "{list}");
        }
        let two = [("if-none-match", "\"y\""), ("if-none-match", "\"x\"")];
        assert_eq!(verdict(&stored, &two), Verdict::NotModified);
        assert_eq!(verdict(&validators(&[]), &two), Verdict::Whole);
    }

    /// A list that breaks the grammar is not believed, not even the part that can be read.
    #[test]
    fn a_malformed_list_gets_the_whole_answer() {
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
            assert_eq!(verdict(&stored, &[("if-none-match", list)]), Verdict::Whole, "{list}");
        }
        assert_eq!(verdict(&stored, &[("if-none-match", "\"x\""), ("if-none-match", "*")]), Verdict::Whole);
    }

    /// RFC 9110, section 13.1.2: "if the origin server has a current representation".
    #[test]
    fn anything_at_all_is_known_to_whoever_says_so() {
        assert_eq!(verdict(&validators(&[]), &[("if-none-match", "*")]), Verdict::NotModified);
    }

    /// RFC 9110, section 13.1.3.
    #[test]
    fn a_date_tells_what_a_client_has() {
        let stored = validators(&[("last-modified", MODIFIED)]);
        let since = |date| verdict(&stored, &[("if-modified-since", date)]);
        assert_eq!([BEFORE, MODIFIED, AFTER].map(since), [Verdict::Whole, Verdict::NotModified, Verdict::NotModified]);
        assert_eq!(since("Sunday, 06-Nov-94 08:49:37 GMT"), Verdict::NotModified);
        for bad in ["", "now", "784111778", "Sun, 06 Nov 1994 08:49:37 UTC"] {
            assert_eq!(since(bad), Verdict::Whole, "{bad}");
        }
        let twice = [("if-modified-since", AFTER), ("if-modified-since", AFTER)];
        assert_eq!(verdict(&stored, &twice), Verdict::Whole);
        assert_eq!(verdict(&validators(&[("etag", "\"x\"")]), &[("if-modified-since", AFTER)]), Verdict::Whole);
        assert_eq!(verdict(&validators(&[("date", MODIFIED)]), &[("if-modified-since", AFTER)]), Verdict::Whole);
    }

    /// RFC 9110, sections 13.1.3 and 13.2.2.
    #[test]
    fn a_date_does_not_count_beside_a_list() {
        let stored = validators(&[("etag", "\"x\""), ("last-modified", MODIFIED)]);
        for list in ["\"y\"", "", "junk"] {
            assert_eq!(verdict(&stored, &[("if-none-match", list), ("if-modified-since", AFTER)]), Verdict::Whole);
        }
        let named = [("if-none-match", "\"x\""), ("if-modified-since", BEFORE)];
        assert_eq!(verdict(&stored, &named), Verdict::NotModified);
    }

    /// RFC 9110, section 13.2.1.
    #[test]
    fn conditions_on_what_is_no_success_are_ignored() {
        let stored = Validators::of(StatusCode::NOT_FOUND, &headers(&[("etag", "\"x\""), ("last-modified", MODIFIED)]));
        for request in [("if-none-match", "*"), ("if-none-match", "\"x\""), ("if-modified-since", AFTER)] {
            assert_eq!(verdict(&stored, &[request]), Verdict::Whole);
        }
        assert!(!stored.can_revalidate());
        assert_eq!(verdict(&validators(&[("etag", "\"x\"")]), &[]), Verdict::Whole);
    }

    /// RFC 9111, section 4.3.1.
    #[test]
    fn the_backend_is_asked_by_what_it_said() {
        let asked = |stored: &Validators| {
            let mut request =
                headers(&[("accept", "a"), ("if-none-match", "\"theirs\""), ("if-modified-since", AFTER)]);
            stored.ask(&mut request);
            request
        };
        let both = validators(&[("etag", "W/\"x\""), ("last-modified", MODIFIED)]);
        let expected = [("accept", "a"), ("if-none-match", "W/\"x\""), ("if-modified-since", MODIFIED)];
        assert_eq!(asked(&both), headers(&expected));
        assert!(both.can_revalidate());
        for fields in [
            &[][..],
            &[("etag", "x")],
            &[("etag", "\"x\""), ("etag", "\"y\"")],
            &[("last-modified", "x")],
            &[("last-modified", MODIFIED), ("last-modified", MODIFIED)],
        ] {
            assert_eq!(asked(&validators(fields)), headers(&[("accept", "a")]), "{fields:?}");
            assert!(!validators(fields).can_revalidate(), "{fields:?}");
        }
    }
}
