//! Backup and restore: within each engine and from one to the other.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use holodule_backend::model::Saved;
use holodule_backend::store::{Settings, Store};
use mongodb::Client;
use mongodb::bson::{DateTime, doc};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::feed::{Feed, account, log_out, now};
use crate::http;
use crate::mongod::Server;
use crate::program::{Program, succeeds};
use crate::service::{Service, Setup, holodule};

/// A place for one store, and where the backups of all services of a test are.
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
    let settings =
        Settings { url: url.parse().unwrap(), operation_timeout: Duration::from_secs(20), max_connections: 20 };
    Store::open(&settings).await.unwrap()
}

/// Users of every state, holodules, and a logout.
async fn fill(service: &Service) {
    service.user("user01", "password01").await;
    for (name, password) in [("user02", "first"), ("ときのそら", "password03")] {
        let body = json!({ "username": name, "password": password }).to_string();
        assert_eq!(service.admin("POST", "/users", &body).await.status, 201);
    }
    let second = json!({ "password": "second" }).to_string();
    assert_eq!(service.admin("PUT", "/users/user02/password", &second).await.status, 204);
    let disabled = json!({ "disabled": true }).to_string();
    let path = "/users/%E3%81%A8%E3%81%8D%E3%81%AE%E3%81%9D%E3%82%89";
    assert_eq!(service.admin("PATCH", path, &disabled).await.status, 204);
    service.holodules((0..600).map(|number| holodule(number, "20201209 230000"))).await;
    assert_eq!(log_out(service, "user01", "jti:gone", now() + 3000).await.status, 204);
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

/// Everything is there, and no token of before is good.
async fn is_restored(from: &Service, to: &Service, before: i64) {
    assert_eq!(users(to).await, users(from).await);
    assert_eq!(exported(to).await, exported(from).await);
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

async fn goes_over(place: &Place, from: &Service, to: &Service) {
    fill(from).await;
    let summary = back_up(from, "a.backup").await;
    assert_eq!((&summary["users"], &summary["holodules"], &summary["logouts"]), (&json!(3), &json!(600), &json!(1)));
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
    goes_over(&place, &place.embedded("from").await, &place.embedded("to").await).await;
}

#[tokio::test]
async fn from_embedded_to_mongodb() {
    let place = Place::new();
    goes_over(&place, &place.embedded("from").await, &place.mongo().await.1).await;
}

#[tokio::test]
async fn from_mongodb_to_embedded() {
    let place = Place::new();
    goes_over(&place, &place.mongo().await.1, &place.embedded("to").await).await;
}

#[tokio::test]
async fn from_mongodb_to_mongodb() {
    let place = Place::new();
    goes_over(&place, &place.mongo().await.1, &place.mongo().await.1).await;
}

/// What users and tokens were after the backup does not come back to life.
async fn what_was_revoked_stays_revoked(service: &Service) {
    fill(service).await;
    back_up(service, "a.backup").await;
    let third = json!({ "password": "third" }).to_string();
    assert_eq!(service.admin("PUT", "/users/user02/password", &third).await.status, 204);
    assert_eq!(log_out(service, "user01", "jti:later", now() + 3000).await.status, 204);
    let changed_at = account(service, "user02").await["password_changed_at"].as_i64().unwrap();
    assert_eq!(service.admin("DELETE", "/holodules/video000001", "").await.status, 204);
    service.user("stranger", "password09").await;

    let held = (users(service).await, exported(service).await);
    let refused = restore(service, "a.backup", false).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert_eq!((users(service).await, exported(service).await), held, "nothing was changed");

    assert_eq!(restore(service, "a.backup", true).await.status, 200);
    assert_eq!(service.verify("user02", "second").await.status, 200);
    assert_eq!(service.verify("user02", "third").await.status, 401);
    assert_eq!(service.verify("stranger", "password09").await.status, 401);
    assert_eq!(account(service, "stranger").await["active"], json!(false));
    assert_eq!(exported(service).await.lines().count(), 600);
    let user01 = account(service, "user01").await;
    assert_eq!(user01["logged_out"], json!(["jti:gone", "jti:later"]));
    assert!(account(service, "user02").await["password_changed_at"].as_i64().unwrap() >= changed_at);
    let again = restore(service, "a.backup", true).await;
    assert_eq!(again.status, 200, "it may be repeated: {again:?}");
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
async fn documents_of_every_era_are_carried_over() {
    let place = Place::new();
    let (url, from) = place.mongo().await;
    let database = Client::with_uri_str(&url).await.unwrap().default_database().unwrap();
    let users = database.collection("users");
    for user in [
        doc! { "_id": 1, "id": 7, "username": "old", "password": "plain" },
        doc! { "_id": 2, "id": "8", "username": "old", "password": "another document of the name" },
        doc! { "_id": 3, "username": "none" },
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
    assert_eq!((&summary["users"], &summary["holodules"], &summary["unreadable"]), (&json!(2), &json!(2), &json!(1)));
    assert_eq!(summary["consistent"], json!(false), "a standalone server has no snapshots");
    for to in [place.embedded("to").await, place.mongo().await.1] {
        assert_eq!(restore(&to, "old.backup", false).await.status, 200);
        assert_eq!(exported(&to).await, exported(&from).await);
        assert_eq!(to.verify("old", "plain").await.status, 200);
        assert_eq!(self::users(&to).await["users"].as_array().unwrap().len(), 2);
        assert_eq!(to.verify("none", "").await.status, 401);
    }
}

#[tokio::test]
async fn of_several_holodules_with_one_video_the_others_are_counted() {
    let place = Place::new();
    let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
    let database = Client::with_uri_str(&url).await.unwrap().default_database().unwrap();
    // Before the service makes its unique index, which these forbid.
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

/// A backup shows one moment, whatever is written while it is read.
async fn a_backup_is_of_one_moment(store: &Store, service: &Service) {
    fill(service).await;
    let (records, mut received) = mpsc::channel(1);
    let reading = tokio::spawn({
        let store = store.clone();
        async move { store.backup(records).await }
    });
    let first = received.recv().await.unwrap();
    assert!(matches!(first, Saved::Logout(_)), "{first:?}");
    service.user("later", "password09").await;
    service.holodules([holodule(900, "20211209 230000")]).await;
    assert_eq!(service.admin("DELETE", "/users/user02", "").await.status, 204);
    let (mut users, mut holodules) = (Vec::new(), 0);
    while let Some(record) = received.recv().await {
        match record {
            Saved::User(user) => users.push(user.username),
            Saved::Holodule(_) => holodules += 1,
            Saved::Logout(_) => {}
        }
    }
    let read = reading.await.unwrap().unwrap();
    assert!(read.consistent);
    assert_eq!((users, holodules), (["user01", "user02", "ときのそら"].map(str::to_owned).to_vec(), 600));
}

#[tokio::test]
async fn a_backup_of_the_embedded_store_is_of_one_moment() {
    let place = Place::new();
    let service = place.embedded("store").await;
    a_backup_is_of_one_moment(&service.store, &service).await;
}

#[tokio::test]
async fn a_backup_of_a_replica_set_is_of_one_moment_and_can_be_restored() {
    let place = Place::new();
    let server = tokio::task::spawn_blocking(|| Server::start(&["--replicas", "1"])).await.unwrap();
    let service = place.over(&server.fresh_url()).await;
    a_backup_is_of_one_moment(&service.store, &service).await;
    let (from, to) = (place.over(&server.fresh_url()).await, place.over(&server.fresh_url()).await);
    fill(&from).await;
    assert_eq!(back_up(&from, "a.backup").await["consistent"], json!(true));
    let before = now();
    assert_eq!(restore(&to, "a.backup", false).await.status, 200);
    is_restored(&from, &to, before).await;
}

#[tokio::test]
async fn a_damaged_file_changes_nothing() {
    let place = Place::new();
    for service in [place.embedded("store").await, place.mongo().await.1] {
        fill(&service).await;
        let _ = fs::remove_file(place.backup("a.backup"));
        back_up(&service, "a.backup").await;
        let whole = fs::read(place.backup("a.backup")).unwrap();
        let held = (users(&service).await, exported(&service).await);
        let lines = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        let lines: Vec<usize> = lines.collect();
        let last = lines[lines.len() - 2];
        let mut changed = whole.clone();
        changed[last / 2] ^= 1;
        for (content, part) in [
            (&whole[..0], "is no backup"),
            (&whole[..lines[0]], "cut short"),
            (&whole[..last / 2], "cut short"),
            (&whole[..last], "cut short"),
            (&whole[..whole.len() - 1], "cut short"),
            (&changed, "the backup "),
            (b"{\"holodule_backup\":2,\"created_at\":1}\n", "is of version 2"),
        ] {
            fs::write(place.backup("damaged"), content).unwrap();
            let refused = restore(&service, "damaged", true).await;
            assert_eq!(refused.status, 400, "{refused:?}");
            assert!(refused.body.contains(part), "{part}: {refused:?}");
        }
        assert_eq!((users(&service).await, exported(&service).await), held);
        assert_eq!(service.verify("user01", "password01").await.status, 200);
    }
}

#[tokio::test]
async fn a_name_is_no_path_and_the_listeners_defences_hold() {
    let place = Place::new();
    let service = place.embedded("store").await;
    service.user("user01", "password01").await;
    fs::write(place.folder.path().join("outside"), "x").unwrap();
    symlink("../outside", place.backup("link")).unwrap();
    for name in ["", ".", "..", "../outside", "/etc/passwd", "a/b", ".hidden", "a b", "%2e%2e"] {
        for path in ["/backup", "/restore"] {
            let refused = service.admin("POST", path, &json!({ "file": name }).to_string()).await;
            assert_eq!(refused.status, 400, "{path} {name}: {refused:?}");
        }
    }
    let back_up =
        async |name: &str| service.admin("POST", "/backup", &json!({ "file": name }).to_string()).await.status;
    assert_eq!((back_up("link").await, back_up("a").await, back_up("a").await), (409, 200, 409));
    assert_eq!(fs::read_to_string(place.folder.path().join("outside")).unwrap(), "x");
    let link = restore(&service, "link", true).await;
    assert_eq!(link.status, 400, "{link:?}");
    assert_eq!(restore(&service, "missing", true).await.status, 404);

    let json_type = ("Content-Type", "application/json");
    let body = r#"{"file":"b"}"#;
    for (headers, status) in [
        (vec![("Content-Type", "text/plain")], 415),
        (vec![], 415),
        (vec![json_type, ("Sec-Fetch-Site", "cross-site")], 403),
    ] {
        for path in ["/backup", "/restore"] {
            assert_eq!(http::send(&service.admin, "POST", path, &headers, body).await.status, status);
        }
    }
    let foreign = format!(
        "POST /backup HTTP/1.1\r\nHost: evil.example\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(http::raw(&service.admin, &foreign).await.status, 421);
    assert_eq!(service.admin("GET", "/backup", "").await.status, 405);
    assert_eq!(http::send(&service.api, "POST", "/backup", &[json_type], body).await.status, 404);
    assert!(!place.backup("b").exists());

    let off = Service::start().await;
    for path in ["/backup", "/restore"] {
        let refused = off.admin("POST", path, body).await;
        assert_eq!(refused.status, 404);
        assert!(refused.body.contains("backup.folder is not set"), "{refused:?}");
    }
}

#[test]
fn backup_and_restore_by_command() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let start = |store: &str| Program::start(path, &[("BACKUP_FOLDER", "backups"), ("STORE", store)]);
    let refuses = |program: &Program, arguments: &[&str], part: &str| {
        let refused = program.run(path, arguments, "");
        let message = String::from_utf8(refused.stderr.clone()).unwrap();
        assert_eq!((refused.status.code(), message.contains(part)), (Some(1), true), "{refused:?}");
    };
    let program = start("embedded:first.redb");
    succeeds(&program.run(path, &["user", "add", "user01"], "password01\n"));
    refuses(&program, &["backup"], "the backup could not be written");
    fs::create_dir(path.join("backups")).unwrap();
    assert_eq!(succeeds(&program.run(path, &["backup", "a"], "")), "a: 1 users, 0 holodules, 0 logouts\n");
    let dated = succeeds(&program.run(path, &["backup"], ""));
    assert!(dated.starts_with("holodule-20") && dated.contains("Z.backup: 1 users"), "{dated}");
    refuses(&program, &["backup", "a"], "there is a file of this name already (409 Conflict)");
    refuses(&program, &["restore", "a"], "the store is not empty");
    program.terminate();

    let program = start("embedded:second.redb");
    let output = succeeds(&program.run(path, &["restore", "a"], ""));
    assert_eq!(output, "a: 1 users, 0 holodules, 0 logouts\nevery token of before has ended: users log in again\n");
    assert_eq!(succeeds(&program.run(path, &["user", "list"], "")), "user01\tenabled\targon2id\n");
    succeeds(&program.run(path, &["restore", "a", "--replace"], ""));
    program.terminate();
    assert_log_is_clean(&path.join("log"));
}

fn assert_log_is_clean(log: &Path) {
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("a backup was restored") && !log.contains("argon2id"), "{log}");
}
