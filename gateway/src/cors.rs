//! Which pages of other origins may use us from a browser: the CORS protocol of the Fetch
//! standard (section 3.3).
//!
//! Pure: headers go in, what an answer says of origins comes out. A token travels in a header
//! that scripts set themselves, so credentials that a browser would add are never allowed.

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Method};

/// What scripts of a listed origin may read besides the headers that they always may: what
/// tells them when to come again, what to revalidate by, and what to call a request in a
/// complaint.
pub const EXPOSED_HEADERS: &str = "ETag, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id";

/// The headers that a preflight is told may be sent: what the login and the token need.
pub const ALLOWED_HEADERS: &str = "Authorization, Content-Type";

/// How long a browser may remember a preflight, in seconds: as long as any browser does at most.
pub const MAX_AGE: &str = "7200";

/// The origins that are allowed, each as a browser sends it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<HeaderValue>);

/// Why a text is no origin that a browser would send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnOrigin {
    /// No scheme and host, or more than these with a port; `*` and `null` among them.
    #[error("must be a scheme, a host and perhaps a port, as in https://example.org:8443")]
    Form,
    /// Browsers send both in lower case, and the host in its ASCII form.
    #[error("must be in lower case and ASCII, as browsers send it")]
    Case,
    /// Browsers leave out the port that the scheme has by itself.
    #[error("must not name the port that its scheme has by default")]
    DefaultPort,
}

impl Origins {
    /// Allows one more origin, in the form of RFC 6454, section 6.2.
    ///
    /// # Errors
    /// [`NotAnOrigin`], since it would never equal what a browser sends.
    pub fn allow(&mut self, origin: &str) -> Result<(), NotAnOrigin> {
        let (scheme, authority) = origin.split_once("://").ok_or(NotAnOrigin::Form)?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !is_scheme {
            return Err(NotAnOrigin::Form);
        }
        if !origin.is_ascii() || origin.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(NotAnOrigin::Case);
        }
        let parsed: Authority = authority.parse().map_err(|_| NotAnOrigin::Form)?;
        let port = parsed.port_u16();
        let whole = port.map_or_else(|| parsed.host().to_owned(), |port| format!("{}:{port}", parsed.host()));
        if parsed.host().is_empty() || parsed.host().contains('*') || whole != authority {
            return Err(NotAnOrigin::Form);
        }
        if matches!((scheme, port), ("https", Some(443)) | ("http", Some(80))) {
            return Err(NotAnOrigin::DefaultPort);
        }
        self.0.push(HeaderValue::from_str(origin).map_err(|_| NotAnOrigin::Form)?);
        Ok(())
    }

    /// What the answer to a request with these headers says of origins.
    pub fn sharing(&self, headers: &HeaderMap) -> Sharing {
        let mut origins = headers.get_all(ORIGIN).iter();
        let origin = origins.next().filter(|_| origins.next().is_none());
        self.sharing_with(origin.map(HeaderValue::as_bytes))
    }

    /// [`Origins::sharing`] for the one origin that was sent, if any.
    pub fn sharing_with(&self, origin: Option<&[u8]>) -> Sharing {
        if self.0.is_empty() {
            return Sharing::Off;
        }
        let listed = origin.and_then(|origin| self.0.iter().find(|listed| listed.as_bytes() == origin));
        listed.cloned().map_or(Sharing::Refused, Sharing::Allowed)
    }
}

/// What an answer says of origins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// No origin is listed, and answers say nothing.
    #[default]
    Off,
    /// The request came from no listed origin. From another, the answer would have been
    /// another, which whoever stores it must know.
    Refused,
    /// It came from this one.
    Allowed(HeaderValue),
}

impl Sharing {
    /// Whether a request is a preflight from a listed origin: what a browser asks before it
    /// sends what a script wants to send.
    pub fn is_preflight(&self, method: &Method, headers: &HeaderMap) -> bool {
        matches!(self, Self::Allowed(_))
            && *method == Method::OPTIONS
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(origin: &str) -> Result<(), NotAnOrigin> {
        Origins::default().allow(origin)
    }

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for origin in [
            "https://example.org",
            "https://example.org:8443",
            "http://localhost:3000",
            "http://127.0.0.1:8080",
            "https://[::1]:8443",
            "https://xn--eckwd4c7c.example",
            "capacitor://localhost",
            "http://example.org:443",
        ] {
            assert_eq!(allow(origin), Ok(()), "{origin}");
        }
        for origin in [
            "*",
            "null",
            "",
            "example.org",
            "https://",
            "https://*.example.org",
            "https://example.org/",
            "https://example.org/a",
            "https://example.org?a",
            "https://user@example.org",
            "https://example.org:",
            "https://example.org:08443",
            "https://example.org:x",
            "https://example.org, https://example.com",
            "https://example.org https://example.com",
            "://example.org",
            "1https://example.org",
        ] {
            assert_eq!(allow(origin), Err(NotAnOrigin::Form), "{origin}");
        }
        for origin in ["https://Example.org", "HTTPS://example.org", "https://ホロ.example"] {
            assert_eq!(allow(origin), Err(NotAnOrigin::Case), "{origin}");
        }
        for origin in ["https://example.org:443", "http://example.org:80"] {
            assert_eq!(allow(origin), Err(NotAnOrigin::DefaultPort), "{origin}");
        }
    }

    #[test]
    fn only_the_one_origin_that_is_listed_is_allowed() {
        let mut origins = Origins::default();
        let sharing = |origins: &Origins, sent: &[&'static str]| {
            let headers = sent.iter().map(|origin| (ORIGIN, HeaderValue::from_static(origin))).collect();
            origins.sharing(&headers)
        };
        assert_eq!(sharing(&origins, &["https://a.example"]), Sharing::Off);
        origins.allow("https://a.example").unwrap();
        origins.allow("https://b.example:1").unwrap();
        for listed in ["https://a.example", "https://b.example:1"] {
            assert_eq!(sharing(&origins, &[listed]), Sharing::Allowed(HeaderValue::from_static(listed)));
        }
        let others: [&[&'static str]; 9] = [
            &[],
            &[""],
            &["null"],
            &["*"],
            &["https://a.example:443"],
            &["https://a.example.evil.example"],
            &["https://A.example"],
            &["http://a.example"],
            &["https://a.example", "https://a.example"],
        ];
        for others in others {
            assert_eq!(sharing(&origins, others), Sharing::Refused, "{others:?}");
        }
    }

    #[test]
    fn a_preflight_says_what_it_is_for() {
        let allowed = Sharing::Allowed(HeaderValue::from_static("https://a.example"));
        let asking = HeaderMap::from_iter([(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("GET"))]);
        assert!(allowed.is_preflight(&Method::OPTIONS, &asking));
        assert!(!allowed.is_preflight(&Method::OPTIONS, &HeaderMap::new()));
        assert!(!allowed.is_preflight(&Method::GET, &asking));
        assert!(!Sharing::Refused.is_preflight(&Method::OPTIONS, &asking));
        assert!(!Sharing::Off.is_preflight(&Method::OPTIONS, &asking));
    }
}
