//! What both programs write: a line a request, and nothing that opens a door.

use serde_json::Value;

use super::Stack;
use super::process::wait_for;
use crate::support::token;

#[test]
fn logs_tell_of_every_request_and_never_a_secret() {
    let mut stack = Stack::embedded();
    stack.load();
    let good = stack.token("user01", "password01");
    let day = stack.get("/holodules/20201209?token=secret-in-query&q=other-in-query", &good);
    stack.log_in("failed-login-name", "failed-login-password");
    stack.log_in("user01", "wrong-password");
    let malformed = r#"{"username":["name-in-array"],"password":"password-in-malformed"}"#;
    stack.curl(&["-H", "Content-Type: application/json", "-d", malformed], "/auth");
    stack.curl(&["-H", "Content-Type: text/plain", "-d", "password-in-text"], "/auth?password=password-in-query");
    let forged = token::sign_with("Zm9yZ2Vk.Zm9yZ2Vk", b"x", jsonwebtoken::Algorithm::HS256);
    stack.get("/holodules/20201209", &forged);
    stack.curl(
        &["-H", "Authorization: Basic YmFzaWMtc2VjcmV0", "-H", "Cookie: session=cookie-secret"],
        "/holodules/20201209",
    );
    stack.curl(
        &["--path-as-is", "-H", &format!("Authorization: JWT {good}")],
        "/holodules/../path-secret?x=query-of-malformed",
    );
    stack.command(&["user", "passwd", "user01"], "changed-password\n");
    stack.backend.kill();
    stack.get("/holodules/20201209?q=query-of-failure", &good);
    stack.log_in("user01", "password-of-failure");
    stack.restart_backend();
    // The old token went with the old password.
    wait_for("the backend", || (stack.get("/holodules/20201209", &good).status == 401).then_some(()));
    assert_eq!(stack.get("/holodules/20201209", &stack.token("user01", "changed-password")).status, 200);
    stack.gateway.signal("TERM");
    stack.backend.signal("TERM");
    assert_eq!((stack.gateway.wait(), stack.backend.wait()), (Some(0), Some(0)));

    let logs = [stack.gateway.log(), stack.backend.log()];
    let secrets = [
        good.as_str(),
        good.rsplit('.').next().unwrap(),
        forged.as_str(),
        "YmFzaWMtc2VjcmV0",
        "cookie-secret",
        "password01",
        "wrong-password",
        "changed-password",
        "failed-login",
        "password-in",
        "password-of",
        "name-in-array",
        "secret-in-query",
        "other-in-query",
        "query-of",
        "path-secret",
        "$argon2id$",
        "PRIVATE KEY",
    ];
    for log in &logs {
        for secret in secrets.into_iter().chain([token::secret().trim()]) {
            let line = log.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{secret} stands in {line:?}");
        }
        assert!(!log.contains("panicked"), "{log}");
    }

    let id = day.value("x-request-id");
    for (log, protocol) in logs.iter().zip(["HTTP/2", "HTTP/1.1"]) {
        let lines: Vec<Value> =
            log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect();
        let line = lines.iter().find(|line| line["request_id"] == id && line["status"] == 200);
        let line = line.unwrap_or_else(|| panic!("nothing tells of {id}"));
        assert_eq!(line["protocol"], protocol, "{line}");
        assert!(line["path"].as_str().is_some_and(|path| path.starts_with("/holodules/20201209")), "{line}");
        assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
        assert_eq!(line["method"], "GET", "{line}");
        assert!(line["route"].as_str().is_some_and(|route| route.contains("holodules")), "{line}");
        assert!(line["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1")), "{line}");
        assert_eq!(line["bytes"], day.body.len(), "{line}");
    }
    let gateway: Vec<Value> = logs[0].lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |id: &str| gateway.iter().filter(|line| line["target"] == "access" && line["request_id"] == id).count();
    assert_eq!(of(id), 1, "one line a request");
    let line = gateway.iter().find(|line| line["request_id"] == id && line["target"] == "access").unwrap();
    // The backend was not told: its answer is for everybody.
    assert_eq!((&line["identity"], &line["cache"]), (&"user01".into(), &"miss".into()), "{line}");
    assert!(line["user_agent"].as_str().is_some_and(|agent| agent.starts_with("curl/")), "{line}");
    let (upstream, total) = (line["upstream_ms"].as_f64().unwrap(), line["total_ms"].as_f64().unwrap());
    assert!(0.0 < upstream && upstream <= total, "{line}");
    let refused = gateway.iter().filter(|line| line["target"] == "access" && line["status"] == 401);
    assert!(refused.clone().count() >= 4);
    for line in refused {
        assert!(line["identity"].is_null(), "{line}");
        assert!(line["reason"].is_string(), "{line}");
    }
}
