//! A tunnel ends within 1 s when a request with the same token would be refused.

use std::time::{Duration, Instant};

use holodule_gateway::token::{Digest, Key, Keys, Settings};
use serde_json::json;

use super::{Accepted, HANDSHAKE, Service, handshake, routes, switch};
use crate::support::backend::Backend;
use crate::support::client::Connection;
use crate::support::revocation::RevocationStub;
use crate::support::token::{HEADER, now, signed, token};
use crate::support::{Gateway, api, get, until};

struct Watched {
    revocations: RevocationStub,
    gateway: Gateway,
    service: Service,
    _backends: [Backend; 2],
}

impl Watched {
    async fn start(route: &str, settings: &[(&str, &str)]) -> Self {
        let (service, api, (revocations, admin)) = (Service::start().await, api().await, RevocationStub::start().await);
        let services = format!("[{{ name = 'chat', addresses = ['{}'] }}]", service.address());
        let routes = routes(route);
        let all: Vec<_> =
            [("SERVICE", services.as_str()), ("ROUTE", &routes)].into_iter().chain(settings.iter().copied()).collect();
        let gateway = RevocationStub::gateway(&api, &admin, &all);
        gateway.ready().await;
        Self { revocations, gateway, service, _backends: [api, admin] }
    }

    async fn open(&self, token: &str) -> (Connection, Accepted) {
        let sent = handshake("");
        let authorization = sent.lines().find(|line| line.starts_with("Authorization")).unwrap();
        let sent = sent.replace(authorization, &format!("Authorization: JWT {token}"));
        let mut client = self.gateway.connect().await;
        client.send(sent).await;
        let mut service = self.service.accept().await;
        service.send(switch("")).await;
        assert!(client.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 101 "));
        (client, service)
    }
}

/// Waits for the end of both sides, which is not clean, and returns how long it took.
async fn ended(began: Instant, client: &mut Connection, service: &mut Accepted) -> Duration {
    assert!(client.read_to_close_notify().await.is_err(), "a clean end would not be seen as 1006");
    let took = began.elapsed();
    assert_eq!(service.rest().await, b"");
    took
}

#[tokio::test]
async fn the_tunnels_of_a_revoked_user_end_within_a_second_and_others_do_not() {
    let watched = Watched::start("", &[]).await;
    for status in [
        json!({"active": false, "password_changed_at": null, "logged_out": []}),
        json!({"active": true, "password_changed_at": now() + 10, "logged_out": []}),
    ] {
        let mut own = [watched.open(&token("user01")).await, watched.open(&token("user01")).await];
        let (mut other_client, mut other_service) = watched.open(&token("user02")).await;
        let began = Instant::now();
        watched.revocations.change("user01", status);
        for (client, service) in &mut own {
            let took = ended(began, client, service).await;
            assert!(took < Duration::from_secs(1), "{took:?}");
        }
        other_client.send("a").await;
        assert_eq!(other_service.read(1).await, b"a");
        let active = json!({"active": true, "password_changed_at": null, "logged_out": []});
        watched.revocations.change("user01", active);
        let answer = async || watched.gateway.exchange(get("/a/b", "")).await.status;
        until("the user is active again", async || answer().await == 200).await;
    }
    let series = r#"gateway_tunnels_ended_total{outcome="revoked",route="ws"}"#;
    assert_eq!(watched.gateway.metric(series).await, Some(4.0));
}

#[tokio::test]
async fn a_tunnel_ends_when_the_user_loses_a_role_of_the_route() {
    let watched = Watched::start(", require = { any = ['chat'] }", &[]).await;
    let status =
        |roles: &[&str]| json!({"active": true, "password_changed_at": null, "logged_out": [], "roles": roles});
    watched.revocations.set("user01", status(&["chat", "other"]));
    let (mut client, mut service) = watched.open(&token("user01")).await;
    watched.revocations.change("user01", status(&["chat"]));
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.send("a").await;
    assert_eq!(service.read(1).await, b"a");
    let began = Instant::now();
    watched.revocations.change("user01", status(&["other"]));
    let took = ended(began, &mut client, &mut service).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn a_tunnel_ends_when_the_grace_of_an_expired_token_has_passed() {
    let watched = Watched::start("", &[("STREAM_GRACE", "1")]).await;
    let expires = now() + 2;
    let claims = json!({"exp": expires, "iat": now(), "nbf": now(), "identity": "user01"});
    let (mut client, mut service) = watched.open(&signed(HEADER, &claims.to_string())).await;
    ended(Instant::now(), &mut client, &mut service).await;
    assert!((expires + 1..expires + 5).contains(&now()), "{} {expires}", now());
    let series = r#"gateway_tunnels_ended_total{outcome="expired",route="ws"}"#;
    assert_eq!(watched.gateway.metric(series).await, Some(1.0));
}

#[tokio::test]
async fn a_reload_that_removes_a_credential_ends_its_tunnels() {
    let secret = "1".repeat(40);
    let both = format!("[{{ kid = 'k1', secret = '{secret}' }}, {{ kid = 'k2', secret = '{}' }}]", "2".repeat(40));
    let other = format!("[{{ kid = 'k2', secret = '{}' }}]", "2".repeat(40));
    let machine = |scopes: &str| {
        let digest = Digest::of(b"word-0123");
        format!("[{{ name = 'm', sha256 = '{digest}', routes = ['*'], scopes = [{scopes}] }}]")
    };
    let settings = Settings { lifetime: 300, leeway: 0, max_lifetime: 3600 };
    let issuer = Keys::new(vec![Key::named("k1", secret.as_bytes()).unwrap()], settings).unwrap();
    let user = issuer.issue("user01", "1", now()).unwrap();
    let viewer = machine("'viewer'");
    let watched = Watched::start("", &[("KEY", &both), ("STATIC_TOKEN", &viewer)]).await;
    let opened = async |token: &str, scheme: &str| {
        let sent = format!("GET /ws HTTP/1.1\r\nHost: localhost\r\nAuthorization: {scheme} {token}\r\n{HANDSHAKE}\r\n");
        let mut client = watched.gateway.connect().await;
        client.send(sent).await;
        let mut service = watched.service.accept().await;
        service.send(switch("")).await;
        assert!(client.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 101 "));
        (client, service)
    };
    for after in [machine("'viewer', 'editor'"), "[]".to_owned()] {
        watched.gateway.reload(&[("STATIC_TOKEN", &viewer)]).unwrap();
        let (mut client, mut service) = opened("word-0123", "Bearer").await;
        let (mut other_client, mut other_service) = opened(&user, "JWT").await;
        let began = Instant::now();
        watched.gateway.reload(&[("STATIC_TOKEN", &after)]).unwrap();
        let took = ended(began, &mut client, &mut service).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
        other_client.send("a").await;
        assert_eq!(other_service.read(1).await, b"a");
    }
    let (mut client, mut service) = opened(&user, "JWT").await;
    let began = Instant::now();
    watched.gateway.reload(&[("KEY", &other)]).unwrap();
    let took = ended(began, &mut client, &mut service).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}
