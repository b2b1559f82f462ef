//! A stream ends within a second of the end of its principal's authority, and an expired token's after the grace.

use std::time::{Duration, Instant};

use holodule_gateway::token::{Digest, Key, Keys, Settings};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{CODECS, Service, Stream, rfc_3339};
use crate::support::revocation::{RevocationStub, checks};
use crate::support::token::{HEADER, now, signed, token};
use crate::support::{Gateway, Log, admin, request, until};

/// `/tail` requires a role.
const ROUTES: (&str, &str) = (
    "ROUTE",
    "[{ name = 'events', methods = ['GET', 'POST'], path = '/events' }, \
      { name = 'tail', methods = ['GET', 'POST'], path = '/tail', stream = true, require = { any = ['viewer'] } }]",
);

/// What the contract promises.
const AT_MOST: Duration = Duration::from_secs(1);

fn active(roles: &Value) -> Value {
    json!({"active": true, "password_changed_at": null, "logged_out": [], "roles": roles})
}

/// A token that expires in `seconds`.
fn short(seconds: i64) -> (String, i64) {
    let now = now();
    let claims = json!({"exp": now + seconds, "iat": now, "nbf": now, "identity": "user01"});
    (signed(HEADER, &claims.to_string()), now + seconds)
}

fn millis() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()
}

async fn open_all(service: &Service, gateway: &Gateway, path: &str, token: &str) -> Vec<Stream> {
    let mut streams = Vec::new();
    for codec in CODECS {
        let stream = Stream::open(codec, gateway.https, path, token).await;
        assert_eq!(stream.status, 200);
        streams.push(stream);
    }
    service.until_open(CODECS.len()).await;
    service.send("data: 1\n\n");
    for stream in &mut streams {
        stream.until("data: 1\n\n").await;
    }
    streams
}

/// Waits for the ends of all streams, and returns how long that took since `began`.
async fn all_end(streams: Vec<Stream>, began: Instant) -> Duration {
    for mut stream in streams {
        assert_eq!(stream.next().await, None);
    }
    began.elapsed()
}

async fn assert_reason(log: &Log, reason: &str) {
    assert_reason_after(log, 0, reason).await;
}

/// Asserts that one stream of each codec has ended for `reason`, after the lines of `earlier` requests.
async fn assert_reason_after(log: &Log, earlier: usize, reason: &str) {
    let ended = || log.lines().into_iter().filter(|line| line["route"] != "logout").collect::<Vec<_>>();
    until("the lines are written", async || ended().len() >= earlier + CODECS.len()).await;
    let lines = ended();
    let ends = &lines[lines.len() - CODECS.len()..];
    assert!(ends.iter().all(|line| line["reason"] == reason && line["status"] == 200), "{reason}: {ends:?}");
}

async fn start(settings: &[(&str, &str)]) -> (RevocationStub, Service, crate::support::backend::Backend, Gateway, Log) {
    let (stub, admin) = RevocationStub::start().await;
    let service = Service::start().await;
    let mut all = vec![("REVOCATION_ENABLED", "true"), ROUTES];
    all.extend_from_slice(settings);
    let (gateway, log) = Gateway::start_logged(&service.backend, &admin, &all);
    gateway.ready().await;
    (stub, service, admin, gateway, log)
}

#[tokio::test]
async fn every_revocation_ends_the_streams_of_the_user_within_a_second_and_no_others() {
    let inactive =
        |reason: &str| json!({"active": false, "reason": reason, "password_changed_at": null, "logged_out": []});
    let changed = json!({"active": true, "password_changed_at": now() + 100, "logged_out": []});
    for (reason, path, status) in [
        ("no_user", "/events", inactive("no_user")),
        ("disabled", "/events", inactive("disabled")),
        ("password_changed", "/events", changed),
        ("scope", "/tail", active(&json!(["editor"]))),
    ] {
        let (stub, service, _admin, gateway, log) = start(&[]).await;
        stub.set("user01", active(&json!(["viewer"])));
        stub.set("user02", active(&json!(["viewer"])));
        let mut other = Stream::open(CODECS[0], gateway.https, path, &token("user02")).await;
        service.until_open(1).await;
        let mut streams = Vec::new();
        for codec in CODECS {
            streams.push(Stream::open(codec, gateway.https, path, &token("user01")).await);
        }
        service.until_open(CODECS.len() + 1).await;
        // A change that does not concern the route.
        stub.change("user01", active(&json!(["viewer", "other"])));
        stub.change("user02", active(&json!(["viewer", "other"])));
        service.send("data: 1\n\n");
        for stream in &mut streams {
            stream.until("data: 1\n\n").await;
        }
        let began = Instant::now();
        stub.change("user01", status);
        let took = all_end(streams, began).await;
        println!("{reason}: after {took:?}");
        assert!(took < AT_MOST, "{reason}: {took:?}");
        assert_reason(&log, reason).await;
        service.send("data: 2\n\n");
        other.until("data: 2\n\n").await;
    }
}

#[tokio::test]
async fn a_logout_ends_the_streams_of_that_token_only() {
    let (_stub, service, _admin, gateway, log) = start(&[]).await;
    let mut other = Stream::open(CODECS[0], gateway.https, "/events", &short(200).0).await;
    service.until_open(1).await;
    let mut streams = Vec::new();
    let token = token("user01");
    for codec in CODECS {
        streams.push(Stream::open(codec, gateway.https, "/events", &token).await);
    }
    let logout = request("POST", "/auth/logout", "");
    let logout = logout.replace(logout.split("JWT ").nth(1).unwrap().split('\r').next().unwrap(), &token);
    let began = Instant::now();
    assert_eq!(gateway.exchange(logout).await.status, 204);
    let took = all_end(streams, began).await;
    assert!(took < AT_MOST, "{took:?}");
    assert_reason(&log, "logged_out").await;
    service.send("data: 2\n\n");
    other.until("data: 2\n\n").await;
}

#[tokio::test]
async fn an_expired_token_ends_its_streams_after_the_grace() {
    for (grace, lifetime) in [(0, 2), (2, 2)] {
        let (service, admin) = (Service::start().await, admin().await);
        let settings = [ROUTES, ("STREAM_GRACE", &*grace.to_string())];
        let (gateway, log) = Gateway::start_logged(&service.backend, &admin, &settings);
        let (token, expiry) = short(lifetime);
        let streams = open_all(&service, &gateway, "/events", &token).await;
        all_end(streams, Instant::now()).await;
        let late = i128::try_from(millis()).unwrap() - i128::from((expiry + grace) * 1000);
        println!("grace {grace} s: {late} ms late");
        assert!((0..1000).contains(&late), "{late} ms after the grace of {grace} s");
        assert_reason(&log, "expired").await;
    }
}

#[tokio::test]
async fn an_unknown_status_ends_streams_like_requests() {
    // The feed is disconnected for longer than the data may be used.
    let (stub, service, _admin, gateway, log) = start(&[("REVOCATION_MAX_AGE", "1")]).await;
    let streams = open_all(&service, &gateway, "/events", &token("user01")).await;
    let began = Instant::now();
    stub.set_heartbeats(false);
    let took = all_end(streams, began).await;
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(2), "{took:?}");
    assert_reason(&log, "revocation").await;
    assert_eq!(gateway.exchange(request("GET", "/events", "")).await.status, 503);
    // The user changed, and the new status cannot be queried.
    let (stub, service, _admin, gateway, log) = start(&[]).await;
    let streams = open_all(&service, &gateway, "/events", &token("user01")).await;
    stub.set_answering(false);
    let began = Instant::now();
    stub.change("user01", active(&json!([])));
    let took = all_end(streams, began).await;
    assert!(took < AT_MOST, "{took:?}");
    assert_reason(&log, "revocation").await;
}

#[tokio::test]
async fn streams_survive_an_interruption_of_the_feed_and_changes_during_it_end_them() {
    let (stub, service, admin, gateway, log) = start(&[]).await;
    let mut streams = open_all(&service, &gateway, "/events", &token("user01")).await;
    let before = checks(&admin);
    stub.end_feeds();
    until("the account is queried again", async || checks(&admin) > before).await;
    service.send("data: 2\n\n");
    for stream in &mut streams {
        stream.until("data: 2\n\n").await;
    }
    assert_eq!(checks(&admin), before + 1, "one query for all streams of the user");
    // Without a line on the feed: only the interruption reveals it.
    stub.set("user01", json!({"active": false, "password_changed_at": null, "logged_out": []}));
    stub.end_feeds();
    all_end(streams, Instant::now()).await;
    assert_reason(&log, "no_user").await;
}

#[tokio::test]
async fn an_account_of_another_backend_is_polled() {
    let (stub, service, _admin, gateway, log) = start(&[]).await;
    let elsewhere =
        |active: bool| json!({"active": active, "password_changed_at": null, "logged_out": [], "feed": "other"});
    stub.set("user01", elsewhere(true));
    let streams = open_all(&service, &gateway, "/events", &token("user01")).await;
    let began = Instant::now();
    stub.set("user01", elsewhere(false));
    let took = all_end(streams, began).await;
    assert!(took < AT_MOST, "{took:?}");
    assert_reason(&log, "no_user").await;
}

#[tokio::test]
async fn a_reload_that_removes_a_credential_ends_its_streams() {
    let keys = |ids: &[u8]| {
        let key = |id: &u8| format!("{{ kid = 'k{id}', secret = '{}' }}", id.to_string().repeat(40));
        format!("[{}]", ids.iter().map(key).collect::<Vec<_>>().join(", "))
    };
    let issuer = Keys::new(
        vec![Key::named("k1", "1".repeat(40).as_bytes()).unwrap()],
        Settings { lifetime: 300, leeway: 0, max_lifetime: 3600 },
    )
    .unwrap();
    let token = issuer.issue("user01", "1", now()).unwrap();
    let machine = |scopes: &str| {
        let digest = Digest::of(b"word-0123");
        format!("[{{ name = 'm', sha256 = '{digest}', routes = ['*'], scopes = [{scopes}] }}]")
    };
    let (service, admin) = (Service::start().await, admin().await);
    let (with_both, viewer) = (keys(&[1, 2]), machine("'viewer'"));
    let settings = [ROUTES, ("KEY", with_both.as_str()), ("STATIC_TOKEN", viewer.as_str())];
    let (gateway, log) = Gateway::start_logged(&service.backend, &admin, &settings);
    let mut streams = open_all(&service, &gateway, "/events", &token).await;
    // Neither another key nor another order.
    gateway.reload(&[("KEY", &keys(&[3, 2, 1]))]).unwrap();
    service.send("data: 2\n\n");
    for stream in &mut streams {
        stream.until("data: 2\n\n").await;
    }
    gateway.reload(&[("KEY", &keys(&[3, 2]))]).unwrap();
    let took = all_end(streams, Instant::now()).await;
    assert!(took < AT_MOST, "{took:?}");
    assert_reason(&log, "withdrawn").await;
    for after in [machine("'viewer', 'editor'"), "[]".to_owned()] {
        gateway.reload(&[("STATIC_TOKEN", &viewer)]).unwrap();
        until("the streams are closed", async || {
            service.send("x");
            service.open() == 0
        })
        .await;
        let streams = open_all(&service, &gateway, "/tail", "word-0123").await;
        gateway.reload(&[("STATIC_TOKEN", &after)]).unwrap();
        let took = all_end(streams, Instant::now()).await;
        assert!(took < AT_MOST, "{took:?}");
        assert_reason(&log, "withdrawn").await;
    }
}

#[tokio::test]
async fn a_public_stream_has_no_lease() {
    let (service, admin) = (Service::start().await, admin().await);
    let routes = ("ROUTE", "[{ methods = ['GET', 'POST'], path = '/events', public = true }]");
    let gateway = Gateway::start_with(&service.backend, &admin, &[routes, ("STREAM_GRACE", "0")]);
    let (token, _) = short(1);
    let mut streams = open_all(&service, &gateway, "/events", &token).await;
    assert!(timeout(Duration::from_millis(2500), streams[0].next()).await.is_err(), "the stream has ended");
}

#[tokio::test]
async fn the_retirement_of_a_key_ends_the_streams_of_users() {
    let key = |id: u8| format!("kid = 'k{id}', secret = '{}'", id.to_string().repeat(40));
    let keys = |retired: &str| format!("[{{ {} }}, {{ {}{retired} }}]", key(2), key(1));
    let token = |id: u8| {
        let key = Key::named(&format!("k{id}"), id.to_string().repeat(40).as_bytes()).unwrap();
        let settings = Settings { lifetime: 300, leeway: 0, max_lifetime: 3600 };
        Keys::new(vec![key], settings).unwrap().issue("user01", "1", now()).unwrap()
    };
    let (service, admin) = (Service::start().await, admin().await);
    let retires = now() + 4;
    let settings = [ROUTES, ("KEY", &keys(&format!(", retire_at = '{}'", rfc_3339(retires))))];
    let (gateway, log) = Gateway::start_logged(&service.backend, &admin, &settings);
    let streams = open_all(&service, &gateway, "/events", &token(1)).await;
    all_end(streams, Instant::now()).await;
    assert!((retires..retires + 3).contains(&now()), "{} {retires}", now());
    assert_reason(&log, "withdrawn").await;
    // A key that has retired may be removed.
    until("the streams are closed", async || {
        service.send("x");
        service.open() == 0
    })
    .await;
    let mut streams = open_all(&service, &gateway, "/events", &token(2)).await;
    gateway.reload(&[("KEY", &format!("[{{ {} }}]", key(2)))]).unwrap();
    gateway.reload(&[("KEY", &keys(""))]).unwrap();
    service.send("data: 2\n\n");
    for stream in &mut streams {
        stream.until("data: 2\n\n").await;
    }
    drop(streams);
    until("the streams are closed", async || {
        service.send("x");
        service.open() == 0
    })
    .await;
    until("their lines are written", async || log.lines().len() >= 2 * CODECS.len()).await;
    // A reload may also retire one that is in use.
    let streams = open_all(&service, &gateway, "/events", &token(1)).await;
    let began = Instant::now();
    gateway.reload(&[("KEY", &keys(", retire_at = '2020-01-01T00:00:00Z'"))]).unwrap();
    let took = all_end(streams, began).await;
    assert!(took < AT_MOST, "{took:?}");
    assert_reason_after(&log, 2 * CODECS.len(), "withdrawn").await;
}
