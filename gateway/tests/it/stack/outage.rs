//! What clients see while the store or the backend is away, and how both programs stop.

use serde_json::json;

use super::Stack;
use super::mongod::Server;
use super::process::wait_for;

#[test]
fn a_store_that_stops_is_503() {
    let server = Server::start(&[]);
    let stack = Stack::on_store(server.url());
    stack.load();
    let token = stack.token("user01", "password01");
    assert_eq!(stack.get("/holodules/20201209", &token).status, 200);
    drop(server);
    let answer = stack.get("/holodules/20201209", &token);
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
fn a_backend_that_is_killed_is_502_until_it_is_back() {
    let mut stack = Stack::embedded();
    stack.load();
    let token = stack.token("user01", "password01");
    let before = stack.get("/holodules/20201209", &token);
    assert_eq!(before.status, 200);
    stack.backend.kill();
    stack.get("/holodules/20201209", &token).assert_json(502, r#"{"error":"Bad Gateway"}"#);
    let login = stack.log_in("user01", "password01");
    login.assert_json(503, r#"{"error":"Service Unavailable"}"#);
    assert!(login.value("retry-after").parse::<u32>().is_ok());
    stack.restart_backend();
    // What was stored is there, and the gateway has not been touched.
    wait_for("the backend", || (stack.get("/holodules/20201209", &token).status == 200).then_some(()));
    assert_eq!(stack.get("/holodules/20201209", &token).json(), before.json());
    stack.token("user01", "password01");
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
