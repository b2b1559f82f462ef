//! What the backend is told of a client, and what a client is told of the backend: the
//! rules stand here once, for whatever carries the request.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, CACHE_CONTROL, HOST, HeaderName, HeaderValue, SERVER};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, OrErr, Result};

/// What the gateway vouches for.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who is calling.
    pub client: IpAddr,
    /// The host that the client asked for, port included.
    pub host: &'a str,
    /// What logs on both sides call this request.
    pub request_id: &'a str,
    /// Whom the token was issued to.
    pub identity: &'a str,
    /// What the backend is called.
    pub upstream_host: &'a str,
    /// The target: canonical path and declared query.
    pub target: &'a str,
}

/// Whether a client may not say this: only the gateway tells the backend who calls. An
/// underscore counts as a dash, since some servers read both as one name.
fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    let exact = ["authorization", "forwarded", "x-real-ip", "x-request-id"];
    exact.contains(&name.as_str()) || name.starts_with("x-forwarded-") || name.starts_with("x-auth-")
}

/// Makes `request` what the backend is to see.
///
/// # Errors
/// A value that cannot stand in a header.
pub fn for_upstream(request: &mut RequestHeader, facts: &Facts<'_>) -> Result<()> {
    let removed: Vec<HeaderName> = request.headers.keys().filter(|name| is_ours(name)).cloned().collect();
    for name in &removed {
        request.remove_header(name);
    }
    debug_assert!(!request.headers.contains_key(AUTHORIZATION));
    request.set_uri(facts.target.parse().or_err(ErrorType::InternalError, "the target is no URI")?);
    request.insert_header(HOST, facts.upstream_host)?;
    request.insert_header("X-Forwarded-For", facts.client.to_string())?;
    request.insert_header("X-Forwarded-Proto", "https")?;
    request.insert_header("X-Forwarded-Host", facts.host)?;
    request.insert_header("X-Request-Id", facts.request_id)?;
    request.insert_header("X-Auth-Identity", percent_encode(facts.identity))?;
    Ok(())
}

/// Makes `response` what a client may see of an answer that a token opened: nobody between
/// may answer with it again without asking (RFC 9111, section 5.2.2).
///
/// # Errors
/// None that a fixed value could cause.
pub fn for_client(response: &mut ResponseHeader) -> Result<(), Box<Error>> {
    // Age and Expires speak of the edge's freshness; the two cache-control fields of RFC 9213
    // would tell a cache in front of us to store what only a token opens.
    for name in ["age", "expires", "pragma", "cdn-cache-control", "surrogate-control", "x-request-id"] {
        response.remove_header(name);
    }
    response.remove_header(&SERVER);
    response.insert_header(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"))
}

/// RFC 3986, section 2.1: everything but the unreserved characters is escaped.
fn percent_encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts<'static> {
        Facts {
            client: "192.0.2.1".parse().unwrap(),
            host: "example.org:8443",
            request_id: "id",
            identity: "ユーザー 01\r\nX: y",
            upstream_host: "127.0.0.1:8080",
            target: "/holodules/20201209",
        }
    }

    #[test]
    fn what_a_client_says_of_itself_never_arrives() {
        let mut request = RequestHeader::build("GET", b"/Holodules/20201209?x=1", None).unwrap();
        let sent = [
            "Authorization",
            "Forwarded",
            "X-Forwarded-For",
            "X-Forwarded-Anything",
            "X-Real-IP",
            "X-Auth-Identity",
            "X-Auth-Role",
            "x_auth_identity",
            "X_Forwarded-For",
            "X-Request-Id",
            "Host",
        ];
        for name in sent {
            request.append_header(name, "spoofed").unwrap();
        }
        request.append_header("Accept", "kept").unwrap();
        for_upstream(&mut request, &facts()).unwrap();
        assert!(!request.headers.values().any(|value| value == "spoofed"), "{:?}", request.headers);
        assert_eq!(request.headers["Accept"], "kept");
        assert_eq!(request.uri.path_and_query().unwrap(), "/holodules/20201209");
        assert_eq!(request.headers["X-Forwarded-For"], "192.0.2.1");
        assert_eq!(request.headers["X-Forwarded-Proto"], "https");
        assert_eq!(request.headers["X-Forwarded-Host"], "example.org:8443");
        assert_eq!(request.headers["Host"], "127.0.0.1:8080");
    }

    #[test]
    fn an_identity_cannot_break_out_of_its_header() {
        assert_eq!(percent_encode("user-01._~"), "user-01._~");
        assert_eq!(percent_encode("a b\r\n%é"), "a%20b%0D%0A%25%C3%A9");
    }

    #[test]
    fn answers_are_private_and_tell_nothing_of_the_backend() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        let sent = [
            ("Server", "b"),
            ("Cache-Control", "public, s-maxage=5"),
            ("Expires", "x"),
            ("Age", "1"),
            ("ETag", "\"e\""),
        ];
        for (name, value) in sent {
            response.append_header(name, value).unwrap();
        }
        for_client(&mut response).unwrap();
        assert_eq!(response.headers["Cache-Control"], "private, no-cache");
        assert_eq!(response.headers["ETag"], "\"e\"");
        assert_eq!(response.headers.len(), 2);
    }
}
