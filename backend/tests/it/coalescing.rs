//! Concurrent reads of a day or a list share one read of the store, and no request gets a read from before a change that
//! it may know of.

use std::time::Duration;

use futures_util::TryStreamExt;
use holodule_backend::store::{Settings, Store};
use mongodb::bson::{Document, doc};
use mongodb::{Client, Database};

use crate::http;
use crate::mongod::Server;
use crate::service::{Service, Setup, holodule};

const PATIENCE: Duration = Duration::from_secs(20);
/// 2020-12-09 23:00:00 in Japan.
const NOW: i64 = 1_607_522_400;
const DAY: &str = "/holodules/20201209";

/// A server that logs each command, and a service that uses it.
async fn watched() -> (Server, Database, Service) {
    let server = tokio::task::spawn_blocking(|| Server::start(&["--fail-points"])).await.unwrap();
    let database = Client::with_uri_str(server.url()).await.unwrap().default_database().unwrap();
    let settings = Settings {
        url: server.url().parse().unwrap(),
        operation_timeout: PATIENCE,
        max_connections: 20,
        text_cache: 0,
    };
    let mut setup = Setup { clock: Some(|| NOW), ..Setup::default() };
    (setup.handler.lists.search.timeout, setup.handler.lists.search.burst) = (PATIENCE, 1000);
    let service = Service::over(Store::open(&settings).await.unwrap(), setup).await;
    database.run_command(doc! { "profile": 2 }).await.unwrap();
    (server, database, service)
}

async fn end(server: Server) {
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}

/// The number of queries for holodules.
async fn reads(database: &Database) -> u64 {
    let profile = database.collection::<Document>("system.profile");
    profile.count_documents(doc! { "command.find": "holodules", "op": "query" }).await.unwrap()
}

/// The number of operations that read holodules or schedules of December 2020.
async fn reads_of_lists(database: &Database) -> usize {
    let collections = ["holodules", "schedules"].map(|collection| format!("{}.{collection}", database.name()));
    let operations = doc! { "ns": { "$in": collections.to_vec() }, "op": { "$in": ["query", "command", "getmore"] } };
    let profile = database.collection::<Document>("system.profile").find(operations).await.unwrap();
    let operations: Vec<Document> = profile.try_collect().await.unwrap();
    let texts = operations.iter().map(|operation| operation.get_document("command").unwrap().to_string());
    texts.filter(|text| text.contains("202012") || text.contains("2020-12")).count()
}

/// The process of the server, which a test pauses.
struct Process(String);

impl Process {
    async fn of(database: &Database) -> Self {
        let status = database.run_command(doc! { "serverStatus": 1 }).await.unwrap();
        Self(status.get_i64("pid").unwrap().to_string())
    }

    fn signal(&self, name: &str) {
        let sent = std::process::Command::new("kill").args([name, &self.0]).status().unwrap();
        assert!(sent.success(), "{name}");
    }

    /// Stops the process, and returns when none of its threads runs any longer: the signal reaches them one by one.
    async fn stop(&self) {
        self.signal("-STOP");
        let is_stopped = || {
            let threads = std::fs::read_dir(format!("/proc/{}/task", self.0)).unwrap();
            let mut states = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")));
            states.all(|state| state.unwrap_or_default().contains(") T "))
        };
        let stopped = async {
            while !is_stopped() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, stopped).await.unwrap();
    }
}

/// Whether a further batch of holodules is being requested now.
async fn is_fetching(database: &Database) -> bool {
    let ask = doc! { "currentOp": 1, "command.getMore": { "$exists": true }, "command.collection": "holodules" };
    let reply = database.client().database("admin").run_command(ask).await.unwrap();
    !reply.get_array("inprog").unwrap().is_empty()
}

#[tokio::test]
async fn a_slow_store_is_read_once_for_all_waiters() {
    const READERS: usize = 50;
    let (server, database, service) = watched().await;
    service.holodules([holodule(1, "20201209 230000"), holodule(2, "20201210 230000")]).await;
    let before = reads(&database).await;
    let process = Process::of(&database).await;
    process.stop().await;
    let read = |path: &'static str| {
        let api = service.api.clone();
        tokio::spawn(async move { http::send(&api, "GET", path, &[], "").await })
    };
    let readers: Vec<_> = (0..READERS).map(|_| read(DAY)).collect();
    let other = read("/holodules/20201210");
    service.until("backend_requests_in_flight{listener=\"api\"}", (READERS + 1) as f64).await;
    process.signal("-CONT");
    let mut tags = Vec::new();
    for reader in readers {
        let reply = reader.await.unwrap();
        assert_eq!((reply.status, reply.json()["holodules"][0]["title"].as_str()), (200, Some("title 1")));
        tags.push(reply.header("etag").to_owned());
    }
    tags.dedup();
    assert_eq!((tags.len(), other.await.unwrap().status), (1, 200));
    assert_eq!(reads(&database).await, before + 2, "one for each day");
    assert_eq!(service.get(DAY).await.status, 200);
    assert_eq!(reads(&database).await, before + 3, "nothing is cached");
    end(server).await;
}

#[tokio::test]
async fn concurrent_requests_for_a_list_share_one_read() {
    const READERS: usize = 20;
    let (server, database, service) = watched().await;
    service.holodules([holodule(1, "20201209 230000"), holodule(2, "20201210 230000")]).await;
    let process = Process::of(&database).await;
    for path in [
        "/holodules?from=20201209&to=20201210&limit=1",
        "/holodules?from=20201209&to=20201210&q=title",
        "/streamers/HL0001/holodules?from=20201209",
        "/now",
        "/schedules?sdate=2020-12-09&edate=2020-12-10",
    ] {
        let before = reads_of_lists(&database).await;
        let expected = service.get(path).await;
        assert_eq!(expected.status, 200, "{path}: {expected:?}");
        let between = reads_of_lists(&database).await;
        assert!(between > before, "{path}");
        process.stop().await;
        let read = || {
            let api = service.api.clone();
            tokio::spawn(async move { http::send(&api, "GET", path, &[], "").await })
        };
        let readers: Vec<_> = (0..READERS).map(|_| read()).collect();
        service.until("backend_requests_in_flight{listener=\"api\"}", READERS as f64).await;
        process.signal("-CONT");
        for reader in readers {
            let reply = reader.await.unwrap();
            assert_eq!((reply.status, &reply.body), (200, &expected.body), "{path}");
        }
        assert_eq!(reads_of_lists(&database).await - between, between - before, "{path}");
    }
    end(server).await;
}

#[tokio::test]
async fn a_request_after_a_change_shares_no_earlier_read() {
    // Too many for one batch, so that a read can be paused in between.
    const DOCUMENTS: u32 = 1200;
    let (server, database, service) = watched().await;
    let changed = serde_json::to_value(holodule(0, "20201209 230000")).unwrap();
    // It remains first in the index, which a read passes only once.
    let first = changed["key"].as_str().unwrap();
    let key = |n| if n == 0 { first.to_owned() } else { format!("~{n:06}") };
    let documents = (0..DOCUMENTS)
        .map(|n| doc! { "key": key(n), "video_id": format!("video{n:06}"), "datetime": "20201209 230000" });
    database.collection::<Document>("holodules").insert_many(documents).await.unwrap();
    let hold = doc! { "failCommands": ["getMore"], "appName": "holodule-backend", "blockConnection": true,
    "blockTimeMS": 3000, "namespace": format!("{}.holodules", database.name()) };
    let hold = doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": hold };
    database.client().database("admin").run_command(hold).await.unwrap();
    let api = service.api.clone();
    let early = tokio::spawn(async move { http::send(&api, "GET", DAY, &[], "").await });
    // From here on it has been read, and only the batches are fetched.
    let held = async { while !is_fetching(&database).await {} };
    tokio::time::timeout(PATIENCE, held).await.unwrap();

    assert_eq!(service.admin("PUT", "/holodules/video000000", &changed.to_string()).await.status, 200);
    let late = service.get(DAY).await;
    assert!(late.body.contains("title 0"), "it was acknowledged");
    let early = early.await.unwrap();
    assert_eq!((early.status, early.json()["result"].as_u64()), (200, Some(u64::from(DOCUMENTS))));
    assert!(!early.body.contains("title 0"), "else this shows nothing");
    end(server).await;
}
