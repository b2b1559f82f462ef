//! Failed logins of an attacker with the name of a user.

use serde_json::json;

use super::Stack;
use crate::support::client::Answer;

/// Logs in from this loopback address.
fn log_in_from(stack: &Stack, address: &str, password: &str) -> Answer {
    let body = json!({"username": "user01", "password": password}).to_string();
    let arguments =
        ["--ipv4", "--interface", address, "-X", "POST", "-H", "Content-Type: application/json", "-d", &body];
    stack.curl(&arguments, "/auth")
}

#[test]
fn an_attacker_does_not_lock_out_a_user_who_has_logged_in_before() {
    let stack = Stack::embedded();
    stack.command(&["user", "add", "user01"], "password01\n");
    assert_eq!(log_in_from(&stack, "127.0.0.1", "password01").status, 200);
    let mut statuses = Vec::new();
    while !statuses.contains(&429) {
        statuses.push(log_in_from(&stack, "127.0.0.2", "wrong").status);
        assert!(statuses.len() <= 20, "{statuses:?}");
    }
    assert!(statuses.len() > 10, "{statuses:?}");
    for _ in 0..3 {
        assert_eq!(log_in_from(&stack, "127.0.0.1", "password01").status, 200);
    }
    // The failures from the other address do not count against this one.
    assert_eq!(log_in_from(&stack, "127.0.0.1", "wrong").status, 401);
}
