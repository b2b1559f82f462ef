//! `POST /credentials/verify`, and what becomes of stored passwords.

use crate::http;
use crate::service::{Service, Setup};

const REFUSED: &str = "{\"error\":\"Unauthorized\",\"description\":\"Invalid credentials\"}\n";

#[tokio::test]
async fn a_right_password_gives_the_name() {
    let service = Service::start().await;
    service.user("ユーザー 01", "pass\0\nword").await;
    let reply = service.verify("ユーザー 01", "pass\0\nword").await;
    let expected = "{\"username\":\"ユーザー 01\",\"password_changed_at\":1600000000}\n";
    assert_eq!((reply.status, reply.body.as_str()), (200, expected));
}

#[tokio::test]
async fn every_refusal_is_alike() {
    let service = Service::start().await;
    service.user("user01", "password01").await;
    service.user("user02", "password02").await;
    service.admin("PATCH", "/users/user02", r#"{"disabled":true}"#).await;
    let mut seen = Vec::new();
    for (username, password) in [
        ("user01", "password02"),
        ("user01", ""),
        ("User01", "password01"),
        ("user01 ", "password01"),
        ("user02", "password02"),
        ("nobody", "password01"),
        ("", ""),
    ] {
        let mut reply = service.verify(username, password).await;
        reply.headers.remove("date");
        assert_eq!((reply.status, reply.body.as_str()), (401, REFUSED), "{username}");
        seen.push(reply.headers);
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(service.metric("backend_verifications_total{result=\"disabled\"}").await, 1.0);
    assert_eq!(service.metric("backend_verifications_total{result=\"wrong_password\"}").await, 2.0);
    assert_eq!(service.metric("backend_verifications_total{result=\"unknown_user\"}").await, 4.0);
}

#[tokio::test]
async fn what_is_no_pair_of_strings_is_malformed() {
    let service = Service::start().await;
    service.user("user01", "password01").await;
    let long = format!(r#"{{"username":"user01","password":"{}"}}"#, "x".repeat(1025));
    let long_name = format!(r#"{{"username":"{}","password":"p"}}"#, "x".repeat(1025));
    for body in [
        "",
        "username=user01",
        "[]",
        "\"user01\"",
        "{}",
        r#"{"username":"user01"}"#,
        r#"{"username":"user01","password":null}"#,
        r#"{"username":{"$ne":null},"password":"password01"}"#,
        r#"{"username":["user01"],"password":"password01"}"#,
        r#"{"username":"user01","password":1}"#,
        r#"{"username":"user01","password":"password01","x":1}"#,
        r#"{"username":"nobody","username":"user01","password":"password01"}"#,
        r#"{"username":"user01","password":"password01"} x"#,
        &long,
        &long_name,
    ] {
        let reply = service.admin("POST", "/credentials/verify", body).await;
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        assert_eq!(reply.json()["error"], "Bad Request");
        assert!(!reply.body.contains("password01"), "{reply:?}");
    }
    let large = format!(r#"{{"username":"user01","password":"{}"}}"#, "x".repeat(20_000));
    assert_eq!(service.admin("POST", "/credentials/verify", &large).await.status, 413);
    let csv = [("Content-Type", "text/csv")];
    assert_eq!(http::send(&service.admin, "POST", "/credentials/verify", &csv, "{}").await.status, 415);
    let get = http::send(&service.admin, "GET", "/credentials/verify", &[], "").await;
    assert_eq!((get.status, get.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn older_forms_log_in_and_become_argon2id() {
    let bcrypt = bcrypt::hash_with_result("password01", 4).unwrap();
    for stored in [
        "password01".to_owned(),
        bcrypt.format_for_version(bcrypt::Version::TwoB),
        bcrypt.format_for_version(bcrypt::Version::TwoA),
        bcrypt.format_for_version(bcrypt::Version::TwoY),
    ] {
        let service = Service::start().await;
        service.user("user01", &stored).await;
        assert_eq!(service.verify("user01", "password02").await.status, 401);
        assert_eq!(service.verify("user01", &stored).await.status == 200, stored == "password01");
        assert_eq!(service.verify("user01", "password01").await.status, 200, "{stored}");
        let user = service.store.user("user01").await.unwrap().unwrap();
        assert!(user.password.expose().starts_with("$argon2id$"), "{stored}");
        assert_eq!(service.verify("user01", "password01").await.status, 200, "{stored}, by its new form");
        assert_eq!(service.verify("user01", user.password.expose()).await.status, 401);
        assert_eq!(service.metric("backend_password_upgrades_total{result=\"done\"}").await, 1.0);
    }
}

#[tokio::test]
async fn upgrades_can_be_off() {
    let mut setup = Setup::default();
    setup.password.upgrade = false;
    let service = Service::with(setup).await;
    service.user("user01", "password01").await;
    assert_eq!(service.verify("user01", "password01").await.status, 200);
    assert_eq!(service.store.user("user01").await.unwrap().unwrap().password.expose(), "password01");
}

#[tokio::test]
async fn a_damaged_hash_is_no_password() {
    let service = Service::start().await;
    service.user("user01", "$argon2id$v=19$m=64").await;
    service.user("user02", "$2b$12$short").await;
    assert_eq!(service.verify("user01", "$argon2id$v=19$m=64").await.status, 401);
    assert_eq!(service.verify("user02", "$2b$12$short").await.status, 401);
}

#[tokio::test]
async fn past_the_queue_the_answer_is_at_once_and_reads_go_on() {
    let mut setup = Setup::default();
    // One slow hash at a time, and nobody waits.
    (setup.password.memory_kib, setup.password.iterations) = (64 * 1024, 8);
    (setup.password.concurrency, setup.password.queue) = (1, 0);
    let service = Service::with(setup).await;
    let attempts = futures_util::future::join_all((0..8).map(|_| service.verify("nobody", "password01")));
    let reads = async {
        service.until("backend_verifications_total{result=\"busy\"}", 1.0).await;
        service.get("/holodules/20201209").await.status
    };
    let (attempts, read) = tokio::join!(attempts, reads);
    assert_eq!(read, 404);
    let busy: Vec<_> = attempts.iter().filter(|reply| reply.status == 503).collect();
    assert!(!busy.is_empty() && busy.iter().all(|reply| reply.header("retry-after") == "1"), "{attempts:?}");
    let checked = attempts.iter().filter(|reply| reply.status == 401).count();
    assert_eq!((checked > 0, checked + busy.len()), (true, 8), "{attempts:?}");
}
