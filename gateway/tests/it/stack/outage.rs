//! What clients see while the store or the backend is away, and how both programs stop.

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
    // The edge has the day that was read before, and no other.
    assert_eq!(stack.get("/holodules/20201209", &token).status, 200);
    let answer = stack.get("/holodules/20201210", &token);
    answer.assert_json(503, r#"{"error":"Service Unavailable"}"#);
    assert!(answer.value("retry-after").parse::<u32>().is_ok());
    let login = stack.log_in("user01", "password01");
    login.assert_json(503, r#"{"error":"Service Unavailable"}"#);
    assert!(login.value("retry-after").parse::<u32>().is_ok());
    // What needs no store is answered as ever.
    stack.get("/nothing", &token).assert_json(404, r#"{"error":"Not found"}"#);
    stack.get("/holodules/20201301", &token).assert_json(400, r#"{"error":"Bad Request"}"#);
}

#[test]
fn a_backend_that_is_killed_is_503_until_it_is_back_for_what_the_edge_does_not_have() {
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
    // What was stored is there, and the gateway has not been touched.
    wait_for("the backend", || (stack.get("/holodules/20201210", &token).status == 200).then_some(()));
    assert_eq!(stack.get("/holodules/20201209", &token).json(), before.json());
    stack.token("user01", "password01");
}

/// The backend ends in the middle of many requests, and its answers go stale: no request for what
/// the edge has fails.
#[test]
fn a_backend_killed_under_load_fails_no_request_for_what_the_edge_has() {
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
        wait_for("stale answers", || (stack.get(DAY, &token).value("x-cache") == "stale").then_some(()));
        for _ in 0..10 {
            assert_eq!(stack.get(DAY, &token).status, 200);
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn both_programs_stop_when_asked() {
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
fn a_backend_that_does_not_accept_its_name_is_named_in_the_log() {
    let stack = Stack::embedded();
    stack.load();
    let good = stack.token("user01", "password01");
    // The system's resolver reads this as 127.0.0.1; for the backend it is a name, and none of its own.
    let host = stack.backend.address("admin").replace("127.0.0.1", "127.1");
    let gateway = stack.unready_gateway(&[("UPSTREAM_ADMIN", host.clone())]);
    let body = json!({"username": "user01", "password": "password01"}).to_string();
    let login = stack.curl_by(&gateway, &["-H", "Content-Type: application/json", "-d", &body], "/auth");
    assert_eq!(login.status, 503, "{login:?}");
    assert!(!login.body.contains("421") && !login.body.contains(&host), "for the log alone: {login:?}");
    let get = stack.curl_by(&gateway, &["-H", &format!("Authorization: JWT {good}")], DAY);
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
    let access = wait_for("the access line", || {
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
