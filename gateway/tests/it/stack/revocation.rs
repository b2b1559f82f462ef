//! ops/WIRE.md: a revoked user is refused within a second, also if the change was made outside the backend, and after a
//! restart of either program.

use std::time::Instant;

use mongodb::bson::doc;

use super::Stack;
use super::mongod::Server;
use super::process::wait_for;
use super::stored_user::StoredUser;
use crate::support::client::Answer;
use crate::support::token;

const DAY: &str = "/holodules/20201209";
const REVOKED: &str = r#"{"status_code":401,"error":"Invalid JWT","description":"User does not exist"}"#;

/// Waits until `token` is refused as revoked, and prints how long that took.
#[expect(clippy::print_stdout, reason = "the duration is shown with --nocapture")]
fn until_refused(stack: &Stack, token: &str) {
    let began = Instant::now();
    wait_for("the refusal", || (stack.get(DAY, token).status == 401).then_some(()));
    println!("refused after {} ms", began.elapsed().as_millis());
    stack.get(DAY, token).assert_json(401, REVOKED);
}

fn log_out(stack: &Stack, token: &str) -> Answer {
    stack.curl(&["-X", "POST", "-H", &format!("Authorization: Bearer {token}")], "/auth/logout")
}

/// Every command that revokes the tokens of a user, and a logout.
fn assert_changes_through_the_backend_revoke(mut stack: Stack) {
    stack.load();
    for (name, revoke, restore) in [
        ("disable", &["user", "disable", "user01"][..], Some(&["user", "enable", "user01"][..])),
        ("passwd", &["user", "passwd", "user01"], None),
        ("delete", &["user", "delete", "user01"], Some(&["user", "add", "user01"])),
    ] {
        let token = stack.token("user01", "password01");
        assert_eq!(stack.get(DAY, &token).status, 200, "{name}");
        stack.command(revoke, "password01\n");
        until_refused(&stack, &token);
        if let Some(restore) = restore {
            stack.command(restore, "password01\n");
        }
        if name == "delete" {
            // A new user of the same name does not restore the tokens.
            stack.get(DAY, &token).assert_json(401, REVOKED);
        }
    }
    let (ended, other) = (stack.token("user01", "password01"), stack.token("user01", "password01"));
    assert_eq!(log_out(&stack, &ended).status, 204);
    stack.get(DAY, &ended).assert_json(401, REVOKED);
    assert_eq!(stack.get(DAY, &other).status, 200);
    // A restart of either program changes nothing.
    stack.restart_backend();
    wait_for("the backend", || (stack.get(DAY, &other).status == 200).then_some(()));
    stack.get(DAY, &ended).assert_json(401, REVOKED);
    stack.restart_gateway();
    assert_eq!(stack.get(DAY, &other).status, 200);
    stack.get(DAY, &ended).assert_json(401, REVOKED);
    stack.restart_backend();
    stack.command(&["user", "disable", "user01"], "");
    until_refused(&stack, &other);
}

#[test]
fn an_identity_that_cannot_be_a_user_is_refused_as_unknown() {
    let stack = Stack::embedded();
    stack.load();
    for identity in ["unknown", &"a".repeat(2000), "static:machine", "a\u{0}b"] {
        stack.get(DAY, &token::token(identity)).assert_json(401, REVOKED);
    }
}

#[test]
fn changes_through_the_backend_on_the_embedded_store() {
    assert_changes_through_the_backend_revoke(Stack::embedded());
}

#[test]
fn changes_through_the_backend_on_mongodb() {
    assert_changes_through_the_backend_revoke(Stack::on_store(&Server::shared().fresh_url()));
}

/// Changes made in MongoDB itself.
fn assert_external_changes_revoke(url: &str) {
    let user = StoredUser::at(url);
    let mut stack = Stack::on_store(url);
    stack.load();
    let token = stack.token("user01", "password01");
    assert_eq!(stack.get(DAY, &token).status, 200);
    user.change(doc! {"$set": {"disabled": true}});
    until_refused(&stack, &token);
    user.change(doc! {"$unset": {"disabled": ""}});
    wait_for("the user", || (stack.get(DAY, &token).status == 200).then_some(()));
    // A plain-text password, as the original stores them.
    user.change(doc! {"$set": {"password": "another one"}});
    until_refused(&stack, &token);
    let token = stack.token("user01", "another one");
    assert_eq!(stack.get(DAY, &token).status, 200);
    // The login has replaced it with its hash, which is not a password change.
    stack.restart_backend();
    wait_for("the backend", || (stack.get(DAY, &token).status == 200).then_some(()));
    // A change that is made while the backend is down.
    stack.backend.kill();
    user.change(doc! {"$set": {"password": "a third one"}});
    stack.restart_backend();
    until_refused(&stack, &token);
    let token = stack.token("user01", "a third one");
    assert_eq!(stack.get(DAY, &token).status, 200);
    user.delete();
    until_refused(&stack, &token);
}

#[test]
fn external_changes_in_a_single_mongodb() {
    assert_external_changes_revoke(&Server::shared().fresh_url());
}

#[test]
fn external_changes_in_a_replica_set() {
    assert_external_changes_revoke(Server::start(&["--replicas", "1"]).url());
}
