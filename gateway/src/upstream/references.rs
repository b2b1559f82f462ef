//! Response fields that refer to the service: `Location` and `Content-Location` (RFC 9110, sections 8.7 and 10.2.2),
//! `Link` (RFC 8288), `Refresh` (WHATWG HTML, "shared declarative refresh steps"), and the `Path` of `Set-Cookie`
//! (RFC 6265, section 5.2.4).

use std::ops::Range;

use http::header::{CONTENT_LOCATION, HeaderName, HeaderValue, LINK, LOCATION, REFRESH, SET_COOKIE};

use super::Upstream;
use super::location::{PublicAuthority, mentions, public_url};
use crate::syntax::is_ows;

/// A response field, as the client receives it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rewritten {
    /// As the service sent it.
    Unchanged,
    /// With the public authority in place of the service's own.
    Replaced(HeaderValue),
    /// Not at all, since it may refer to the service in a form that cannot be rewritten.
    Removed,
}

/// Rewrites the references to the service in the field `name`.
pub(super) fn rewrite(
    name: &HeaderName,
    value: &HeaderValue,
    upstream: &Upstream,
    public: &PublicAuthority<'_>,
) -> Rewritten {
    match *name {
        LOCATION | CONTENT_LOCATION => {
            let url = public_url(value.as_bytes(), upstream, public);
            let value = url.and_then(|url| HeaderValue::from_bytes(&url).ok());
            value.map_or(Rewritten::Unchanged, Rewritten::Replaced)
        }
        LINK => rewrite_urls(value, link_urls(value.as_bytes()), upstream, public),
        REFRESH => rewrite_urls(value, refresh_url(value.as_bytes()), upstream, public),
        SET_COOKIE if public.prefixes.is_some() => rewrite_cookie(value, public),
        _ => Rewritten::Unchanged,
    }
}

/// Rewrites the paths of a cookie. One with the name prefix `__Host-` is valid for all paths of the host, or refused.
fn rewrite_cookie(value: &HeaderValue, public: &PublicAuthority<'_>) -> Rewritten {
    if value.as_bytes().trim_ascii_start().get(..7).is_some_and(|name| name.eq_ignore_ascii_case(b"__Host-")) {
        return Rewritten::Unchanged;
    }
    let mut is_changed = false;
    let parts = value.as_bytes().split(|&byte| byte == b';').enumerate().map(|(index, part)| {
        let equals = part.iter().position(|&byte| byte == b'=').filter(|_| index > 0);
        let (name, path) = equals.and_then(|equals| Some((part.get(..equals)?, part.get(equals + 1..)?)))?;
        let path = path.trim_ascii();
        let is_path = name.trim_ascii().eq_ignore_ascii_case(b"path") && path.starts_with(b"/");
        let mut new = public.path(path).filter(|_| is_path)?;
        // The prefix itself is also valid for the path without a slash at its end.
        if path == b"/" && new.len() > 1 {
            new.pop();
        }
        is_changed = true;
        Some([name, b"=", new.as_slice()].concat())
    });
    let parts: Vec<_> = parts.collect();
    if !is_changed {
        return Rewritten::Unchanged;
    }
    let old = value.as_bytes().split(|&byte| byte == b';');
    let all: Vec<_> = parts.iter().zip(old).map(|(new, old)| new.as_deref().unwrap_or(old)).collect();
    HeaderValue::from_bytes(&all.join(&b';')).map_or(Rewritten::Removed, Rewritten::Replaced)
}

/// Rewrites `value` at the positions of its `urls`, which are `None` if it is malformed: clients may find a URL in
/// it that this parser does not, so the field is removed if it contains the authority of the upstream anywhere.
fn rewrite_urls(
    value: &HeaderValue,
    urls: Option<Vec<Range<usize>>>,
    upstream: &Upstream,
    public: &PublicAuthority<'_>,
) -> Rewritten {
    let text = value.as_bytes();
    let Some(urls) = urls.filter(|urls| urls.iter().all(|url| text.get(url.clone()).is_some_and(is_plain))) else {
        return if mentions(text, upstream) { Rewritten::Removed } else { Rewritten::Unchanged };
    };
    let (mut rewritten, mut copied) = (Vec::new(), 0);
    for url in urls {
        if let Some(new) = text.get(url.clone()).and_then(|url| public_url(url, upstream, public)) {
            rewritten.extend_from_slice(text.get(copied..url.start).unwrap_or_default());
            rewritten.extend_from_slice(&new);
            copied = url.end;
        }
    }
    if copied == 0 {
        return Rewritten::Unchanged;
    }
    rewritten.extend_from_slice(text.get(copied..).unwrap_or_default());
    HeaderValue::from_bytes(&rewritten).map_or(Rewritten::Removed, Rewritten::Replaced)
}

/// Whether `url` has none of the characters that clients read in different ways.
fn is_plain(url: &[u8]) -> bool {
    !url.iter().any(|byte| byte.is_ascii_whitespace() || b"<>\"\\".contains(byte))
}

/// The targets and anchors, which are references; a `title` is text and a `rel` an identifier. `None` if the value is
/// malformed.
fn link_urls(text: &[u8]) -> Option<Vec<Range<usize>>> {
    let mut scanner = Scanner { text, at: 0 };
    let mut urls = Vec::new();
    loop {
        scanner.skip(|byte| is_ows(byte) || byte == b',');
        match scanner.next() {
            None => return Some(urls),
            Some(b'<') => urls.push(scanner.until(b'>')?),
            Some(_) => return None,
        }
        loop {
            scanner.skip(is_ows);
            match scanner.next() {
                None => return Some(urls),
                Some(b',') => break,
                Some(b';') => {}
                Some(_) => return None,
            }
            scanner.skip(is_ows);
            let name = scanner.skip(|byte| !is_ows(byte) && !b"=;,\"<".contains(&byte));
            scanner.skip(is_ows);
            if !scanner.take(b'=') {
                continue;
            }
            scanner.skip(is_ows);
            let value = if scanner.take(b'"') {
                scanner.quoted()?
            } else {
                scanner.skip(|byte| !is_ows(byte) && !b";,".contains(&byte))
            };
            if text.get(name).is_some_and(|name| name.eq_ignore_ascii_case(b"anchor")) {
                urls.push(value);
            }
        }
    }
}

/// The URL, if there is one; `None` if the value is malformed.
fn refresh_url(text: &[u8]) -> Option<Vec<Range<usize>>> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.skip(is_ows);
    if scanner.skip(|byte| byte.is_ascii_digit() || byte == b'.').is_empty() {
        return None;
    }
    let gap = scanner.skip(is_ows);
    if !scanner.take(b';') && !scanner.take(b',') && gap.is_empty() {
        return scanner.is_at_end().then(Vec::new);
    }
    scanner.skip(is_ows);
    let start = scanner.at;
    let name = scanner.skip(|byte| byte.is_ascii_alphabetic());
    scanner.skip(is_ows);
    if text.get(name).is_some_and(|name| name.eq_ignore_ascii_case(b"url")) && scanner.take(b'=') {
        scanner.skip(is_ows);
    } else {
        scanner.at = start;
    }
    for quote in *b"'\"" {
        if scanner.take(quote) {
            let start = scanner.at;
            return Some(vec![scanner.until(quote).unwrap_or(start..text.len())]);
        }
    }
    let url = text.get(scanner.at..)?.trim_ascii_end();
    Some(std::iter::once(scanner.at..scanner.at + url.len()).collect())
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn is_at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.text.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    /// Skips the next byte if it is `byte`.
    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// Skips the bytes that match, and returns where they are.
    fn skip(&mut self, matches: impl Fn(u8) -> bool) -> Range<usize> {
        let start = self.at;
        while self.text.get(self.at).is_some_and(|&byte| matches(byte)) {
            self.at += 1;
        }
        start..self.at
    }

    /// What precedes the next `end`, which is skipped too.
    fn until(&mut self, end: u8) -> Option<Range<usize>> {
        let found = self.skip(|byte| byte != end);
        self.take(end).then_some(found)
    }

    /// The content of a quoted string, after its first quote.
    fn quoted(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        loop {
            match self.next()? {
                b'"' => return Some(start..self.at - 1),
                b'\\' => _ = self.next()?,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::location::upstream;

    const PUBLIC: PublicAuthority<'_> =
        PublicAuthority { authority: "example.org:8443", is_forwarded: false, needs_token: true, prefixes: None };

    /// What clients get of the field from the service at 127.0.0.1:8080.
    fn seen(name: &HeaderName, value: &str) -> Option<String> {
        seen_as(name, value, &PUBLIC)
    }

    fn seen_as(name: &HeaderName, value: &str, public: &PublicAuthority<'_>) -> Option<String> {
        let value = HeaderValue::from_str(value).unwrap();
        match rewrite(name, &value, &upstream("127.0.0.1:8080"), public) {
            Rewritten::Unchanged => Some(value),
            Rewritten::Replaced(value) => Some(value),
            Rewritten::Removed => None,
        }
        .map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_path_of_a_cookie_gets_the_public_prefix() {
        let public = PublicAuthority { prefixes: Some(("", "/app")), ..PUBLIC };
        for (cookie, expected) in [
            ("a=b; Path=/", "a=b; Path=/app"),
            ("a=b; Path=/c; Secure", "a=b; Path=/app/c; Secure"),
            ("a=b;path = /c/ ;HttpOnly", "a=b;path =/app/c/;HttpOnly"),
            ("a=b; PATH=/c; Path=/d", "a=b; PATH=/app/c; Path=/app/d"),
            ("a=\"Path=/x\"; Path=/c", "a=\"Path=/x\"; Path=/app/c"),
            ("a=b", "a=b"),
            ("Path=/c", "Path=/c"),
            ("a=b; Path", "a=b; Path"),
            ("a=b; Path=c", "a=b; Path=c"),
            ("a=b; Path=/app/c", "a=b; Path=/app/c"),
            ("a=b; Domain=/c", "a=b; Domain=/c"),
            ("__Host-a=b; Secure; Path=/", "__Host-a=b; Secure; Path=/"),
            ("__Secure-a=b; Secure; Path=/", "__Secure-a=b; Secure; Path=/app"),
        ] {
            assert_eq!(seen_as(&SET_COOKIE, cookie, &public).as_deref(), Some(expected), "{cookie}");
            assert_eq!(seen(&SET_COOKIE, cookie).as_deref(), Some(cookie));
        }
        let rewritten = PublicAuthority { prefixes: Some(("/v2", "")), ..PUBLIC };
        assert_eq!(seen_as(&SET_COOKIE, "a=b; Path=/v2", &rewritten).as_deref(), Some("a=b; Path=/"));
        assert_eq!(seen_as(&SET_COOKIE, "a=b; Path=/", &rewritten).as_deref(), Some("a=b; Path=/"));
    }

    #[test]
    fn links_and_refreshes_get_the_public_prefix() {
        let public = PublicAuthority { prefixes: Some(("", "/app")), ..PUBLIC };
        let link = "</a>; rel=next, <b>; rel=prev, <http://127.0.0.1:8080/c>; rel=last";
        let expected = "</app/a>; rel=next, <b>; rel=prev, <https://example.org:8443/app/c>; rel=last";
        assert_eq!(seen_as(&LINK, link, &public).as_deref(), Some(expected));
        assert_eq!(seen_as(&REFRESH, "5; url=/a", &public).as_deref(), Some("5; url=/app/a"));
    }

    #[test]
    fn targets_and_anchors_of_a_link_get_the_public_authority() {
        for (link, expected) in [
            ("<http://127.0.0.1:8080/a>; rel=next", "<https://example.org:8443/a>; rel=next"),
            ("<//localhost:8080>;rel=\"next\"", "<https://example.org:8443>;rel=\"next\""),
            (
                "<http://127.0.0.1:8080/a,b;c>; rel=next, </d>; rel=prev,,<HTTP://LOCALHOST:8080/e?f> ; rel=last ,",
                "<https://example.org:8443/a,b;c>; rel=next, </d>; rel=prev,,<https://example.org:8443/e?f> ; rel=last ,",
            ),
            (
                "</a>; anchor=\"http://127.0.0.1:8080/b\"; rel=up, </c>; ANCHOR = \"//127.0.0.1:8080#d\"",
                "</a>; anchor=\"https://example.org:8443/b\"; rel=up, </c>; ANCHOR = \"https://example.org:8443#d\"",
            ),
            ("</a>; anchor=http://127.0.0.1:8080/b;rel=x", "</a>; anchor=https://example.org:8443/b;rel=x"),
            (
                "<http://127.0.0.1:8080/a>; title=\"\\\">, <b>; anchor=\\\"c\"; ; crossorigin, <http://x/>",
                "<https://example.org:8443/a>; title=\"\\\">, <b>; anchor=\\\"c\"; ; crossorigin, <http://x/>",
            ),
        ] {
            assert_eq!(seen(&LINK, link).as_deref(), Some(expected), "{link}");
        }
    }

    #[test]
    fn other_links_are_unchanged() {
        for link in [
            "",
            " , ,",
            "<>",
            "</a>; rel=next",
            "<https://elsewhere.example/a>; rel=next; anchor=\"/b\"",
            "<http://127.0.0.1:80800/a>",
            "<http://127.0.0.1/a>",
            // Text and identifiers, not references.
            "</a>; title=\"<http://127.0.0.1:8080/b>, <http://127.0.0.1:8080/c>\"",
            "</a>; rel=\"http://127.0.0.1:8080/rels/b next\"",
            "</a>; anchors=\"http://127.0.0.1:8080/b\"",
            // Malformed.
            "/a; rel=next",
            "</a",
            "</a>; title=\"b",
            "</a> rel=next",
            "<http://elsewhere.example/a b>",
            "http://127.0.0.1:8081/a",
        ] {
            assert_eq!(seen(&LINK, link).as_deref(), Some(link));
        }
    }

    #[test]
    fn a_malformed_link_with_the_authority_of_the_upstream_is_removed() {
        for link in [
            "http://127.0.0.1:8080/a; rel=next",
            "<http://127.0.0.1:8080/a",
            "< http://127.0.0.1:8080/a >",
            "<http://127.0.0.1:8080/a b>",
            "<a<http://127.0.0.1:8080/b>",
            "</a> <http://localhost:8080/b>",
            "</a>; title=\"b, <http://127.0.0.1:8080/c>",
            "</a>; title=\"b\" c, <//127.0.0.1:8080>",
            "</a>; anchor=\"http:\\/\\/127.0.0.1:8080/b\"",
            "<x>y, 127.0.0.1:8080",
            "<http://a//127.0.0.1:8080 >",
        ] {
            assert_eq!(seen(&LINK, link), None, "{link}");
        }
    }

    #[test]
    fn the_url_of_a_refresh_gets_the_public_authority() {
        let new = "https://example.org:8443/a;b,c";
        let old = "http://127.0.0.1:8080/a;b,c";
        for form in [
            "5; url={}",
            "0;url={}",
            " 5.5 , URL = {} ",
            "5 {}",
            "5;{}",
            ".5; url='{}'",
            "5; url=\"{}\" ignored",
            "5; url='{}",
            "5; \"{}\"",
        ] {
            let (value, expected) = (form.replace("{}", old), form.replace("{}", new));
            assert_eq!(seen(&REFRESH, value.trim()).as_deref(), Some(expected.trim()), "{value}");
        }
    }

    #[test]
    fn other_refreshes_are_unchanged_or_removed() {
        for value in ["", "5", "5.5 ", "5;", "5; url=", "5; url=/a", "5; url='https://elsewhere.example/'", "x; url=/a"]
        {
            assert_eq!(seen(&REFRESH, value).as_deref(), Some(value), "{value}");
        }
        for value in ["url=http://127.0.0.1:8080/a", "5x http://127.0.0.1:8080", "5; url=' http://127.0.0.1:8080/a'"] {
            assert_eq!(seen(&REFRESH, value), None, "{value}");
        }
    }
}
