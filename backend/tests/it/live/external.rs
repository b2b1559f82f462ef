//! Changes that this process does not make.

use holodule_backend::store::{Settings, Store};
use mongodb::Client;
use mongodb::bson::{Document, doc};

use super::*;
use crate::mongod::Server;
use crate::service::{Setup, holodule};

async fn over(url: &str) -> Service {
    let settings =
        Settings { url: url.parse().unwrap(), operation_timeout: PATIENCE, max_connections: 20, text_cache: 1 << 20 };
    Service::over(Store::open(&settings).await.unwrap(), Setup::default()).await
}

fn documents(client: &Client) -> mongodb::Collection<Document> {
    client.default_database().unwrap().collection("holodules")
}

#[tokio::test]
async fn on_a_standalone_server_the_changes_of_other_backends_arrive_and_direct_writes_do_not() {
    let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
    let (service, other) = (over(&url).await, over(&url).await);
    let mut events = Events::open(&service.api, DECEMBER, None).await;
    assert_eq!(ids(&events.expect("snapshot").await), [""; 0]);
    put(&other, &holodule(1, "20201209 230000")).await;
    assert_eq!(events.expect("upsert").await.data["id"], "video000001");
    delete(&other, "video000001").await;
    assert_eq!(events.expect("delete").await.data["id"], "video000001");

    let client = Client::with_uri_str(&url).await.unwrap();
    documents(&client).insert_one(doc! { "video_id": "video000002", "datetime": "20201209 230000" }).await.unwrap();
    events.is_silent().await;
    // The next change of the same day brings it.
    put(&other, &holodule(3, "20201209 230000")).await;
    let mut both = [events.expect("upsert").await, events.expect("upsert").await].map(|event| event.data["id"].clone());
    both.sort_by_key(Value::to_string);
    assert_eq!(both, [json!("video000002"), json!("video000003")]);
}

#[tokio::test]
async fn on_a_replica_set_every_change_arrives() {
    let server = tokio::task::spawn_blocking(|| Server::start(&["--replicas", "1"])).await.unwrap();
    let service = over(server.url()).await;
    let client = Client::with_uri_str(server.url()).await.unwrap();
    let mut events = Events::open(&service.api, DECEMBER, None).await;
    assert_eq!(ids(&events.expect("snapshot").await), [""; 0]);
    let documents = documents(&client);
    let one = doc! { "video_id": "video000001", "datetime": "20201209 230000", "title": "t" };
    documents.insert_one(one).await.unwrap();
    assert_eq!(events.expect("upsert").await.data["id"], "video000001");
    let by_id = doc! { "video_id": "video000001" };
    documents.update_one(by_id.clone(), doc! { "$set": { "title": "another" } }).await.unwrap();
    assert_eq!(events.expect("upsert").await.data["holodule"]["title"], "another");
    documents.update_one(by_id.clone(), doc! { "$set": { "datetime": "20201210 100000" } }).await.unwrap();
    assert_eq!(events.expect("upsert").await.data["holodule"]["datetime"], "20201210 100000");
    // Of a deleted document, only the `_id` is known.
    documents.delete_one(by_id).await.unwrap();
    assert_eq!(events.expect("delete").await.data, json!({ "id": "video000001" }));
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}
