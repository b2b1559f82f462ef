//! MongoDB: documents of older versions, and unavailable servers.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use holodule_backend::model::{Identifier, PasswordForm, Username};
use holodule_backend::store::{NotAStoreUrl, Settings, Store, StoreError, StoreUrl, Upserted, UserChange};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::options::{Acknowledgment, WriteConcern};
use mongodb::{Client, Database, IndexModel};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{NOW, day, entry, settings, videos};
use crate::mongod::Server;

/// The indexes that do not depend on the documents.
const HOLODULE_INDEXES: [&str; 7] =
    ["_id_", "code_datetime", "datetime_key_id", "key", "key_unique_without_video", "name_datetime", "tags_datetime"];

/// A new database on the shared server, and its URL.
pub(super) async fn database() -> (Database, String) {
    let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
    (Client::with_uri_str(&url).await.unwrap().default_database().unwrap(), url)
}

pub(super) async fn insert(database: &Database, collection: &str, documents: impl IntoIterator<Item = Document>) {
    database.collection::<Document>(collection).insert_many(documents).await.unwrap();
}

/// Opens the store and waits until the indexes that writes need exist.
pub(super) async fn open(url: &str) -> Store {
    let store = Store::open(&settings(url)).await.unwrap();
    store.upsert(Vec::new()).await.unwrap();
    store
}

/// Opens the store and waits until all indexes exist.
pub(super) async fn open_indexed(url: &str) -> Store {
    let store = open(url).await;
    let (database, started) = (Client::with_uri_str(url).await.unwrap().default_database().unwrap(), Instant::now());
    // The collection of the last one.
    while !database.collection::<Document>("streamers").list_index_names().await.is_ok_and(|names| names.len() == 2) {
        assert!(started.elapsed() < Duration::from_secs(30), "the indexes of lists were not created");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    store
}

async fn index_names(database: &Database, collection: &str) -> Vec<String> {
    let mut names = database.collection::<Document>(collection).list_index_names().await.unwrap();
    names.sort();
    names
}

#[tokio::test]
async fn documents_of_all_versions_are_returned_unchanged() {
    let (database, url) = database().await;
    let unreadable = ObjectId::new();
    let documents = [
        doc! { "key": "HL0001_20201209_100000", "video_id": "aaaaaaaaaaa", "datetime": "20201209 100000", "name": "n",
        "title": "t", "url": "u", "description": "d" },
        doc! { "key": "HL0503_20201209_110000", "code": "HL0503", "video_id": "bbbbbbbbbbb", "datetime": "20201209 110000",
        "published_at": DateTime::from_millis(1_607_526_000_123), "channel_id": "UC", "channel_title": "c", "tags": ["x"] },
        doc! { "datetime": "20201209 250000", "video_id": "", "title": Bson::Null },
        doc! { "_id": unreadable, "datetime": "20201209 120000", "title": 42 },
        // Documents that must not be listed.
        doc! { "datetime": "20201209", "video_id": "ccccccccccc" },
        doc! { "datetime": "20201209T100000", "video_id": "ddddddddddd" },
        doc! { "datetime": 20_201_209_i64, "video_id": "eeeeeeeeeee" },
        doc! { "video_id": "fffffffffff" },
        doc! { "key": "", "video_id": "" },
        doc! { "key": "", "video_id": "" },
    ];
    insert(&database, "holodules", documents).await;
    let store = open_indexed(&url).await;
    assert_eq!(store.duplicate_video_ids(), 0);
    let names = index_names(&database, "holodules").await;
    let mut expected = HOLODULE_INDEXES.to_vec();
    expected.insert(7, "video_id_unique");
    assert_eq!(names, expected);

    let listing = store.day(day("20201209")).await.unwrap();
    assert_eq!(listing.unreadable, [unreadable.to_hex()]);
    let shown: Vec<_> =
        listing.holodules.iter().map(|holodule| serde_json::to_string(&holodule.public()).unwrap()).collect();
    assert_eq!(
        shown,
        [
            r#"{"video_id":"","datetime":"20201209 250000"}"#,
            r#"{"key":"HL0503_20201209_110000","code":"HL0503","video_id":"bbbbbbbbbbb","datetime":"20201209 110000"}"#,
            r#"{"key":"HL0001_20201209_100000","video_id":"aaaaaaaaaaa","datetime":"20201209 100000","name":"n","title":"t","url":"u","description":"d"}"#,
        ]
    );

    let exported: Vec<_> = store.export().await.unwrap().try_collect().await.unwrap();
    assert_eq!(exported.iter().filter(|record| record.is_ok()).count(), 8);
    let bad: Vec<_> = exported.iter().filter_map(|record| record.as_ref().err()).collect();
    assert!(bad.len() == 2 && bad.contains(&&unreadable.to_hex()), "{bad:?}");
    let newer = exported.iter().flatten().find(|record| record.code.is_some()).unwrap();
    assert_eq!(newer.tags, Some(serde_json::json!(["x"])));
}

#[tokio::test]
async fn an_update_leaves_unknown_fields_unchanged() {
    let (database, url) = database().await;
    let date = DateTime::from_millis(1_607_526_000_123);
    let id = ObjectId::new();
    let stored = doc! { "_id": id, "key": "HL0001_20201209_100000", "video_id": "aaaaaaaaaaa", "title": 42,
    "datetime": "20201209 100000", "published_at": date, "of_another_service": { "a": 1 } };
    insert(&database, "holodules", [stored]).await;
    let store = open(&url).await;
    let entries = vec![entry("HL0001_20201209_100000", "aaaaaaaaaaa", "20201209 110000")];
    assert_eq!(store.upsert(entries.clone()).await.unwrap(), [Upserted::Updated]);
    assert_eq!(store.upsert(entries).await.unwrap(), [Upserted::Unchanged]);
    let document = database.collection::<Document>("holodules").find_one(doc! {}).await.unwrap().unwrap();
    assert_eq!(document.get_object_id("_id").unwrap(), id);
    assert_eq!(document.get_datetime("published_at").unwrap(), &date);
    assert_eq!(document.get_document("of_another_service").unwrap(), &doc! { "a": 1 });
    assert_eq!(document.get_str("title").unwrap(), "t", "an unreadable document is repaired");
}

#[tokio::test]
async fn duplicates_are_counted_and_served() {
    let (database, url) = database().await;
    let document = |title: &str, video_id: &str| {
        doc! { "video_id": video_id, "key": title, "datetime": "20201209 100000", "title": title }
    };
    let twice = ["a", "b", "c"].map(|title| document(title, "aaaaaaaaaaa"));
    insert(&database, "holodules", twice.into_iter().chain([document("d", ""), document("e", "")])).await;
    let store = open_indexed(&url).await;
    assert_eq!(store.duplicate_video_ids(), 1);
    assert!(!index_names(&database, "holodules").await.contains(&"video_id_unique".to_owned()));
    assert_eq!(store.day(day("20201209")).await.unwrap().holodules.len(), 5);
    assert_eq!(store.upsert(vec![entry("", "aaaaaaaaaaa", "20201209 100000")]).await.unwrap(), [Upserted::Updated]);
    assert_eq!(store.count_holodules().await.unwrap(), 5);
    let found = store.find_holodules(&Identifier::parse("aaaaaaaaaaa").unwrap()).await.unwrap();
    assert_eq!(found.len(), 3, "all of them are deleted");
    assert_eq!(store.duplicate_videos(10).await.unwrap(), [("aaaaaaaaaaa".to_owned(), 3)]);
    assert!(store.delete_holodule(&Identifier::parse("aaaaaaaaaaa").unwrap()).await.unwrap());
    assert_eq!(videos(&store, "20201209").await, ["", ""]);
    // Now no document violates the index.
    let store = open_indexed(&url).await;
    assert_eq!(store.duplicate_video_ids(), 0);
    let mut expected = HOLODULE_INDEXES.to_vec();
    expected.splice(7..7, ["video_id", "video_id_unique"]);
    assert_eq!(index_names(&database, "holodules").await, expected);
}

#[tokio::test]
async fn existing_indexes_are_not_replaced() {
    let (database, url) = database().await;
    let holodules = database.collection::<Document>("holodules");
    for field in ["key", "datetime", "video_id"] {
        holodules.create_index(IndexModel::builder().keys(doc! { field: 1 }).build()).await.unwrap();
    }
    let store = open_indexed(&url).await;
    assert_eq!(store.duplicate_video_ids(), 0);
    let names = index_names(&database, "holodules").await;
    for name in ["key_1", "datetime_1", "video_id_1", "video_id_unique", "key_unique_without_video", "datetime_key_id"]
    {
        assert!(names.contains(&name.to_owned()), "{name} of {names:?}");
    }
}

#[tokio::test]
async fn a_day_reads_one_index_range_and_only_its_documents() {
    let (database, url) = database().await;
    let of_day = |day: u32| (0..200).map(move |n| doc! { "datetime": format!("202012{day:02} 10{:02}00", n % 60) });
    insert(&database, "holodules", (1..=20).flat_map(of_day)).await;
    let store = open(&url).await;
    database.run_command(doc! { "profile": 2 }).await.unwrap();
    assert_eq!(store.day(day("20201209")).await.unwrap().holodules.len(), 200);
    database.run_command(doc! { "profile": 0 }).await.unwrap();
    let profile = database.collection::<Document>("system.profile");
    let of_holodules = doc! { "ns": format!("{}.holodules", database.name()) };
    let commands: Vec<Document> = profile.find(of_holodules).await.unwrap().try_collect().await.unwrap();
    assert_eq!(commands.len(), 1, "one trip to the server: {commands:?}");
    let number = |name| commands[0].get_i32(name).unwrap();
    assert_eq!(commands[0].get_str("planSummary").unwrap(), "IXSCAN { datetime: 1, key: 1, _id: 1 }");
    assert_eq!((number("keysExamined"), number("docsExamined"), number("nreturned")), (200, 200, 200));
}

#[tokio::test]
async fn users_of_all_versions_are_read_and_nothing_fails_open() {
    let (database, url) = database().await;
    let bcrypt = "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW";
    let documents = [
        doc! { "id": "1", "username": "plain", "password": "password01", "firstname": "f", "lastname": "l" },
        doc! { "id": 2, "username": "hashed", "password": bcrypt, "disabled": false },
        doc! { "username": "disabled", "password": "x", "disabled": true },
        doc! { "username": "oddly disabled", "password": "x", "disabled": "yes" },
        doc! { "username": "empty", "password": "" },
        doc! { "username": "number", "password": 1 },
        doc! { "username": "none" },
        doc! { "username": "static:monitor", "password": "x" },
        doc! { "username": { "$ne": Bson::Null }, "password": "x" },
    ];
    insert(&database, "users", documents).await;
    let store = open(&url).await;
    let user = store.user("plain").await.unwrap().unwrap();
    assert_eq!((user.id.as_deref(), user.form(), user.disabled), (Some("1"), PasswordForm::Plain, false));
    let user = store.user("hashed").await.unwrap().unwrap();
    assert_eq!((user.id.as_deref(), user.form(), user.disabled), (Some("2"), PasswordForm::Bcrypt, false));
    for disabled in ["disabled", "oddly disabled"] {
        assert!(store.user(disabled).await.unwrap().unwrap().disabled);
    }
    for name in ["empty", "number", "none", "static:monitor"] {
        assert!(store.user(name).await.unwrap().is_none(), "{name}");
        assert!(!store.account(name, NOW).await.unwrap().0.active, "{name}");
        assert!(store.users().await.unwrap().iter().any(|user| user.username == name && user.form.is_none()));
    }

    let plain = Username::parse("plain").unwrap();
    assert!(store.upgrade_password("plain", "password01", "$argon2id$x").await.unwrap());
    let users = database.collection::<Document>("users");
    let document = users.find_one(doc! { "username": "plain" }).await.unwrap().unwrap();
    assert!(!document.contains_key("password_changed_at"), "an upgrade is no change of password");
    assert_eq!(store.change_password(plain.as_str(), "$argon2id$y", 1_607_526_000).await.unwrap(), UserChange::Done);
    let document = users.find_one(doc! { "username": "plain" }).await.unwrap().unwrap();
    assert_eq!(document.get_i64("password_changed_at").unwrap(), 1_607_526_000);
    assert_eq!((document.get_str("firstname").unwrap(), document.get_str("id").unwrap()), ("f", "1"));
}

#[tokio::test]
async fn of_several_users_with_one_name_the_first_is_the_user() {
    let (database, url) = database().await;
    let ids = [ObjectId::new(), ObjectId::new()];
    let document = |at: usize| doc! { "_id": ids[at], "username": "twice", "password": format!("password{at}") };
    insert(&database, "users", [document(1), document(0)]).await;
    let store = open(&url).await;
    let twice = Username::parse("twice").unwrap();
    assert_eq!(store.user("twice").await.unwrap().unwrap().password.expose(), "password0");
    assert!(!store.upgrade_password("twice", "password1", "$argon2id$x").await.unwrap());
    assert_eq!(store.set_disabled(twice.as_str(), true, NOW).await.unwrap(), UserChange::Done);
    assert!(store.user("twice").await.unwrap().unwrap().disabled);
    assert_eq!(store.delete_user(twice.as_str(), NOW).await.unwrap(), UserChange::Done);
    assert!(store.user("twice").await.unwrap().is_none(), "the other does not come to life");
}

#[tokio::test]
async fn a_user_with_an_invalid_name_can_be_disabled() {
    let (database, url) = database().await;
    let name = "bell\u{7}";
    insert(&database, "users", [doc! { "username": name, "password": "password01" }]).await;
    let store = open(&url).await;
    assert!(!store.user(name).await.unwrap().unwrap().disabled);
    assert_eq!(store.set_disabled(name, true, NOW).await.unwrap(), UserChange::Done);
    assert!(store.user(name).await.unwrap().unwrap().disabled);
    assert_eq!(store.delete_user(name, NOW).await.unwrap(), UserChange::Done);
}

/// Settings for an unavailable server.
fn impatient(url: &str) -> Settings {
    Settings { operation_timeout: Duration::from_secs(1), ..settings(url) }
}

#[tokio::test]
async fn an_unreachable_server_is_reported_in_time_and_may_start_later() {
    // Bound, so that the port is reserved, but not listening yet.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let url = format!("mongodb://{address}/holodule_test_late?directConnection=true");
    let start = Instant::now();
    let store = Store::open(&impatient(&url)).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "opening waits for no server");
    let unavailable = |result: Result<(), StoreError>| matches!(result, Err(StoreError::Unavailable(_)));
    let username = Username::parse("user01").unwrap();
    let start = Instant::now();
    assert!(unavailable(store.ping().await));
    assert!(unavailable(store.day(day("20201209")).await.map(drop)));
    assert!(unavailable(store.upsert(vec![entry("", "aaaaaaaaaaa", "20201209 100000")]).await.map(drop)));
    assert!(unavailable(store.export().await.map(drop)));
    assert!(unavailable(store.user("user01").await.map(drop)));
    assert!(unavailable(store.set_disabled(username.as_str(), true, NOW).await.map(drop)));
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());

    // Now the port listens and forwards to a server.
    let server = tokio::task::spawn_blocking(|| Server::shared().url().to_owned()).await.unwrap();
    let server = server.trim_start_matches("mongodb://").split('/').next().unwrap().to_owned();
    let listener = socket.listen(64).unwrap();
    let forward = tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut upstream = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut upstream).await });
        }
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    let entries = vec![entry("", "aaaaaaaaaaa", "20201209 100000")];
    while let Err(error) = store.upsert(entries.clone()).await {
        assert!(matches!(error, StoreError::Unavailable(_)) && Instant::now() < deadline, "{error}");
    }
    assert_eq!(videos(&store, "20201209").await, ["aaaaaaaaaaa"]);
    forward.abort();
}

#[tokio::test]
async fn a_silent_server_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mongodb://{}/db", listener.local_addr().unwrap());
    let store = Store::open(&impatient(&url)).await.unwrap();
    let start = Instant::now();
    assert!(matches!(store.day(day("20201209")).await, Err(StoreError::Unavailable(_))));
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_server_with_access_control_needs_credentials_and_no_error_shows_them() {
    let server = tokio::task::spawn_blocking(|| Server::start(&["--auth", "holo:s3cr/et@1"])).await.unwrap();
    let store = open(server.url()).await;
    store.upsert(vec![entry("", "aaaaaaaaaaa", "20201209 100000")]).await.unwrap();
    assert_eq!(videos(&store, "20201209").await, ["aaaaaaaaaaa"]);
    store.check_ready().await.unwrap();
    // The same user has no role in another database, whose server responds to a ping anyway.
    let (head, rest) = server.url().rsplit_once('/').unwrap();
    let own = rest.split('?').next().unwrap();
    let other = format!("{head}/other?authSource={own}");
    let without_role = open(&other).await;
    without_role.ping().await.unwrap();
    let error = without_role.check_ready().await.unwrap_err();
    assert!(matches!(error, StoreError::Failed(_)), "{error}");
    let wrong = server.url().replace("s3cr", "wr0ng");
    let store = Store::open(&settings(&wrong)).await.unwrap();
    let error = store.day(day("20201209")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(!format!("{error} {error:?} {:?}", settings(&wrong)).contains("wr0ng"));
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}

#[test]
fn a_url_refused_by_the_driver_is_reported_without_its_password() {
    for url in ["mongodb://holo:s3cret@h:99999/", "mongodb://holo:s3cret@h/?w=-1", "mongodb://s3cret:s3cret:s3cret@h/"]
    {
        let error = url.parse::<StoreUrl>().expect_err(url);
        assert!(matches!(error, NotAStoreUrl::Refused(_) | NotAStoreUrl::Host));
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    }
}

#[tokio::test]
async fn the_check_rejects_what_opening_would_reject() {
    for url in ["mongodb://h/?tls=true&tlsCAFile=/nonexistent/ca.pem", "mongodb+srv://h/?tlsCAFile=/nonexistent/ca.pem"]
    {
        let error = Store::check(&settings(url)).unwrap_err();
        assert!(matches!(&error, StoreError::Unusable(reason) if reason.contains("/nonexistent/ca.pem")), "{error}");
    }
    let error = Store::open(&settings("mongodb://h/?tls=true&tlsCAFile=/nonexistent/ca.pem")).await;
    assert!(matches!(error, Err(StoreError::Unusable(_))));
    for url in
        ["mongodb://h", "mongodb://h:1,i/?replicaSet=rs&tls=true", "mongodb+srv://h/?srvMaxHosts=2", "embedded:x"]
    {
        Store::check(&settings(url)).unwrap();
    }
}

/// Kills the current primary.
async fn kill_primary(client: &Client) {
    let status = client.database("admin").run_command(doc! { "serverStatus": 1 }).await.unwrap();
    let process = status.get_i64("pid").unwrap().to_string();
    let kill = tokio::process::Command::new("kill").args(["-KILL", &process]).status().await;
    assert!(kill.unwrap().success());
}

#[tokio::test]
async fn without_a_primary_reads_continue_and_without_a_majority_writes_fail() {
    let server = tokio::task::spawn_blocking(|| Server::start(&["--replicas", "3"])).await.unwrap();
    let store = open(server.url()).await;
    let entries = vec![entry("", "aaaaaaaaaaa", "20201209 100000")];
    store.upsert(entries.clone()).await.unwrap();

    let client = Client::with_uri_str(server.url()).await.unwrap();
    // A majority has the entry. The third member may be queried next, so it must have it too: it has when it
    // acknowledges a later write.
    let everywhere = WriteConcern::builder().w(Acknowledgment::Nodes(3)).build();
    let later = client.database("later").collection::<Document>("writes");
    later.insert_one(doc! {}).write_concern(everywhere).await.unwrap();
    kill_primary(&client).await;
    for _ in 0..20 {
        assert_eq!(videos(&store, "20201209").await, ["aaaaaaaaaaa"]);
    }
    // Another primary is elected, and nothing acknowledged by a majority is lost.
    assert_eq!(store.upsert(entries).await.unwrap(), [Upserted::Unchanged]);
    assert!(store.user("nouser").await.unwrap().is_none());

    let impatient = Settings { operation_timeout: Duration::from_secs(5), ..settings(server.url()) };
    let store = Store::open(&impatient).await.unwrap();
    store.upsert(Vec::new()).await.unwrap();
    kill_primary(&client).await;
    let more = vec![entry("", "bbbbbbbbbbb", "20201209 110000")];
    assert!(matches!(store.upsert(more).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.user("nouser").await, Err(StoreError::Unavailable(_))));
    store.ping().await.unwrap();
    assert_eq!(videos(&store, "20201209").await, ["aaaaaaaaaaa"]);
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}
