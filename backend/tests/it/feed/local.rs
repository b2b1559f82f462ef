//! Events about changes by the process itself, their subscribers, and limits.

use holodule_backend::feed::SUBSCRIBER_LIMIT;
use holodule_backend::server::Address;
use serde_json::{Value, json};

use super::{Feed, PATIENCE, account, check, inactive, log_out, now, unknown_user};
use crate::http;
use crate::service::{Service, Setup};

#[tokio::test]
async fn a_change_by_this_process_is_published_and_effective() {
    let service = Service::start().await;
    let mut feed = Feed::subscribe(&service.admin).await;
    let mut other = Feed::subscribe(&service.admin).await;
    assert_eq!((feed.id.len(), &feed.id), (32, &other.id), "one id for each process");
    assert_eq!(check(&service, "user01").await.body, format!("{}\n", unknown_user_text("user01", &feed.id)));

    let before = now();
    let user = r#"{"username":"user01","password":"password01"}"#;
    assert_eq!(service.admin("POST", "/users", user).await.status, 201);
    feed.expect_identity("user01").await;
    let made = account(&service, "user01").await;
    assert!(made["active"] == true && made["password_changed_at"].as_i64().unwrap() >= before, "{made}");

    service.admin("PATCH", "/users/user01", r#"{"disabled":true}"#).await;
    feed.expect_identity("user01").await;
    assert_eq!(account(&service, "user01").await, inactive("user01", "disabled"));
    service.admin("PATCH", "/users/user01", r#"{"disabled":false}"#).await;
    feed.expect_identity("user01").await;
    // Tokens from before the user was disabled stay revoked.
    let enabled = account(&service, "user01").await;
    assert!(enabled["active"] == true && enabled["password_mark"] != made["password_mark"], "{enabled}");

    assert_eq!(log_out(&service, "user01", "jti:abc", now() + 300).await.status, 204);
    feed.expect_identity("user01").await;
    assert_eq!(account(&service, "user01").await["logged_out"], json!(["jti:abc"]));

    for (method, body, roles) in
        [("PUT", r#"["b","a"]"#, json!(["a", "b"])), ("PATCH", r#"{"remove":["a"]}"#, json!(["b"]))]
    {
        assert_eq!(service.admin(method, "/users/user01/roles", body).await.status, 204);
        feed.expect_identity("user01").await;
        let checked = account(&service, "user01").await;
        assert_eq!((&checked["roles"], &checked["password_mark"]), (&roles, &enabled["password_mark"]));
    }

    let before = now();
    service.admin("PUT", "/users/user01/password", r#"{"password":"password02"}"#).await;
    feed.expect_identity("user01").await;
    let changed = account(&service, "user01").await;
    assert!(changed["password_changed_at"].as_i64().unwrap() >= before, "{changed}");
    assert_eq!(service.verify("user01", "password01").await.status, 401);
    let verified = service.verify("user01", "password02").await.json();
    for member in ["password_changed_at", "password_mark"] {
        assert_eq!(verified[member], changed[member]);
    }
    assert_ne!(changed["password_mark"], made["password_mark"]);

    service.admin("DELETE", "/users/user01", "").await;
    feed.expect_identity("user01").await;
    assert_eq!(account(&service, "user01").await, unknown_user("user01"));
    assert_eq!(feed.beats(2).await, Vec::<Value>::new());
    for _ in 0..8 {
        other.expect_identity("user01").await;
    }
}

fn unknown_user_text(identity: &str, feed: &str) -> String {
    format!(
        r#"{{"identity":"{identity}","active":false,"reason":"no_user","password_changed_at":null,"password_mark":null,"logged_out":[],"roles":[],"feed":"{feed}"}}"#
    )
}

#[tokio::test]
async fn beats_count_up_and_metrics_cover_the_feed() {
    let service = Service::start().await;
    let mut feed = Feed::subscribe(&service.admin).await;
    let first = feed.line().await.unwrap()["beat"].as_u64().unwrap();
    for number in 1..4 {
        assert_eq!(feed.line().await.unwrap(), json!({ "beat": first + number }));
    }
    account(&service, "user01").await;
    assert_eq!(service.metric("backend_revocation_watched_identities").await, 1.0);
    assert_eq!(service.metric("backend_revocation_subscribers").await, 1.0);
    assert!(service.metric("backend_revocation_events_total{kind=\"beat\"}").await >= 4.0);
    assert!(service.metric("backend_revocation_last_look_age_seconds").await < 20.0);
    drop(feed);
    let left = async { while service.metric("backend_revocation_subscribers").await > 0.0 {} };
    tokio::time::timeout(PATIENCE, left).await.unwrap();
}

#[tokio::test]
async fn a_logout_is_validated() {
    let service = Service::start().await;
    service.user("user01", "password01").await;
    let longest = format!("sha256:{}", "f".repeat(200));
    for (token, expires_at, status) in [
        ("jti:a", now() + 86_690, 204),
        (longest.as_str(), now() + 300, 204),
        // A gateway whose clock is behind still accepts it.
        ("jti:late", now() - 1, 204),
        ("jti:gone", now() - 61, 204),
        ("jti:a", now() + 86_800, 400),
        ("jti:a", i64::MAX, 400),
        ("jti:", now() + 300, 400),
        ("a", now() + 300, 400),
        (&format!("{longest}f"), now() + 300, 400),
        ("jti:\n", now() + 300, 400),
    ] {
        assert_eq!(log_out(&service, "user01", token, expires_at).await.status, status, "{token} {expires_at}");
    }
    assert_eq!(log_out(&service, "", "jti:a", now() + 300).await.status, 400);
    assert_eq!(account(&service, "user01").await["logged_out"], json!(["jti:a", "jti:late", longest]));
    for body in ["", "{}", "[]", r#"{"identity":1}"#, r#"{"identity":"a","x":1}"#, r#"{"identity":{"$ne":null}}"#] {
        assert_eq!(service.admin("POST", "/revocation/check", body).await.status, 400, "{body}");
        assert_eq!(service.admin("POST", "/revocation/logout", body).await.status, 400, "{body}");
    }
    let get = http::send(&service.admin, "GET", "/revocation/check", &[], "").await;
    assert_eq!((get.status, get.header("allow")), (405, "POST"));
    let head = http::send(&service.admin, "HEAD", "/revocation/feed", &[], "").await;
    assert_eq!((head.status, head.header("allow")), (405, "GET"));
}

#[tokio::test]
async fn subscribers_are_limited_and_end_with_the_service() {
    let mut setup = Setup::default();
    setup.server.admin.max_connections = 2 * SUBSCRIBER_LIMIT;
    let service = Service::with(setup).await;
    let mut feeds = Vec::new();
    for _ in 0..SUBSCRIBER_LIMIT {
        feeds.push(Feed::subscribe(&service.admin).await);
    }
    let refused = http::send(&service.admin, "GET", "/revocation/feed", &[], "").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    let ended = service.stop();
    for feed in &mut feeds {
        while feed.line().await.is_some() {}
    }
    assert_eq!(ended.await.unwrap().cut, 0, "the drain waits for no feed");
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_is_disconnected() {
    let folder = tempfile::tempdir().unwrap();
    // The buffers of a Unix socket are small.
    let admin: Address = format!("unix:{}", folder.path().join("admin.sock").display()).parse().unwrap();
    let service = Service::with(Setup { admin: admin.clone(), ..Setup::default() }).await;
    let _slow = Feed::subscribe(&admin).await;
    let mut quick = Feed::subscribe(&admin).await;
    let path = format!("/users/{}", "x".repeat(1000));
    let cut_off = async {
        while service.metric("backend_revocation_cut_off_subscribers_total").await < 1.0 {
            let changes = (0..32).map(|_| service.admin("PATCH", &path, r#"{"disabled":true}"#));
            for reply in futures_util::future::join_all(changes).await {
                assert_eq!(reply.status, 404);
            }
        }
    };
    tokio::select! {
        () = cut_off => {}
        () = async { loop { quick.line().await.unwrap(); } } => {}
    }
    assert_eq!(service.metric("backend_revocation_cut_off_subscribers_total").await, 1.0);
    assert_eq!(service.metric("backend_revocation_subscribers").await, 1.0);
    quick.beats(1).await;
}
