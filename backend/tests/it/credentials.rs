//! `POST /credentials/verify`, and upgrades of stored passwords.

use crate::http;
use crate::service::{Service, Setup};

const REFUSED: &str = "{\"error\":\"Unauthorized\",\"description\":\"Invalid credentials\"}\n";

#[tokio::test]
async fn the_right_password_returns_the_name() {
    let service = Service::start().await;
    service.user("ユーザー 01", "pass\0\nword").await;
    let reply = service.verify("ユーザー 01", "pass\0\nword").await;
    let mark = reply.json()["password_mark"].as_str().unwrap().to_owned();
    let expected = format!(
        "{{\"username\":\"ユーザー 01\",\"password_changed_at\":1600000000,\"password_mark\":\"{mark}\",\"roles\":[]}}\n"
    );
    assert_eq!((reply.status, reply.body.as_str()), (200, expected.as_str()));
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
        ("unknown", "password01"),
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
async fn anything_but_two_strings_is_malformed() {
    let service = Service::start().await;
    service.user("user01", "password01").await;
    let long = format!(r#"{{"username":"user01","password":"{}"}}"#, "x".repeat(1025));
    let long_name = format!(r#"{{"username":"{}","password":"p"}}"#, "x".repeat(1025));
    for body in [
        "",
        "username=user01",
        "[]",
        r#" ["user01","password01"]"#,
        "\"user01\"",
        "{}",
        r#"{"username":"user01"}"#,
        r#"{"username":"user01","password":null}"#,
        r#"{"username":{"$ne":null},"password":"password01"}"#,
        r#"{"username":["user01"],"password":"password01"}"#,
        r#"{"username":"user01","password":1}"#,
        r#"{"username":"user01","password":"password01","x":1}"#,
        r#"{"username":"unknown","username":"user01","password":"password01"}"#,
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
async fn hashes_of_other_frameworks_log_in_and_become_argon2id() {
    for stored in [
        "scrypt:1024:4:2$ll1V0PIYFOophe9d$e265e9a029d2bfb56bb07cf92bb0aca289324af8272a9f8b862c3a198b5b6f000c5235ebc6f0246e832cd3fc8cadb529229b7394cddab684200948fd0dadaec1",
        "pbkdf2_sha256$1000$saltsaltsalt$xyKCDZ/yjGew0X1swSUfIvXnBKXulCxIyiVt/1s+LLU=",
        "argon2$argon2id$v=19$m=64,t=1,p=2$c2FsdHNhbHRzYWx0$9JG9U8FrAgS6Ap9yal69FXlfM/5HUxKcJn2ar3YflwY",
        "$pbkdf2-sha256$1000$CoFwDgGgNOYco7T2nnNOyQ$8/fIH0CyRbad/42Lc9UdO28NQROdSJbBALPj3Zod344",
    ] {
        let service = Service::start().await;
        service.user("user01", stored).await;
        assert_eq!(service.verify("user01", stored).await.status, 401, "{stored}");
        assert_eq!(service.verify("user01", "pässword01").await.status, 200, "{stored}");
        let user = service.store.user("user01").await.unwrap().unwrap();
        assert!(user.password.expose().starts_with("$argon2id$"), "{stored}");
        assert_eq!(service.verify("user01", "pässword01").await.status, 200, "{stored}, by its new form");
    }
}

#[tokio::test]
async fn a_hash_that_cannot_be_checked_is_refused_like_any_wrong_password_and_counted() {
    let service = Service::start().await;
    service.user("user01", "password01").await;
    let stored =
        ["$6$salt$hash", "{SSHA}4BPdiYIlg7xgvFqGfg5Z7223qoCAcI4R", "scrypt:1073741824:8:1$salt$00", "$2b$12$x"];
    let mut wrong = service.verify("user01", "password02").await;
    wrong.headers.remove("date");
    for (number, stored) in stored.iter().enumerate() {
        let name = format!("other{number}");
        service.user(&name, stored).await;
        let mut refused = service.verify(&name, stored).await;
        refused.headers.remove("date");
        assert_eq!((refused.status, &refused.body, &refused.headers), (401, &wrong.body, &wrong.headers), "{stored}");
        let user = service.store.user(&name).await.unwrap().unwrap();
        assert_eq!(user.password.expose(), *stored, "it was not replaced");
    }
    assert_eq!(service.metric("backend_verifications_total{result=\"unverifiable\"}").await, 4.0);
}

#[tokio::test]
async fn a_failure_for_an_unknown_name_takes_as_long_as_for_the_costliest_hash() {
    let service = Service::start().await;
    let stored = "scrypt:32768:8:1$FuIaOEfpP5iP1j7a$54f10f1d2556e01c086042db912fd7b48643994b2e296cdf2f851b6b2137bddb64823edf195efa8706b6489d3d16c4ad707178757e1f5a01c959f76fdf063dd6";
    service.user("user01", stored).await;
    let mut quickest = [std::time::Duration::MAX; 2];
    for _ in 0..8 {
        for (name, quickest) in ["user01", "unknown"].into_iter().zip(&mut quickest) {
            let started = std::time::Instant::now();
            assert_eq!(service.verify(name, "password01").await.status, 401);
            *quickest = started.elapsed().min(*quickest);
        }
    }
    // Without the equalized work, one would take ten times as long as the other.
    let [hashed, unknown] = quickest;
    assert!(unknown * 2 > hashed && hashed * 2 > unknown, "{hashed:?} and {unknown:?}");
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
async fn a_damaged_hash_is_not_a_password() {
    let service = Service::start().await;
    service.user("user01", "$argon2id$v=19$m=64").await;
    service.user("user02", "$2b$12$short").await;
    assert_eq!(service.verify("user01", "$argon2id$v=19$m=64").await.status, 401);
    assert_eq!(service.verify("user02", "$2b$12$short").await.status, 401);
}

#[tokio::test]
async fn a_full_queue_is_reported_at_once_and_reads_continue() {
    let mut setup = Setup::default();
    // One slow hash at a time, and no queue.
    (setup.password.memory_kib, setup.password.iterations) = (64 * 1024, 8);
    (setup.password.concurrency, setup.password.queue) = (1, 0);
    let service = Service::with(setup).await;
    let attempts = futures_util::future::join_all((0..8).map(|_| service.verify("unknown", "password01")));
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
