//! The roles that the backend returns with a revocation check replace those of the token.

use std::time::Instant;

use holodule_gateway::token::Digest;
use serde_json::{Value, json};

use super::{scoped, with};
use crate::program::{check, folder};
use crate::support::backend::{Backend, answer};
use crate::support::revocation::RevocationStub;
use crate::support::{Gateway, until};

const ROUTES: &str = "[{ name = 'notes', path = '/notes', methods = ['GET'], require = { any = ['viewer'] } }, \
     { name = 'day', path = '/day', methods = ['GET'], shared = true, require = { any = ['viewer'] } }, \
     { name = 'open', path = '/open', methods = ['GET'] }]";

const WORD: &str = "holodule_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The status of an active account with these roles.
fn active(roles: &Value) -> Value {
    json!({"active": true, "password_changed_at": null, "logged_out": [], "roles": roles})
}

async fn start(settings: &[(&str, &str)]) -> (RevocationStub, Backend, Backend, Gateway) {
    let (stub, admin) = RevocationStub::start().await;
    let service = Backend::start(|_| answer("200 OK", &[("Cache-Control", "s-maxage=600")], "served")).await;
    let settings: Vec<_> = [("ROUTE", ROUTES)].into_iter().chain(settings.iter().copied()).collect();
    let gateway = RevocationStub::gateway(&service, &admin, &settings);
    gateway.ready().await;
    (stub, service, admin, gateway)
}

async fn status(gateway: &Gateway, path: &str, token: &str) -> u16 {
    gateway.exchange(with("GET", path, token, "")).await.status
}

#[tokio::test]
async fn the_roles_of_the_user_replace_those_of_the_token() {
    let (stub, service, _admin, gateway) = start(&[]).await;
    stub.set("user01", active(&json!([])));
    assert_eq!(status(&gateway, "/notes", &scoped("viewer")).await, 403);
    assert_eq!(status(&gateway, "/open", &scoped("viewer")).await, 200);
    service.forget();
    stub.change("user01", active(&json!(["editor", "viewer"])));
    let token = scoped("other");
    until("the new roles are known", async || status(&gateway, "/notes", &token).await == 200).await;
    assert_eq!(service.seen().len(), 1);
}

#[tokio::test]
async fn a_change_applies_to_tokens_and_cached_responses_as_soon_as_the_feed_names_the_user() {
    let (stub, service, _admin, gateway) = start(&[("CACHE_MAX_BYTES", "67108864")]).await;
    let token = scoped("viewer");
    for round in 0..3 {
        stub.change("user01", active(&json!(["viewer"])));
        until("the role is added", async || status(&gateway, "/day", &token).await == 200).await;
        assert_eq!(status(&gateway, "/notes", &token).await, 200);
        let began = Instant::now();
        stub.change("user01", active(&json!(["viewers"])));
        until("the role is removed", async || status(&gateway, "/day", &token).await == 403).await;
        println!("removed after {} ms", began.elapsed().as_millis());
        assert_eq!(status(&gateway, "/notes", &token).await, 403);
        // The response remains in the cache for users with the role.
        assert_eq!(service.seen().iter().filter(|seen| seen.target == "/day").count(), 1, "{round}");
    }
}

#[tokio::test]
async fn a_backend_that_returns_no_roles_leaves_those_of_the_token() {
    let (_stub, _service, _admin, gateway) = start(&[]).await;
    assert_eq!(status(&gateway, "/notes", &scoped("viewer")).await, 200);
    assert_eq!(status(&gateway, "/notes", &scoped("")).await, 403);
}

#[tokio::test]
async fn roles_that_cannot_be_read_are_503() {
    let (stub, service, _admin, gateway) = start(&[]).await;
    for roles in [json!(null), json!("viewer"), json!(["viewer", 1]), json!(["a b"]), json!(["r".repeat(2049)])] {
        stub.change("user01", active(&roles));
        let token = scoped("viewer");
        until("the change is known", async || status(&gateway, "/notes", &token).await == 503).await;
        assert_eq!(status(&gateway, "/open", &token).await, 503, "{roles}");
    }
    assert!(service.seen().iter().all(|seen| seen.target == "/notes"));
}

#[tokio::test]
async fn while_the_status_is_unknown_serve_on_uses_the_roles_of_the_token() {
    let (stub, admin) = RevocationStub::start().await;
    stub.set_heartbeats(false);
    stub.set_answering(false);
    let service = Backend::start(|_| answer("200 OK", &[], "served")).await;
    let settings = [("ROUTE", ROUTES), ("REVOCATION_WHEN_STALE", "serve_on")];
    let gateway = RevocationStub::gateway(&service, &admin, &settings);
    assert_eq!(status(&gateway, "/notes", &scoped("viewer")).await, 200);
    assert_eq!(status(&gateway, "/notes", &scoped("editor")).await, 403);
    stub.set("user01", active(&json!([])));
    stub.set_answering(true);
    assert_eq!(status(&gateway, "/notes", &scoped("viewer")).await, 403);
}

#[tokio::test]
async fn a_static_token_keeps_its_own_scopes() {
    let machine =
        format!("[{{ name = 'm', sha256 = '{}', routes = ['*'], scopes = ['viewer'] }}]", Digest::of(WORD.as_bytes()));
    let (stub, _service, _admin, gateway) = start(&[("STATIC_TOKEN", &machine)]).await;
    stub.set("static:m", active(&json!([])));
    assert_eq!(status(&gateway, "/notes", WORD).await, 200);
}

#[test]
fn check_warns_of_required_roles_without_revocation() {
    let folder = folder();
    let file = folder.path().join("gateway.toml");
    let routes = "[[route]]\npath = '/open'\nmethods = ['GET']\n\
                  [[route]]\npath = '/notes'\nmethods = ['GET']\nrequire = { any = ['viewer'] }\n";
    let written = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, written + routes).unwrap();
    for (revocation, is_warned) in [("true", false), ("false", true)] {
        let output = check(folder.path(), &[("REVOCATION_ENABLED", revocation)]);
        let printed = String::from_utf8(output.stdout).unwrap();
        let warning = "warning: route[1].require: without revocation, users keep the roles of their login";
        assert_eq!(printed.contains(warning), is_warned, "{printed}");
        assert!(!printed.contains("route[0].require"), "{printed}");
    }
}
