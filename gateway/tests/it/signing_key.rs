//! Named keys: which signs, which verify, and how a reload changes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use holodule_gateway::server::NotReloaded;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::auth::{login, user01};
use crate::authorization::assert_unauthorized;
use crate::support::client::Answer;
use crate::support::token::{claims, decode, encode, sign_with, token};
use crate::support::{DAY, Gateway, admin, api, until};

/// The secret of the key of this name.
fn secret(kid: &str) -> String {
    format!("the secret of {kid}, which is thirty-two bytes or more")
}

/// `KEY` with these keys, in this order.
fn keys(kids: &[&str]) -> String {
    keys_with(kids, "")
}

/// `KEY` with these keys, each with `more` fields.
fn keys_with(kids: &[&str], more: &str) -> String {
    let key = |kid: &&str| format!("{{ kid = '{kid}', secret = '{}'{more} }}", secret(kid));
    format!("[{}]", kids.iter().map(key).collect::<Vec<_>>().join(", "))
}

/// A token with this `kid`, signed by the key of the name `signer`.
fn token_of(kid: &Value, signer: &str) -> String {
    let header = json!({"typ": "JWT", "alg": "HS256", "kid": kid}).to_string();
    sign_with(&format!("{}.{}", encode(header), encode(claims("user01"))), secret(signer).as_bytes(), Algorithm::HS256)
}

fn get(token: &str) -> String {
    format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: JWT {token}\r\n\r\n")
}

/// Logs in and returns the token.
async fn log_in(gateway: &Gateway) -> String {
    let answer = gateway.exchange(login(user01())).await;
    answer.json()["access_token"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

fn kid_of(token: &str) -> Value {
    decode(token.split('.').next().unwrap())["kid"].clone()
}

fn assert_no_key(answer: &Answer) {
    assert_unauthorized(answer, "Invalid token", "The specified alg value is not allowed", true);
}

#[tokio::test]
async fn the_first_key_signs_and_all_verify_until_they_are_removed() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("KEY", &keys(&["old"]))]);
    let old = log_in(&gateway).await;
    assert_eq!(kid_of(&old), "old");

    gateway.reload(&[("KEY", &keys(&["new", "old"]))]).unwrap();
    let new = log_in(&gateway).await;
    assert_eq!(kid_of(&new), "new");
    for token in [&old, &new] {
        assert_eq!(gateway.exchange(get(token)).await.status, 200);
    }

    gateway.reload(&[("KEY", &keys(&["new"]))]).unwrap();
    api.forget();
    // The reload also clears the table of verified tokens.
    assert_no_key(&gateway.exchange(get(&old)).await);
    assert!(api.seen().is_empty());
    assert_eq!(gateway.exchange(get(&new)).await.status, 200);
}

#[tokio::test]
async fn rotation_under_load_refuses_no_valid_token() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("KEY", &keys(&["one", "two"]))]);
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = ["one", "two", "one", "two"]
        .map(|kid| {
            let (done, https) = (Arc::clone(&done), gateway.https);
            tokio::spawn(async move {
                let mut connection = crate::support::client::Connection::open(https).await.unwrap();
                let mut requests = 0;
                while !done.load(Ordering::SeqCst) {
                    // Each token is new, so that each is verified and not found in the table.
                    let answer = connection.exchange(get(&token_of(&json!(kid), kid))).await;
                    assert_eq!(answer.status, 200, "{kid} after {requests}: {answer:?}");
                    requests += 1;
                }
                requests
            })
        })
        .into();
    for round in 0..20 {
        let kids = if round % 2 == 0 { ["two", "one"] } else { ["one", "two"] };
        gateway.reload(&[("KEY", &keys(&kids))]).unwrap();
        let token = log_in(&gateway).await;
        assert_eq!((kid_of(&token), gateway.exchange(get(&token)).await.status), (json!(kids[0]), 200));
    }
    done.store(true, Ordering::SeqCst);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn a_key_verifies_nothing_after_its_retirement() {
    let (api, admin) = (api().await, admin().await);
    let moment = OffsetDateTime::now_utc() + time::Duration::seconds(3);
    let retired = keys_with(&["old"], &format!(", retire_at = {}", moment.format(&Rfc3339).unwrap()));
    let both = format!("{}, {}", retired.trim_end_matches(']'), keys(&["new"]).trim_start_matches('['));
    let gateway = Gateway::start_with(&api, &admin, &[("KEY", &both)]);
    let old = log_in(&gateway).await;
    assert_eq!(kid_of(&old), "old");
    let mut connection = gateway.connect().await;
    assert_eq!(connection.exchange(get(&old)).await.status, 200);
    let mut last = None;
    until("the key is retired", async || {
        let answer = connection.exchange(get(&old)).await;
        let is_refused = answer.status == 401;
        last = Some(answer);
        is_refused
    })
    .await;
    assert!(OffsetDateTime::now_utc().unix_timestamp() >= moment.unix_timestamp());
    assert_no_key(&last.unwrap());
    assert_eq!(kid_of(&log_in(&gateway).await), "new");
}

#[tokio::test]
async fn an_unknown_kid_is_refused_whatever_its_value() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("KEY", &keys_with(&["a"], ", without_kid = true"))]);
    let mut connection = gateway.connect().await;
    let odd = [
        json!("b"),
        json!(""),
        json!("A"),
        json!("a "),
        json!("a\0"),
        json!("../../../../dev/null"),
        json!("/proc/self/environ"),
        json!("file:///etc/passwd"),
        json!("' UNION SELECT 'key' --"),
        json!("a' OR '1'='1"),
        json!("$(reboot)"),
        json!(1),
        json!(1.5),
        json!(null),
        json!(true),
        json!(["a"]),
        json!({"kid": "a"}),
        json!("k".repeat(5000)),
    ];
    for kid in odd {
        // Signed by the only key, and by an empty secret, which a lookup by such a path could return.
        let header = json!({"alg": "HS256", "kid": &kid}).to_string();
        let empty = sign_with(&format!("{}.{}", encode(header), encode(claims("user01"))), b"", Algorithm::HS256);
        for token in [token_of(&kid, "a"), empty] {
            let answer = connection.exchange(get(&token)).await;
            assert_eq!(answer.status, 401, "{kid}: {answer:?}");
            assert_no_key(&answer);
        }
    }
    // Twelve unknown names and six values that are not strings, each in two tokens.
    for (reason, count) in [("unknown_kid", 24.0), ("algorithm", 12.0)] {
        let series = format!(r#"gateway_token_refusals_total{{reason="{reason}"}}"#);
        assert_eq!(gateway.metric(&series).await, Some(count), "{reason}");
    }
    let huge = connection.exchange(get(&token_of(&json!("k".repeat(10 * 1024)), "a"))).await;
    assert_unauthorized(&huge, "Invalid token", "Token is too long", true);
    assert!(api.seen().is_empty() && admin.seen().is_empty());
    assert_eq!(connection.exchange(get(&token_of(&json!("a"), "a"))).await.status, 200);
}

#[tokio::test]
async fn a_token_without_kid_is_tried_against_the_keys_that_allow_it() {
    let (api, admin) = (api().await, admin().await);
    let named = |more: &str| format!("{{ kid = 'old', secret = '{}'{more} }}", crate::support::token::secret());
    let list = |more: &str| format!("{}, {}]", keys(&["new", "other"]).trim_end_matches(']'), named(more));
    let gateway = Gateway::start_with(&api, &admin, &[("KEY", &list(", without_kid = true"))]);
    assert_eq!(gateway.exchange(get(&token("user01"))).await.status, 200);
    assert_eq!(gateway.exchange(get(&token_without_kid("new"))).await.status, 401);
    gateway.reload(&[("KEY", &list(""))]).unwrap();
    api.forget();
    let answer = gateway.exchange(get(&token("user01"))).await;
    assert_unauthorized(&answer, "Invalid token", "Signature verification failed", true);
    assert!(api.seen().is_empty());
}

fn token_without_kid(signer: &str) -> String {
    let signed = format!("{}.{}", encode(r#"{"alg":"HS256"}"#), encode(claims("user01")));
    sign_with(&signed, secret(signer).as_bytes(), Algorithm::HS256)
}

#[tokio::test]
async fn an_invalid_configuration_changes_nothing_and_is_reported() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("KEY", &keys(&["good"]))]);
    let success = "gateway_config_last_reload_success_timestamp_seconds";
    let started = gateway.metric(success).await.unwrap();
    let token = log_in(&gateway).await;
    let twice = keys(&["new", "new"]);
    for wrong in
        [("KEY", "[]"), ("KEY", "[{ kid = 'short', secret = 'x' }]"), ("KEY", &twice), ("TLS_PRIVATE_KEY", "x")]
    {
        let Err(NotReloaded::Config(problems)) = gateway.reload(&[("KEY", &keys(&["new"])), wrong]) else {
            panic!("{wrong:?} was accepted");
        };
        assert!(!problems.0.is_empty());
        assert_eq!(gateway.metric("gateway_config_last_reload_successful").await, Some(0.0), "{wrong:?}");
        assert_eq!(gateway.metric(success).await, Some(started));
        assert_eq!(gateway.exchange(get(&token)).await.status, 200, "{wrong:?}");
        assert_eq!(kid_of(&log_in(&gateway).await), "good");
    }
}

#[tokio::test]
async fn certificates_change_with_a_reload() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    assert_eq!(gateway.get(DAY).await.status, 200);
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let [certificate, key] = [certificate, key].map(|path| path.to_str().unwrap().to_owned());
    let mut before = gateway.connect().await;
    gateway.reload(&[("TLS_CERTIFICATE", &certificate), ("TLS_PRIVATE_KEY", &key)]).unwrap();
    // The client does not trust the new certificate. The open connection continues.
    let refused = crate::support::client::handshake_as(gateway.https, "localhost").await;
    assert!(refused.unwrap_err().to_string().contains("UnknownIssuer"));
    assert_eq!(before.exchange(crate::support::get(DAY, "")).await.status, 200);
}
