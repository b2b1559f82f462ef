//! The cookie that names the address of a client.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header::{CACHE_CONTROL, COOKIE, EXPIRES, HeaderValue};
use http::{HeaderMap, header};

use crate::syntax::{list_members, trim_ows};

/// The bytes of a digest in a cookie: enough that no two addresses of a service have the same.
const DIGEST_BYTES: usize = 12;

/// The cookie of a service.
#[derive(Debug)]
pub(super) struct Sticky {
    name: String,
    /// The value for each address: a digest, so that it does not show the address, and is the same at every gateway and
    /// after a restart.
    values: Box<[String]>,
}

/// A cookie to set in a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickyCookie {
    name: String,
    value: String,
}

impl Sticky {
    /// The cookie `name` of `service` at `addresses`.
    pub(super) fn new(name: &str, service: &str, addresses: &[String]) -> Self {
        let value = |address: &String| {
            let digest = digest(&SHA256, format!("{service}\0{address}").as_bytes());
            BASE64_URL_SAFE_NO_PAD.encode(digest.as_ref().get(..DIGEST_BYTES).unwrap_or_default())
        };
        Self { name: name.to_owned(), values: addresses.iter().map(value).collect() }
    }

    /// Removes the cookie from `headers`, and returns the position of the address that it names.
    pub(super) fn take(&self, headers: &mut HeaderMap) -> Option<usize> {
        let is_ours = |pair: &&[u8]| {
            let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
            name.trim_ascii() == self.name.as_bytes()
        };
        let fields = || headers.get_all(COOKIE).iter();
        let pairs = || fields().flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
        let mut ours = pairs().filter(is_ours).peekable();
        ours.peek()?;
        let place = ours.find_map(|pair| {
            let value = pair.splitn(2, |byte| *byte == b'=').nth(1)?.trim_ascii();
            self.values.iter().position(|own| own.as_bytes() == value)
        });
        let others: Vec<_> = pairs().filter(|pair| !is_ours(pair)).map(<[u8]>::trim_ascii).collect();
        let others = others.into_iter().filter(|pair| !pair.is_empty()).collect::<Vec<_>>().join(&b"; "[..]);
        // Parts of valid values.
        match HeaderValue::from_bytes(&others) {
            Ok(value) if !value.is_empty() => _ = headers.insert(COOKIE, value),
            _ => _ = headers.remove(COOKIE),
        }
        place
    }

    /// The cookie for the address at `place`.
    pub(super) fn cookie(&self, place: usize) -> Option<StickyCookie> {
        Some(StickyCookie { name: self.name.clone(), value: self.values.get(place)?.clone() })
    }
}

impl StickyCookie {
    /// Whether a response with the fields `headers` may set the cookie. One that caches in front of the gateway may store
    /// for all clients must not: they would all go to one address.
    pub fn belongs_in(headers: &HeaderMap) -> bool {
        let forbids_storage = |member: &[u8]| {
            let name = trim_ows(member.split(|&byte| byte == b'=').next().unwrap_or_default());
            [&b"private"[..], b"no-store", b"no-cache"].iter().any(|own| name.eq_ignore_ascii_case(own))
        };
        if headers.contains_key(CACHE_CONTROL) {
            return list_members(headers, &CACHE_CONTROL).any(forbids_storage);
        }
        // Other caches have no lifetime for it but a heuristic one.
        !headers.contains_key(EXPIRES)
    }

    /// The `Set-Cookie` of a response, for requests of `path` and below (RFC 6265, section 4.1). It lasts until the
    /// browser ends its session.
    ///
    /// # Errors
    /// A path with a character that a field cannot have.
    pub fn set_cookie(&self, path: &str) -> Result<HeaderValue, header::InvalidHeaderValue> {
        let Self { name, value } = self;
        format!("{name}={value}; Path={path}; Secure; HttpOnly; SameSite=Lax").parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sticky() -> Sticky {
        Sticky::new("at", "app", &["10.0.0.1:80".to_owned(), "10.0.0.2:80".to_owned()])
    }

    fn taken(cookies: &[&str]) -> (Option<usize>, Vec<String>) {
        let values = sticky().values;
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            let cookie = cookie.replace("FIRST", &values[0]).replace("SECOND", &values[1]);
            headers.append(COOKIE, cookie.parse().unwrap());
        }
        let place = sticky().take(&mut headers);
        (place, headers.get_all(COOKIE).iter().map(|value| value.to_str().unwrap().to_owned()).collect())
    }

    #[test]
    fn only_responses_that_no_shared_cache_stores_set_the_cookie() {
        let may = |fields: &[(header::HeaderName, &'static str)]| {
            let fields = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            let mut headers = HeaderMap::new();
            fields.for_each(|(name, value)| _ = headers.append(name, value));
            StickyCookie::belongs_in(&headers)
        };
        assert!(may(&[]) && !may(&[(EXPIRES, "0")]));
        for control in ["private", "max-age=1, No-Store", "no-cache=\"x\"", "Private=\"set-cookie\""] {
            assert!(may(&[(CACHE_CONTROL, control)]), "{control}");
            assert!(may(&[(CACHE_CONTROL, "public"), (CACHE_CONTROL, control), (EXPIRES, "0")]), "{control}");
        }
        for control in ["", "public, max-age=60", "max-age=60", "s-maxage=1, x-private", "x=private"] {
            assert!(!may(&[(CACHE_CONTROL, control)]), "{control}");
        }
    }

    #[test]
    fn the_cookie_is_read_and_removed_and_others_remain() {
        let rest = |cookies: &[&str]| cookies.iter().map(|&cookie| cookie.to_owned()).collect::<Vec<_>>();
        for (cookies, place, others) in [
            (&["at=FIRST"][..], Some(0), &[][..]),
            (&["a=1; at=SECOND; b=2"], Some(1), &["a=1; b=2"]),
            (&["a=1", "at=SECOND"], Some(1), &["a=1"]),
            (&["at = FIRST;a=1;"], Some(0), &["a=1"]),
            (&["at=unknown; at=SECOND; at=FIRST"], Some(1), &[]),
            (&["at=unknown; a=at=FIRST"], None, &["a=at=FIRST"]),
            (&["at; a"], None, &["a"]),
            // Not the cookie, so the field is unchanged.
            (&["At=FIRST;a=1", "that=FIRST"], None, &["At=FIRST;a=1", "that=FIRST"]),
        ] {
            let (found, remaining) = taken(cookies);
            let others: Vec<_> = rest(others).iter().map(|other| other.replace("FIRST", &sticky().values[0])).collect();
            assert_eq!((found, remaining), (place, others), "{cookies:?}");
        }
        assert_eq!(taken(&[]), (None, Vec::new()));
    }

    #[test]
    fn the_value_shows_no_address_and_depends_on_the_service() {
        let cookie = sticky().cookie(1).unwrap().set_cookie("/app").unwrap();
        let text = cookie.to_str().unwrap();
        assert!(text.starts_with("at=") && text.ends_with("; Path=/app; Secure; HttpOnly; SameSite=Lax"), "{text}");
        assert!(!text.contains("10.0.0.2"), "{text}");
        assert_eq!(sticky().values[1].len(), 16);
        assert_ne!(sticky().values[1], Sticky::new("at", "other", &["10.0.0.2:80".to_owned()]).values[0]);
        assert_eq!(sticky().cookie(2), None);
    }
}
