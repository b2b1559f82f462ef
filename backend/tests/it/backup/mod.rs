//! Backup and restore: within each engine and from one to the other.

mod disk;
mod file;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use holodule_backend::model::{Saved, Streamer};
use holodule_backend::store::{Settings, Store};
use mongodb::Client;
use mongodb::bson::{DateTime, doc};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::feed::{Feed, account, log_out, now};
use crate::http;
use crate::mongod::Server;
use crate::service::{Service, Setup, holodule};

/// The folder of a store, and of the backups of all services in a test.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("backups")).unwrap();
        Self { folder }
    }

    fn backup(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("backups").join(name)
    }

    async fn embedded(&self, name: &str) -> Service {
        self.over(&format!("embedded:{}", self.folder.path().join(name).display())).await
    }

    async fn mongo(&self) -> (String, Service) {
        let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
        let service = self.over(&url).await;
        (url, service)
    }

    async fn over(&self, url: &str) -> Service {
        let mut setup = Setup::default();
        setup.handler.backup_folder = Some(self.folder.path().join("backups"));
        Service::over(open(url).await, setup).await
    }
}

async fn open(url: &str) -> Store {
    let settings = Settings {
        url: url.parse().unwrap(),
        operation_timeout: Duration::from_secs(20),
        max_connections: 20,
        text_cache: 1 << 20,
    };
    Store::open(&settings).await.unwrap()
}

/// Users of every state, holodules, a streamer, and a logout.
async fn fill(service: &Service) {
    service.user("user01", "password01").await;
    for (name, password) in [("user02", "first"), ("ときのそら", "password03")] {
        let body = json!({ "username": name, "password": password }).to_string();
        assert_eq!(service.admin("POST", "/users", &body).await.status, 201);
    }
    let second = json!({ "password": "second" }).to_string();
    assert_eq!(service.admin("PUT", "/users/user02/password", &second).await.status, 204);
    assert_eq!(service.admin("PUT", "/users/user02/roles", r#"["editor","admin"]"#).await.status, 204);
    let disabled = json!({ "disabled": true }).to_string();
    let path = "/users/%E3%81%A8%E3%81%8D%E3%81%AE%E3%81%9D%E3%82%89";
    assert_eq!(service.admin("PATCH", path, &disabled).await.status, 204);
    service.holodules((0..600).map(|number| holodule(number, "20201209 230000"))).await;
    assert_eq!(log_out(service, "user01", "jti:gone", now() + 3000).await.status, 204);
    let streamer = Streamer { code: "HL0503".into(), group: Some("hololive".into()), ..Streamer::default() };
    service.store.store_streamers(vec![streamer]).await.unwrap();
}

async fn users(service: &Service) -> Value {
    service.admin("GET", "/users", "").await.json()
}

async fn exported(service: &Service) -> String {
    service.admin("GET", "/holodules", "").await.body
}

async fn back_up(service: &Service, name: &str) -> Value {
    let reply = service.admin("POST", "/backup", &json!({ "file": name }).to_string()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

async fn restore(service: &Service, name: &str, replace: bool) -> http::Reply {
    service.admin("POST", "/restore", &json!({ "file": name, "replace": replace }).to_string()).await
}

/// Everything is restored, and tokens issued before are invalid.
async fn is_restored(from: &Service, to: &Service, before: i64) {
    assert_eq!(users(to).await, users(from).await);
    assert_eq!(account(to, "user02").await["roles"], json!(["admin", "editor"]));
    assert_eq!(exported(to).await, exported(from).await);
    let streamers = to.store.streamers().await.unwrap();
    assert_eq!(streamers, from.store.streamers().await.unwrap());
    assert_eq!(streamers.codes_of("hololive").collect::<Vec<_>>(), ["HL0503"]);
    for (name, password, status) in [
        ("user01", "password01", 200),
        ("user02", "second", 200),
        ("user02", "first", 401),
        ("ときのそら", "password03", 401),
    ] {
        assert_eq!(to.verify(name, password).await.status, status, "{name}");
    }
    let user01 = account(to, "user01").await;
    assert_eq!((&user01["active"], &user01["logged_out"]), (&json!(true), &json!(["jti:gone"])));
    for name in ["user01", "user02"] {
        let changed_at = account(to, name).await["password_changed_at"].as_i64().unwrap();
        assert!((before..=now()).contains(&changed_at), "{name}: {changed_at}");
    }
}

async fn round_trip(place: &Place, from: &Service, to: &Service) {
    fill(from).await;
    let summary = back_up(from, "a.backup").await;
    assert_eq!((&summary["users"], &summary["holodules"], &summary["logouts"]), (&json!(3), &json!(600), &json!(1)));
    assert_eq!(summary["streamers"], json!(1));
    let file = fs::metadata(place.backup("a.backup")).unwrap();
    assert_eq!(file.permissions().mode() & 0o7777, 0o600);
    let mut feed = Feed::subscribe(&to.admin).await;
    let before = now();
    let reply = restore(to, "a.backup", false).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(!reply.body.contains("argon2") && !reply.body.contains("password01"), "{reply:?}");
    let events = [feed.event().await, feed.day().await];
    assert!(events[0] == json!({ "reset": true }) || events[0]["identity"].is_string(), "{events:?}");
    assert_eq!(events[1], json!({ "purge_all": true }));
    is_restored(from, to, before).await;
}

#[tokio::test]
async fn from_embedded_to_embedded() {
    let place = Place::new();
    round_trip(&place, &place.embedded("from").await, &place.embedded("to").await).await;
}

#[tokio::test]
async fn from_embedded_to_mongodb() {
    let place = Place::new();
    round_trip(&place, &place.embedded("from").await, &place.mongo().await.1).await;
}

#[tokio::test]
async fn from_mongodb_to_embedded() {
    let place = Place::new();
    round_trip(&place, &place.mongo().await.1, &place.embedded("to").await).await;
}

#[tokio::test]
async fn from_mongodb_to_mongodb() {
    let place = Place::new();
    round_trip(&place, &place.mongo().await.1, &place.mongo().await.1).await;
}

/// State after the backup is not restored.
async fn what_was_revoked_stays_revoked(service: &Service) {
    fill(service).await;
    back_up(service, "a.backup").await;
    let third = json!({ "password": "third" }).to_string();
    assert_eq!(service.admin("PUT", "/users/user02/password", &third).await.status, 204);
    assert_eq!(log_out(service, "user01", "jti:later", now() + 3000).await.status, 204);
    let changed_at = account(service, "user02").await["password_changed_at"].as_i64().unwrap();
    assert_eq!(service.admin("DELETE", "/holodules/video000001", "").await.status, 204);
    service.user("later", "password09").await;

    let held = (users(service).await, exported(service).await);
    let refused = restore(service, "a.backup", false).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert_eq!((users(service).await, exported(service).await), held, "nothing was changed");

    assert_eq!(restore(service, "a.backup", true).await.status, 200);
    assert_eq!(service.verify("user02", "second").await.status, 200);
    assert_eq!(service.verify("user02", "third").await.status, 401);
    assert_eq!(service.verify("later", "password09").await.status, 401);
    assert_eq!(account(service, "later").await["active"], json!(false));
    assert_eq!(exported(service).await.lines().count(), 600);
    let user01 = account(service, "user01").await;
    assert_eq!(user01["logged_out"], json!(["jti:gone", "jti:later"]));
    assert!(account(service, "user02").await["password_changed_at"].as_i64().unwrap() >= changed_at);
    let again = restore(service, "a.backup", true).await;
    assert_eq!(again.status, 200, "it can be repeated: {again:?}");
}

#[tokio::test]
async fn what_was_revoked_stays_revoked_on_embedded() {
    let place = Place::new();
    what_was_revoked_stays_revoked(&place.embedded("store").await).await;
}

#[tokio::test]
async fn what_was_revoked_stays_revoked_on_mongodb() {
    let place = Place::new();
    what_was_revoked_stays_revoked(&place.mongo().await.1).await;
}

#[tokio::test]
async fn documents_of_all_versions_are_restored() {
    let place = Place::new();
    let (url, from) = place.mongo().await;
    let database = Client::with_uri_str(&url).await.unwrap().default_database().unwrap();
    let users = database.collection("users");
    for user in [
        doc! { "_id": 1, "id": 7, "username": "old", "password": "plain" },
        doc! { "_id": 2, "id": "8", "username": "old", "password": "another document of the name" },
        doc! { "_id": 3, "username": "none", "roles": "admin" },
        doc! { "_id": 4, "username": "null", "password": "plain", "roles": null },
    ] {
        users.insert_one(user).await.unwrap();
    }
    let holodules = database.collection("holodules");
    for holodule in [
        doc! { "key": "odd", "datetime": "20201209 250000", "title": "" },
        doc! { "datetime": "20201209 230000", "video_id": "aaaaaaaaaaa", "published_at": DateTime::from_millis(0) },
        doc! { "datetime": "20201209 230000", "title": 1 },
    ] {
        holodules.insert_one(holodule).await.unwrap();
    }
    let summary = back_up(&from, "old.backup").await;
    assert_eq!((&summary["users"], &summary["holodules"], &summary["unreadable"]), (&json!(3), &json!(2), &json!(1)));
    assert_eq!(summary["consistent"], json!(false), "a standalone server has no snapshots");
    for to in [place.embedded("to").await, place.mongo().await.1] {
        assert_eq!(restore(&to, "old.backup", false).await.status, 200);
        assert_eq!(exported(&to).await, exported(&from).await);
        assert_eq!(to.verify("old", "plain").await.status, 200);
        let users = self::users(&to).await["users"].as_array().unwrap().clone();
        assert!(users.len() == 3 && users.iter().all(|user| user["roles"] == json!([])), "{users:?}");
        assert_eq!(to.verify("none", "").await.status, 401);
    }
}

#[tokio::test]
async fn duplicates_of_a_video_are_counted_and_not_restored() {
    let place = Place::new();
    let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
    let database = Client::with_uri_str(&url).await.unwrap().default_database().unwrap();
    // Before the service creates its unique index, which these violate.
    for title in ["first", "second"] {
        let document = doc! { "datetime": "20201209 230000", "key": title, "video_id": "aaaaaaaaaaa", "title": title };
        database.collection("holodules").insert_one(document).await.unwrap();
    }
    let from = place.over(&url).await;
    assert_eq!(back_up(&from, "twice.backup").await["holodules"], json!(2));
    for to in [place.embedded("to").await, place.mongo().await.1] {
        let reply = restore(&to, "twice.backup", false).await;
        assert_eq!((reply.status, &reply.json()["duplicates"]), (200, &json!(1)), "{reply:?}");
        let exported = exported(&to).await;
        assert!(exported.lines().count() == 1 && exported.contains("\"first\""), "{exported}");
    }
}

/// A backup is a snapshot, whatever is written while it is read.
async fn a_backup_is_a_snapshot(store: &Store, service: &Service) {
    fill(service).await;
    let (records, mut received) = mpsc::channel(1);
    let reading = tokio::spawn({
        let store = store.clone();
        async move { store.backup(records).await }
    });
    let first = received.recv().await.unwrap();
    assert!(matches!(first, Saved::Streamer(_)), "{first:?}");
    service.user("later", "password09").await;
    service.holodules([holodule(900, "20211209 230000")]).await;
    assert_eq!(service.admin("DELETE", "/users/user02", "").await.status, 204);
    let (mut users, mut holodules) = (Vec::new(), 0);
    while let Some(record) = received.recv().await {
        match record {
            Saved::User(user) => users.push(user.username),
            Saved::Holodule(_) => holodules += 1,
            Saved::Logout(_) | Saved::Streamer(_) | Saved::Calendar(_) | Saved::Delivered(..) => {}
        }
    }
    let read = reading.await.unwrap().unwrap();
    assert!(read.consistent);
    assert_eq!((users, holodules), (["user01", "user02", "ときのそら"].map(str::to_owned).to_vec(), 600));
}

#[tokio::test]
async fn a_backup_of_the_embedded_store_is_a_snapshot() {
    let place = Place::new();
    let service = place.embedded("store").await;
    a_backup_is_a_snapshot(&service.store, &service).await;
}

#[tokio::test]
async fn a_backup_of_a_replica_set_is_a_snapshot_and_can_be_restored() {
    let place = Place::new();
    let server = tokio::task::spawn_blocking(|| Server::start(&["--replicas", "1"])).await.unwrap();
    let service = place.over(&server.fresh_url()).await;
    a_backup_is_a_snapshot(&service.store, &service).await;
    let (from, to) = (place.over(&server.fresh_url()).await, place.over(&server.fresh_url()).await);
    fill(&from).await;
    assert_eq!(back_up(&from, "a.backup").await["consistent"], json!(true));
    let before = now();
    assert_eq!(restore(&to, "a.backup", false).await.status, 200);
    is_restored(&from, &to, before).await;
}
