//! The delivered events of feeds: stored before each response, and part of backups.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use holodule_backend::model::Saved;
use holodule_backend::store::Store;
use serde_json::json;

use super::{DAY, NOW, Stage, at, on_both_engines};
use crate::contract::disk::{FOLDER, fill, on_a_small_disk};

on_both_engines!(
    more_feeds_than_can_be_stored_at_once_are_read_twice_with_the_same_revisions,
    a_restored_feed_continues,
);

/// More feeds than the writes that are possible at once.
async fn more_feeds_than_can_be_stored_at_once_are_read_twice_with_the_same_revisions(stage: &Stage) {
    stage.store([at(1, DAY, "a"), at(2, DAY, "a")]).await;
    let mut feeds = Vec::new();
    for user in 0..4 {
        let user = format!("owner{user}");
        stage.service.user(&user, "password01").await;
        for _ in 0..15 {
            feeds.push(stage.send("POST", "/calendar", Some(&user), "{}").await.json());
        }
    }
    // Each of four clients waits for the response before its next request.
    let all = async || -> Vec<_> {
        futures_util::stream::iter(&feeds).map(|feed| stage.events(feed)).buffered(4).collect().await
    };
    for _ in 0..2 {
        let first = all().await;
        stage.clock.fetch_add(7, Ordering::SeqCst);
        assert_eq!(all().await, first);
    }
    assert_eq!(stage.service.admin("DELETE", "/holodules/video000002", "").await.status, 204);
    let gone = all().await;
    assert!(gone.iter().all(|events| events["video000002"].0 == "CANCELLED"));
    stage.clock.fetch_add(7, Ordering::SeqCst);
    assert_eq!(all().await, gone);
}

/// The records of a backup.
async fn saved(store: &Store) -> Vec<Saved> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(16);
    let received = async {
        let mut records = Vec::new();
        while let Some(record) = receiver.recv().await {
            records.push(record);
        }
        records
    };
    let (read, records) = tokio::join!(store.backup(sender), received);
    assert_eq!(read.unwrap().unreadable, 0);
    records
}

async fn a_restored_feed_continues(stage: &Stage) {
    stage.store([at(1, DAY, "a"), at(2, DAY, "a")]).await;
    let feed = stage.create(&json!({ "label": "a", "name": ["a"] })).await;
    stage.clock.store(NOW + 60, Ordering::SeqCst);
    stage.events(&feed).await;
    stage.store([at(1, 2 * DAY, "a")]).await;
    assert_eq!(stage.service.admin("DELETE", "/holodules/video000002", "").await.status, 204);
    let before = stage.events(&feed).await;
    assert_eq!(before["video000002"].0, "CANCELLED");
    let records = saved(&stage.service.store).await;
    assert!(matches!(records.first(), Some(Saved::Calendar(_))), "before the records of version 1");
    let listed = stage.send("GET", "/calendar", Some("user01"), "").await.json();
    let later = stage.create(&json!({})).await;
    for to in [Stage::embedded().await, Stage::mongo().await] {
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        let send = async move {
            for record in saved(&stage.service.store).await {
                let newer = matches!(&record, Saved::Calendar(of) if of.label.is_none());
                if !newer {
                    sender.send(Ok(record)).await.unwrap();
                }
            }
        };
        let old = to.create(&json!({})).await;
        let (_, restored) = tokio::join!(send, to.service.store.restore(receiver, true, NOW));
        restored.unwrap();
        to.clock.store(NOW + 100, Ordering::SeqCst);
        let after = to.events(&feed).await;
        assert_eq!(after, before, "revisions and cancellations are those that were delivered");
        assert_eq!(to.send("GET", "/calendar", Some("user01"), "").await.json(), listed);
        assert_eq!(to.fetch(&old).await.status, 404, "it was replaced");
        assert_eq!(to.fetch(&later).await.status, 404, "it is not in the backup");
    }
}

#[tokio::test]
async fn an_unchanged_feed_is_served_while_nothing_can_be_written() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        return on_a_small_disk("calendars::state::an_unchanged_feed_is_served_while_nothing_can_be_written", "8m");
    };
    let stage = Stage::over(&format!("embedded:{}", folder.join("store.redb").display())).await;
    stage.service.user("user01", "password01").await;
    stage.store((0..300).map(|number| at(number, DAY, "a"))).await;
    let feed = stage.create(&json!({})).await;
    let read = stage.create(&json!({ "name": ["a"] })).await;
    let before = stage.events(&read).await;
    assert_eq!(before.len(), 300);
    let filler = fill(&folder);
    // A revision that cannot be stored could not be repeated.
    let refused = stage.fetch(&feed).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "5"), "{refused:?}");
    stage.clock.store(NOW + 60, Ordering::SeqCst);
    assert_eq!(stage.events(&read).await, before, "without a change, nothing is stored");
    assert!(stage.service.metric("backend_store_errors_total{kind=\"unavailable\"}").await >= 1.0);
    std::fs::remove_file(filler).unwrap();
    stage.clock.store(NOW + 120, Ordering::SeqCst);
    let stored = stage.events(&feed).await;
    stage.clock.store(NOW + 180, Ordering::SeqCst);
    assert_eq!(stage.events(&feed).await, stored);
    stage.service.stop().await.unwrap();
}
