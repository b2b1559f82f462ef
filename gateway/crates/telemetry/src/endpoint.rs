//! The URL of the collector.

use http::Uri;

/// The path of the trace service below the URL (OTLP 1.8, "OTLP/HTTP Request").
const TRACES: &str = "v1/traces";

/// The collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The URL that spans are sent to.
    pub(crate) url: Uri,
    pub(crate) is_tls: bool,
    /// A name, or an address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Endpoint {
    /// Parses the URL of the collector, to which the path of the trace service is added.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "must be a URL such as http://127.0.0.1:4318";
        let url: Uri = text.parse().map_err(|_| FORM)?;
        let (is_tls, port) = match url.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(FORM),
        };
        let authority = url.authority().ok_or(FORM)?;
        if authority.as_str().contains('@') {
            return Err("must have no user: use telemetry.headers for credentials");
        }
        if url.query().is_some() || text.contains('#') {
            return Err("must have neither a query nor a fragment");
        }
        let port = match authority.port() {
            Some(port) => Some(port.as_u16()).filter(|port| *port > 0).ok_or(FORM)?,
            // A port that is not a number is not one for `http`.
            None if authority.as_str().len() > authority.host().len() => return Err(FORM),
            None => port,
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(FORM);
        }
        let base = text.trim_end_matches('/');
        let url = format!("{base}/{TRACES}").parse().map_err(|_| FORM)?;
        Ok(Self { url, is_tls, host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_trace_service_is_added() {
        for (text, url, host, port) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces", "127.0.0.1", 4318),
            ("http://localhost/", "http://localhost/v1/traces", "localhost", 80),
            ("https://otlp.example/base/", "https://otlp.example/base/v1/traces", "otlp.example", 443),
            ("http://[::1]:4318", "http://[::1]:4318/v1/traces", "::1", 4318),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!((endpoint.url.to_string().as_str(), endpoint.host.as_str(), endpoint.port), (url, host, port));
            assert_eq!(endpoint.is_tls, text.starts_with("https"));
        }
    }

    #[test]
    fn anything_else_is_an_error() {
        for text in [
            "",
            "localhost:4318",
            "/v1/traces",
            "grpc://localhost:4317",
            "http://",
            "http://user:pass@localhost",
            "http://localhost?a=b",
            "http://localhost#a",
            "http://localhost:0",
            "http://localhost:99999",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }
}
