//! A service with MongoDB: documents of all versions, unreadable ones, and an unavailable server.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holodule_backend::store::{Settings, Store};
use mongodb::Client;
use mongodb::bson::{Document, doc};

use crate::http;
use crate::mongod::Server;
use crate::program::{Program, folder, succeeds};
use crate::service::{Service, Setup, holodule};

async fn open(url: &str, operation_timeout: Duration) -> Store {
    Store::open(&Settings { url: url.parse().unwrap(), operation_timeout, max_connections: 10, text_cache: 1 << 20 })
        .await
        .unwrap()
}

async fn insert(url: &str, collection: &str, documents: Vec<Document>) {
    let database = Client::with_uri_str(url).await.unwrap().default_database().unwrap();
    database.collection::<Document>(collection).insert_many(documents).await.unwrap();
}

#[tokio::test]
async fn documents_of_the_original_are_served_and_unreadable_ones_left_out() {
    let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
    let readable = doc! {
        "key": "HL0503_20201209_230000", "code": "HL0503", "video_id": "aaaaaaaaaa1", "datetime": "20201209 230000",
        "name": "尾丸ポルカ", "title": "t", "url": "https://www.youtube.com/", "description": "d", "tags": ["x"],
    };
    insert(&url, "holodules", vec![readable, doc! { "video_id": 7, "datetime": "20201209 220000" }]).await;
    let bcrypt = bcrypt::hash("password02", 4).unwrap();
    let users = vec![
        doc! { "id": "1", "username": "user01", "password": "password01", "firstname": "a", "lastname": "b" },
        doc! { "id": "2", "username": "user02", "password": bcrypt },
    ];
    insert(&url, "users", users).await;

    let service = Service::over(open(&url, Duration::from_secs(20)).await, Setup::default()).await;
    let day = service.get("/holodules/20201209").await;
    let expected = concat!(
        r#"{"result":1,"holodules":[{"key":"HL0503_20201209_230000","code":"HL0503","video_id":"aaaaaaaaaa1","#,
        r#""datetime":"20201209 230000","name":"尾丸ポルカ","title":"t","url":"https://www.youtube.com/","description":"d"}]}"#,
        "\n"
    );
    assert_eq!((day.status, day.body.as_str()), (200, expected));
    assert_eq!(service.metric("backend_unreadable_documents_total").await, 1.0);
    let export = service.admin("GET", "/holodules", "").await;
    assert_eq!((export.body.lines().count(), export.header("x-unreadable-documents")), (1, "1"));
    assert!(export.body.contains(r#""tags":["x"]"#), "{}", export.body);

    for (username, password) in [("user01", "password01"), ("user02", "password02")] {
        assert_eq!(service.verify(username, "wrong").await.status, 401);
        assert_eq!(service.verify(username, password).await.status, 200, "{username}");
        assert_eq!(service.verify(username, password).await.status, 200, "{username}, by its new form");
    }
    let users = service.admin("GET", "/users", "").await.json();
    assert_eq!(
        (&users["users"][0]["password"], &users["users"][1]["password"]),
        (&"argon2id".into(), &"argon2id".into())
    );
    let database = Client::with_uri_str(&url).await.unwrap().default_database().unwrap();
    let user = database.collection::<Document>("users").find_one(doc! { "username": "user01" }).await.unwrap().unwrap();
    assert_eq!(user.get_str("firstname").unwrap(), "a", "what is not ours is left as it was");
    assert!(!user.contains_key("password_changed_at"), "it is the same password");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_that_cannot_be_checked_is_logged_with_the_users_name() {
    let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
    let stored = ["{SSHA}hush", "$6$hush$hush", "!hush-is-plain"];
    let users =
        stored.iter().enumerate().map(|(n, stored)| doc! { "username": format!("user0{n}"), "password": stored });
    insert(&url, "users", users.collect()).await;
    let folder = folder();
    let program = Program::start(folder.path(), &[("STORE", &url)]);
    let verify = async |username: &str, password: &str| {
        let body = serde_json::json!({ "username": username, "password": password }).to_string();
        http::send(program.admin(), "POST", "/credentials/verify", &[("Content-Type", "application/json")], &body)
            .await
            .status
    };
    assert_eq!((verify("user00", stored[0]).await, verify("user01", stored[1]).await), (401, 401));
    assert_eq!(verify("user02", stored[2]).await, 200);
    let listed = succeeds(&program.run(folder.path(), &["user", "list"], ""));
    assert!(listed.contains("user00\tenabled\tunsupported\n"), "{listed}");
    assert_eq!(program.terminate(), 0);
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    let named: Vec<_> = log.lines().filter(|line| line.contains("a stored password hash cannot be checked")).collect();
    assert_eq!(named.len(), 2, "{log}");
    assert!(named[0].contains("\"username\":\"user00\"") && named[1].contains("\"username\":\"user01\""), "{named:?}");
    assert!(!log.contains("hush"), "{log}");
}

#[tokio::test]
async fn an_unresponsive_store_is_reported_within_the_timeout() {
    // A port that was free just now.
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let store = open(&format!("mongodb://user:hush@{unused}/?authSource=x"), Duration::from_millis(300)).await;
    let service = Service::over(store, Setup::default()).await;
    let started = Instant::now();
    let day = service.get("/holodules/20201209").await;
    assert_eq!((day.status, day.body.as_str()), (503, "{\"error\":\"Service Unavailable\"}\n"));
    assert_eq!((day.header("retry-after"), day.header("cache-control")), ("5", "no-store"));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let user = r#"{"username":"user01","password":"password01"}"#;
    let expires_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 300;
    let logout = format!(r#"{{"identity":"user01","token":"jti:a","expires_at":{expires_at}}}"#);
    for (method, path, body) in [
        ("POST", "/credentials/verify", user),
        ("POST", "/users", user),
        ("POST", "/revocation/check", r#"{"identity":"user01"}"#),
        ("POST", "/revocation/logout", &logout),
        ("GET", "/users", ""),
        ("DELETE", "/users/user01", ""),
        ("GET", "/holodules", ""),
        ("POST", "/holodules", r#"[{"video_id":"aaaaaaaaaa1","datetime":"20201209 230000"}]"#),
        ("GET", "/status", ""),
        ("GET", "/readyz", ""),
    ] {
        let reply = service.admin(method, path, body).await;
        assert_eq!((reply.status, reply.header("retry-after")), (503, "5"), "{method} {path}: {reply:?}");
        assert!(!reply.body.contains("hush"), "{reply:?}");
    }
    assert_eq!(service.admin("GET", "/healthz", "").await.status, 200, "the process is alive");
    assert_eq!(service.metric("backend_verifications_total{result=\"unavailable\"}").await, 1.0);
    assert!(service.metric("backend_store_errors_total{kind=\"unavailable\"}").await >= 9.0);
}

#[tokio::test]
async fn the_page_does_not_wait_for_the_timeout_of_a_store_that_hangs() {
    // A server that accepts connections and never responds.
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mongodb://{}/", hanging.local_addr().unwrap());
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = hanging.accept().await {
            open.push(stream);
        }
    });
    let service = Service::over(open(&url, Duration::from_secs(600)).await, Setup::default()).await;
    let view = async |path| {
        let opened = http::send(&service.admin, "GET", path, &[("Accept-Language", "en")], "");
        // Far from both limits: that of a view is 2 s, that of an operation 600 s.
        tokio::time::timeout(Duration::from_secs(60), opened).await.unwrap_or_else(|_| panic!("{path} waits"))
    };
    let health = view("/page/health").await;
    assert_eq!((health.status, health.body.contains("the store does not respond")), (200, true), "{}", health.body);
    for path in ["/", "/page/users", "/page/search"] {
        let page = view(path).await;
        assert_eq!((page.status, page.header("retry-after")), (503, "5"), "{path}");
        assert!(page.body.contains("the store is unavailable"), "{path}: {}", page.body);
    }
}

#[tokio::test]
async fn readiness_is_503_while_the_store_does_not_answer() {
    let server = tokio::task::spawn_blocking(|| Server::start(&[])).await.unwrap();
    let service = Service::over(open(server.url(), Duration::from_millis(500)).await, Setup::default()).await;
    let ready = service.admin("GET", "/readyz", "").await;
    assert_eq!((ready.status, ready.body.as_str()), (200, "{\"status\":\"ready\"}\n"));
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
    let away = service.admin("GET", "/readyz", "").await;
    let body = "{\"error\":\"Service Unavailable\",\"description\":\"the store is unavailable\"}\n";
    assert_eq!((away.status, away.body.as_str()), (503, body));
    assert_eq!(away.header("content-type"), "application/json");
    assert_eq!(away.header("cache-control"), "no-store");
    assert!(away.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0));
    let alive = service.admin("GET", "/healthz", "").await;
    assert_eq!((alive.status, alive.body.as_str()), (200, "{\"status\":\"alive\"}\n"));
}

#[tokio::test]
async fn the_page_shows_duplicates_and_what_cannot_be_restored() {
    let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
    let document = |title: &str, video_id: &str| {
        doc! { "key": "", "video_id": video_id, "datetime": "20201209 100000", "title": title }
    };
    let mut further = document("further", "bbbbbbbbbbb");
    further.insert("of_another_service", 1);
    let twice = ["first", "second"].map(|title| document(title, "aaaaaaaaaaa"));
    let keyed = ["", "", "ddddddddddd"].map(|video_id| {
        let mut keyed = document("keyed", video_id);
        keyed.insert("key", "HL0503_20201209_100000");
        keyed
    });
    let others = [vec![further, document("whole", "ccccccccccc")], keyed.to_vec()].concat();
    insert(&url, "holodules", [twice.to_vec(), others].concat()).await;
    let service = Service::over(open(&url, Duration::from_secs(20)).await, Setup::default()).await;
    service.until("backend_duplicate_video_ids", 1.0).await;
    let page = http::send(&service.admin, "GET", "/page/duplicates", &[("Accept-Language", "en")], "").await;
    assert!(page.body.contains("<code>aaaaaaaaaaa</code>") && page.body.contains("2 documents"), "{}", page.body);
    assert!(page.body.contains(">first<") && page.body.contains(">second<") && !page.body.contains("bbbbbbbbbbb"));
    assert_eq!(page.body.matches("data-duplicate-delete=").count(), 2, "each is deleted alone");
    assert!(!page.body.contains("data-delete=\"aaaaaaaaaaa\""), "it would delete both");
    for (id, documents, restorable) in
        [("aaaaaaaaaaa", "2", "false"), ("bbbbbbbbbbb", "1", "false"), ("ccccccccccc", "1", "true")]
    {
        let record = http::send(&service.admin, "GET", &format!("/page/record?id={id}"), &[], "").await;
        assert_eq!((record.header("x-documents"), record.header("x-restorable")), (documents, restorable), "{id}");
        assert_eq!(record.header("x-same-identifier"), documents, "{id}");
    }
    // Only the first of those without a video could be edited; the one with a video has another identifier.
    let record = http::send(&service.admin, "GET", "/page/record?id=HL0503_20201209_100000", &[], "").await;
    assert_eq!((record.header("x-documents"), record.header("x-same-identifier")), ("1", "2"));
    let health = http::send(&service.admin, "GET", "/page/health", &[("Accept-Language", "en")], "").await.body;
    assert!(health.contains("<dt>Store</dt><dd>MongoDB</dd>") && health.contains("<dt>Duplicates</dt><dd>1</dd>"));
}

#[tokio::test]
async fn one_of_several_documents_of_a_video_is_deleted() {
    let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
    // They differ in the `_id` only.
    let same = |id: &str, video_id: &str| {
        doc! { "_id": id, "key": "HL0501_20201209_100000", "video_id": video_id, "datetime": "20201209 100000", "title": "t" }
    };
    let odd = |title: i32| doc! { "video_id": "odd/form", "title": title };
    let documents =
        [same("a", "aaaaaaaaaaa"), same("b", "aaaaaaaaaaa"), same("c", "ccccccccccc"), odd(1), odd(2), odd(3)];
    insert(&url, "holodules", documents.to_vec()).await;
    let database = Client::with_uri_str(&url).await.unwrap().default_database().unwrap();
    let collection = database.collection::<Document>("holodules");
    let service = Service::over(open(&url, Duration::from_secs(20)).await, Setup::default()).await;
    service.until("backend_duplicate_video_ids", 2.0).await;

    let list = async || service.admin("GET", "/duplicates", "").await.json();
    let listed = list().await;
    assert_eq!((&listed["more"], listed["duplicates"].as_array().unwrap().len()), (&false.into(), 2));
    let ids = |listed: &serde_json::Value, video: usize| -> Vec<String> {
        let documents = listed["duplicates"][video]["documents"].as_array().unwrap();
        documents.iter().map(|document| document["id"].as_str().unwrap().to_owned()).collect()
    };
    let (same, odd) = (ids(&listed, 0), ids(&listed, 1));
    assert_eq!((listed["duplicates"][0]["total"].as_u64(), same.len(), odd.len()), (Some(2), 2, 3));
    assert_eq!(listed["duplicates"][0]["documents"][1]["holodule"]["title"], "t");
    assert!(listed["duplicates"][1]["documents"][0]["holodule"].is_null(), "it cannot be read");

    let delete =
        async |video: &str, id: &str| service.admin("DELETE", &format!("/duplicates/{video}/{id}"), "").await.status;
    assert_eq!(delete("ccccccccccc", &same[0]).await, 404, "of another video");
    assert_eq!(delete("aaaaaaaaaaa", "x00").await, 404);
    let before = service.get("/holodules/20201209").await;
    assert_eq!(before.json()["holodules"].as_array().unwrap().len(), 3);
    assert_eq!(delete("aaaaaaaaaaa", &same[1]).await, 204);
    assert_eq!(service.get("/holodules/20201209").await.json()["holodules"].as_array().unwrap().len(), 2);
    assert_eq!(delete("aaaaaaaaaaa", &same[1]).await, 404, "it is gone");
    assert_eq!(delete("aaaaaaaaaaa", &same[0]).await, 409, "it is the only one");
    let left: Vec<_> = collection.distinct("_id", doc! { "_id": { "$type": "string" } }).await.unwrap();
    assert_eq!(left, ["a".into(), "c".into()] as [mongodb::bson::Bson; 2]);

    // Concurrent deletions of all documents leave at least one.
    let deletions = odd.iter().map(|id| delete("odd%2Fform", id));
    let statuses = futures_util::future::join_all(deletions).await;
    assert!(statuses.iter().all(|status| [204, 409].contains(status)), "{statuses:?}");
    let deleted = statuses.iter().filter(|status| **status == 204).count() as u64;
    let left = collection.count_documents(doc! { "video_id": "odd/form" }).await.unwrap();
    assert!(left >= 1 && left == 3 - deleted, "{statuses:?}");
    for id in &odd {
        delete("odd%2Fform", id).await;
    }
    assert_eq!(collection.count_documents(doc! { "video_id": "odd/form" }).await.unwrap(), 1);
    // The index is created without waiting for the next verification.
    let created = async {
        while !collection.list_index_names().await.unwrap().contains(&"video_id_unique".to_owned()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), created).await.unwrap();
    assert_eq!(list().await, serde_json::json!({ "duplicates": [], "more": false }));
}

#[tokio::test]
async fn the_embedded_store_has_no_duplicates() {
    let service = Service::start().await;
    service.holodules([holodule(1, "20201209 230000")]).await;
    let list = service.admin("GET", "/duplicates", "").await;
    assert_eq!((list.status, list.json()), (200, serde_json::json!({ "duplicates": [], "more": false })));
    assert_eq!(service.admin("DELETE", "/duplicates/video000001/1", "").await.status, 404);
    assert_eq!(service.get("/holodules/20201209").await.status, 200);
    for (method, path, allowed) in [("POST", "/duplicates", "GET, HEAD"), ("GET", "/duplicates/a/b", "DELETE")] {
        assert_eq!(service.admin(method, path, "").await.header("allow"), allowed, "{path}");
    }
    for headers in [&[][..], &[("Content-Type", "text/plain")]] {
        assert_eq!(http::send(&service.admin, "DELETE", "/duplicates/a/b", headers, "").await.status, 415);
    }
}
