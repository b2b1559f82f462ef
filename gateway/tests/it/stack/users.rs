//! ops/WIRE.md, "The stored documents": users of every era log in, and become of ours by that.

use mongodb::Client;
use mongodb::bson::{Document, doc};

use super::Stack;
use super::mongod::Server;

const INVALID: &str = r#"{"status_code":401,"error":"Bad Request","description":"Invalid credentials"}"#;

#[test]
fn users_of_every_era_log_in_and_become_argon2id() {
    let url = Server::shared().fresh_url();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let users = runtime.block_on(async {
        let users =
            Client::with_uri_str(&url).await.unwrap().default_database().unwrap().collection::<Document>("users");
        let bcrypt = bcrypt::hash("of the later original", 4).unwrap();
        assert!(bcrypt.starts_with("$2b$"));
        let documents = [
            doc! {"id": "1", "username": "plain", "password": "of the original"},
            doc! {"id": "2", "username": "bcrypt", "password": bcrypt, "firstname": "A", "lastname": "B"},
            doc! {"id": "3", "username": "disabled", "password": "of nobody", "disabled": true},
            doc! {"id": "4", "username": "damaged", "password": "$2b$12$damaged"},
        ];
        users.insert_many(documents).await.unwrap();
        users
    });
    let stack = Stack::on_store(&url);
    let find = |username: &str| {
        let found = runtime.block_on(async { users.find_one(doc! {"username": username}).await });
        found.unwrap().unwrap()
    };
    let stored = |username: &str| find(username).get_str("password").unwrap().to_owned();
    for (username, password) in [("plain", "of the original"), ("bcrypt", "of the later original")] {
        let before = stored(username);
        stack.log_in(username, "wrong").assert_json(401, INVALID);
        // What is stored is no password of its own.
        if before.starts_with('$') {
            stack.log_in(username, &before).assert_json(401, INVALID);
        }
        assert_eq!(stored(username), before);
        for _ in 0..2 {
            stack.token(username, password);
            assert!(stored(username).starts_with("$argon2id$"), "{}", stored(username));
        }
        stack.log_in(username, "wrong").assert_json(401, INVALID);
        stack.log_in(username, &stored(username)).assert_json(401, INVALID);
    }
    let kept = find("bcrypt");
    assert_eq!((kept.get_str("id").unwrap(), kept.get_str("firstname").unwrap()), ("2", "A"), "{kept}");
    stack.log_in("disabled", "of nobody").assert_json(401, INVALID);
    stack.log_in("damaged", "$2b$12$damaged").assert_json(401, INVALID);
    stack.log_in("nobody", "of the original").assert_json(401, INVALID);
}

#[test]
fn users_made_and_unmade_by_command() {
    let stack = Stack::embedded();
    stack.log_in("user01", "password01").assert_json(401, INVALID);
    stack.command(&["user", "add", "user01"], "password01\n");
    stack.token("user01", "password01");
    stack.command(&["user", "passwd", "user01"], "another one\n");
    stack.log_in("user01", "password01").assert_json(401, INVALID);
    stack.token("user01", "another one");
    stack.command(&["user", "disable", "user01"], "");
    stack.log_in("user01", "another one").assert_json(401, INVALID);
    stack.command(&["user", "enable", "user01"], "");
    stack.token("user01", "another one");
    stack.command(&["user", "delete", "user01"], "");
    stack.log_in("user01", "another one").assert_json(401, INVALID);
}
