//! Users, from creation to deletion.

use serde_json::json;

use crate::http;
use crate::service::Service;

#[tokio::test]
async fn the_life_of_a_user() {
    let service = Service::start().await;
    let made = service.admin("POST", "/users", r#"{"username":"user 01","password":"password01"}"#).await;
    assert_eq!((made.status, made.body.as_str()), (201, "{\"username\":\"user 01\"}\n"));
    let again = service.admin("POST", "/users", r#"{"username":"user 01","password":"other"}"#).await;
    assert_eq!((again.status, again.json()["description"].as_str()), (409, Some("the name is taken")));
    assert_eq!(service.verify("user 01", "password01").await.status, 200, "the first password is unchanged");

    assert_eq!(service.admin("PUT", "/users/user%2001/password", r#"{"password":"password02"}"#).await.status, 204);
    assert_eq!(service.verify("user 01", "password01").await.status, 401);
    assert_eq!(service.verify("user 01", "password02").await.status, 200);

    assert_eq!(service.admin("PATCH", "/users/user%2001", r#"{"disabled":true}"#).await.status, 204);
    assert_eq!(service.verify("user 01", "password02").await.status, 401);
    assert_eq!(service.admin("PATCH", "/users/user%2001", r#"{"disabled":false}"#).await.status, 204);
    assert_eq!(service.verify("user 01", "password02").await.status, 200);

    assert_eq!(service.admin("DELETE", "/users/user%2001", "").await.status, 204);
    assert_eq!(service.verify("user 01", "password02").await.status, 401);
}

#[tokio::test]
async fn the_list_shows_the_form_and_never_the_hash() {
    let service = Service::start().await;
    service.user("b", "plain password").await;
    service.user("a", "$2b$12$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW").await;
    service.admin("POST", "/users", r#"{"username":"c","password":"password01"}"#).await;
    let reply = service.admin("GET", "/users", "").await;
    assert_eq!(reply.status, 200);
    let mut users = reply.json()["users"].as_array().unwrap().clone();
    for user in &mut users {
        assert!(user["id"].is_string(), "{user}");
        user.as_object_mut().unwrap().remove("id");
    }
    let expected = json!([
        {"username": "a", "disabled": false, "password": "bcrypt", "roles": []},
        {"username": "b", "disabled": false, "password": "plain", "roles": []},
        {"username": "c", "disabled": false, "password": "argon2id", "roles": []},
    ]);
    assert_eq!(serde_json::Value::from(users), expected);
    assert!(!reply.body.contains("$2b$") && !reply.body.contains("plain password"));
}

#[tokio::test]
async fn unknown_users_are_not_found() {
    let service = Service::start().await;
    for (method, path, body) in [
        ("PUT", "/users/nouser/password", r#"{"password":"password01"}"#),
        ("PATCH", "/users/nouser", r#"{"disabled":true}"#),
        ("DELETE", "/users/nouser", ""),
        ("DELETE", "/users/%00", ""),
    ] {
        let reply = service.admin(method, path, body).await;
        assert_eq!(
            (reply.status, reply.json()["description"].as_str()),
            (404, Some("no such user")),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn an_invalid_request_gets_a_reason() {
    let service = Service::start().await;
    let long_name = "x".repeat(129);
    let long_password = "x".repeat(1025);
    for (username, password, why) in [
        ("", "password01", "empty"),
        ("a\nb", "password01", "control characters"),
        ("static:ci", "password01", "static:"),
        (long_name.as_str(), "password01", "128 bytes"),
        ("user01", "", "empty"),
        ("user01", long_password.as_str(), "1024 bytes"),
    ] {
        let body = json!({ "username": username, "password": password }).to_string();
        let reply = service.admin("POST", "/users", &body).await;
        assert_eq!(reply.status, 400, "{username:?}");
        assert!(reply.json()["description"].as_str().unwrap().contains(why), "{reply:?}");
    }
    for (method, path, body) in [
        ("POST", "/users", r#"{"username":"user01","password":"p","disabled":true}"#),
        ("PATCH", "/users/user01", r#"{"disabled":"yes"}"#),
        ("PATCH", "/users/user01", "{}"),
        ("PUT", "/users/user01/password", r#"{"password":""}"#),
        ("PUT", "/users/user01/password", "nonsense"),
    ] {
        assert_eq!(service.admin(method, path, body).await.status, 400, "{method} {path} {body}");
    }
    assert_eq!(service.admin("GET", "/users", "").await.json(), json!({ "users": [] }));
}

#[tokio::test]
async fn other_methods_get_a_405_with_allow() {
    let service = Service::start().await;
    for (path, allow) in [
        ("/users", "GET, HEAD, POST"),
        ("/users/user01", "PATCH, DELETE"),
        ("/users/user01/password", "PUT"),
        ("/holodules", "GET, HEAD, POST"),
        ("/holodules/video000001", "PUT, DELETE"),
        ("/status", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
    ] {
        let reply = http::send(&service.admin, "OPTIONS", path, &[], "").await;
        assert_eq!((reply.status, reply.header("allow")), (405, allow), "{path}");
    }
}
