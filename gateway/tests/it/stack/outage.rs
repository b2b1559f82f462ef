//! Responses while the store or the backend is down, and how both programs stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::json;

use super::Stack;
use super::mongod::Server;
use super::process::{PATIENCE, wait_for};

const DAY: &str = "/holodules/20201209";

#[test]
fn a_store_that_stops_is_503() {
    let server = Server::start(&[]);
    let stack = Stack::on_store(server.url());
    stack.load();
    let token = stack.token("user01", "password01");
    assert_eq!(stack.get("/holodules/20201209", &token).status, 200);
    drop(server);
    // Only the day that was requested before is cached.
    assert_eq!(stack.get("/holodules/20201209", &token).status, 200);
    let answer = stack.get("/holodules/20201210", &token);
    answer.assert_json(503, r#"{"error":"Service Unavailable"}"#);
    assert!(answer.value("retry-after").parse::<u32>().is_ok());
    let login = stack.log_in("user01", "password01");
    login.assert_json(503, r#"{"error":"Service Unavailable"}"#);
    assert!(login.value("retry-after").parse::<u32>().is_ok());
    // Responses that need no store.
    stack.get("/nothing", &token).assert_json(404, r#"{"error":"Not found"}"#);
    stack.get("/holodules/20201301", &token).assert_json(400, r#"{"error":"Bad Request"}"#);
}

#[test]
fn an_uncached_day_is_503_until_a_killed_backend_is_back() {
    let mut stack = Stack::embedded();
    stack.load();
    let token = stack.token("user01", "password01");
    let before = stack.get("/holodules/20201209", &token);
    assert_eq!(before.status, 200);
    stack.backend.kill();
    let down = stack.get("/holodules/20201210", &token);
    down.assert_json(503, r#"{"error":"Service Unavailable"}"#);
    assert!(down.value("retry-after").parse::<u32>().is_ok());
    assert_eq!(stack.get("/holodules/20201209", &token).json(), before.json());
    let login = stack.log_in("user01", "password01");
    login.assert_json(503, r#"{"error":"Service Unavailable"}"#);
    assert!(login.value("retry-after").parse::<u32>().is_ok());
    stack.restart_backend();
    // The data is still there, and the gateway reconnects.
    wait_for("the backend", || (stack.get("/holodules/20201210", &token).status == 200).then_some(()));
    assert_eq!(stack.get("/holodules/20201209", &token).json(), before.json());
    stack.token("user01", "password01");
}

/// The backend is killed while requests are in flight, and its responses become stale.
#[test]
fn a_backend_killed_under_load_fails_no_request_for_cached_responses() {
    const DAY: &str = "/holodules/20201209";
    let stack = Stack::embedded();
    stack.load();
    let token = stack.token("user01", "password01");
    let before = stack.get(DAY, &token);
    assert_eq!(before.status, 200);
    let is_over = AtomicBool::new(false);
    let read = || {
        let began = Instant::now();
        while !is_over.load(Ordering::Relaxed) && began.elapsed() < PATIENCE {
            let answer = stack.get(DAY, &token);
            assert_eq!((answer.status, answer.json()), (200, before.json()), "{answer:?}");
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(read);
        }
        stack.backend.signal("KILL");
        wait_for("a stale response", || (stack.get(DAY, &token).value("x-cache") == "stale").then_some(()));
        for _ in 0..10 {
            assert_eq!(stack.get(DAY, &token).status, 200);
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn both_programs_stop_on_a_signal() {
    let mut stack = Stack::embedded();
    stack.load();
    let token = stack.token("user01", "password01");
    assert_eq!(stack.get("/holodules/20201209", &token).json()["result"], json!(17));
    for signal in ["TERM", "INT"] {
        stack.gateway.signal(signal);
        stack.backend.signal(signal);
        assert_eq!((stack.gateway.wait(), stack.backend.wait()), (Some(0), Some(0)), "{signal}");
        stack = Stack::embedded();
    }
}

#[test]
fn a_host_that_the_backend_does_not_accept_is_logged() {
    let stack = Stack::embedded();
    stack.load();
    let token = stack.token("user01", "password01");
    // The system's resolver parses this as 127.0.0.1. For the backend it is a host name that is not configured.
    let host = stack.backend.address("admin").replace("127.0.0.1", "127.1");
    let gateway = stack.unready_gateway(&[("UPSTREAM_ADMIN", host.clone())]);
    let body = json!({"username": "user01", "password": "password01"}).to_string();
    let login = stack.curl_at(&gateway, &["-H", "Content-Type: application/json", "-d", &body], "/auth");
    assert_eq!(login.status, 503, "{login:?}");
    assert!(!login.body.contains("421") && !login.body.contains(&host), "the reason is logged only: {login:?}");
    let get = stack.curl_at(&gateway, &["-H", &format!("Authorization: JWT {token}")], DAY);
    assert_eq!(get.status, 503, "{get:?}");
    let lines = || -> Vec<serde_json::Value> {
        gateway.log().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    };
    let id = login.value("x-request-id");
    let of_login =
        |message: &str| lines().into_iter().find(|line| line["request_id"] == id && line["message"] == message);
    let warning = wait_for("the warning", || of_login("a login could not be checked"));
    let reason = format!(
        "status 421: the backend does not accept the Host {host:?}; its admin.allowed_hosts must list the name"
    );
    assert_eq!((&warning["level"], &warning["reason"]), (&"WARN".into(), &reason.into()), "{warning}");
    let access = wait_for("the line of the access log", || {
        lines().into_iter().find(|line| line["request_id"] == id && line["target"] == "access")
    });
    assert_eq!((&access["status"], &access["route"]), (&503.into(), &"auth".into()), "{access}");
    assert!(access["reason"].is_string(), "{access}");
    wait_for("the backend's line", || {
        let log = stack.backend.log();
        let refused = log.lines().find(|line| line.contains("its Host is not in admin.allowed_hosts"))?;
        refused.contains(&host).then_some(())
    });
}
