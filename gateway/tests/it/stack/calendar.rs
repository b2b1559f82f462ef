//! Calendar feeds through both programs.

use serde_json::{Value, json};

use super::Stack;
use super::process::wait_for;

fn create(stack: &Stack, token: &str, request: &Value) -> Value {
    let authorization = format!("Authorization: JWT {token}");
    let body = request.to_string();
    let answer =
        stack.curl(&["-H", &authorization, "-H", "Content-Type: application/json", "-d", &body], "/holoapi/calendar");
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()
}

#[test]
fn a_feed_is_read_with_its_key_alone_until_it_is_deleted_and_no_log_has_the_key() {
    let stack = Stack::embedded();
    stack.load();
    let token = stack.token("user01", "password01");
    let today = stack.get("/now", &token).json()["now"].as_str().unwrap()[..10].replace('-', "");
    let store = |title: &str| {
        let holodule = json!({
            "key": format!("HL0503_{today}_120000"), "video_id": "abcdefghijk", "datetime": format!("{today} 120000"),
            "name": "a", "title": title, "url": "https://www.youtube.com/watch?v=abcdefghijk", "description": "",
        });
        stack.command(&["import", "--format", "ndjson", "-"], &format!("{holodule}\n"));
    };
    store("first title");
    let feed = create(&stack, &token, &json!({ "code": ["HL0503"], "label": "mine" }));
    let (path, key) = (feed["path"].as_str().unwrap(), feed["key"].as_str().unwrap());
    let answer = stack.curl(&[], path);
    assert_eq!((answer.status, answer.value("content-type")), (200, "text/calendar; charset=utf-8"), "{answer:?}");
    assert!(answer.body.contains("first title") && !answer.body.contains(key), "{answer:?}");
    assert!(answer.values("x-cache").is_empty() && answer.value("cache-control").starts_with("private"));
    let unchanged = stack.curl(&["-H", &format!("If-None-Match: {}", answer.value("etag"))], path);
    assert_eq!(unchanged.status, 304);
    store("second title");
    wait_for("the change", || stack.curl(&[], &format!("/holoapi{path}")).body.contains("second title").then_some(()));
    assert_eq!(create(&stack, &token, &json!({}))["filter"]["code"], json!([]));
    assert_eq!(stack.get("/calendar", &token).json()["calendars"].as_array().unwrap().len(), 2);

    let misspelt = [format!("/calender/{key}.ics"), format!("/{key}"), path.replace(".ics", ""), format!("{path}/")];
    for path in &misspelt {
        assert!([401, 404].contains(&stack.curl(&[], path).status), "{path}");
        assert!([404, 405].contains(&stack.get(path, &token).status), "{path}");
    }
    let id = feed["id"].as_str().unwrap();
    let authorization = format!("Authorization: JWT {token}");
    assert_eq!(stack.curl(&["-X", "DELETE", "-H", &authorization], &format!("/calendar/{id}")).status, 204);
    let deleted = stack.curl(&[], path);
    let unknown = stack.curl(&[], &format!("/calendar/{}.ics", "0".repeat(64)));
    assert_eq!((deleted.status, unknown.status, &deleted.body), (404, 404, &unknown.body));
    wait_for("the last request in both logs", || {
        let id = unknown.value("x-request-id");
        [&stack.gateway, &stack.backend].iter().all(|program| program.log().contains(id)).then_some(())
    });
    for program in [&stack.gateway, &stack.backend] {
        let log = program.log();
        let line = log.lines().find(|line| line.contains(key) || line.contains(&key[..32]));
        assert!(line.is_none(), "{line:?}");
        assert!(log.contains("/calendar/{key}.ics"), "{log}");
    }
}

#[test]
fn the_feeds_of_a_deleted_user_end_with_the_account() {
    let stack = Stack::embedded();
    stack.load();
    let feed = create(&stack, &stack.token("user01", "password01"), &json!({}));
    let path = feed["path"].as_str().unwrap();
    assert_eq!(stack.curl(&[], path).status, 200);
    stack.command(&["user", "delete", "user01"], "");
    assert_eq!(stack.curl(&[], path).status, 404);
}
