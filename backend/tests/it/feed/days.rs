//! Events about days changed by this process and by others.

use std::time::Duration;

use holodule_backend::model::{DAYS_LIMIT, Holodule};
use holodule_backend::server::Address;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::external::{Link, end, on_mongo, on_replica_set, open};
use super::{Feed, LISTS, PATIENCE};
use crate::http;
use crate::mongod::Server;
use crate::service::{Service, Setup, holodule};

fn day(day: &str) -> Value {
    json!({ "purge": format!("/holodules/{day}") })
}

fn all() -> Value {
    json!({ "purge_all": true })
}

/// The `number`th holodule, each on another day: from the year 2000, with months of 28 days.
fn on_day(number: u32) -> Holodule {
    let (year, month, day) = (2000 + number / 336, number / 28 % 12 + 1, number % 28 + 1);
    holodule(number, &format!("{year}{month:02}{day:02} 120000"))
}

async fn put(service: &Service, holodule: &Holodule) -> u16 {
    let path = format!("/holodules/{}", holodule.video_id.as_deref().unwrap());
    service.admin("PUT", &path, &serde_json::to_string(holodule).unwrap()).await.status
}

async fn upload(service: &Service, holodules: &[Holodule]) {
    let reply = service.admin("POST", "/holodules", &serde_json::to_string(holodules).unwrap()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[tokio::test]
async fn only_the_days_of_a_change_are_published() {
    let service = Service::start().await;
    let mut feed = Feed::subscribe(&service.admin).await;
    let first = holodule(1, "20201209 230000");
    assert_eq!(put(&service, &first).await, 201);
    let events = feed.day().await;
    assert_eq!(events, day("20201209"));
    assert_eq!(service.get(events["purge"].as_str().unwrap()).await.status, 200, "it is a path of the api");

    assert_eq!(put(&service, &first).await, 200);
    assert_eq!(feed.days(2).await, [Value::Null; 0], "it was there, the same to the byte");
    assert_eq!(put(&service, &Holodule { title: Some("another".to_owned()), ..first.clone() }).await, 200);
    assert_eq!(feed.day().await, day("20201209"));
    assert_eq!(put(&service, &Holodule { datetime: Some("20201210 000000".to_owned()), ..first }).await, 200);
    assert_eq!([feed.day().await, feed.day().await], [day("20201209"), day("20201210")], "it was here, and is there");

    assert_eq!(service.admin("DELETE", "/holodules/video000001", "").await.status, 204);
    assert_eq!(feed.day().await, day("20201210"));
    assert_eq!(service.admin("DELETE", "/holodules/video000001", "").await.status, 404);
    assert_eq!(service.admin("PUT", "/holodules/video000001", "{}").await.status, 400);
    assert_eq!(
        service.admin("POST", "/holodules", r#"[{"video_id":"x","datetime":"20201209 230000"}]"#).await.status,
        200
    );
    assert_eq!(feed.days(2).await, [Value::Null; 0], "nothing was changed");
    let lists = 4.0;
    assert_eq!(service.metric("backend_revocation_events_total{kind=\"purge\"}").await, 5.0 + lists);
}

#[tokio::test]
async fn days_that_are_published_together_are_followed_by_one_purge_of_the_lists() {
    let service = Service::start().await;
    let mut feed = Feed::subscribe(&service.admin).await;
    assert_eq!(feed.lines(2).await, [Value::Null; 0], "nothing was changed");
    let lists = json!({ "purge": LISTS });
    let put_and_read = async |feed: &mut Feed, holodule: &Holodule, status: u16| {
        assert_eq!(put(&service, holodule).await, status);
        feed.lines(2).await
    };
    let first = holodule(1, "20201209 230000");
    assert_eq!(put_and_read(&mut feed, &first, 201).await, [day("20201209"), lists.clone()]);
    assert_eq!(put_and_read(&mut feed, &first, 200).await, [Value::Null; 0], "it is the same");
    let moved = holodule(1, "20201210 000000");
    assert_eq!(put_and_read(&mut feed, &moved, 200).await, [day("20201209"), day("20201210"), lists.clone()]);
    upload(&service, &(0..100).map(on_day).collect::<Vec<_>>()).await;
    let lines = feed.lines(4).await;
    let count = lines.iter().filter(|line| **line == lists).count();
    assert_eq!((lines.len() - count, lines.last()), (101, Some(&lists)), "100 days, and the one that it was on");
    // Each batch has at least one day, and ends with the lists.
    assert!((1..=10).contains(&count), "{count}");
}

#[tokio::test]
async fn an_upload_publishes_each_day_once_and_too_many_as_all() {
    let service = Service::start().await;
    let mut feed = Feed::subscribe(&service.admin).await;
    let limit = u32::try_from(DAYS_LIMIT).unwrap();
    let many: Vec<Holodule> = (0..limit).map(on_day).collect();
    upload(&service, &[many.clone(), vec![holodule(limit, "20000101 130000")]].concat()).await;
    let mut events = vec![feed.day().await];
    while events.len() < DAYS_LIMIT {
        events.push(feed.day().await);
    }
    events.dedup();
    assert_eq!((events.len(), &events[0], &events[28]), (DAYS_LIMIT, &day("20000101"), &day("20000201")));
    assert_eq!(feed.days(2).await, [Value::Null; 0]);

    // Each moves from its day to the same one.
    let moved: Vec<Holodule> =
        many.into_iter().map(|one| Holodule { datetime: Some("20201209 120000".to_owned()), ..one }).collect();
    upload(&service, &moved).await;
    assert_eq!(feed.day().await, all());
    assert_eq!(feed.days(2).await, [Value::Null; 0]);
    assert_eq!(service.metric("backend_revocation_events_total{kind=\"purge_all\"}").await, 1.0);
}

/// A second service on the same database, and its feed after the initial events.
async fn another(url: &str) -> (Service, Feed) {
    let other = Service::over(open(url, PATIENCE).await, Setup::default()).await;
    let mut feed = Feed::subscribe(&other.admin).await;
    assert_eq!(feed.day().await, all(), "earlier changes are unknown");
    assert_eq!(feed.days(2).await, [Value::Null; 0]);
    (other, feed)
}

#[tokio::test]
async fn on_a_standalone_server_each_process_publishes_the_others_changes() {
    let (url, _client, service) = on_mongo().await;
    let mut own = Feed::subscribe(&service.admin).await;
    let (_other, mut feed) = another(&url).await;
    own.days(2).await;
    let first = holodule(1, "20201209 230000");
    assert_eq!(put(&service, &first).await, 201);
    assert_eq!(feed.day().await, day("20201209"));
    assert_eq!(put(&service, &Holodule { datetime: Some("20201210 000000".to_owned()), ..first }).await, 200);
    assert_eq!([feed.day().await, feed.day().await], [day("20201209"), day("20201210")]);
    assert_eq!(service.admin("DELETE", "/holodules/video000001", "").await.status, 204);
    assert_eq!(feed.day().await, day("20201210"));
    for events in ["20201209", "20201209", "20201210", "20201210"] {
        assert_eq!(own.day().await, day(events));
    }
    assert_eq!(own.days(4).await, [Value::Null; 0], "its own notes are no news to it");

    upload(&service, &(0..300).map(on_day).collect::<Vec<_>>()).await;
    assert_eq!(feed.day().await, all());
    assert_eq!(put(&service, &holodule(2, "20201211 230000")).await, 200, "it was on another day");
    assert_eq!([feed.day().await, feed.day().await], [day("20000103"), day("20201211")]);
    assert_eq!(feed.days(2).await, [Value::Null; 0]);
}

fn documents(client: &Client) -> mongodb::Collection<Document> {
    client.default_database().unwrap().collection("holodules")
}

#[tokio::test]
async fn on_a_replica_set_every_change_is_published() {
    let (server, client, service) = on_replica_set(&[]).await;
    let (_other, mut feed) = another(server.url()).await;
    assert_eq!(put(&service, &holodule(1, "20201209 230000")).await, 201);
    assert_eq!(feed.day().await, day("20201209"));

    let at = |datetime: &str| doc! { "datetime": datetime };
    let documents = documents(&client);
    documents.insert_one(at("20201211 100000")).await.unwrap();
    assert_eq!(feed.day().await, day("20201211"));
    let title = doc! { "$set": { "title": "another" } };
    documents.update_one(at("20201211 100000"), title).await.unwrap();
    assert_eq!(feed.day().await, day("20201211"));
    documents.insert_many([doc! { "title": "t" }, at("soon"), doc! { "datetime": 20_201_211_i64 }]).await.unwrap();
    assert_eq!(feed.days(3).await, [Value::Null; 0], "they are in no response");
    for change in [doc! { "$set": at("20201212 100000") }, doc! { "$unset": { "datetime": 1 } }] {
        documents.update_one(doc! { "title": "another" }, change).await.unwrap();
        assert_eq!(feed.day().await, all(), "the previous day is unknown");
    }
    documents.delete_one(at("soon")).await.unwrap();
    assert_eq!(feed.day().await, all(), "the previous document is unknown");
    documents.drop().await.unwrap();
    assert_eq!(feed.day().await, all());

    let others = |name| client.default_database().unwrap().collection::<Document>(name);
    let at = mongodb::bson::DateTime::parse_rfc3339_str("2020-12-13T23:30:00Z").unwrap();
    others("schedules").insert_one(doc! { "_id": 1, "streaming_at": at }).await.unwrap();
    assert_eq!(feed.day().await, day("20201213"), "the stored wall clock");
    others("schedules").delete_one(doc! { "_id": 1 }).await.unwrap();
    assert_eq!(feed.day().await, all());
    others("streamers").insert_one(doc! { "_id": 1, "code": "HL0501" }).await.unwrap();
    assert_eq!(feed.day().await, all());
    end(server).await;
}

#[tokio::test]
async fn ten_thousand_changed_documents_are_few_events() {
    let (server, client, service) = on_replica_set(&[]).await;
    let mut feed = Feed::subscribe(&service.admin).await;
    assert_eq!(feed.day().await, all());
    let of_three_days = (0..10_000).map(|n| doc! { "datetime": format!("202012{:02} 100000", n % 3 + 10) });
    documents(&client).insert_many(of_three_days).await.unwrap();
    let mut events = vec![feed.day().await];
    events.extend(feed.days(8).await);
    assert!(events.len() <= 60, "{}", events.len());
    for text in ["20201210", "20201211", "20201212"] {
        assert!(events.contains(&day(text)), "{events:?}");
    }
    let of_many_days = (0..10_000).map(|n| doc! { "datetime": on_day(n).datetime.unwrap() });
    documents(&client).insert_many(of_many_days).await.unwrap();
    while feed.day().await != all() {}
    end(server).await;
}

/// Disconnects a service from its server, and changes days with another one meanwhile.
async fn missed_changes_are_published(url: &str) {
    let server = url.trim_start_matches("mongodb://").split('/').next().unwrap().to_owned();
    let link = Link::to(server.clone()).await;
    let options = if url.contains('?') { "&" } else { "?" };
    let through = url.replace(&server, &link.address.to_string()) + options + "directConnection=true";
    let service = Service::over(open(&through, Duration::from_secs(1)).await, Setup::default()).await;
    let mut feed = Feed::subscribe(&service.admin).await;
    assert_eq!(feed.day().await, all());
    assert_eq!(feed.days(2).await, [Value::Null; 0]);
    let (other, _) = another(url).await;

    link.up.send(false).unwrap();
    let silent = async { while tokio::time::timeout(Duration::from_millis(1500), feed.line()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, silent).await.expect("beats continue");
    upload(&other, &[holodule(1, "20201209 230000"), holodule(2, "20201210 230000")]).await;
    link.up.send(true).unwrap();
    // In any order.
    let mut events = vec![feed.day().await, feed.day().await];
    events.sort_by_key(Value::to_string);
    assert_eq!(events, ["20201209", "20201210"].map(day));
}

#[tokio::test]
async fn changes_missed_on_a_standalone_server_are_published_afterwards() {
    let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
    missed_changes_are_published(&url).await;
}

#[tokio::test]
async fn changes_missed_on_a_replica_set_are_published_afterwards() {
    let server = tokio::task::spawn_blocking(|| Server::start(&["--replicas", "1"])).await.unwrap();
    missed_changes_are_published(server.url().split('?').next().unwrap()).await;
    end(server).await;
}

/// Sends a request, and disconnects without waiting for the response.
async fn send_and_leave(admin: &Address, path: &str, body: &str) {
    let length = body.len();
    let head = format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
    let mut stream = http::connect(admin).await;
    stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
}

#[tokio::test]
async fn uncertain_writes_are_published_and_impossible_ones_are_not() {
    let server = tokio::task::spawn_blocking(|| Server::start(&["--fail-points"])).await.unwrap();
    let client = Client::with_uri_str(server.url()).await.unwrap();
    let fail = async |command: &str, how: Document| {
        let mut data = doc! { "failCommands": [command], "appName": "holodule-backend" };
        data.extend(how);
        let fail = doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": data };
        client.database("admin").run_command(fail).await.unwrap();
    };
    let service = Service::over(open(server.url(), PATIENCE).await, Setup::default()).await;
    let mut feed = Feed::subscribe(&service.admin).await;
    assert_eq!(feed.day().await, all());
    assert_eq!(put(&service, &holodule(1, "20201209 230000")).await, 201);
    assert_eq!(feed.day().await, day("20201209"));

    fail("update", doc! { "closeConnection": true }).await;
    let moved = holodule(1, "20201210 230000");
    assert_eq!(put(&service, &moved).await, 503);
    assert_eq!([feed.day().await, feed.day().await], [day("20201209"), day("20201210")]);
    fail("delete", doc! { "closeConnection": true }).await;
    assert_eq!(service.admin("DELETE", "/holodules/video000001", "").await.status, 503);
    assert_eq!(feed.day().await, day("20201209"));

    // The client of a long upload disconnects: the upload completes, and is then published.
    fail("update", doc! { "blockConnection": true, "blockTimeMS": 700 }).await;
    send_and_leave(&service.admin, "/holodules/video000001", &serde_json::to_string(&moved).unwrap()).await;
    assert_eq!([feed.day().await, feed.day().await], [day("20201209"), day("20201210")]);
    assert_eq!(service.get("/holodules/20201210").await.status, 200, "it was published when it was complete");
    assert_eq!(feed.days(2).await, [Value::Null; 0]);
    end(server).await;
}
