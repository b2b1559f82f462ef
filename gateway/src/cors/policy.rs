//! The CORS settings of a route, in place of those of all other paths.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::{ALLOWED_HEADERS, EXPOSED_HEADERS, MAX_AGE, Origins, Sharing};

/// Which pages of other origins may use a route, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The allowed origins. Without any, no other origin may use the route.
    pub origins: Origins,
    /// The request headers that a preflight allows; `None` for none besides the safelisted ones.
    pub allowed_headers: Option<HeaderValue>,
    /// The response headers that scripts may read; `None` for none besides the safelisted ones.
    pub exposed_headers: Option<HeaderValue>,
    /// How long a browser may cache a preflight response, in seconds.
    pub max_age: HeaderValue,
    /// Whether browsers may send cookies with requests from an allowed origin.
    pub allows_credentials: bool,
}

impl Policy {
    /// The policy for `origins` with the defaults of the gateway.
    pub const fn new(origins: Origins) -> Self {
        Self {
            origins,
            allowed_headers: Some(HeaderValue::from_static(ALLOWED_HEADERS)),
            exposed_headers: Some(HeaderValue::from_static(EXPOSED_HEADERS)),
            max_age: HeaderValue::from_static(MAX_AGE),
            allows_credentials: false,
        }
    }

    /// The names of headers as the value of a CORS field; `None` without names.
    pub fn list(names: &[HeaderName]) -> Option<HeaderValue> {
        let names: Vec<_> = names.iter().map(HeaderName::as_str).collect();
        HeaderValue::try_from(names.join(", ")).ok().filter(|list| !list.is_empty())
    }

    /// Returns the CORS result for a request with these headers.
    pub fn sharing(self: &Arc<Self>, headers: &HeaderMap) -> Sharing {
        match self.origins.sharing(headers) {
            Sharing::Allowed(origin) => Sharing::AllowedByRoute(origin, Arc::clone(self)),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::ORIGIN;

    use super::*;

    #[test]
    fn the_result_is_that_of_the_origins_of_the_route() {
        let mut origins = Origins::default();
        let headers = HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static("https://a.example"))]);
        assert_eq!(Arc::new(Policy::new(origins.clone())).sharing(&headers), Sharing::Off);
        origins.allow("https://a.example").unwrap();
        let policy = Arc::new(Policy { allows_credentials: true, ..Policy::new(origins) });
        let sharing = policy.sharing(&headers);
        assert_eq!(sharing.origin().unwrap(), "https://a.example");
        assert!(sharing.allows_credentials());
        assert_eq!(policy.sharing(&HeaderMap::new()), Sharing::Refused);
    }

    #[test]
    fn a_list_has_no_value_without_names() {
        let names = ["x-a", "etag"].map(HeaderName::from_static);
        assert_eq!(Policy::list(&names).unwrap(), "x-a, etag");
        assert_eq!(Policy::list(&[]), None);
    }
}
