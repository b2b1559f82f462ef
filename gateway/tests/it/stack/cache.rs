//! The edge cache follows the backend: a change is visible within a second, also if it was made outside the backend.

use std::time::Instant;

use mongodb::Client;
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};

use super::Stack;
use super::mongod::Server;
use super::process::wait_for;
use crate::support::client::Answer;

const DAY: &str = "/holodules/20201209";

/// A day without holodules in the sample.
const EMPTY: &str = "/holodules/20201213";

fn x_cache(answer: &Answer) -> &str {
    answer.value("x-cache")
}

/// Waits until the day has `count` holodules, and prints how long that took.
#[expect(clippy::print_stdout, reason = "the duration is shown with --nocapture")]
fn until_count(stack: &Stack, day: &str, token: &str, count: usize) -> Value {
    let began = Instant::now();
    let found = wait_for("the change", || {
        let answer = stack.get(day, token);
        let found = if answer.status == 404 { json!({"result": 0}) } else { answer.json() };
        (found["result"] == count).then_some(found)
    });
    println!("visible after {} ms", began.elapsed().as_millis());
    found
}

/// Requests both days, so that they are cached.
fn fill_cache(stack: &Stack, token: &str) {
    assert_eq!(stack.get(DAY, token).json()["result"], 17);
    assert_eq!(stack.get(EMPTY, token).status, 404);
    assert_eq!(x_cache(&stack.get(DAY, token)), "hit");
}

fn assert_changes_through_the_backend_are_visible(stack: &Stack) {
    stack.load();
    let token = stack.token("user01", "password01");
    fill_cache(stack, &token);
    let row = |datetime: &str| {
        let holodule = json!({
            "key": "HL0503_20201209_120000", "video_id": "abcdefghijk", "datetime": datetime, "name": "a",
            "title": "one more", "url": "https://www.youtube.com/watch?v=abcdefghijk", "description": "",
        });
        stack.command(&["import", "--format", "ndjson", "-"], &format!("{holodule}\n"));
    };
    row("20201209 120000");
    until_count(stack, DAY, &token, 18);
    assert_eq!(x_cache(&stack.get(DAY, &token)), "hit", "it is cached again");
    // Moving an entry to another day changes both days.
    row("20201213 120000");
    until_count(stack, DAY, &token, 17);
    let moved = until_count(stack, EMPTY, &token, 1);
    assert_eq!(moved["holodules"][0]["title"], "one more");
}

#[test]
fn changes_through_the_backend_on_the_embedded_store() {
    assert_changes_through_the_backend_are_visible(&Stack::embedded());
}

#[test]
fn changes_through_the_backend_on_mongodb() {
    assert_changes_through_the_backend_are_visible(&Stack::on_store(&Server::shared().fresh_url()));
}

/// A gateway subscribes to the feed of one backend, which has to report the writes of another.
#[test]
fn changes_through_another_backend_over_the_same_mongodb() {
    let url = Server::shared().fresh_url();
    let (stack, other) = (Stack::on_store(&url), Stack::on_store(&url));
    stack.load();
    let token = stack.token("user01", "password01");
    fill_cache(&stack, &token);
    let key = stack.get(DAY, &token).json()["holodules"][0]["video_id"].clone();
    let admin = format!("http://{}/holodules/{}", other.backend.address("admin"), key.as_str().unwrap());
    let mut delete = std::process::Command::new("curl");
    delete.args(["--silent", "--fail", "-X", "DELETE", "-H", "Content-Type: application/json", &admin]);
    super::process::run(&mut delete, "");
    until_count(&stack, DAY, &token, 16);
}

#[test]
fn external_changes_in_a_replica_set() {
    let server = Server::start(&["--replicas", "1"]);
    let stack = Stack::on_store(server.url());
    stack.load();
    let token = stack.token("user01", "password01");
    fill_cache(&stack, &token);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let deleted = runtime.block_on(async {
        let client = Client::with_uri_str(server.url()).await.unwrap();
        let holodules = client.default_database().unwrap().collection::<Document>("holodules");
        holodules.delete_many(doc! {"datetime": {"$gte": "20201209", "$lt": "20201210"}}).await.unwrap()
    });
    assert_eq!(deleted.deleted_count, 17);
    until_count(&stack, DAY, &token, 0);
}

#[test]
fn after_a_purge_at_the_ops_listener_the_backend_is_requested_again() {
    let stack = Stack::embedded();
    stack.load();
    let token = stack.token("user01", "password01");
    for purge in [json!({"path": DAY}), json!({"all": true})] {
        stack.get(DAY, &token);
        assert_eq!(x_cache(&stack.get(DAY, &token)), "hit");
        let mut curl = std::process::Command::new("curl");
        curl.args(["--silent", "--fail", "-H", "Content-Type: application/json", "-d", &purge.to_string()]);
        curl.arg(format!("http://{}/cache/purge", stack.gateway.address("ops")));
        super::process::run(&mut curl, "");
        assert_eq!(x_cache(&stack.get(DAY, &token)), "miss", "{purge}");
    }
}
