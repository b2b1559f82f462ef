//! What clients see while the store or the backend is away, and how both programs stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::json;

use super::Stack;
use super::mongod::Server;
use super::process::{PATIENCE, wait_for};

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
