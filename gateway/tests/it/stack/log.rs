//! The logs of both programs: one line for each request, and no secret.

use serde_json::Value;

use super::Stack;
use super::process::wait_for;
use crate::support::token;

#[test]
fn logs_have_every_request_and_no_secret() {
    let mut stack = Stack::embedded();
    stack.load();
    let token = stack.token("user01", "password01");
    let day = stack.get("/holodules/20201209?token=secret-in-query&q=other-in-query", &token);
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
        &["--path-as-is", "-H", &format!("Authorization: JWT {token}")],
        "/holodules/../path-secret?x=query-of-malformed",
    );
    stack.command(&["user", "passwd", "user01"], "changed-password\n");
    stack.backend.kill();
    stack.get("/holodules/20201209?q=query-of-failure", &token);
    stack.log_in("user01", "password-of-failure");
    stack.restart_backend();
    // The password change has revoked the token.
    wait_for("the backend", || (stack.get("/holodules/20201209", &token).status == 401).then_some(()));
    assert_eq!(stack.get("/holodules/20201209", &stack.token("user01", "changed-password")).status, 200);
    stack.gateway.signal("TERM");
    stack.backend.signal("TERM");
    assert_eq!((stack.gateway.wait(), stack.backend.wait()), (Some(0), Some(0)));

    let logs = [stack.gateway.log(), stack.backend.log()];
    let secrets = [
        token.as_str(),
        token.rsplit('.').next().unwrap(),
        forged.as_str(),
        "YmFzaWMtc2VjcmV0",
        "cookie-secret",
        "password01",
        "wrong-password",
        "changed-password",
        "failed-login-password",
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
            assert!(line.is_none(), "{secret} is in {line:?}");
        }
        assert!(!log.contains("panicked"), "{log}");
    }

    let id = day.value("x-request-id");
    for (log, protocol) in logs.iter().zip(["HTTP/2", "HTTP/1.1"]) {
        let lines: Vec<Value> =
            log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect();
        let line = lines.iter().find(|line| line["request_id"] == id && line["status"] == 200);
        let line = line.unwrap_or_else(|| panic!("{id} is not logged"));
        assert_eq!(line["protocol"], protocol, "{line}");
        assert!(line["path"].as_str().is_some_and(|path| path.starts_with("/holodules/20201209")), "{line}");
        assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
        assert_eq!(line["method"], "GET", "{line}");
        assert!(line["route"].as_str().is_some_and(|route| route.contains("holodules")), "{line}");
        assert!(line["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1")), "{line}");
        assert_eq!(line["bytes"], day.body.len(), "{line}");
    }
    let gateway: Vec<Value> = logs[0].lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |id: &str| gateway.iter().filter(|line| line["target"] == "access" && line["request_id"] == id).count();
    assert_eq!(count(id), 1, "one line for each request");
    let line = gateway.iter().find(|line| line["request_id"] == id && line["target"] == "access").unwrap();
    // A request that fills the cache for all users was sent without the identity.
    assert_eq!((&line["identity"], &line["cache"]), (&"user01".into(), &"miss".into()), "{line}");
    assert!(line["user_agent"].as_str().is_some_and(|agent| agent.starts_with("curl/")), "{line}");
    let (upstream, total) = (line["upstream_ms"].as_f64().unwrap(), line["total_ms"].as_f64().unwrap());
    assert!(0.0 < upstream && upstream <= total, "{line}");
    let refused = gateway.iter().filter(|line| line["target"] == "access" && line["status"] == 401);
    assert!(refused.clone().count() >= 4);
    for line in refused {
        // The identity is that of a verified token, even if it is revoked.
        let is_revoked = line["reason"] == "password_changed";
        assert_eq!(line["identity"] == "user01", is_revoked, "{line}");
        assert!(line["reason"].is_string(), "{line}");
    }
    assert!(!logs[0].contains("failed-login-name"), "the backend logs the names of failed logins");
}

fn lines(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
}

/// The name and the reason that the backend has logged for each refused login.
fn refused_logins(stack: &Stack) -> Vec<(Value, Value)> {
    let lines = lines(&stack.backend.log()).into_iter();
    let refused = lines.filter(|line| line["message"] == "login failed");
    refused.map(|line| (line["username"].clone(), line["reason"].clone())).collect()
}

fn refuse_logins(stack: &Stack) {
    stack.load();
    stack.command(&["user", "add", "user02"], "password02\n");
    stack.command(&["user", "disable", "user02"], "");
    for (name, password) in [("user01", "wrong"), ("user02", "password02"), ("a\u{1b}[31m\n", "password")] {
        assert_eq!(stack.log_in(name, password).status, 401);
    }
    wait_for("the log lines", || (refused_logins(stack).len() == 3).then_some(()));
}

#[test]
fn a_refused_login_is_logged_with_its_name_and_reason() {
    let stack = Stack::embedded();
    refuse_logins(&stack);
    let expected = [("user01", "wrong_password"), ("user02", "disabled"), ("a\\u{1b}[31m\\n", "no_user")];
    let expected = expected.map(|(name, reason)| (Value::from(name), Value::from(reason)));
    assert_eq!(refused_logins(&stack), expected);
}

#[test]
fn names_of_refused_logins_can_be_omitted() {
    let store = [("STORE", "embedded:store.redb".to_owned()), ("LOG_LOGIN_NAMES", "false".to_owned())];
    let stack = Stack::start(&store, &[("JWT_SECRET_KEY", token::secret())], None);
    refuse_logins(&stack);
    assert!(refused_logins(&stack).iter().all(|(name, reason)| name.is_null() && reason.is_string()));
}

#[test]
fn a_login_and_a_refused_token_are_logged_with_the_user_and_the_reason() {
    let stack = Stack::embedded();
    stack.load();
    let [ended, other] = [(); 2].map(|()| stack.token("user01", "password01"));
    let refuse =
        |token: &str| wait_for("401", || (stack.get("/holodules/20201209", token).status == 401).then_some(()));
    stack.curl(&["-X", "POST", "-H", &format!("Authorization: JWT {ended}")], "/auth/logout");
    refuse(&ended);
    stack.command(&["user", "disable", "user01"], "");
    refuse(&other);
    stack.command(&["user", "enable", "user01"], "");
    stack.command(&["user", "passwd", "user01"], "password02\n");
    refuse(&other);
    stack.command(&["user", "delete", "user01"], "");
    // There is no password mark left to compare.
    refuse(&other);
    let reasons = ["logged_out", "disabled", "password_changed", "no_user"];
    wait_for("each reason", || {
        let lines = lines(&stack.gateway.log());
        let has = |status: u16, reason: Value| {
            lines
                .iter()
                .any(|line| line["status"] == status && line["reason"] == reason && line["identity"] == "user01")
        };
        (reasons.iter().all(|reason| has(401, (*reason).into())) && has(200, Value::Null)).then_some(())
    });
    let logins = lines(&stack.gateway.log()).into_iter().filter(|line| line["route"] == "auth");
    assert!(logins.clone().count() == 2 && logins.into_iter().all(|line| line["identity"] == "user01"));
}

#[test]
fn probes_are_logged_at_debug_and_counted_apart() {
    let store = [("STORE", "embedded:store.redb".to_owned()), ("LOG_LEVEL", "info".to_owned())];
    let stack = Stack::start(&store, &[("JWT_SECRET_KEY", token::secret())], None);
    let metrics = || {
        let url = format!("http://{}/metrics", stack.backend.address("admin"));
        super::process::run(std::process::Command::new("curl").args(["-s", &url]), "")
    };
    // Both listeners are probed before the gateway is ready.
    for listener in ["api", "admin"] {
        let series = format!("backend_probes_total{{listener=\"{listener}\"}} ");
        let page = metrics();
        let count = page.lines().find_map(|line| line.strip_prefix(&series)?.parse::<u64>().ok());
        assert!(count.is_some_and(|count| count > 0), "{page}");
    }
    let page = metrics();
    assert!(!page.contains("route=\"/healthz\"") && !page.contains("status_class=\"4xx\""), "{page}");
    assert!(!stack.backend.log().contains("/healthz"), "{}", stack.backend.log());
}
