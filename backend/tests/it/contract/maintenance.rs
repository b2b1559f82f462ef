//! Periodic tasks of the MongoDB engine: it verifies the indexes, and counts holodules that are not listed under any
//! day.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use holodule_backend::store::{Store, Undated};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::{Client, Collection};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{entry, settings};
use crate::mongod::Server;

/// An interval longer than any test.
const NEVER: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(30);

async fn holodules(url: &str) -> Collection<Document> {
    Client::with_uri_str(url).await.unwrap().default_database().unwrap().collection("holodules")
}

async fn open(url: &str, interval: Duration) -> Store {
    Store::open_verifying(&settings(url), interval).await.unwrap()
}

async fn has_indexes(collection: &Collection<Document>) -> bool {
    let names = collection.list_index_names().await.unwrap_or_default();
    ["datetime_key_id", "video_id_unique", "key_unique_without_video"]
        .iter()
        .all(|name| names.iter().any(|n| n == name))
}

async fn until_indexed(collection: &Collection<Document>) {
    let deadline = Instant::now() + PATIENCE;
    while !has_indexes(collection).await {
        assert!(Instant::now() < deadline, "the indexes were not created");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn until(what: &str, ready: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !ready() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Drops the collection with its indexes, and waits until they are back and prevent a duplicate video.
async fn drop_and_wait(store: &Store, collection: &Collection<Document>, restored: u64) {
    collection.drop().await.unwrap();
    until_indexed(collection).await;
    until("the indexes were not reported", || store.restored_indexes() >= restored).await;
    let twice = [doc! { "video_id": "aaaaaaaaaaa" }, doc! { "video_id": "aaaaaaaaaaa" }];
    assert!(collection.insert_many(twice).await.is_err(), "the index is unique");
}

#[tokio::test]
async fn indexes_of_a_dropped_collection_are_restored_periodically() {
    let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
    let collection = holodules(&url).await;
    let store = open(&url, Duration::from_millis(100)).await;
    store.upsert(vec![entry("", "aaaaaaaaaaa", "20201209 100000")]).await.unwrap();
    until_indexed(&collection).await;
    assert_eq!(store.restored_indexes(), 0, "the first time is no repair");
    drop_and_wait(&store, &collection, 4).await;
}

#[tokio::test]
async fn indexes_of_a_dropped_collection_are_restored_at_once_on_a_replica_set() {
    let server = tokio::task::spawn_blocking(|| Server::start(&["--replicas", "1"])).await.unwrap();
    let collection = holodules(server.url()).await;
    let store = open(server.url(), NEVER).await;
    store.upsert(vec![entry("", "aaaaaaaaaaa", "20201209 100000")]).await.unwrap();
    until_indexed(&collection).await;
    let mut changes = store.day_changes();
    changes.next().await.unwrap().unwrap();
    let followed = tokio::spawn(async move { while changes.next().await.is_some() {} });
    drop_and_wait(&store, &collection, 4).await;
    followed.abort();
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}

/// Forwards connections while it is open.
struct Proxy {
    address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Proxy {
    async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, state) = watch::channel(true);
        let server: Arc<str> = server.into();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (server, mut state) = (Arc::clone(&server), state.clone());
                tokio::spawn(async move {
                    if !*state.borrow() {
                        return;
                    }
                    let mut server = TcpStream::connect(&*server).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = state.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { address, open }
    }
}

#[tokio::test]
async fn indexes_are_verified_when_a_server_comes_back() {
    let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
    let collection = holodules(&url).await;
    let server = url.split(['/', '?']).nth(2).unwrap().to_owned();
    let proxy = Proxy::start(server.clone()).await;
    let store = open(&url.replacen(&server, &proxy.address.to_string(), 1), NEVER).await;
    store.upsert(vec![entry("", "aaaaaaaaaaa", "20201209 100000")]).await.unwrap();
    until_indexed(&collection).await;
    proxy.open.send_replace(false);
    assert!(store.ping().await.is_err());
    collection.drop().await.unwrap();
    proxy.open.send_replace(true);
    until_indexed(&collection).await;
    until("the indexes were not reported", || store.restored_indexes() >= 4).await;
}

#[tokio::test]
async fn undated_documents_are_counted_and_listed() {
    let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
    let collection = holodules(&url).await;
    let ids = [(); 4].map(|()| ObjectId::new());
    let documents = [
        doc! { "datetime": "20201209 230000", "video_id": "aaaaaaaaaaa" },
        doc! { "_id": ids[0], "datetime": DateTime::from_millis(1_607_526_000_123), "video_id": "bbbbbbbbbbb" },
        doc! { "_id": ids[1], "datetime": 20_201_209_i64, "video_id": "ccccccccccc" },
        doc! { "_id": ids[2], "datetime": "2020-12-09T23:00:00+09:00", "video_id": "ddddddddddd" },
        doc! { "_id": ids[3], "video_id": "eeeeeeeeeee" },
    ];
    collection.insert_many(documents).await.unwrap();
    let store = open(&url, Duration::from_millis(100)).await;
    until("they were not counted", || store.undated_holodules() == 4).await;
    let probe = Store::probe(&settings(&url)).await.unwrap();
    let expected = ["a date", "a number", "text of another form", "missing"];
    let expected = ids.iter().zip(expected).map(|(id, datetime)| Undated { id: id.to_hex(), datetime });
    assert_eq!((probe.undated, probe.first_undated), (4, expected.collect()));
    collection.delete_many(doc! { "_id": { "$in": ids.to_vec() } }).await.unwrap();
    until("they are gone", || store.undated_holodules() == 0).await;
    assert_eq!(Store::probe(&settings(&url)).await.unwrap().undated, 0);
}
