//! Events about external changes: directly in the database, and by other processes.

use std::collections::HashSet;
use std::time::Duration;

use holodule_backend::store::{Settings, Store};
use mongodb::Client;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, doc};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::{Feed, PATIENCE, account, check, inactive, log_out, now, unknown_user};
use crate::mongod::Server;
use crate::service::{Service, Setup};

/// A database on the shared server, and a service that uses it.
pub(super) async fn on_mongo() -> (String, Client, Service) {
    let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
    let client = Client::with_uri_str(&url).await.unwrap();
    let service = Service::over(open(&url, PATIENCE).await, Setup::default()).await;
    (url, client, service)
}

pub(super) async fn open(url: &str, operation_timeout: Duration) -> Store {
    Store::open(&Settings { url: url.parse().unwrap(), operation_timeout, max_connections: 20, text_cache: 1 << 20 })
        .await
        .unwrap()
}

pub(super) fn users(client: &Client) -> mongodb::Collection<Document> {
    client.default_database().unwrap().collection("users")
}

async fn insert(client: &Client, username: &str, password: &str) {
    // As created by the original: the time is in the id.
    let id = ObjectId::from_parts(1_600_000_000, [1; 5], [0, 0, username.as_bytes()[username.len() - 1]]);
    let user = doc! { "_id": id, "id": "1", "username": username, "password": password };
    users(client).insert_one(user).await.unwrap();
}

/// Changes made directly in the database, each published and effective.
async fn external_changes_are_published(client: &Client, service: &Service) {
    insert(client, "user01", "password01").await;
    let mut feed = Feed::subscribe(&service.admin).await;
    let first = account(service, "user01").await;
    let expected = json!({
        "identity": "user01", "active": true, "reason": null,
        "password_changed_at": 1_600_000_000, "password_mark": first["password_mark"], "logged_out": [], "roles": [],
    });
    assert_eq!(first, expected);
    assert_eq!(account(service, "user02").await, unknown_user("user02"));
    feed.beats(3).await;

    let user01 = doc! { "username": "user01" };
    let set = async |set: Document| users(client).update_one(user01.clone(), doc! { "$set": set }).await.unwrap();
    set(doc! { "disabled": true }).await;
    feed.expect_identity("user01").await;
    assert_eq!(account(service, "user01").await, inactive("user01", "disabled"));
    set(doc! { "disabled": false }).await;
    feed.expect_identity("user01").await;
    assert_eq!(account(service, "user01").await, first);

    for (stored, roles) in [(doc! { "roles": ["b", "a"] }, json!(["a", "b"])), (doc! { "roles": "admin" }, json!([]))] {
        set(stored).await;
        feed.expect_identity("user01").await;
        let mut checked = account(service, "user01").await;
        assert_eq!(checked["roles"].take(), roles);
        checked["roles"] = json!([]);
        assert_eq!(checked, first, "no token is revoked");
    }
    users(client).update_one(user01.clone(), doc! { "$unset": { "roles": "" } }).await.unwrap();
    feed.expect_identity("user01").await;
    assert_eq!(account(service, "user01").await, first);

    let before = now();
    set(doc! { "password": "password02" }).await;
    feed.expect_identity("user01").await;
    let changed = account(service, "user01").await;
    assert!(changed["password_changed_at"].as_i64().unwrap() >= before, "{changed}");
    assert_eq!(account(service, "user01").await, changed, "once");
    assert_ne!(changed["password_mark"], first["password_mark"]);
    // Usually in the same second.
    set(doc! { "password": "password03" }).await;
    feed.expect_identity("user01").await;
    let again = account(service, "user01").await;
    assert!(![&first, &changed].iter().any(|before| before["password_mark"] == again["password_mark"]), "{again}");

    insert(client, "user02", "password01").await;
    feed.expect_identity("user02").await;
    let before_deletion = account(service, "user02").await;
    assert_eq!(before_deletion["active"], true);
    users(client).delete_one(doc! { "username": "user02" }).await.unwrap();
    feed.expect_identity("user02").await;
    assert_eq!(account(service, "user02").await, unknown_user("user02"));
    // Restored unchanged, but another account.
    let before = now();
    insert(client, "user02", "password01").await;
    feed.expect_identity("user02").await;
    let again = account(service, "user02").await;
    assert!(again["password_changed_at"].as_i64().unwrap() >= before, "{again}");
    assert_ne!(again["password_mark"], before_deletion["password_mark"]);

    set(doc! { "username": "user03" }).await;
    feed.expect_identity("user01").await;
    assert_eq!(account(service, "user01").await, unknown_user("user01"));
    let user: Document = users(client).find_one(doc! { "username": "user03" }).await.unwrap().unwrap();
    let names: Vec<_> = user.keys().map(String::as_str).collect();
    assert_eq!(names, ["_id", "id", "username", "password", "disabled"], "nothing of ours is in their documents");
}

#[tokio::test]
async fn external_changes_to_a_standalone_server_are_published() {
    let (_url, client, service) = on_mongo().await;
    external_changes_are_published(&client, &service).await;
}

/// Changes by one process are published by another.
async fn another_process_publishes(url: &str, service: &Service) {
    let other = Service::over(open(url, PATIENCE).await, Setup::default()).await;
    let mut feed = Feed::subscribe(&other.admin).await;
    service.user("user01", "password01").await;
    assert_eq!(account(&other, "user01").await["active"], true);
    feed.beats(3).await;
    for (method, path, body) in [
        ("PATCH", "/users/user01", r#"{"disabled":true}"#),
        ("PATCH", "/users/user01", r#"{"disabled":false}"#),
        ("PUT", "/users/user01/password", r#"{"password":"password02"}"#),
        ("PUT", "/users/user01/roles", r#"["a"]"#),
        ("PATCH", "/users/user01/roles", r#"{"add":["b"]}"#),
    ] {
        assert_eq!(service.admin(method, path, body).await.status, 204);
        feed.expect_identity("user01").await;
        assert_eq!(account(&other, "user01").await, account(service, "user01").await);
    }
    assert_eq!(account(&other, "user01").await["roles"], json!(["a", "b"]));
    assert_eq!(log_out(service, "user01", "jti:a", now() + 300).await.status, 204);
    feed.expect_identity("user01").await;
    assert_eq!(account(&other, "user01").await["logged_out"], json!(["jti:a"]));
    service.admin("DELETE", "/users/user01", "").await;
    feed.expect_identity("user01").await;
    assert_eq!(account(&other, "user01").await, unknown_user("user01"));
}

#[tokio::test]
async fn two_processes_on_a_standalone_server_publish_each_others_changes() {
    let (url, _client, service) = on_mongo().await;
    another_process_publishes(&url, &service).await;
}

#[tokio::test]
async fn a_login_detects_an_external_change_and_an_upgrade_is_not_one() {
    let (_url, client, service) = on_mongo().await;
    insert(&client, "user01", "password01").await;
    let since = async |password: &str| {
        let reply = service.verify("user01", password).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["password_changed_at"].as_i64().unwrap()
    };
    // Concurrent logins: one replaces the form, and no other takes that for an external change.
    let logins = futures_util::future::join_all((0..8).map(|_| service.verify("user01", "password01"))).await;
    let marks: HashSet<_> = logins.iter().map(|login| login.json()["password_mark"].to_string()).collect();
    assert_eq!(marks.len(), 1, "another form of the stored password is no other password");
    for login in logins {
        assert_eq!((login.status, &login.json()["password_changed_at"]), (200, &json!(1_600_000_000)), "{login:?}");
    }
    let upgraded = account(&service, "user01").await;
    assert_eq!(upgraded["password_changed_at"], 1_600_000_000);
    assert_eq!(upgraded["password_mark"], service.verify("user01", "password01").await.json()["password_mark"]);
    let before = now();
    users(&client).update_one(doc! {}, doc! { "$set": { "password": "password02" } }).await.unwrap();
    assert_eq!(service.verify("user01", "password01").await.status, 401);
    let changed = since("password02").await;
    assert!(changed >= before);
    assert_eq!(since("password02").await, changed, "by its new form");
}

#[tokio::test]
async fn a_change_between_two_reads_is_detected() {
    let (url, client, service) = on_mongo().await;
    insert(&client, "user01", "password01").await;
    let first = account(&service, "user01").await;
    assert_eq!(first["password_changed_at"], 1_600_000_000);
    service.stop().await.unwrap();
    let again = Service::over(open(&url, PATIENCE).await, Setup::default()).await;
    assert_eq!(account(&again, "user01").await, first, "a restart changes nothing");
    again.stop().await.unwrap();
    let before = now();
    users(&client).update_one(doc! {}, doc! { "$set": { "password": "password02" } }).await.unwrap();
    let again = Service::over(open(&url, PATIENCE).await, Setup::default()).await;
    let changed = account(&again, "user01").await;
    assert!(changed["password_changed_at"].as_i64().unwrap() >= before, "{changed}");
}

/// A replica set, and a service that uses it.
pub(super) async fn on_replica_set(further: &'static [&str]) -> (Server, Client, Service) {
    let arguments = [&["--replicas", "1"], further].concat();
    let server = tokio::task::spawn_blocking(move || Server::start(&arguments)).await.unwrap();
    let client = Client::with_uri_str(server.url()).await.unwrap();
    let service = Service::over(open(server.url(), PATIENCE).await, Setup::default()).await;
    (server, client, service)
}

pub(super) async fn end(server: Server) {
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}

#[tokio::test]
async fn external_changes_to_a_replica_set_are_published() {
    let (server, client, service) = on_replica_set(&[]).await;
    external_changes_are_published(&client, &service).await;
    another_process_publishes(server.url(), &service).await;
    end(server).await;
}

#[tokio::test]
async fn a_database_user_with_the_documented_role_receives_changes() {
    let (server, client, service) = on_replica_set(&["--auth", "holo:s3cret"]).await;
    external_changes_are_published(&client, &service).await;
    let echoes = client.default_database().unwrap().collection::<Document>("holodule_echoes");
    let echo = echoes.find_one(doc! {}).await.unwrap().expect("it looks instead of following");
    assert!(echo.get_i64("number").unwrap() > 0, "{echo}");
    end(server).await;
}

#[tokio::test]
async fn users_are_polled_where_change_streams_are_refused() {
    let server = tokio::task::spawn_blocking(|| Server::start(&["--replicas", "1", "--fail-points"])).await.unwrap();
    let client = Client::with_uri_str(server.url()).await.unwrap();
    // 13 is the server's code for a missing privilege.
    let refusal = doc! { "failCommands": ["aggregate"], "errorCode": 13, "appName": "holodule-backend" };
    let refuse = doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": refusal };
    client.database("admin").run_command(refuse).await.unwrap();
    let service = Service::over(open(server.url(), PATIENCE).await, Setup::default()).await;
    external_changes_are_published(&client, &service).await;
    end(server).await;
}

#[tokio::test]
async fn an_unresponsive_server_is_detected_and_watched_again() {
    let (server, client, service) = on_replica_set(&[]).await;
    insert(&client, "user01", "password01").await;
    assert_eq!(account(&service, "user01").await["active"], true);
    let mut feed = Feed::subscribe(&service.admin).await;
    feed.beats(3).await;
    let status = client.database("admin").run_command(doc! { "serverStatus": 1 }).await.unwrap();
    let process = status.get_i64("pid").unwrap().to_string();
    let signal = |name: &'static str| {
        let sent = std::process::Command::new("kill").args([name, &process]).status().unwrap();
        assert!(sent.success(), "{name}");
    };
    signal("-STOP");
    let silent = async { while tokio::time::timeout(Duration::from_millis(1500), feed.line()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, silent).await.expect("beats continue");
    signal("-CONT");
    feed.beats(1).await;
    users(&client).update_one(doc! {}, doc! { "$set": { "disabled": true } }).await.unwrap();
    feed.expect_identity("user01").await;
    end(server).await;
}

#[tokio::test]
async fn dropping_all_users_resets_every_identity() {
    let (server, client, service) = on_replica_set(&[]).await;
    insert(&client, "user01", "password01").await;
    let mut feed = Feed::subscribe(&service.admin).await;
    assert_eq!(account(&service, "user01").await["active"], true);
    feed.beats(3).await;
    users(&client).drop().await.unwrap();
    assert_eq!(feed.event().await, json!({ "reset": true }));
    assert_eq!(account(&service, "user01").await, unknown_user("user01"));
    client.default_database().unwrap().drop().await.unwrap();
    assert_eq!(feed.event().await, json!({ "reset": true }));
    while feed.beats(1).await.contains(&json!({ "reset": true })) {}
    insert(&client, "user01", "password01").await;
    feed.expect_identity("user01").await;
    end(server).await;
}

/// Forwards connections to a server while it is allowed.
pub(super) struct Link {
    pub(super) address: std::net::SocketAddr,
    pub(super) up: tokio::sync::watch::Sender<bool>,
}

impl Link {
    pub(super) async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (up, is_up) = tokio::sync::watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (server, mut is_up) = (server.clone(), is_up.clone());
                tokio::spawn(async move {
                    if !*is_up.borrow_and_update() {
                        return;
                    }
                    let mut upstream = TcpStream::connect(&server).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {}
                        _ = is_up.wait_for(|up| !up) => {}
                    }
                });
            }
        });
        Self { address, up }
    }
}

/// Disconnects a service from its server, and changes a user meanwhile.
async fn a_lost_server_is_detected(url: &str) {
    let client = Client::with_uri_str(url).await.unwrap();
    let server = url.trim_start_matches("mongodb://").split('/').next().unwrap().to_owned();
    let link = Link::to(server.clone()).await;
    let options = if url.contains('?') { "&" } else { "?" };
    let through = url.replace(&server, &link.address.to_string()) + options + "directConnection=true";
    let service = Service::over(open(&through, Duration::from_secs(1)).await, Setup::default()).await;
    insert(&client, "user01", "password01").await;
    account(&service, "user01").await;
    let mut feed = Feed::subscribe(&service.admin).await;
    feed.beats(2).await;

    link.up.send(false).unwrap();
    let refused = check(&service, "user01").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "5"), "{refused:?}");
    // Those already in flight.
    let silent = async { while tokio::time::timeout(Duration::from_millis(1500), feed.line()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, silent).await.expect("beats continue");
    users(&client).update_one(doc! {}, doc! { "$set": { "disabled": true } }).await.unwrap();
    link.up.send(true).unwrap();
    let events = feed.beats(1).await;
    assert!(!events.is_empty(), "events precede the beat");
    assert_eq!(account(&service, "user01").await, inactive("user01", "disabled"));
}

#[tokio::test]
async fn beats_stop_without_a_standalone_server_and_missed_changes_precede_the_next() {
    let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
    a_lost_server_is_detected(&url).await;
}

#[tokio::test]
async fn beats_stop_without_a_replica_set_and_missed_changes_precede_the_next() {
    let server = tokio::task::spawn_blocking(|| Server::start(&["--replicas", "1"])).await.unwrap();
    a_lost_server_is_detected(server.url().split('?').next().unwrap()).await;
    end(server).await;
}
