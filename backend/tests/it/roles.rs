//! Roles of users: the admin API, the answers for gateways, and the commands.

use holodule_backend::store::{Settings, Store};
use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};
use serde_json::{Value, json};

use crate::feed::account;
use crate::http;
use crate::mongod::Server;
use crate::program::{Program, folder, succeeds, text};
use crate::service::{Service, Setup};

const LIST: &str = "/users/user01/roles";

#[tokio::test]
async fn roles_are_replaced_and_edited() {
    let service = Service::start().await;
    service.user("user01", "password01").await;
    let listed = async || service.admin("GET", LIST, "").await.body;
    assert_eq!(listed().await, "[]\n");
    for (method, body, expected) in [
        ("PUT", r#"["editor","admin","editor"]"#, r#"["admin","editor"]"#),
        ("PATCH", r#"{"add":["viewer"],"remove":["admin","other"]}"#, r#"["editor","viewer"]"#),
        ("PATCH", r#"{"add":["viewer"]}"#, r#"["editor","viewer"]"#),
        ("PATCH", r#"{"remove":["viewer"]}"#, r#"["editor"]"#),
        ("PUT", "[]", "[]"),
        ("PUT", r#"["a:b/c$"]"#, r#"["a:b/c$"]"#),
    ] {
        let reply = service.admin(method, LIST, body).await;
        assert_eq!((reply.status, reply.body.as_str()), (204, ""), "{method} {body}");
        assert_eq!(listed().await, format!("{expected}\n"), "{method} {body}");
    }
    let head = http::send(&service.admin, "HEAD", LIST, &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let users = service.admin("GET", "/users", "").await.json();
    assert_eq!(users["users"][0]["roles"], json!(["a:b/c$"]));
}

#[tokio::test]
async fn an_invalid_request_gets_a_reason_and_changes_nothing() {
    let service = Service::start().await;
    service.user("user01", "password01").await;
    assert_eq!(service.admin("PUT", LIST, r#"["kept"]"#).await.status, 204);
    let many = json!((0..65).map(|number| number.to_string()).collect::<Vec<_>>()).to_string();
    let long = json!((0..32).map(|number| format!("{number:064}")).collect::<Vec<_>>()).to_string();
    let longest = json!(["x".repeat(65)]).to_string();
    for (method, body, status, reason) in [
        ("PUT", "", 400, "not JSON"),
        ("PUT", "{}", 400, "an array of roles"),
        ("PUT", r#""admin""#, 400, "an array of roles"),
        ("PUT", r#"["a",1]"#, 400, "an array of roles"),
        ("PUT", r#"["a b"]"#, 400, "a role is 1 to 64"),
        ("PUT", r#"[""]"#, 400, "a role is 1 to 64"),
        ("PUT", r#"["a\"b"]"#, 400, "a role is 1 to 64"),
        ("PUT", r#"["役"]"#, 400, "a role is 1 to 64"),
        ("PUT", &longest, 400, "a role is 1 to 64"),
        ("PUT", &many, 400, "at most 64 roles"),
        ("PUT", &long, 400, "at most 2048 bytes"),
        ("PATCH", "[]", 400, "an object of add and remove"),
        ("PATCH", r#"[["a"],["b"]]"#, 400, "an object of add and remove"),
        ("PATCH", "{}", 400, "no role"),
        ("PATCH", r#"{"add":[],"remove":[]}"#, 400, "no role"),
        ("PATCH", r#"{"add":["a"],"remove":["a"]}"#, 400, "both"),
        ("PATCH", r#"{"add":["a"],"set":[]}"#, 400, "an object of add and remove"),
        ("PATCH", r#"{"add":"a"}"#, 400, "an object of add and remove"),
        ("PATCH", r#"{"add":["a b"]}"#, 400, "a role is 1 to 64"),
    ] {
        let reply = service.admin(method, LIST, body).await;
        assert_eq!(reply.status, status, "{method} {body}");
        assert!(reply.json()["description"].as_str().unwrap().contains(reason), "{method} {body}: {reply:?}");
    }
    let most: Vec<_> = (0..64).map(|number| number.to_string()).collect();
    let full = service.admin("PATCH", LIST, &json!({ "add": most }).to_string()).await;
    assert_eq!((full.status, &full.json()["description"]), (409, &json!("a user has at most 64 roles")));
    assert_eq!(service.admin("GET", LIST, "").await.body, "[\"kept\"]\n");

    let type_is = |value| [("Content-Type", value)];
    for method in ["PUT", "PATCH"] {
        let reply = http::send(&service.admin, method, LIST, &type_is("text/plain"), "[]").await;
        assert_eq!(reply.status, 415, "{method}");
    }
    let large = format!("[{}]", vec![format!("\"{}\"", "x".repeat(64)); 1000].join(","));
    assert_eq!(service.admin("PUT", LIST, &large).await.status, 413);
    for (method, body) in [("GET", ""), ("PUT", "[]"), ("PATCH", r#"{"add":["a"]}"#)] {
        for path in ["/users/nouser/roles", "/users/%00/roles"] {
            let reply = service.admin(method, path, body).await;
            assert_eq!((reply.status, &reply.json()["description"]), (404, &json!("no such user")), "{method} {path}");
        }
    }
    let other = http::send(&service.admin, "DELETE", LIST, &type_is("application/json"), "").await;
    assert_eq!((other.status, other.header("allow")), (405, "GET, HEAD, PUT, PATCH"));
}

/// What gateways receive, with the text of the members about roles.
async fn gateways_receive(service: &Service, roles: &Value) {
    let verified = service.verify("user01", "password01").await;
    assert!(verified.status == 200 && verified.body.contains(&format!("\"roles\":{roles}")), "{verified:?}");
    assert_eq!(&account(service, "user01").await["roles"], roles);
}

#[tokio::test]
async fn gateways_receive_the_roles_with_a_login_and_a_check_and_no_token_is_revoked() {
    let service = Service::start().await;
    service.user("user01", "password01").await;
    let first = account(&service, "user01").await;
    gateways_receive(&service, &json!([])).await;
    assert_eq!(service.admin("PUT", LIST, r#"["b","a"]"#).await.status, 204);
    gateways_receive(&service, &json!(["a", "b"])).await;
    let later = account(&service, "user01").await;
    for member in ["active", "password_changed_at", "password_mark", "logged_out"] {
        assert_eq!(later[member], first[member], "{member}");
    }
    assert_eq!(service.admin("PATCH", "/users/user01", r#"{"disabled":true}"#).await.status, 204);
    assert_eq!(account(&service, "user01").await["roles"], json!([]), "none while the account is not active");
}

#[tokio::test]
async fn the_page_shows_the_answers_as_they_are() {
    let page = include_str!("../../../ops/roles.md");
    let shown = |start: &str| page.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}"));
    let service = Service::start().await;
    service.user("user01", "password01").await;
    assert_eq!(service.admin("PUT", LIST, r#"["editor","viewer"]"#).await.status, 204);
    // The values that differ in each run.
    let same = |text: &str, values: &Value| {
        let mut text = text.to_owned();
        for member in ["password_changed_at", "password_mark", "feed"] {
            text = text.replace(&format!("\"{member}\":{}", values[member]), &format!("\"{member}\":_"));
        }
        text
    };
    let check = service.admin("POST", "/revocation/check", r#"{"identity":"user01"}"#).await;
    for (start, answer) in [
        (r#"{"username":"user01","password_changed_at""#, service.verify("user01", "password01").await),
        (r#"{"identity":"user01","active""#, check),
    ] {
        let shown = shown(start);
        let values: Value = serde_json::from_str(shown).unwrap();
        assert_eq!(same(answer.body.trim_end(), &answer.json()), same(shown, &values));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_in_a_document_that_cannot_be_read_are_none_and_are_logged() {
    let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
    let users = Client::with_uri_str(&url).await.unwrap().default_database().unwrap().collection::<Document>("users");
    let user = doc! { "_id": 1, "username": "user01", "password": "password01" };
    users.insert_one(user.clone()).await.unwrap();
    let folder = folder();
    let program = Program::start(folder.path(), &[("STORE", &url)]);
    let json_type = [("Content-Type", "application/json")];
    let send =
        async |method: &str, path: &str, body: &str| http::send(program.admin(), method, path, &json_type, body).await;
    let credentials = r#"{"username":"user01","password":"password01"}"#;
    let unreadable =
        [doc! { "roles": "admin" }, doc! { "roles": ["admin", 1] }, doc! { "roles": { "$gt": ["admin"] } }];
    for roles in unreadable {
        users.replace_one(doc! {}, user.clone().into_iter().chain(roles.clone()).collect::<Document>()).await.unwrap();
        let verified = send("POST", "/credentials/verify", credentials).await;
        assert_eq!((verified.status, &verified.json()["roles"]), (200, &json!([])), "{roles}");
        let checked = send("POST", "/revocation/check", r#"{"identity":"user01"}"#).await.json();
        assert_eq!((&checked["active"], &checked["roles"]), (&json!(true), &json!([])), "{roles}");
        assert_eq!(send("GET", "/users", "").await.json()["users"][0]["roles"], Value::Null);
        for (method, body) in [("GET", ""), ("PATCH", r#"{"add":["a"]}"#), ("PATCH", r#"{"remove":["admin"]}"#)] {
            let refused = send(method, LIST, body).await;
            let reason = "the stored roles cannot be read, so the user has none; replace them";
            assert_eq!((refused.status, &refused.json()["description"]), (409, &json!(reason)), "{method} {roles}");
        }
        let stored = users.find_one(doc! {}).await.unwrap().unwrap();
        assert_eq!(stored.get("roles"), roles.get("roles"), "it is unchanged");
    }
    let listed = program.run(folder.path(), &["user", "list"], "");
    assert!(succeeds(&listed).starts_with("user01\tenabled\t"), "{listed:?}");
    let warning = "holodule-backend: the stored roles of \"user01\" cannot be read: the user has none\n";
    assert_eq!(text(&listed.stderr), warning);
    assert_eq!(send("PUT", LIST, r#"["a"]"#).await.status, 204);
    assert_eq!(send("GET", LIST, "").await.body, "[\"a\"]\n");
    assert_eq!(send("PUT", LIST, "[]").await.status, 204);
    let stored = users.find_one(doc! {}).await.unwrap().unwrap();
    assert!(!stored.contains_key("roles"), "no roles are not stored: {stored}");
    assert_eq!(program.terminate(), 0);
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    let warnings: Vec<_> =
        log.lines().filter(|line| line.contains("the stored roles of a user cannot be read")).collect();
    assert_eq!(warnings.len(), 6, "one for each login and check: {log}");
    assert!(warnings.iter().all(|line| line.contains("\"username\":\"user01\"")), "{warnings:?}");
}

#[tokio::test]
async fn an_edit_of_a_document_of_any_readable_form_is_stored_sorted() {
    let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
    let users = Client::with_uri_str(&url).await.unwrap().default_database().unwrap().collection::<Document>("users");
    let settings = Settings {
        url: url.parse().unwrap(),
        operation_timeout: std::time::Duration::from_secs(20),
        max_connections: 4,
        text_cache: 1 << 20,
    };
    let service = Service::over(Store::open(&settings).await.unwrap(), Setup::default()).await;
    for stored in [None, Some(Bson::Null), Some(doc! { "a": [] }.remove("a").unwrap())] {
        let mut user = doc! { "_id": 1, "username": "user01", "password": "password01", "firstname": "a" };
        if let Some(stored) = stored {
            user.insert("roles", stored);
        }
        users.delete_many(doc! {}).await.unwrap();
        users.insert_one(user).await.unwrap();
        assert_eq!(service.admin("PATCH", LIST, r#"{"remove":["x"]}"#).await.status, 204);
        assert_eq!(service.admin("PATCH", LIST, r#"{"add":["b"]}"#).await.status, 204);
        assert_eq!(service.admin("GET", LIST, "").await.body, "[\"b\"]\n");
    }
    users.update_one(doc! {}, doc! { "$set": { "roles": ["z", "b", "z"] } }).await.unwrap();
    assert_eq!(service.admin("GET", LIST, "").await.body, "[\"b\",\"z\"]\n");
    assert_eq!(service.admin("PATCH", LIST, r#"{"add":["a"]}"#).await.status, 204);
    let user = users.find_one(doc! {}).await.unwrap().unwrap();
    assert_eq!(user.get("roles"), doc! { "a": ["a", "b", "z"] }.get("a"));
    assert_eq!(user.get_str("firstname").unwrap(), "a", "other fields are unchanged");
}

#[test]
fn roles_are_managed_by_commands() {
    let folder = folder();
    let path = folder.path();
    let program = Program::start(path, &[]);
    let role = |arguments: &[&str]| program.run(path, &[&["user", "role"], arguments].concat(), "");
    let refused = |arguments: &[&str], message: &str| {
        let output = role(arguments);
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(1), message), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
    };
    for name in ["a/b c%", "user02"] {
        succeeds(&program.run(path, &["user", "add", name], "password01\n"));
    }
    assert_eq!(succeeds(&role(&["list", "a/b c%"])), "");
    assert_eq!(succeeds(&role(&["add", "a/b c%", "viewer", "admin"])), "\"a/b c%\" has the added roles\n");
    assert_eq!(succeeds(&role(&["add", "a/b c%", "admin"])), "\"a/b c%\" has the added roles\n");
    assert_eq!(succeeds(&role(&["list", "a/b c%"])), "admin\nviewer\n");
    assert_eq!(
        succeeds(&program.run(path, &["user", "list"], "")),
        "a/b c%\tenabled\targon2id\tadmin viewer\nuser02\tenabled\targon2id\n"
    );
    let removed = succeeds(&role(&["remove", "a/b c%", "admin", "other"]));
    assert_eq!(removed, "\"a/b c%\" no longer has the removed roles\n");
    assert_eq!(succeeds(&role(&["list", "a/b c%"])), "viewer\n");

    assert_eq!(succeeds(&role(&["set", "user02", "b", "a"])), "\"user02\" has new roles\n");
    assert_eq!(succeeds(&role(&["list", "user02"])), "a\nb\n");
    succeeds(&role(&["set", "user02"]));
    assert_eq!(succeeds(&role(&["list", "user02"])), "");

    for arguments in
        [&["list", "nouser"][..], &["add", "nouser", "a"], &["remove", "nouser", "a"], &["set", "nouser", "a"]]
    {
        refused(arguments, "holodule-backend: no such user (404 Not Found)\n");
    }
    let reason = "a role is 1 to 64 printable ASCII characters, without space, \" and \\";
    refused(&["add", "user02", "a b"], &format!("holodule-backend: {reason} (400 Bad Request)\n"));
    let many: Vec<String> = (0..64).map(|number| number.to_string()).collect();
    let many: Vec<&str> = ["add", "a/b c%"].into_iter().chain(many.iter().map(String::as_str)).collect();
    refused(&many, "holodule-backend: a user has at most 64 roles (409 Conflict)\n");
    for incomplete in [&["add", "user02"][..], &["remove", "user02"], &["set"], &["list"], &[]] {
        assert_eq!(role(incomplete).status.code(), Some(1), "{incomplete:?}");
    }
    assert_eq!(succeeds(&role(&["list", "a/b c%"])), "viewer\n");
    assert_eq!(program.terminate(), 0);
}
