//! ops/WIRE.md, "Every other route: a token": the `Authorization` header.

use crate::support::client::Answer;
use crate::support::token::token;
use crate::support::{DAY, DAY_BODY, Gateway, admin, api};

/// Asserts a complete 401. `refused` is whether a token was refused, as opposed to absent.
pub fn assert_unauthorized(answer: &Answer, error: &str, description: &str, refused: bool) {
    let description = serde_json::json!(description);
    answer.assert_json(401, &format!(r#"{{"status_code":401,"error":"{error}","description":{description}}}"#));
    let bearer = if refused { r#", error="invalid_token""# } else { "" };
    assert_eq!(
        answer.values("www-authenticate"),
        [r#"JWT realm="Login Required""#.to_owned(), format!(r#"Bearer realm="Login Required"{bearer}"#)]
    );
}

/// A `GET` of the holodules with these headers.
fn get(headers: &str) -> String {
    format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

async fn assert_rows(rows: &[(&str, String)], error: &str, description: &str) {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    for (row, headers) in rows {
        let answer = gateway.exchange(get(headers)).await;
        assert_eq!(answer.status, 401, "{row}: {answer:?}");
        assert_unauthorized(&answer, error, description, false);
    }
    assert!(api.seen().is_empty() && admin.seen().is_empty());
}

#[tokio::test]
async fn a_missing_empty_or_misplaced_token_is_401() {
    let rows = [
        ("absent", String::new()),
        ("empty", "Authorization:\r\n".to_owned()),
        ("blank", "Authorization:  \t \r\n".to_owned()),
        ("in a cookie", format!("Cookie: access_token={0}; token={0}; jwt={0}\r\n", token("user01"))),
        ("in another header", format!("X-Authorization: JWT {0}\r\nProxy-Authorization: JWT {0}\r\n", token("user01"))),
        ("underscores for dashes", format!("Author_ization: JWT {}\r\n", token("user01"))),
    ];
    assert_rows(&rows, "Authorization Required", "Request does not contain an access token").await;
}

#[tokio::test]
async fn a_token_in_the_query_or_the_body_is_ignored() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let token = token("user01");
    let query = format!("GET {DAY}?token={token}&access_token={token}&jwt={token} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let body = format!("access_token={token}");
    let form = format!(
        "POST {DAY} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for request in [query, form] {
        let answer = gateway.exchange(request).await;
        assert_unauthorized(&answer, "Authorization Required", "Request does not contain an access token", false);
    }
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn an_unsupported_or_missing_scheme_is_401() {
    let rows = [
        ("another scheme", "Authorization: Basic dXNlcjAxOnBhc3N3b3JkMDE=\r\n".to_owned()),
        ("another scheme", format!("Authorization: Token {}\r\n", token("user01"))),
        ("another scheme", format!("Authorization: JWTs {}\r\n", token("user01"))),
        ("a bare token", format!("Authorization: {}\r\n", token("user01"))),
        ("no space", format!("Authorization: JWT:{}\r\n", token("user01"))),
    ];
    assert_rows(&rows, "Invalid JWT header", "Unsupported authorization type").await;
}

#[tokio::test]
async fn a_scheme_without_a_token_is_401() {
    let rows = ["JWT", "jwt ", "Bearer", "bearer\t"].map(|value| ("no token", format!("Authorization: {value}\r\n")));
    assert_rows(&rows, "Invalid JWT header", "Token missing").await;
}

#[tokio::test]
async fn more_than_one_token_is_401() {
    let valid = token("user01");
    let rows = [
        ("JWT a b", "Authorization: JWT a b\r\n".to_owned()),
        ("a valid one twice", format!("Authorization: JWT {valid} {valid}\r\n")),
        ("two headers", format!("Authorization: JWT {valid}\r\nAuthorization: JWT {valid}\r\n")),
        ("two headers, one valid", format!("Authorization: Basic eDp5\r\nAuthorization: JWT {valid}\r\n")),
        ("a list", format!("Authorization: JWT {valid}, JWT {valid}\r\n")),
        ("a list", format!("Authorization: JWT {valid},{valid}\r\n")),
    ];
    assert_rows(&rows, "Invalid JWT header", "Token contains spaces").await;
}

#[tokio::test]
async fn both_schemes_are_accepted_in_any_case_with_any_white_space() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    for scheme in ["JWT ", "jwt ", "Jwt   ", "Bearer ", "bearer\t", "BEARER \t ", " JWT "] {
        let answer = connection.exchange(get(&format!("Authorization: {scheme}{}\r\n", token("user01")))).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, DAY_BODY), "{scheme:?}: {answer:?}");
    }
    assert_eq!(api.seen().len(), 7);
}

#[tokio::test]
async fn responses_without_a_token_reveal_no_routes_or_methods() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    let paths =
        [DAY, "/", "/nothing", "/auth/", "/auth/logout", "/metrics", "/users", "/credentials/verify", "/holodules/x"];
    for path in paths {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
            let answer = connection.exchange(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
            assert_eq!(answer.status, 401, "{method} {path}: {answer:?}");
            assert_unauthorized(&answer, "Authorization Required", "Request does not contain an access token", false);
        }
    }
    let head = connection.exchange(format!("HEAD {DAY} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    assert_eq!((head.status, head.body.as_str()), (401, ""));
    assert!(api.seen().is_empty() && admin.seen().is_empty());
}
