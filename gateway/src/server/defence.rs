//! Cross-site request protection of the ops listener. It has no authentication, so other sites could use a browser on
//! its network to send write requests. DNS rebinding fails the host check. Forms and scripts of other sites fail the
//! check of `Sec-Fetch-Site`, or of the content type, which they cannot send without a preflight request.

use std::net::IpAddr;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::Authority;

use crate::syntax::single;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Checks a write request.
///
/// # Errors
/// `400` without exactly one host, `421` for a host other than `localhost`, an IP address or one of `allowed`, `403` if
/// `Sec-Fetch-Site` shows another site, `415` for a content type other than `application/json`.
pub(super) fn defend(request: &Parts, allowed: &[String]) -> Result<(), StatusCode> {
    let header = single(&request.headers, &HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let header = header.ok_or(StatusCode::BAD_REQUEST)?;
    // The absolute form of a target names a host as well (RFC 9112, section 3.2.2).
    if !request.uri.authority().into_iter().chain([&header]).all(|host| is_ours(host, allowed)) {
        return Err(StatusCode::MISDIRECTED_REQUEST);
    }
    let foreign = |site: &HeaderValue| site != "same-origin" && site != "none";
    if request.headers.get_all(SEC_FETCH_SITE).iter().any(foreign) {
        return Err(StatusCode::FORBIDDEN);
    }
    let content_type = single(&request.headers, &CONTENT_TYPE).and_then(|value| value.to_str().ok()?.split(';').next());
    let is_json = content_type.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"));
    if is_json { Ok(()) } else { Err(StatusCode::UNSUPPORTED_MEDIA_TYPE) }
}

fn is_ours(authority: &Authority, allowed: &[String]) -> bool {
    let host = authority.host();
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    // An IP literal cannot be rebound: the browser asked for the address itself.
    let is_known = literal.parse::<IpAddr>().is_ok() || name == "localhost" || allowed.contains(&name);
    is_known && !authority.as_str().contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, headers: &[(&str, &str)]) -> Result<(), StatusCode> {
        let request = http::Request::post(uri);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let (parts, ()) = request.body(()).unwrap().into_parts();
        defend(&parts, &["ops.example".to_owned()])
    }

    #[test]
    fn only_known_hosts_are_served() {
        const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
        for host in ["127.0.0.1:9180", "[::1]:9180", "10.0.0.7", "LocalHost:1", "Ops.Example.:9180"] {
            assert_eq!(check("/", &[("host", host), JSON]), Ok(()), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "a@localhost"] {
            assert_eq!(check("/", &[("host", host), JSON]), Err(StatusCode::MISDIRECTED_REQUEST), "{host}");
        }
        for hosts in [&[][..], &[("host", "localhost"), ("host", "localhost")], &[("host", "a b")], &[("host", "")]] {
            let headers: Vec<_> = hosts.iter().copied().chain([JSON]).collect();
            assert_eq!(check("/", &headers), Err(StatusCode::BAD_REQUEST), "{hosts:?}");
        }
        let absolute = check("http://evil.example/", &[("host", "localhost"), JSON]);
        assert_eq!(absolute, Err(StatusCode::MISDIRECTED_REQUEST));
    }

    #[test]
    fn no_page_of_another_site_can_write() {
        let typed = |value| check("/", &[("host", "localhost"), ("content-type", value)]);
        for value in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""] {
            assert_eq!(typed(value), Err(StatusCode::UNSUPPORTED_MEDIA_TYPE), "{value}");
        }
        assert_eq!(check("/", &[("host", "localhost")]), Err(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        for (site, expected) in [
            ("none", Ok(())),
            ("same-origin", Ok(())),
            ("same-site", Err(StatusCode::FORBIDDEN)),
            ("cross-site", Err(StatusCode::FORBIDDEN)),
            ("", Err(StatusCode::FORBIDDEN)),
        ] {
            let headers = [("host", "localhost"), ("content-type", "application/json"), ("sec-fetch-site", site)];
            assert_eq!(check("/", &headers), expected, "{site}");
        }
    }
}
