//! Static tokens, which authorise a machine for certain routes.

use holodule_gateway::token::Digest;

use crate::auth::login;
use crate::authorization::assert_unauthorized;
use crate::support::backend::{Backend, json_answer};
use crate::support::client::Answer;
use crate::support::token::{HEADER, claims, signed, token};
use crate::support::{DAY, DAY_BODY, Gateway, admin, api, until};

const TOKEN: &str = "holodule_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Two routes. The static token is valid for the first.
const ROUTE: &str = "[{ name = 'holodules', methods = ['GET', 'HEAD'], path = '/holodules/{day}' }, \
                     { name = 'notes', methods = ['POST'], path = '/notes' }]";

/// `STATIC_TOKEN` with one called `collector`.
fn collector(token: &str, more: &str) -> String {
    format!("[{{ name = 'collector', sha256 = '{}', routes = ['holodules']{more} }}]", Digest::of(token.as_bytes()))
}

async fn start(static_token: &str) -> (Backend, Backend, Gateway) {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("ROUTE", ROUTE), ("STATIC_TOKEN", static_token)]);
    (api, admin, gateway)
}

fn request(method: &str, path: &str, authorization: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\n\r\n")
}

async fn get(gateway: &Gateway, authorization: &str) -> Answer {
    gateway.exchange(request("GET", DAY, authorization)).await
}

#[tokio::test]
async fn a_token_is_valid_for_its_routes_as_bearer_and_the_backend_receives_its_name() {
    let (api, _admin, gateway) = start(&collector(TOKEN, ", expires = 2100-01-01T00:00:00Z")).await;
    for scheme in ["Bearer", "bearer", "BEARER\t"] {
        let answer = get(&gateway, &format!("{scheme} {TOKEN}")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, DAY_BODY), "{scheme}: {answer:?}");
        assert_eq!(api.only().values("x-auth-identity"), ["static%3Acollector"]);
        assert!(api.only().values("authorization").is_empty());
        api.forget();
    }
}

#[tokio::test]
async fn another_value_or_another_scheme_is_refused() {
    let (api, admin, gateway) = start(&collector(TOKEN, "")).await;
    let digest = Digest::of(TOKEN.as_bytes()).to_string();
    let upper = TOKEN.to_uppercase();
    let longer = format!("{TOKEN}0");
    let cases = [
        format!("JWT {TOKEN}"),
        format!("Bearer {}", &TOKEN[..TOKEN.len() - 1]),
        format!("Bearer {longer}"),
        format!("Bearer {upper}"),
        format!("Bearer {digest}"),
        "Bearer collector".to_owned(),
        "Bearer static:collector".to_owned(),
    ];
    for case in cases {
        let answer = get(&gateway, &case).await;
        assert_eq!(answer.status, 401, "{case}");
        assert_unauthorized(&answer, "Invalid token", "Not enough segments", true);
    }
    assert!(api.seen().is_empty() && admin.seen().is_empty());
    for (reason, count) in [("static_token_scheme", 1.0), ("encoding", 6.0)] {
        let series = format!(r#"gateway_token_refusals_total{{reason="{reason}"}}"#);
        assert_eq!(gateway.metric(&series).await, Some(count), "{reason}");
    }
}

#[tokio::test]
async fn the_log_has_the_reason_that_the_response_hides() {
    let (api, admin) = (api().await, admin().await);
    let key = "[{ kid = 'known', secret = 'a secret of thirty-two bytes or more' }]";
    let settings = [("STATIC_TOKEN", &*collector(TOKEN, "")), ("KEY", key)];
    let (gateway, log) = Gateway::start_logged(&api, &admin, &settings);
    let unknown = signed(r#"{"typ":"JWT","alg":"HS256","kid":"unknown"}"#, &claims("user01"));
    let answer = get(&gateway, &format!("JWT {unknown}")).await;
    assert_unauthorized(&answer, "Invalid token", "The specified alg value is not allowed", true);
    let answer = get(&gateway, &format!("JWT {TOKEN}")).await;
    assert_unauthorized(&answer, "Invalid token", "Not enough segments", true);
    until("both are logged", async || log.lines().len() == 2).await;
    let reasons: Vec<_> = log.lines().iter().map(|line| line["reason"].clone()).collect();
    assert_eq!(reasons, ["unknown_kid", "static_token_scheme"]);
}

#[tokio::test]
async fn a_route_that_is_not_listed_is_404() {
    let (api, admin, gateway) = start(&collector(TOKEN, "")).await;
    let mut connection = gateway.connect().await;
    for path in ["/notes", "/nothing", "/auth/logout"] {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let answer = connection.exchange(request(method, path, &format!("Bearer {TOKEN}"))).await;
            answer.assert_json(404, r#"{"error":"Not found"}"#);
        }
    }
    assert!(api.seen().is_empty() && admin.seen().is_empty());
    // The route exists for users.
    let users = gateway.exchange(request("GET", "/notes", &format!("Bearer {}", token("user01")))).await;
    assert_eq!((users.status, users.value("allow")), (405, "POST"));
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let (api, admin, gateway) = start(&collector(TOKEN, ", expires = 2020-01-01T00:00:00Z")).await;
    let answer = get(&gateway, &format!("Bearer {TOKEN}")).await;
    assert_unauthorized(&answer, "Invalid token", "Signature has expired", true);
    assert_eq!(gateway.metric(r#"gateway_token_refusals_total{reason="expired"}"#).await, Some(1.0));
    assert!(api.seen().is_empty() && admin.seen().is_empty());
}

#[tokio::test]
async fn tokens_are_added_and_removed_by_a_reload() {
    let (api, _admin, gateway) = start("[]").await;
    let mut connection = gateway.connect().await;
    let request = request("GET", DAY, &format!("Bearer {TOKEN}"));
    assert_eq!(connection.exchange(&request).await.status, 401);
    gateway.reload(&[("STATIC_TOKEN", &collector(TOKEN, ""))]).unwrap();
    assert_eq!(connection.exchange(&request).await.status, 200);
    let wrong = collector(TOKEN, ", more = 1");
    assert!(gateway.reload(&[("STATIC_TOKEN", &wrong)]).is_err());
    assert_eq!(connection.exchange(&request).await.status, 200, "an invalid configuration changes nothing");
    api.forget();
    gateway.reload(&[("STATIC_TOKEN", &collector("another token", ""))]).unwrap();
    assert_eq!(connection.exchange(&request).await.status, 401);
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn a_token_is_limited_by_its_name() {
    let (api, admin) = (api().await, admin().await);
    let settings =
        [("STATIC_TOKEN", &*collector(TOKEN, "")), ("LIMIT_IDENTITY_RATE", "1"), ("LIMIT_IDENTITY_BURST", "2")];
    let gateway = Gateway::start_with(&api, &admin, &settings);
    let mut connection = gateway.connect().await;
    let request = request("GET", DAY, &format!("Bearer {TOKEN}"));
    let mut limited = 0;
    for _ in 0..20 {
        limited += usize::from(connection.exchange(&request).await.status == 429);
    }
    assert!(limited > 0);
    assert_eq!(gateway.get(DAY).await.status, 200, "a user has a limit of their own");
}

#[tokio::test]
async fn no_user_can_have_the_name_of_a_static_token() {
    let api = api().await;
    // A backend that accepts every login.
    let admin = Backend::start(|seen| {
        json_answer("200 OK", &serde_json::json!({"username": seen.json()["username"]}).to_string())
    })
    .await;
    let gateway = Gateway::start_with(&api, &admin, &[("STATIC_TOKEN", &*collector(TOKEN, ""))]);
    for name in ["static:collector", "static:unknown", "static:"] {
        let body = serde_json::json!({"username": name, "password": "password01"}).to_string();
        gateway
            .exchange(login(body))
            .await
            .assert_json(401, r#"{"status_code":401,"error":"Bad Request","description":"Invalid credentials"}"#);
        let forged = signed(HEADER, &claims(name));
        for scheme in ["JWT", "Bearer"] {
            let answer = get(&gateway, &format!("{scheme} {forged}")).await;
            assert_unauthorized(&answer, "Invalid JWT", "User does not exist", true);
        }
    }
    // The password is still checked, so that the response takes as long as any other.
    assert_eq!(admin.seen().len(), 3);
    assert!(api.seen().is_empty());
}
