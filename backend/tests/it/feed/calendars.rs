//! Feeds of users who are disabled directly in the database.

use std::time::Duration;

use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::options::ReadConcern;

use super::external::{end, on_mongo, on_replica_set, users};
use super::{Feed, PATIENCE};
use crate::service::Service;

/// A feed of a new user.
async fn calendar_feed(service: &Service, username: &str) -> String {
    service.user(username, "password01").await;
    let headers = [("Content-Type", "application/json"), ("X-Auth-Identity", username)];
    let created = crate::http::send(&service.api, "POST", "/calendar", &headers, "{}").await;
    assert_eq!(created.status, 201, "{created:?}");
    created.json()["path"].as_str().unwrap().to_owned()
}

async fn set_disabled(client: &Client, username: &str, disabled: bool) {
    let set = doc! { "$set": { "disabled": disabled } };
    users(client).update_one(doc! { "username": username }, set).await.unwrap();
}

/// Waits until a database has only this number of feeds.
async fn feeds_remain(client: &Client, number: u64) {
    let feeds = client.default_database().unwrap().collection::<Document>("holodule_calendars");
    // The backend reads what a majority has.
    let count = async || feeds.count_documents(doc! {}).read_concern(ReadConcern::majority()).await.unwrap();
    let remain = async {
        while count().await != number {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, remain).await.expect("the feeds of a disabled user remain");
}

#[tokio::test]
async fn feeds_of_a_user_who_is_disabled_in_a_standalone_server_are_deleted_without_a_read() {
    let (_url, client, service) = on_mongo().await;
    let (path, other) = (calendar_feed(&service, "user01").await, calendar_feed(&service, "user02").await);
    set_disabled(&client, "user01", true).await;
    feeds_remain(&client, 1).await;
    set_disabled(&client, "user01", false).await;
    assert_eq!((service.get(&path).await.status, service.get(&other).await.status), (404, 200));
}

#[tokio::test]
async fn feeds_of_a_user_who_is_disabled_for_a_moment_in_a_replica_set_are_deleted() {
    let (server, client, service) = on_replica_set(&[]).await;
    let (path, other) = (calendar_feed(&service, "user01").await, calendar_feed(&service, "user02").await);
    // The change stream is open.
    Feed::subscribe(&service.admin).await.beats(2).await;
    set_disabled(&client, "user01", true).await;
    set_disabled(&client, "user01", false).await;
    feeds_remain(&client, 1).await;
    assert_eq!((service.get(&path).await.status, service.get(&other).await.status), (404, 200));
    end(server).await;
}

#[tokio::test]
async fn feeds_of_a_user_whose_document_is_replaced_by_a_disabled_one_for_a_moment_are_deleted() {
    let (server, client, service) = on_replica_set(&[]).await;
    let (path, other) = (calendar_feed(&service, "user01").await, calendar_feed(&service, "user02").await);
    Feed::subscribe(&service.admin).await.beats(2).await;
    let user01 = doc! { "username": "user01" };
    let enabled = users(&client).find_one(user01.clone()).await.unwrap().unwrap();
    let mut disabled = enabled.clone();
    disabled.insert("disabled", true);
    users(&client).replace_one(user01.clone(), disabled).await.unwrap();
    users(&client).replace_one(user01, enabled).await.unwrap();
    feeds_remain(&client, 1).await;
    assert_eq!((service.get(&path).await.status, service.get(&other).await.status), (404, 200));
    end(server).await;
}

#[tokio::test]
async fn feeds_of_a_user_remain_while_another_document_of_the_name_is_disabled() {
    let (server, client, service) = on_replica_set(&[]).await;
    let (path, other) = (calendar_feed(&service, "user01").await, calendar_feed(&service, "user02").await);
    let mut feed = Feed::subscribe(&service.admin).await;
    feed.beats(2).await;
    // The backend's documents have the name as their `_id`, so these follow them.
    for id in ["user01x", "user02x"] {
        let duplicate = doc! { "_id": id, "username": &id[..6], "password": "password02" };
        users(&client).insert_one(duplicate).await.unwrap();
    }
    let set = async |id: &str, disabled: bool| {
        let set = doc! { "$set": { "disabled": disabled } };
        users(&client).update_one(doc! { "_id": id }, set).await.unwrap();
    };
    set("user01x", true).await;
    // Changes are handled in their order: after the feeds of the second user, those of the first would be deleted.
    set("user02", true).await;
    set("user02", false).await;
    feeds_remain(&client, 1).await;
    assert_eq!((service.get(&path).await.status, service.get(&other).await.status), (200, 404));
    end(server).await;
}
