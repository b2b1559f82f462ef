//! Cross-origin resource sharing (CORS; Fetch standard, section 3.3).
//!
//! Pure. Tokens are sent in a header that scripts set themselves, so credentials added by the browser are allowed only
//! where the policy of a route does.

mod policy;

use std::sync::Arc;

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Method};

use crate::syntax::single;
pub use policy::Policy;

/// Response headers that scripts of an allowed origin may read in addition to the safelisted ones: for retries,
/// revalidation and error reports.
pub const EXPOSED_HEADERS: &str = "ETag, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id";

/// Request headers allowed by a preflight: those of the login, of the token, and of a stream that is resumed.
pub const ALLOWED_HEADERS: &str = "Authorization, Content-Type, Last-Event-ID";

/// How long a browser may cache a preflight response, in seconds: the longest that any browser accepts.
pub const MAX_AGE: &str = "7200";

/// The allowed origins, as browsers serialise them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<HeaderValue>);

/// Why a text is not an origin as sent by a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnOrigin {
    /// Not a scheme and a host with an optional port; `*` and `null` are not allowed.
    #[error("must be a scheme, a host and perhaps a port, as in https://example.org:8443")]
    Form,
    /// Browsers send scheme and host in lower case, and internationalised names in their ASCII form.
    #[error("must be in lower case and ASCII, as browsers send it")]
    Case,
    /// Browsers omit the default port of the scheme.
    #[error("must not name the port that its scheme has by default")]
    DefaultPort,
}

impl Origins {
    /// Adds an allowed origin, in the form of RFC 6454, section 6.2.
    ///
    /// # Errors
    /// [`NotAnOrigin`] if no browser would send it in this form.
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

    /// Returns the CORS result for a request with these headers.
    pub fn sharing(&self, headers: &HeaderMap) -> Sharing {
        self.sharing_with(single(headers, &ORIGIN).map(HeaderValue::as_bytes))
    }

    /// Returns the CORS result for the only `Origin` field of a request, if it has exactly one.
    pub fn sharing_with(&self, origin: Option<&[u8]>) -> Sharing {
        if self.0.is_empty() {
            return Sharing::Off;
        }
        let listed = origin.and_then(|origin| self.0.iter().find(|listed| listed.as_bytes() == origin));
        listed.cloned().map_or(Sharing::Refused, Sharing::Allowed)
    }
}

/// The CORS result of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// CORS is disabled; no header is added.
    #[default]
    Off,
    /// The origin is absent or not allowed. The response still depends on the origin, which caches must take
    /// into account (`Vary`).
    Refused,
    /// The origin is allowed.
    Allowed(HeaderValue),
    /// The origin is allowed by the policy of the route.
    AllowedByRoute(HeaderValue, Arc<Policy>),
}

static DEFAULT_EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static(EXPOSED_HEADERS);

impl Sharing {
    /// The origin, if it is allowed.
    pub fn origin(&self) -> Option<&HeaderValue> {
        match self {
            Self::Allowed(origin) | Self::AllowedByRoute(origin, _) => Some(origin),
            Self::Off | Self::Refused => None,
        }
    }

    /// The response headers that scripts of the origin may read.
    pub fn exposed_headers(&self) -> Option<&HeaderValue> {
        match self {
            Self::Allowed(_) => Some(&DEFAULT_EXPOSED_HEADERS),
            Self::AllowedByRoute(_, policy) => policy.exposed_headers.as_ref(),
            Self::Off | Self::Refused => None,
        }
    }

    /// Whether browsers may send cookies with requests from the origin.
    pub fn allows_credentials(&self) -> bool {
        matches!(self, Self::AllowedByRoute(_, policy) if policy.allows_credentials)
    }

    /// Returns whether the request is a preflight from an allowed origin.
    pub fn is_preflight(&self, method: &Method, headers: &HeaderMap) -> bool {
        self.origin().is_some() && *method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }
}

/// The method of the request that a preflight is for, if it names one.
pub fn requested_method(headers: &HeaderMap) -> Option<&HeaderValue> {
    single(headers, &ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(origin: &str) -> Result<(), NotAnOrigin> {
        Origins::default().allow(origin)
    }

    #[test]
    fn origins_have_the_form_that_browsers_send() {
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
    fn only_a_single_listed_origin_is_allowed() {
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
    fn a_preflight_has_a_requested_method() {
        let allowed = Sharing::Allowed(HeaderValue::from_static("https://a.example"));
        let asking = HeaderMap::from_iter([(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("GET"))]);
        assert!(allowed.is_preflight(&Method::OPTIONS, &asking));
        assert!(!allowed.is_preflight(&Method::OPTIONS, &HeaderMap::new()));
        assert!(!allowed.is_preflight(&Method::GET, &asking));
        assert!(!Sharing::Refused.is_preflight(&Method::OPTIONS, &asking));
        assert!(!Sharing::Off.is_preflight(&Method::OPTIONS, &asking));
    }
}
