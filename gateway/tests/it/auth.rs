//! ops/WIRE.md, "POST /auth": checks of the request.

use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::token::{self, decode};
use crate::support::{Gateway, admin, api, get};

const INVALID: &str = r#"{"status_code":401,"error":"Bad Request","description":"Invalid credentials"}"#;

/// A `POST /auth` with this JSON body.
pub fn login(body: impl AsRef<[u8]>) -> Vec<u8> {
    post("Content-Type: application/json\r\n", body)
}

/// A `POST /auth` with these headers and this body.
fn post(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("POST /auth HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The valid credentials, as a request body.
pub fn user01() -> String {
    json!({"username": "user01", "password": "password01"}).to_string()
}

/// Asserts the error format of the original service, with any description.
fn assert_described(answer: &Answer, status: u16, error: &str) {
    let body = answer.json();
    let description = body["description"].as_str().unwrap();
    assert!(!description.is_empty());
    let expected = json!({"status_code": status, "error": error, "description": description});
    answer.assert_json(status, &ordered(&expected, &["status_code", "error", "description"]));
}

/// `object` as compact JSON, with its keys in this order.
fn ordered(object: &Value, keys: &[&str]) -> String {
    let members: Vec<_> = keys.iter().map(|key| format!("{}:{}", json!(key), object[*key])).collect();
    format!("{{{}}}", members.join(","))
}

#[tokio::test]
async fn valid_credentials_return_a_token_that_is_accepted() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let before = token::now();
    let answer = gateway.exchange(login(user01())).await;
    let after = token::now();
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    let token = body["access_token"].as_str().unwrap();
    answer.assert_json(200, &format!(r#"{{"access_token":"{token}"}}"#));
    assert_eq!(answer.value("cache-control"), "no-store");

    let segments: Vec<_> = token.split('.').collect();
    assert_eq!(segments.len(), 3);
    assert_eq!(decode(segments[0]), json!({"typ": "JWT", "alg": "HS256"}));
    let claims = decode(segments[1]);
    let issued = claims["iat"].as_i64().unwrap();
    assert!((before..=after).contains(&issued), "{claims}");
    let expected = json!({
        "exp": issued + 300, "iat": issued, "nbf": issued, "identity": "user01", "jti": claims["jti"],
    });
    assert_eq!(claims, expected);
    assert!(claims["jti"].as_str().is_some_and(|id| id.len() >= 16), "{claims}");
    // Signed with the configured secret, so the original service accepts it as well.
    assert_eq!(token::sign(&segments[..2].join(".")), token);

    for scheme in ["JWT", "Bearer"] {
        let request =
            format!("GET /holodules/20201209 HTTP/1.1\r\nHost: localhost\r\nAuthorization: {scheme} {token}\r\n\r\n");
        assert_eq!(gateway.exchange(request).await.status, 200, "{scheme}");
    }
    assert_eq!(api.seen()[0].values("x-auth-identity"), ["user01"]);
}

#[tokio::test]
async fn two_logins_return_different_tokens() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    let first = connection.exchange(login(user01())).await.json();
    let second = connection.exchange(login(user01())).await.json();
    assert_ne!(first["access_token"], second["access_token"]);
}

#[tokio::test]
async fn the_backend_receives_one_request_with_the_credentials_as_sent() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let answer = gateway.exchange(login(user01())).await;
    let seen = admin.only();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/credentials/verify"));
    assert_eq!(seen.json(), json!({"username": "user01", "password": "password01"}));
    assert_eq!(seen.values("content-type"), ["application/json"]);
    assert_eq!(seen.values("host"), [admin.address.as_str()]);
    assert_eq!(seen.values("x-request-id"), [answer.value("x-request-id")]);
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn missing_and_empty_fields_are_refused_like_wrong_credentials() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let rows = [
        ("wrong password", json!({"username": "user01", "password": "x"})),
        ("unknown user", json!({"username": "user99", "password": "password01"})),
        ("field missing", json!({"username": "user01"})),
        ("field missing", json!({"password": "password01"})),
        ("field empty", json!({"username": "", "password": "password01"})),
        ("field empty", json!({"username": "user01", "password": ""})),
        ("field null", json!({"username": null, "password": "password01"})),
        ("field null", json!({"username": "user01", "password": null})),
        ("{}", json!({})),
        ("additional field", json!({"username": "user01", "password": "password01", "admin": true})),
    ];
    let mut first: Option<Answer> = None;
    for (row, body) in rows {
        let mut answer = gateway.exchange(login(body.to_string())).await;
        answer.assert_json(401, INVALID);
        assert_eq!(
            answer.values("www-authenticate"),
            [r#"JWT realm="Login Required""#, r#"Bearer realm="Login Required""#],
            "{row}"
        );
        // Only the request ID and the date differ.
        answer.headers.retain(|(name, _)| name != "x-request-id" && name != "date");
        assert_eq!(&answer, first.get_or_insert_with(|| answer.clone()), "{row}");
    }
    assert_eq!(admin.seen().len(), 10, "each is verified, so that all take equally long");
}

#[tokio::test]
async fn json_that_is_not_a_login_is_400_without_a_request_to_the_backend() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let rows: [(&str, &[u8]); 15] = [
        ("not an object", b"[]"),
        ("not an object", b"\"user01\""),
        ("not an object", b"17"),
        ("not an object", b"null"),
        ("a number", br#"{"username":1,"password":"password01"}"#),
        ("an array", br#"{"username":["user01"],"password":"password01"}"#),
        ("an object", br#"{"username":{"$ne":null},"password":"password01"}"#),
        ("an object", br#"{"username":"user01","password":{"$ne":null}}"#),
        ("not JSON", b"username=user01&password=password01"),
        ("not JSON", br#"{"username":"user01","password":"password01""#),
        ("not JSON", br#"{"username":"user01","password":"password01"} x"#),
        ("empty", b""),
        ("blank", b"  "),
        ("not UTF-8", b"{\"username\":\"user01\",\"password\":\"\xff\"}"),
        ("duplicate keys", br#"{"username":"user01","username":"user01","password":"password01"}"#),
    ];
    for (row, body) in rows {
        let answer = gateway.exchange(login(body)).await;
        assert_eq!(answer.status, 400, "{row}: {answer:?}");
        assert_described(&answer, 400, "Bad Request");
    }
    assert!(admin.seen().is_empty());
}

#[tokio::test]
async fn a_missing_or_unsupported_content_type_is_415() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    for headers in [
        "",
        "Content-Type:\r\n",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: application/jsonp\r\n",
        "Content-Type: text/plain; a=application/json\r\n",
        "Content-Type: application/json\r\nContent-Type: application/json\r\n",
    ] {
        let answer = gateway.exchange(post(headers, user01())).await;
        assert_eq!(answer.status, 415, "{headers}: {answer:?}");
        assert_described(&answer, 415, "Unsupported Media Type");
    }
    assert!(admin.seen().is_empty());
    for value in
        ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON;x=\"y\"; z", "application/json ;a"]
    {
        let answer = gateway.exchange(post(&format!("Content-Type: {value}\r\n"), user01())).await;
        assert_eq!(answer.status, 200, "{value}: {answer:?}");
    }
}

#[tokio::test]
async fn a_body_over_4_kib_is_413_and_one_at_the_limit_is_read() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let login_of = |length: usize| {
        let without_password = json!({"username": "user01", "password": ""}).to_string().len();
        json!({"username": "user01", "password": "x".repeat(length - without_password)}).to_string()
    };
    assert_eq!(login_of(4096).len(), 4096);
    gateway.exchange(login(login_of(4096))).await.assert_json(401, INVALID);
    assert_eq!(admin.only().body.len(), 4096);

    let chunked = |body: &str| {
        let head =
            "POST /auth HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked";
        let (first, second) = body.split_at(1000);
        format!("{head}\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n", first.len(), second.len())
    };
    gateway.exchange(chunked(&login_of(4096))).await.assert_json(401, INVALID);
    admin.forget();
    for request in [login(login_of(4097)), chunked(&login_of(4097)).into_bytes()] {
        let mut connection = gateway.connect().await;
        let answer = connection.exchange(request).await;
        assert_described(&answer, 413, "Payload Too Large");
        connection.assert_closed().await;
    }
    // Refused because of the declared length, before any content arrives.
    let declared = "POST /auth HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2147483648\r\n\r\n";
    assert_described(&gateway.exchange(declared).await, 413, "Payload Too Large");
    assert!(admin.seen().is_empty());
}

#[tokio::test]
async fn other_methods_are_405_with_allow() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    for method in ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
        for credentials in ["", "Authorization: JWT x\r\n"] {
            let request = format!("{method} /auth HTTP/1.1\r\nHost: localhost\r\n{credentials}\r\n");
            let answer = gateway.exchange(request).await;
            answer.assert_json(405, r#"{"error":"Method Not Allowed"}"#);
            assert_eq!(answer.value("allow"), "POST");
        }
    }
    let head = gateway.exchange("HEAD /auth HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!((head.status, head.value("allow")), (405, "POST"));
    assert!(admin.seen().is_empty());
}

#[tokio::test]
async fn a_stripped_prefix_and_a_query_make_no_difference() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("STRIP_PREFIX", "['/holoapi']")]);
    for path in ["/auth?x=1", "/holoapi/auth"] {
        let request = String::from_utf8(login(user01())).unwrap().replacen("/auth", path, 1);
        assert_eq!(gateway.exchange(request).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn credentials_outside_the_body_are_ignored() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let request = String::from_utf8(login("{}")).unwrap();
    let request = request.replacen("/auth", "/auth?username=user01&password=password01", 1);
    gateway.exchange(request).await.assert_json(401, INVALID);
    assert_eq!(admin.only().target, "/credentials/verify");
}

#[tokio::test]
async fn names_and_passwords_in_any_script_are_passed_on_unchanged() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let body = json!({"username": "ユーザー\u{1f600}", "password": "\u{0}\n\"\\ \u{7f}パス"});
    gateway.exchange(login(body.to_string())).await.assert_json(401, INVALID);
    assert_eq!(admin.only().json(), body);
}

#[tokio::test]
async fn expect_100_continue_is_answered_before_the_body_is_sent() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    let body = user01();
    let head = format!(
        "POST /auth HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = connection.expect_continue(head, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // The connection can be reused.
    assert_eq!(connection.exchange(get("/holodules/20201209", "")).await.status, 200);
}

#[tokio::test]
async fn a_refusal_before_the_body_sends_no_100_continue() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    for (headers, status) in
        [("Content-Length: 5000\r\nContent-Type: application/json\r\n", 413), ("Content-Length: 9\r\n", 415)]
    {
        let mut connection = gateway.connect().await;
        let head = format!("POST /auth HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n{headers}\r\n");
        connection.send(head).await;
        let answer = connection.answer("POST").await;
        assert_eq!(answer.status, status, "no 100 Continue is sent first: {answer:?}");
        connection.assert_closed().await;
    }
}
