//! Which web pages may connect. Browsers let every page open a WebSocket to every host, and CORS does not apply.

use http::HeaderMap;
use http::header::ORIGIN;

use crate::cors::{Origins, Sharing};

/// Whether a page of the `Origin` in `headers` may connect: one of `allowed`, one that the gateway serves at
/// `authority`, or no page at all. `null` is never allowed.
pub fn may_connect(headers: &HeaderMap, allowed: &Origins, authority: &str) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return true };
    if origins.next().is_some() {
        return false;
    }
    let is_own = |origin: &[u8]| {
        let host = origin.strip_prefix(b"https://");
        host.is_some_and(|host| host.eq_ignore_ascii_case(without_default_port(authority).as_bytes()))
    };
    is_own(origin.as_bytes()) || matches!(allowed.sharing(headers), Sharing::Allowed(_))
}

/// An authority without the port that https has by default, as in an origin (RFC 6454, section 6.2).
fn without_default_port(authority: &str) -> &str {
    authority.strip_suffix(":443").unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_origin_is_absent_own_or_listed() {
        let mut allowed = Origins::default();
        allowed.allow("https://app.example:8443").unwrap();
        let may = |origins: &[&str], authority: &str| {
            let fields = origins.iter().map(|origin| (ORIGIN, HeaderValue::from_str(origin).unwrap()));
            may_connect(&fields.collect(), &allowed, authority)
        };
        for (origins, authority) in [
            (&[][..], "a.example"),
            (&["https://a.example"], "a.example"),
            (&["https://a.example"], "A.example"),
            (&["https://a.example"], "a.example:443"),
            (&["https://a.example:8443"], "a.example:8443"),
            (&["https://[::1]"], "[::1]:443"),
            (&["https://app.example:8443"], "a.example"),
        ] {
            assert!(may(origins, authority), "{origins:?} {authority}");
        }
        for (origins, authority) in [
            (&["null"][..], "a.example"),
            (&[""], "a.example"),
            (&["http://a.example"], "a.example"),
            (&["https://a.example:8443"], "a.example"),
            (&["https://a.example"], "a.example:8443"),
            (&["https://b.a.example"], "a.example"),
            (&["https://a.example.b"], "a.example"),
            (&["https://app.example"], "a.example"),
            (&["https://a.example", "https://a.example"], "a.example"),
        ] {
            assert!(!may(origins, authority), "{origins:?} {authority}");
        }
        assert!(!may_connect(
            &[(ORIGIN, HeaderValue::from_static("null"))].into_iter().collect(),
            &Origins::default(),
            "null"
        ));
    }
}
