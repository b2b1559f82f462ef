//! ops/WIRE.md, "The stored documents": users with each kind of stored password log in, which replaces it by argon2id.

use mongodb::Client;
use mongodb::bson::{Document, doc};

use super::Stack;
use super::mongod::Server;

const INVALID: &str = r#"{"status_code":401,"error":"Bad Request","description":"Invalid credentials"}"#;

#[test]
fn a_login_with_any_stored_form_replaces_it_with_argon2id() {
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
            doc! {"id": "3", "username": "disabled", "password": "of a disabled user", "disabled": true},
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
        // A stored hash is not accepted as the password.
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
    let document = find("bcrypt");
    assert_eq!((document.get_str("id").unwrap(), document.get_str("firstname").unwrap()), ("2", "A"), "{document}");
    stack.log_in("disabled", "of a disabled user").assert_json(401, INVALID);
    stack.log_in("damaged", "$2b$12$damaged").assert_json(401, INVALID);
    stack.log_in("unknown", "of the original").assert_json(401, INVALID);
}

#[test]
fn commands_add_change_disable_and_delete_users() {
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
