//! Protects the admin listener, which has no authentication, from requests that a web page makes through a browser on
//! the internal network. DNS rebinding fails at the `Host` check; forms and scripts of other sites fail at
//! `Origin`, at `Sec-Fetch-Site` or at the content type, which they cannot set without a preflight.

use std::net::IpAddr;

use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, Method, StatusCode};

use crate::record::shown;
use crate::respond::HttpError;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// The content types that browsers send across sites without a preflight (Fetch standard, "CORS-safelisted
/// request-header").
const SAFELISTED: [&str; 3] = ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded"];

/// Accepts or refuses a request to the admin listener.
///
/// # Errors
/// `400` without exactly one host, and `421` for an unknown host. For reads `403` if a page of another site embeds the
/// address: a read costs work, and a browser might leak the response. For writes `403` if a browser reports another
/// origin than this host, and `415` without a content type that requires a preflight.
pub(crate) fn check(request: &Parts, allowed_hosts: &[String]) -> Result<(), HttpError> {
    let host = check_host(request, allowed_hosts)?;
    let is_read = [Method::GET, Method::HEAD, Method::OPTIONS].contains(&request.method);
    if is_read && !is_embedded_elsewhere(&request.headers) {
        return Ok(());
    }
    if is_of_another_site(&request.headers) {
        return Err(HttpError::new(StatusCode::FORBIDDEN, "cross-site requests are not accepted").closing());
    }
    if !request.headers.get_all(ORIGIN).iter().all(|origin| is_origin_of(origin, &host)) {
        return Err(HttpError::new(StatusCode::FORBIDDEN, "the Origin differs from the Host").closing());
    }
    match content_type(&request.headers) {
        Some(essence) if !SAFELISTED.contains(&essence.as_str()) => Ok(()),
        _ => Err(unsupported("a write needs a content type such as application/json")),
    }
}

/// Whether a browser sends a read because a page of another site embeds the address, as an image, a script or a frame
/// does, instead of a user who follows a link.
fn is_embedded_elsewhere(headers: &HeaderMap) -> bool {
    let is_link = headers.get(SEC_FETCH_MODE).is_some_and(|mode| mode == "navigate")
        && headers.get(SEC_FETCH_DEST).is_none_or(|destination| destination == "document");
    is_of_another_site(headers) && !is_link
}

fn is_of_another_site(headers: &HeaderMap) -> bool {
    headers.get_all(SEC_FETCH_SITE).iter().any(|site| site != "same-origin" && site != "none")
}

/// `415`, closing the connection because the body is unread.
pub(super) fn unsupported(description: &'static str) -> HttpError {
    HttpError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, description).closing()
}

/// Type and subtype of the single `Content-Type`, in lower case, without parameters.
pub(super) fn content_type(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let essence = value.to_str().ok()?.split(';').next()?.trim().to_ascii_lowercase();
    let (kind, subtype) = essence.split_once('/')?;
    (!kind.is_empty() && !subtype.is_empty() && !essence.contains(',')).then_some(essence)
}

/// Whether a page of the origin (RFC 6454, section 7) is a page of `host`. The scheme may be `https`, where a proxy
/// terminates TLS. `null` is the origin of no host.
fn is_origin_of(origin: &http::HeaderValue, host: &Authority) -> bool {
    let Some((scheme, authority)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else {
        return false;
    };
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let Ok(origin) = authority.parse::<Authority>() else { return false };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default_port);
    // Without user information, which neither has.
    !origin.as_str().contains('@') && origin.host().eq_ignore_ascii_case(host.host()) && port(&origin) == port(host)
}

/// The single `Host`, if it and the host of the target are names of this service.
fn check_host(request: &Parts, allowed_hosts: &[String]) -> Result<Authority, HttpError> {
    let mut values = request.headers.get_all(HOST).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(HttpError::bad_request("exactly one Host header is required").closing());
    };
    let header = value.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    let header = header.ok_or_else(|| HttpError::bad_request("the Host header is invalid").closing())?;
    // An absolute-form target also contains a host (RFC 9112, section 3.2.2).
    let hosts = request.uri.authority().into_iter().chain([&header]);
    for host in hosts {
        if !is_allowed(host, allowed_hosts) {
            let host = shown(host.as_str());
            tracing::warn!(host, "request refused: its Host is not in admin.allowed_hosts");
            let reason = format!("the Host \"{host}\" is not a name of this service; admin.allowed_hosts lists them");
            return Err(HttpError::new(StatusCode::MISDIRECTED_REQUEST, reason).closing());
        }
    }
    Ok(header)
}

fn is_allowed(authority: &Authority, allowed_hosts: &[String]) -> bool {
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    // DNS rebinding needs a name: with an IP literal, the browser connected to the address itself.
    if literal.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    name == "localhost" || allowed_hosts.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &str, headers: &[(&str, &str)]) -> Result<(), StatusCode> {
        let mut request = http::Request::builder().method(method).uri("/users");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        check(&parts, &["admin.example".to_owned()]).map_err(|error| error.status)
    }

    #[test]
    fn only_known_hosts_are_served() {
        for host in ["127.0.0.1:8081", "[::1]:8081", "10.0.0.7", "localhost", "LocalHost:1", "Admin.Example.:8081"] {
            assert_eq!(status("GET", &[("host", host)]), Ok(()), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "a@localhost", "sub.admin.example"]
        {
            assert_eq!(status("GET", &[("host", host)]), Err(StatusCode::MISDIRECTED_REQUEST), "{host}");
        }
        for headers in [&[][..], &[("host", "localhost"), ("host", "localhost")], &[("host", "a b")], &[("host", "")]] {
            assert_eq!(status("GET", headers), Err(StatusCode::BAD_REQUEST), "{headers:?}");
        }
    }

    #[test]
    fn the_host_of_an_absolute_target_is_checked_too() {
        let request = http::Request::get("http://evil.example/users").header("host", "localhost").body(()).unwrap();
        let error = check(&request.into_parts().0, &[]).unwrap_err();
        assert_eq!(error.status, StatusCode::MISDIRECTED_REQUEST);
        let reason = "the Host \"evil.example\" is not a name of this service; admin.allowed_hosts lists them";
        assert_eq!(error.description, reason);
    }

    #[test]
    fn a_write_needs_a_content_type_that_requires_a_preflight() {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            for kind in ["application/json", "Application/JSON; charset=utf-8", "text/csv", "application/x-ndjson"] {
                assert_eq!(status(method, &[("host", "localhost"), ("content-type", kind)]), Ok(()), "{method} {kind}");
            }
            for kind in [
                "text/plain",
                "TEXT/Plain; x=application/json",
                "multipart/form-data; boundary=x",
                "application/x-www-form-urlencoded",
                "",
                "json",
                "text/plain, application/json",
            ] {
                let error = status(method, &[("host", "localhost"), ("content-type", kind)]);
                assert_eq!(error, Err(StatusCode::UNSUPPORTED_MEDIA_TYPE), "{method} {kind}");
            }
            assert_eq!(status(method, &[("host", "localhost")]), Err(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
    }

    #[test]
    fn a_request_from_another_site_is_refused_unless_it_follows_a_link() {
        let json = ("content-type", "application/json");
        for site in ["cross-site", "same-site", "other"] {
            let headers = [("host", "localhost"), json, ("sec-fetch-site", site)];
            assert_eq!(status("POST", &headers), Err(StatusCode::FORBIDDEN), "{site}");
            assert_eq!(status("GET", &headers), Err(StatusCode::FORBIDDEN), "{site}");
            let navigation = [("host", "localhost"), ("sec-fetch-site", site), ("sec-fetch-mode", "navigate")];
            assert_eq!(status("GET", &navigation), Ok(()), "{site}");
            for (destination, expected) in [("document", Ok(())), ("iframe", Err(StatusCode::FORBIDDEN))] {
                let navigation = [&navigation[..], &[("sec-fetch-dest", destination)]].concat();
                assert_eq!(status("GET", &navigation), expected, "{site} {destination}");
            }
        }
        for site in ["same-origin", "none"] {
            assert_eq!(status("POST", &[("host", "localhost"), json, ("sec-fetch-site", site)]), Ok(()));
        }
    }

    #[test]
    fn a_write_from_another_origin_is_refused_and_a_read_is_not() {
        let json = ("content-type", "application/json");
        let post = |host, origin| status("POST", &[("host", host), json, ("origin", origin)]);
        for (host, origin) in [
            ("localhost:8081", "http://localhost:8081"),
            ("localhost:8081", "https://LOCALHOST:8081"),
            ("[::1]:8081", "http://[::1]:8081"),
            ("localhost", "http://localhost"),
            ("localhost:80", "http://localhost"),
            ("admin.example", "https://admin.example:443"),
        ] {
            assert_eq!(post(host, origin), Ok(()), "{origin}");
        }
        for origin in [
            "null",
            "",
            "localhost:8081",
            "http://localhost",
            "http://localhost:8082",
            "http://127.0.0.1:8081",
            "http://localhost.evil.example:8081",
            "http://a@localhost:8081",
            "ftp://localhost:8081",
            "http://localhost:8081/",
            "http://localhost:8081, http://localhost:8081",
        ] {
            assert_eq!(post("localhost:8081", origin), Err(StatusCode::FORBIDDEN), "{origin}");
            assert_eq!(status("GET", &[("host", "localhost:8081"), ("origin", origin)]), Ok(()), "{origin}");
        }
        let own = ("origin", "http://localhost");
        let twice = [("host", "localhost"), json, own, ("origin", "http://evil.example")];
        assert_eq!(status("DELETE", &twice), Err(StatusCode::FORBIDDEN));
    }
}
