//! ops/roles.md: a change of a user's roles takes effect on existing tokens within a second, also if it was made in MongoDB
//! itself, and after a restart of either program.

use std::time::Instant;

use mongodb::bson::doc;
use serde_json::json;

use super::Stack;
use super::mongod::Server;
use super::process::wait_for;
use super::stored_user::StoredUser;
use crate::support::token::{self, decode};

const DAY: &str = "/holodules/20201209";
const ROUTE: &str = "[{ path = '/holodules/{day}', methods = ['GET'], shared = true, require = { any = ['viewer'] } }]";

fn start(store: &str) -> Stack {
    let gateway = [("JWT_SECRET_KEY", token::secret()), ("ROUTE", ROUTE.to_owned())];
    let stack = Stack::start(&[("STORE", store.to_owned())], &gateway, None);
    stack.load();
    stack
}

/// Waits until a request with `token` gets `status`, and prints how long that took.
#[expect(clippy::print_stdout, reason = "the duration is shown with --nocapture")]
fn until_status(stack: &Stack, token: &str, status: u16) {
    let began = Instant::now();
    wait_for("the effect", || (stack.get(DAY, token).status == status).then_some(()));
    println!("{status} after {} ms", began.elapsed().as_millis());
}

fn scope_of(token: &str) -> serde_json::Value {
    decode(token.split('.').nth(1).unwrap())["scope"].clone()
}

fn assert_changes_take_effect_on_existing_tokens(store: &str) {
    let mut stack = start(store);
    let without = stack.token("user01", "password01");
    assert_eq!(scope_of(&without), json!(null));
    stack.get(DAY, &without).assert_json(403, r#"{"error":"Forbidden"}"#);
    stack.command(&["user", "role", "add", "user01", "viewer", "editor"], "");
    until_status(&stack, &without, 200);
    let with = stack.token("user01", "password01");
    assert_eq!(scope_of(&with), json!("editor viewer"));
    assert_eq!(stack.get(DAY, &with).status, 200);
    stack.command(&["user", "role", "remove", "user01", "viewer"], "");
    // The response is in the cache, and the token still claims the role.
    until_status(&stack, &with, 403);
    assert_eq!(stack.get(DAY, &without).status, 403);
    stack.restart_gateway();
    assert_eq!(stack.get(DAY, &with).status, 403);
    stack.command(&["user", "role", "set", "user01", "viewer"], "");
    until_status(&stack, &without, 200);
    stack.restart_backend();
    wait_for("the backend", || (stack.get(DAY, &without).status == 200).then_some(()));
    stack.command(&["user", "role", "set", "user01"], "");
    until_status(&stack, &with, 403);
    // A user who is created again has no roles, and the earlier tokens stay revoked.
    stack.command(&["user", "role", "add", "user01", "viewer"], "");
    until_status(&stack, &with, 200);
    stack.command(&["user", "delete", "user01"], "");
    until_status(&stack, &with, 401);
    stack.command(&["user", "add", "user01"], "password01\n");
    assert_eq!(stack.get(DAY, &stack.token("user01", "password01")).status, 403);
}

#[test]
fn changes_on_the_embedded_store() {
    assert_changes_take_effect_on_existing_tokens("embedded:store.redb");
}

#[test]
fn changes_on_mongodb() {
    assert_changes_take_effect_on_existing_tokens(&Server::shared().fresh_url());
}

#[test]
fn changes_in_mongodb_itself() {
    let url = Server::shared().fresh_url();
    let stack = start(&url);
    let user = StoredUser::at(&url);
    let token = stack.token("user01", "password01");
    assert_eq!(stack.get(DAY, &token).status, 403);
    user.change(doc! {"$set": {"roles": ["viewer"]}});
    until_status(&stack, &token, 200);
    // Roles that cannot be read grant nothing.
    user.change(doc! {"$set": {"roles": "viewer"}});
    until_status(&stack, &token, 403);
    user.change(doc! {"$set": {"roles": ["viewer"]}});
    until_status(&stack, &token, 200);
    user.change(doc! {"$unset": {"roles": ""}});
    until_status(&stack, &token, 403);
}
