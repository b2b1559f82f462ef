//! ops/WIRE.md: tokens of revoked users and tokens after a logout get 401; while the revocation status is unknown,
//! requests get 503.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::backend::{Backend, Step, json_answer};
use crate::support::client::Answer;
use crate::support::revocation::{RevocationStub, checks};
use crate::support::token::{HEADER, now, signed, token};
use crate::support::{DAY, Gateway, api, request, until};

/// A gateway whose revocation feed is connected, with its stubs.
async fn start(settings: &[(&str, &str)]) -> (RevocationStub, Backend, Backend, Gateway) {
    let (api, (revocations, admin)) = (api().await, RevocationStub::start().await);
    let gateway = RevocationStub::gateway(&api, &admin, settings);
    gateway.ready().await;
    (revocations, api, admin, gateway)
}

fn with(method: &str, path: &str, token: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
}

fn assert_revoked(answer: &Answer) {
    answer.assert_json(401, r#"{"status_code":401,"error":"Invalid JWT","description":"User does not exist"}"#);
    let offers = answer.values("www-authenticate");
    assert_eq!(offers[1], r#"Bearer realm="Login Required", error="invalid_token""#);
}

fn assert_unknown(answer: &Answer) {
    answer.assert_json(503, r#"{"error":"Service Unavailable"}"#);
    assert_eq!(answer.value("retry-after"), "1");
}

/// Waits until the request gets 401.
async fn until_revoked(gateway: &Gateway, request: &str) {
    until("the token is refused", async || gateway.exchange(request).await.status == 401).await;
    assert_revoked(&gateway.exchange(request).await);
}

#[tokio::test]
async fn an_identity_is_checked_once() {
    let (_authority, api, admin, gateway) = start(&[]).await;
    for _ in 0..5 {
        assert_eq!(gateway.get(DAY).await.status, 200);
    }
    assert_eq!(checks(&admin), 1);
    assert_eq!(api.seen().len(), 5);
    assert_eq!(gateway.metric("gateway_revocation_identities").await, Some(1.0));
    let age = gateway.metric("gateway_revocation_feed_age_seconds").await.unwrap();
    assert!((0.0..60.0).contains(&age), "{age}");
}

#[tokio::test]
async fn concurrent_requests_of_a_new_identity_share_one_check() {
    let (_authority, _api, admin, gateway) = start(&[]).await;
    let mut connections = Vec::new();
    for _ in 0..20 {
        connections.push(gateway.connect().await);
    }
    let request = request("GET", DAY, "");
    for connection in &mut connections {
        connection.send(&request).await;
    }
    for connection in &mut connections {
        assert_eq!(connection.answer("GET").await.status, 200);
    }
    assert_eq!(checks(&admin), 1);
}

#[tokio::test]
async fn connections_are_accepted_from_the_first_heartbeat_or_after_two_seconds() {
    let (revocations, admin) = RevocationStub::start().await;
    let api = api().await;
    revocations.set_heartbeats(false);
    let gateway = RevocationStub::gateway(&api, &admin, &[]);
    let (request, began) = (request("GET", DAY, ""), Instant::now());
    let start_heartbeats = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        revocations.set_heartbeats(true);
    };
    let (answer, ()) = tokio::join!(gateway.exchange(&request), start_heartbeats);
    assert_eq!(answer.status, 200, "the request waits for the feed: {answer:?}");
    assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
    revocations.set_heartbeats(false);
    let began = Instant::now();
    let unconnected = RevocationStub::gateway(&api, &admin, &[]);
    assert_eq!(unconnected.exchange(&request).await.status, 503);
    assert!(began.elapsed() >= Duration::from_millis(1900), "{:?}", began.elapsed());
}

#[tokio::test]
async fn revoked_users_are_refused_and_the_backend_receives_nothing() {
    let (revocations, api, _admin, gateway) = start(&[]).await;
    revocations.set("ghost", json!({"active": false, "password_changed_at": null, "logged_out": []}));
    for (method, path) in [("GET", DAY), ("GET", "/nothing"), ("POST", "/auth/logout")] {
        assert_revoked(&gateway.exchange(with(method, path, &token("ghost"))).await);
    }
    assert!(api.seen().is_empty());
    assert_eq!(gateway.metric(r#"gateway_token_refusals_total{reason="revoked"}"#).await, Some(3.0));
}

#[tokio::test]
async fn an_identity_that_the_feed_names_is_checked_again() {
    let (revocations, api, _admin, gateway) = start(&[]).await;
    let request = request("GET", DAY, "");
    assert_eq!(gateway.exchange(&request).await.status, 200);
    for gone in [
        json!({"active": false, "password_changed_at": null, "logged_out": []}),
        json!({"active": true, "password_changed_at": now() + 5, "logged_out": []}),
    ] {
        revocations.change("user01", gone);
        until_revoked(&gateway, &request).await;
        let before = api.seen().len();
        assert_revoked(&gateway.exchange(&request).await);
        assert_eq!(api.seen().len(), before, "the backend received a request of a revoked token");
        revocations.change("user01", json!({"active": true, "password_changed_at": null, "logged_out": []}));
        until("the user is accepted again", async || gateway.exchange(&request).await.status == 200).await;
    }
}

#[tokio::test]
async fn results_of_a_backend_with_another_feed_are_not_cached() {
    let (revocations, api, admin, gateway) = start(&[]).await;
    let request = request("GET", DAY, "");
    let status = |active: bool| json!({"active": active, "password_changed_at": null, "logged_out": [], "feed": "01"});
    revocations.set("user01", status(true));
    for count in 1..=3 {
        assert_eq!(gateway.exchange(&request).await.status, 200);
        assert_eq!(checks(&admin), count);
    }
    assert_eq!(gateway.metric("gateway_revocation_identities").await, Some(0.0));
    // The subscribed feed does not announce this change.
    revocations.set("user01", status(false));
    assert_revoked(&gateway.exchange(&request).await);
    assert_eq!(api.seen().len(), 3);
}

#[tokio::test]
async fn a_token_issued_up_to_the_second_of_a_password_change_is_refused() {
    let (revocations, _api, _admin, gateway) = start(&[]).await;
    let now = now();
    revocations.set("user01", json!({"active": true, "password_changed_at": now - 10, "logged_out": []}));
    for (issued, status) in [(now - 11, 401), (now - 10, 401), (now - 9, 200)] {
        let claims = json!({"exp": now + 300, "iat": issued, "nbf": issued, "identity": "user01"});
        let answer = gateway.exchange(with("GET", DAY, &signed(HEADER, &claims.to_string()))).await;
        assert_eq!(answer.status, status, "{issued} {answer:?}");
    }
}

#[tokio::test]
async fn a_reset_or_a_closed_feed_causes_all_identities_to_be_checked_again() {
    let (revocations, _api, admin, gateway) = start(&[]).await;
    let request = request("GET", DAY, "");
    let gone = json!({"active": false, "password_changed_at": null, "logged_out": []});
    for reset in [true, false] {
        revocations.set("user01", json!({"active": true, "password_changed_at": null, "logged_out": []}));
        until("the user is known", async || gateway.exchange(&request).await.status == 200).await;
        let before = checks(&admin);
        // Without a line on the feed.
        revocations.set("user01", gone.clone());
        assert_eq!(gateway.exchange(&request).await.status, 200);
        assert_eq!(checks(&admin), before);
        if reset {
            revocations.send_line(&json!({"reset": true}));
        } else {
            revocations.end_feeds();
        }
        until_revoked(&gateway, &request).await;
        revocations.send_line(&json!({"reset": true}));
    }
}

#[tokio::test]
async fn before_the_first_heartbeat_and_after_the_maximum_age_requests_get_503() {
    let (api, (revocations, admin)) = (api().await, RevocationStub::start().await);
    revocations.set_heartbeats(false);
    let gateway = RevocationStub::gateway(&api, &admin, &[("REVOCATION_MAX_AGE", "1")]);
    let request = request("GET", DAY, "");
    assert_unknown(&gateway.exchange(&request).await);
    assert_eq!(gateway.ops("/readyz").await.0, 503);
    assert_eq!(gateway.metric("gateway_revocation_feed_age_seconds").await, Some(f64::INFINITY));
    // A request without a token still gets 401.
    assert_eq!(gateway.exchange("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.status, 401);
    revocations.set_heartbeats(true);
    gateway.ready().await;
    assert_eq!(gateway.exchange(&request).await.status, 200);
    revocations.set_heartbeats(false);
    until("the last heartbeat is too old", async || gateway.exchange(&request).await.status == 503).await;
    assert_unknown(&gateway.exchange(&request).await);
    let before = api.seen().len();
    assert_unknown(&gateway.exchange(&request).await);
    assert_eq!(api.seen().len(), before);
    assert_eq!(gateway.ops("/readyz").await.0, 200, "a later failure does not make the gateway unready");
    revocations.set_heartbeats(true);
    until("heartbeats are received again", async || gateway.exchange(&request).await.status == 200).await;
}

#[tokio::test]
async fn within_the_maximum_age_known_identities_are_served_and_others_get_503() {
    let (revocations, _api, mut admin, gateway) = start(&[]).await;
    assert_eq!(gateway.get(DAY).await.status, 200);
    revocations.set_answering(false);
    assert_unknown(&gateway.exchange(with("GET", DAY, &token("user02"))).await);
    assert_eq!(gateway.get(DAY).await.status, 200);
    admin.stop().await;
    assert_unknown(&gateway.exchange(with("GET", DAY, &token("user02"))).await);
    assert_eq!(gateway.get(DAY).await.status, 200);
}

/// A backend that crashes soon after each start resets the statuses, and cannot be queried.
#[tokio::test]
async fn after_a_reset_known_identities_are_served_until_their_status_is_too_old() {
    let (revocations, _api, _admin, gateway) = start(&[("REVOCATION_MAX_AGE", "3")]).await;
    let reset = async || {
        assert_eq!(gateway.get(DAY).await.status, 200);
        revocations.set_answering(false);
        revocations.send_line(&json!({"reset": true}));
        let identities = "gateway_revocation_identities";
        until("the statuses are reset", async || gateway.metric(identities).await == Some(0.0)).await;
    };
    reset().await;
    assert_eq!(gateway.get(DAY).await.status, 200);
    assert_unknown(&gateway.exchange(with("GET", DAY, &token("user02"))).await);
    let request = request("GET", DAY, "");
    until("the status is too old", async || gateway.exchange(&request).await.status == 503).await;
    assert!(gateway.metric("gateway_revocation_feed_age_seconds").await.unwrap() < 3.0, "the feed is connected");
    revocations.set_answering(true);
    reset().await;
    // The feed names an identity whose former status was used.
    revocations.change("user01", json!({"active": false, "password_changed_at": null, "logged_out": []}));
    until("the former status is not used", async || gateway.exchange(&request).await.status == 503).await;
    revocations.set_answering(true);
    until_revoked(&gateway, &request).await;
}

#[tokio::test]
async fn serve_on_accepts_valid_tokens_while_their_status_is_unknown() {
    let (api, (revocations, admin)) = (api().await, RevocationStub::start().await);
    revocations.set_heartbeats(false);
    revocations.set_answering(false);
    let gateway = RevocationStub::gateway(&api, &admin, &[("REVOCATION_WHEN_STALE", "serve_on")]);
    assert_eq!(gateway.get(DAY).await.status, 200);
    revocations.set_answering(true);
    revocations.set("user01", json!({"active": false, "password_changed_at": null, "logged_out": []}));
    assert_revoked(&gateway.get(DAY).await);
}

#[tokio::test]
async fn an_invalid_response_to_a_check_is_503() {
    let (revocations, api, _admin, gateway) = start(&[]).await;
    for odd in [json!({"active": true}), json!({"active": "yes", "password_changed_at": null, "logged_out": []})] {
        revocations.change("user01", odd);
        until("the invalid response is received", async || gateway.get(DAY).await.status == 503).await;
    }
    api.forget();
    assert_unknown(&gateway.get(DAY).await);
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn a_logout_revokes_its_token_and_no_other() {
    let (_authority, api, admin, gateway) = start(&[]).await;
    let now = now();
    let claims = |id: &str| {
        let claims = json!({"exp": now + 300, "iat": now, "nbf": now, "identity": "user01", "jti": id});
        signed(HEADER, &claims.to_string())
    };
    let (ended, other) = (claims("1"), claims("2"));
    assert_eq!(gateway.exchange(with("GET", DAY, &ended)).await.status, 200);
    let answer = gateway.exchange(with("POST", "/auth/logout", &ended)).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{answer:?}");
    assert_eq!((answer.values("content-length").len(), answer.value("cache-control")), (0, "no-store"));
    let logout = admin.seen().into_iter().find(|seen| seen.target == "/revocation/logout").unwrap().json();
    assert_eq!(logout, json!({"identity": "user01", "token": "jti:1", "expires_at": now + 300}));
    api.forget();
    assert_revoked(&gateway.exchange(with("GET", DAY, &ended)).await);
    assert_revoked(&gateway.exchange(with("POST", "/auth/logout", &ended)).await);
    assert!(api.seen().is_empty());
    assert_eq!(gateway.exchange(with("GET", DAY, &other)).await.status, 200);
    // A token without `jti`, as the original API issues.
    let without = token("user01");
    assert_eq!(gateway.exchange(with("POST", "/auth/logout", &without)).await.status, 204);
    assert_revoked(&gateway.exchange(with("GET", DAY, &without)).await);
}

#[tokio::test]
async fn a_logout_is_a_post_without_a_body_and_503_if_it_cannot_be_stored() {
    let (revocations, api, admin, gateway) = start(&[]).await;
    let answer = gateway.exchange(request("GET", "/auth/logout", "")).await;
    answer.assert_json(405, r#"{"error":"Method Not Allowed"}"#);
    assert_eq!(answer.value("allow"), "POST");
    let body = request("POST", "/auth/logout", "Content-Length: 2\r\n");
    gateway.exchange(format!("{body}{{}}")).await.assert_json(400, r#"{"error":"Bad Request"}"#);
    let anonymous = "POST /auth/logout HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(gateway.exchange(anonymous).await.status, 401);
    assert_eq!(gateway.exchange(request("POST", "/auth/logout", "Content-Length: 0\r\n")).await.status, 204);
    revocations.set("user02", json!({"active": true, "password_changed_at": null, "logged_out": []}));
    assert_eq!(gateway.exchange(with("GET", DAY, &token("user02"))).await.status, 200);
    revocations.set_answering(false);
    assert_unknown(&gateway.exchange(with("POST", "/auth/logout", &token("user02"))).await);
    let logouts = admin.seen().iter().filter(|seen| seen.target == "/revocation/logout").count();
    assert_eq!(logouts, 2);
    assert_eq!(api.seen().len(), 1);
}

#[tokio::test]
async fn a_login_in_the_second_of_a_password_change_is_issued_after_it() {
    let changed = std::sync::OnceLock::new();
    let admin = Backend::start(move |_| {
        let body = json!({"username": "user01", "password_changed_at": changed.get_or_init(now)});
        json_answer("200 OK", &body.to_string())
    })
    .await;
    let api = api().await;
    let gateway = Gateway::start(&api, &admin);
    let before = now();
    let answer = gateway.exchange(crate::auth::login(r#"{"username":"user01","password":"p"}"#)).await;
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let claims = crate::support::token::decode(token.split('.').nth(1).unwrap());
    assert!(claims["iat"].as_i64().unwrap() > before, "{claims}");
    // The password is checked again, since it may have changed meanwhile.
    assert_eq!(admin.seen().len(), 2);
}

#[tokio::test]
async fn without_revocations_there_is_no_logout() {
    let (api, (_authority, admin)) = (api().await, RevocationStub::start().await);
    let gateway = Gateway::start(&api, &admin);
    gateway.exchange(request("POST", "/auth/logout", "")).await.assert_json(404, r#"{"error":"Not found"}"#);
    assert_eq!(checks(&admin), 0);
    assert!(gateway.metric("gateway_revocation_feed_age_seconds").await.is_none());
}

#[tokio::test]
async fn a_token_is_issued_at_the_second_in_which_its_check_was_requested() {
    // The password may change between the check and its response.
    let admin = Backend::start(|_| {
        let wait = Step::Wait(Duration::from_millis(2100));
        [vec![wait], json_answer("200 OK", r#"{"username":"user01","password_changed_at":null}"#)].concat()
    })
    .await;
    let api = api().await;
    let gateway = Gateway::start(&api, &admin);
    let before = now();
    let answer = gateway.exchange(crate::auth::login(r#"{"username":"user01","password":"p"}"#)).await;
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let claims = crate::support::token::decode(token.split('.').nth(1).unwrap());
    assert!((before..before + 2).contains(&claims["iat"].as_i64().unwrap()), "{claims} {before}");
}
