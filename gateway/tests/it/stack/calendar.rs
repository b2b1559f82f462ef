//! Calendar feeds through both programs.

use holodule_gateway::token::Digest;
use serde_json::{Value, json};

use super::Stack;
use super::process::wait_for;
use crate::support::token;
use crate::trace::{contains, exported};

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

#[test]
fn a_static_token_neither_lists_nor_deletes_feeds() {
    let machine = "holodule_0123456789abcdef0123456789abcdef";
    let static_token =
        format!("[{{ name = 'machine', sha256 = '{}', routes = ['*'] }}]", Digest::of(machine.as_bytes()));
    let gateway = [("JWT_SECRET_KEY", token::secret()), ("STATIC_TOKEN", static_token)];
    let stack = Stack::start(&[("STORE", "embedded:store.redb".to_owned())], &gateway, None);
    stack.load();
    let user = stack.token("user01", "password01");
    let feed = create(&stack, &user, &json!({}));
    let authorization = format!("Authorization: Bearer {machine}");
    let send = |method: &str, path: &str| stack.curl(&["-X", method, "-H", &authorization], path);
    assert_eq!(send("GET", "/streamers").status, 200, "the token is valid");
    let of_feed = format!("/calendar/{}", feed["id"].as_str().unwrap());
    for (method, path) in [("GET", "/calendar"), ("DELETE", &of_feed)] {
        let refused = send(method, path);
        let kind = refused.value("content-type");
        assert_eq!((refused.status, kind), (403, "application/problem+json"), "{method}: {refused:?}");
        assert_eq!(refused.json()["status"], 403, "{refused:?}");
    }
    // Not deleted.
    assert_eq!(stack.get("/calendar", &user).json()["calendars"].as_array().unwrap().len(), 1);
    assert_eq!(stack.curl(&[], feed["path"].as_str().unwrap()).status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_trace_and_no_metric_of_either_program_has_the_key_of_a_feed() {
    let (collector, url) = crate::trace::collector().await;
    let traced = [("TELEMETRY_OTLP_ENDPOINT", url), ("TELEMETRY_INTERVAL", "0.1".to_owned())];
    let requesting = tokio::task::spawn_blocking(move || {
        let backend = [&[("STORE", "embedded:store.redb".to_owned())], &traced[..]].concat();
        let stack = Stack::start(&backend, &[&[("JWT_SECRET_KEY", token::secret())], &traced[..]].concat(), None);
        stack.load();
        let feed = create(&stack, &stack.token("user01", "password01"), &json!({}));
        let (path, key) = (feed["path"].as_str().unwrap(), feed["key"].as_str().unwrap());
        assert_eq!(stack.curl(&[], path).status, 200);
        assert_eq!(stack.curl(&[], &format!("/calendar/{key}")).status, 401);
        assert_eq!(stack.curl(&[], &format!("/calender/{key}.ics")).status, 401);
        let metrics = [(&stack.gateway, "ops"), (&stack.backend, "admin")].map(|(program, listener)| {
            let page = format!("http://{}/metrics", program.address(listener));
            super::process::run(std::process::Command::new("curl").args(["--silent", "--fail", &page]), "")
        });
        // The programs have to run until they have exported what they recorded.
        (key.to_owned(), metrics, stack)
    });
    let (key, metrics, stack) = requesting.await.unwrap();
    assert!(metrics[0].contains("calendar_feed"), "{}", metrics[0]);
    for page in &metrics {
        assert!(!page.contains(&key[..32]) && !page.contains(&key[32..]), "{page}");
    }
    let names = ["GET calendar_feed", "/calendar/{key}.ics"];
    crate::support::until("both programs export the request of the feed", async || {
        let exported = exported(&collector);
        names.iter().all(|name| contains(&exported, name.as_bytes()))
    })
    .await;
    let exported = exported(&collector);
    assert!(!contains(&exported, &key.as_bytes()[..32]) && !contains(&exported, &key.as_bytes()[32..]));
    drop(stack);
}
