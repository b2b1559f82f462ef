//! ops/WIRE.md: who is no user any more is refused within a second, whoever made the change and
//! whichever program was started anew.

use std::time::Instant;

use mongodb::Client;
use mongodb::bson::{Document, doc};

use super::Stack;
use super::mongod::Server;
use super::process::wait_for;
use crate::support::client::Answer;
use crate::support::token;

const DAY: &str = "/holodules/20201209";
const REVOKED: &str = r#"{"status_code":401,"error":"Invalid JWT","description":"User does not exist"}"#;

/// Waits until `token` is refused as revoked, and says how long that took.
#[expect(clippy::print_stdout, reason = "the figure is for whoever runs this with --nocapture")]
fn refused(stack: &Stack, token: &str) {
    let began = Instant::now();
    wait_for("the refusal", || (stack.get(DAY, token).status == 401).then_some(()));
    println!("refused after {} ms", began.elapsed().as_millis());
    stack.get(DAY, token).assert_json(401, REVOKED);
}

fn log_out(stack: &Stack, token: &str) -> Answer {
    stack.curl(&["-X", "POST", "-H", &format!("Authorization: Bearer {token}")], "/auth/logout")
}

/// Every way in which an admin ends a user's tokens, and a logout.
fn changes_through_the_backend(mut stack: Stack) {
    stack.load();
    for (name, end, begin) in [
        ("disable", &["user", "disable", "user01"][..], Some(&["user", "enable", "user01"][..])),
        ("passwd", &["user", "passwd", "user01"], None),
        ("delete", &["user", "delete", "user01"], Some(&["user", "add", "user01"])),
    ] {
        let token = stack.token("user01", "password01");
        assert_eq!(stack.get(DAY, &token).status, 200, "{name}");
        stack.command(end, "password01\n");
        refused(&stack, &token);
        if let Some(begin) = begin {
            stack.command(begin, "password01\n");
        }
        if name == "delete" {
            // A user of the same name is another one.
            stack.get(DAY, &token).assert_json(401, REVOKED);
        }
    }
    let (ended, other) = (stack.token("user01", "password01"), stack.token("user01", "password01"));
    assert_eq!(log_out(&stack, &ended).status, 204);
    stack.get(DAY, &ended).assert_json(401, REVOKED);
    assert_eq!(stack.get(DAY, &other).status, 200);
    // Neither program has to have been there all the time.
    stack.restart_backend();
    wait_for("the backend", || (stack.get(DAY, &other).status == 200).then_some(()));
    stack.get(DAY, &ended).assert_json(401, REVOKED);
    stack.restart_gateway();
    assert_eq!(stack.get(DAY, &other).status, 200);
    stack.get(DAY, &ended).assert_json(401, REVOKED);
    stack.restart_backend();
    stack.command(&["user", "disable", "user01"], "");
    refused(&stack, &other);
}

#[test]
fn an_identity_that_could_be_no_user_is_one_that_is_none() {
    let stack = Stack::embedded();
    stack.load();
    for identity in ["nobody", &"a".repeat(2000), "static:machine", "a\u{0}b"] {
        stack.get(DAY, &token::token(identity)).assert_json(401, REVOKED);
    }
}

#[test]
fn changes_through_the_backend_on_the_embedded_store() {
    changes_through_the_backend(Stack::embedded());
}

#[test]
fn changes_through_the_backend_on_mongodb() {
    changes_through_the_backend(Stack::on_store(&Server::shared().fresh_url()));
}

/// Changes that somebody makes in MongoDB itself.
fn changes_by_hand(url: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let users = runtime.block_on(async {
        Client::with_uri_str(url).await.unwrap().default_database().unwrap().collection::<Document>("users")
    });
    let change = |update: Document| {
        let update = users.update_one(doc! {"username": "user01"}, update);
        assert_eq!(runtime.block_on(async { update.await }).unwrap().modified_count, 1);
    };
    let mut stack = Stack::on_store(url);
    stack.load();
    let token = stack.token("user01", "password01");
    assert_eq!(stack.get(DAY, &token).status, 200);
    change(doc! {"$set": {"disabled": true}});
    refused(&stack, &token);
    change(doc! {"$unset": {"disabled": ""}});
    wait_for("the user", || (stack.get(DAY, &token).status == 200).then_some(()));
    // A password as the original stored them.
    change(doc! {"$set": {"password": "another one"}});
    refused(&stack, &token);
    let token = stack.token("user01", "another one");
    assert_eq!(stack.get(DAY, &token).status, 200);
    // The login has stored it in another form, which is no change.
    stack.restart_backend();
    wait_for("the backend", || (stack.get(DAY, &token).status == 200).then_some(()));
    // While the backend is away, nobody watches.
    stack.backend.kill();
    change(doc! {"$set": {"password": "a third one"}});
    stack.restart_backend();
    refused(&stack, &token);
    let token = stack.token("user01", "a third one");
    assert_eq!(stack.get(DAY, &token).status, 200);
    runtime.block_on(async { users.delete_one(doc! {"username": "user01"}).await }).unwrap();
    refused(&stack, &token);
}

#[test]
fn changes_by_hand_in_a_single_mongodb() {
    changes_by_hand(&Server::shared().fresh_url());
}

#[test]
fn changes_by_hand_in_a_replica_set() {
    changes_by_hand(Server::start(&["--replicas", "1"]).url());
}
