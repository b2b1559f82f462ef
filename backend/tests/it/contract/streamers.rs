//! Streamers: imports, changes, backups.

use holodule_backend::model::{Days, Saved, Streamer};
use holodule_backend::store::{Store, StreamersStored};
use mongodb::bson::doc;
use tokio::sync::mpsc;

use super::mongo::{database, insert, open};
use super::{NOW, Stage, entry, on_both_engines};

fn streamer(code: &str, group: Option<&str>) -> Streamer {
    Streamer {
        code: code.into(),
        name: Some(format!("name of {code}")),
        group: group.map(Into::into),
        ..Streamer::default()
    }
}

fn stored(inserted: usize, updated: usize, unchanged: usize) -> StreamersStored {
    StreamersStored { inserted, updated, unchanged }
}

async fn all(store: &Store) -> Vec<Streamer> {
    store.streamers().await.unwrap().iter().cloned().collect()
}

async fn present_fields_replace_stored_ones(store: &Store) {
    assert!(store.streamers().await.unwrap().is_empty());
    assert_eq!(store.store_streamers(Vec::new()).await.unwrap(), stored(0, 0, 0));
    let first = Streamer {
        affiliations: vec!["a".into(), "b".into()],
        is_retired: Some(false),
        channel_id: Some("UC1".into()),
        ..streamer("HL0502", Some("hololive"))
    };
    let imported = store.store_streamers(vec![first.clone(), streamer("HL0501", None)]).await.unwrap();
    assert_eq!(imported, stored(2, 0, 0));
    let before = all(store).await;
    assert_eq!(before.iter().map(|streamer| streamer.code.as_str()).collect::<Vec<_>>(), ["HL0501", "HL0502"]);
    assert!(before.iter().all(|streamer| !streamer.id.is_empty()) && before[0].id != before[1].id, "{before:?}");
    assert_eq!(before[1], Streamer { id: before[1].id.clone(), ..first.clone() });

    let news = Streamer {
        id: "ignored".into(),
        is_retired: Some(true),
        ..Streamer { name: None, ..streamer("HL0502", None) }
    };
    let same = streamer("HL0501", None);
    assert_eq!(store.store_streamers(vec![news, same]).await.unwrap(), stored(0, 1, 1));
    let after = all(store).await;
    assert_eq!(after[0], before[0]);
    assert_eq!(after[1], Streamer { is_retired: Some(true), ..before[1].clone() });
}

async fn a_change_of_streamers_is_one_of_all_days(store: &Store) {
    let changes = async |streamers| {
        let version = store.version();
        store.store_streamers(streamers).await.unwrap();
        if store.version() == version {
            return None;
        }
        Some(store.changed_days().await)
    };
    assert_eq!(changes(vec![streamer("HL0501", None)]).await, Some(Days::All));
    assert_eq!(changes(vec![streamer("HL0501", None)]).await, None, "nothing was changed");
    assert_eq!(changes(vec![streamer("HL0501", Some("a"))]).await, Some(Days::All));
}

/// The records of a backup.
async fn backup(store: &Store) -> Vec<Saved> {
    let (records, mut received) = mpsc::channel(1);
    let reading = tokio::spawn({
        let store = store.clone();
        async move { store.backup(records).await.unwrap() }
    });
    let mut all = Vec::new();
    while let Some(record) = received.recv().await {
        all.push(record);
    }
    reading.await.unwrap();
    all
}

async fn restore(store: &Store, records: Vec<Saved>, replace: bool) {
    let (sender, received) = mpsc::channel(records.len().max(1));
    for record in records {
        sender.send(Ok(record)).await.unwrap();
    }
    drop(sender);
    store.restore(received, replace, NOW).await.unwrap();
}

async fn a_backup_begins_with_the_streamers_and_a_restore_has_them(store: &Store, others: [&Store; 2]) {
    let saved = vec![streamer("HL0501", Some("a")), streamer("HL0502", None)];
    assert_eq!(store.store_streamers(saved).await.unwrap(), stored(2, 0, 0));
    store.upsert(vec![entry("HL0501_20201209_100000", "video_aaaaa", "20201209 100000")]).await.unwrap();
    let records = backup(store).await;
    let is_streamer: Vec<_> = records.iter().map(|record| matches!(record, Saved::Streamer(_))).collect();
    assert_eq!(is_streamer, [true, true, false]);

    for other in others {
        other.store_streamers(vec![streamer("HL0502", Some("b")), streamer("HL0503", None)]).await.unwrap();
        let before = all(other).await;
        restore(other, records.clone(), false).await;
        let after = all(other).await;
        assert_eq!(after[0], all(store).await[0], "a new one, with its id");
        assert_eq!(after[1..], before, "one of an unknown group, and one that is not in the backup, are unchanged");

        // Another one has the id.
        let taken = Streamer { id: before[0].id.clone(), ..streamer("HL0504", None) };
        restore(other, vec![Saved::Streamer(Box::new(taken))], true).await;
        let with_taken = all(other).await;
        assert_eq!(with_taken[..3], after);
        assert!(!with_taken[3].id.is_empty() && with_taken[3].id != before[0].id, "{with_taken:?}");

        // As a backup of an older version.
        let old = records.iter().filter(|record| !matches!(record, Saved::Streamer(_))).cloned().collect();
        restore(other, old, true).await;
        assert_eq!(all(other).await, with_taken);
    }
}

on_both_engines! {
    present_fields_replace_stored_ones,
    a_change_of_streamers_is_one_of_all_days,
}

#[tokio::test]
async fn a_backup_of_the_embedded_store_has_the_streamers() {
    let (from, embedded, mongo) = (Stage::embedded().await, Stage::embedded().await, Stage::mongo().await);
    a_backup_begins_with_the_streamers_and_a_restore_has_them(&from.store, [&embedded.store, &mongo.store]).await;
}

#[tokio::test]
async fn a_backup_of_mongodb_has_the_streamers() {
    let (from, embedded, mongo) = (Stage::mongo().await, Stage::embedded().await, Stage::mongo().await);
    a_backup_begins_with_the_streamers_and_a_restore_has_them(&from.store, [&embedded.store, &mongo.store]).await;
}

#[tokio::test]
async fn of_documents_with_the_same_code_the_first_is_in_a_backup() {
    let (database, url) = database().await;
    let documents = [
        doc! { "_id": 2, "code": "HL0501", "name": "second" },
        doc! { "_id": 1, "code": "HL0501", "name": "first" },
        doc! { "_id": 3, "code": "" },
        doc! { "_id": 4, "name": "without code" },
    ];
    insert(&database, "streamers", documents).await;
    let from = open(&url).await;
    let records = backup(&from).await;
    let first = Streamer { id: "1".into(), name: Some("first".into()), ..streamer("HL0501", None) };
    assert_eq!(records, [Saved::Streamer(Box::new(first.clone()))]);
    for to in [Stage::embedded().await, Stage::mongo().await] {
        restore(&to.store, records.clone(), false).await;
        assert_eq!(all(&to.store).await, std::slice::from_ref(&first));
    }
}
