//! Holodules: order, ranges, uploads, exports.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use holodule_backend::import::{Batch, Exporter, Form};
use holodule_backend::model::{Days, Holodule, Identifier, ValidHolodule};
use holodule_backend::store::{Store, Upserted};

use super::{day, entry, holodule, on_both_engines, videos};

on_both_engines!(
    a_day_is_sorted_newest_first_with_ties_by_key,
    a_day_ends_where_the_next_begins,
    the_same_upload_twice_changes_nothing,
    an_update_replaces_what_it_supplies,
    a_video_that_moves_leaves_its_old_day,
    without_a_video_the_key_decides,
    the_later_of_two_in_one_upload_wins,
    every_text_is_returned_unchanged,
    deleted_holodules_are_gone,
    an_export_is_complete_and_sorted,
    the_sample_is_loaded_and_exported_again,
    uploads_at_the_same_time_store_each_holodule_once,
    each_change_publishes_its_days_and_no_change_publishes_none,
);

async fn export(store: &Store) -> Vec<Holodule> {
    let records: Vec<_> = store.export().await.unwrap().try_collect().await.unwrap();
    records.into_iter().map(|record| record.unwrap()).collect()
}

async fn a_day_is_sorted_newest_first_with_ties_by_key(store: &Store) {
    let entries = vec![
        entry("HL0002_20201209_100000", "video_bbbbb", "20201209 100000"),
        entry("HL0001_20201209_100000", "video_aaaaa", "20201209 100000"),
        entry("HL0003_20201209_235959", "video_ccccc", "20201209 235959"),
        entry("", "video_ddddd", "20201209 100000"),
    ];
    assert_eq!(store.upsert(entries).await.unwrap(), [Upserted::Inserted; 4]);
    assert_eq!(videos(store, "20201209").await, ["video_ccccc", "video_ddddd", "video_aaaaa", "video_bbbbb"]);
}

async fn a_day_ends_where_the_next_begins(store: &Store) {
    let at = ["20201208 235959", "20201209 000000", "20201209 235959", "20201210 000000"];
    let entry = |(n, at): (usize, &&str)| entry("", &format!("video_{n:05}"), at);
    store.upsert(at.iter().enumerate().map(entry).collect()).await.unwrap();
    assert_eq!(videos(store, "20201209").await, ["video_00002", "video_00001"]);
    assert_eq!(videos(store, "20201208").await, ["video_00000"]);
    assert_eq!(videos(store, "20201211").await, [""; 0]);
    assert_eq!(store.count_holodules().await.unwrap(), 4);
}

async fn the_same_upload_twice_changes_nothing(store: &Store) {
    let entries = vec![
        entry("HL0001_20201209_100000", "video_aaaaa", "20201209 100000"),
        entry("HL0002_20201209_100000", "", "20201209 100000"),
    ];
    assert_eq!(store.count_holodules().await.unwrap(), 0);
    assert_eq!(store.upsert(Vec::new()).await.unwrap(), []);
    assert_eq!(store.upsert(entries.clone()).await.unwrap(), [Upserted::Inserted; 2]);
    let before = export(store).await;
    assert_eq!(store.upsert(entries).await.unwrap(), [Upserted::Unchanged; 2]);
    assert_eq!(export(store).await, before);
    assert_eq!(store.count_holodules().await.unwrap(), 2);
}

async fn an_update_replaces_what_it_supplies(store: &Store) {
    let whole = Holodule {
        tags: Some(serde_json::json!(["a", "b"])),
        published_at: Some(serde_json::json!("2020-12-09T14:00:00Z")),
        code: Some("HL0503".into()),
        ..holodule("HL0503_20201209_230000", "video_aaaaa", "20201209 230000")
    };
    store.upsert(vec![ValidHolodule::new(whole.clone()).unwrap()]).await.unwrap();
    let news = Holodule {
        key: None,
        video_id: whole.video_id.clone(),
        datetime: whole.datetime.clone(),
        title: Some("new".into()),
        description: Some(String::new()),
        ..Holodule::default()
    };
    assert_eq!(store.upsert(vec![ValidHolodule::new(news).unwrap()]).await.unwrap(), [Upserted::Updated]);
    let expected = Holodule { title: Some("new".into()), description: Some(String::new()), ..whole };
    assert_eq!(export(store).await, [expected]);
}

async fn a_video_that_moves_leaves_its_old_day(store: &Store) {
    store.upsert(vec![entry("HL0001_20201209_100000", "video_aaaaa", "20201209 100000")]).await.unwrap();
    let moved = entry("HL0001_20201210_110000", "video_aaaaa", "20201210 110000");
    assert_eq!(store.upsert(vec![moved]).await.unwrap(), [Upserted::Updated]);
    assert_eq!(videos(store, "20201209").await, [""; 0]);
    assert_eq!(videos(store, "20201210").await, ["video_aaaaa"]);
    assert!(!store.delete_holodule(&Identifier::parse("HL0001_20201209_100000").unwrap()).await.unwrap());
    assert!(store.delete_holodule(&Identifier::parse("HL0001_20201210_110000").unwrap()).await.unwrap());
}

async fn without_a_video_the_key_decides(store: &Store) {
    let key = "HL0001_20201209_100000";
    let with_video = entry(key, "video_aaaaa", "20201209 100000");
    store.upsert(vec![with_video]).await.unwrap();
    // One with that key has a video, and is unchanged.
    assert_eq!(store.upsert(vec![entry(key, "", "20201209 110000")]).await.unwrap(), [Upserted::Updated]);
    assert_eq!(videos(store, "20201209").await, ["video_aaaaa"]);

    let other = "HL0002_20201209_100000";
    assert_eq!(store.upsert(vec![entry(other, "", "20201209 120000")]).await.unwrap(), [Upserted::Inserted]);
    // Two videos may share a key; without a video, the one without a video is meant.
    assert_eq!(store.upsert(vec![entry(other, "video_bbbbb", "20201209 130000")]).await.unwrap(), [Upserted::Inserted]);
    assert_eq!(store.upsert(vec![entry(other, "", "20201209 140000")]).await.unwrap(), [Upserted::Updated]);
    assert_eq!(videos(store, "20201209").await, ["", "video_bbbbb", "video_aaaaa"]);
    assert!(store.delete_holodule(&Identifier::parse(other).unwrap()).await.unwrap());
    assert_eq!(videos(store, "20201209").await, ["video_bbbbb", "video_aaaaa"]);
}

async fn the_later_of_two_in_one_upload_wins(store: &Store) {
    let first = entry("HL0001_20201209_100000", "video_aaaaa", "20201209 100000");
    let second = entry("HL0001_20201209_110000", "video_aaaaa", "20201209 110000");
    let other = entry("HL0002_20201209_100000", "video_bbbbb", "20201209 100000");
    let outcomes = store.upsert(vec![first, other, second]).await.unwrap();
    assert_eq!(outcomes, [Upserted::Inserted, Upserted::Inserted, Upserted::Updated]);
    let listing = store.day(day("20201209")).await.unwrap().holodules;
    assert_eq!(listing[0].datetime.as_deref(), Some("20201209 110000"));
    assert_eq!(listing.len(), 2);
}

async fn every_text_is_returned_unchanged(store: &Store) {
    let odd = Holodule {
        name: Some("👨‍👩‍👧 \u{feff}é e\u{301}".into()),
        title: Some("改行\r\nと\t\"引用符\"\\ $where.a {\"$gt\":\"\"}".into()),
        url: None,
        description: Some("x".repeat(32 * 1024)),
        ..holodule("HL0G02_20201209_230000", "-_aaaaaaaa-", "20201209 230000")
    };
    store.upsert(vec![ValidHolodule::new(odd.clone()).unwrap()]).await.unwrap();
    assert_eq!(store.day(day("20201209")).await.unwrap().holodules, std::slice::from_ref(&odd));
    assert_eq!(export(store).await, [odd]);
}

async fn deleted_holodules_are_gone(store: &Store) {
    store.upsert(vec![entry("HL0001_20201209_100000", "video_aaaaa", "20201209 100000")]).await.unwrap();
    let id = Identifier::parse("video_aaaaa").unwrap();
    assert!(store.delete_holodule(&id).await.unwrap());
    assert!(!store.delete_holodule(&id).await.unwrap());
    assert_eq!(store.count_holodules().await.unwrap(), 0);
    let again = entry("HL0001_20201209_100000", "video_aaaaa", "20201209 100000");
    assert_eq!(store.upsert(vec![again]).await.unwrap(), [Upserted::Inserted]);
}

async fn an_export_is_complete_and_sorted(store: &Store) {
    // More than one page of either engine, in another order.
    let number = |n: usize| (n * 389) % 1000;
    let entries = (0..1000).map(number).map(|n| {
        let time = format!("20201209 00{:02}{:02}", n / 120, (n / 2) % 60);
        entry(&format!("HL0001_20201209_{n:06}"), &format!("video_{n:05}"), &time)
    });
    let outcomes = store.upsert(entries.collect()).await.unwrap();
    assert_eq!(outcomes, [Upserted::Inserted; 1000]);
    let exported: Vec<_> = export(store).await.into_iter().map(|record| record.video_id.unwrap()).collect();
    assert_eq!(exported, (0..1000).map(|n| format!("video_{n:05}")).collect::<Vec<_>>());
}

async fn the_sample_is_loaded_and_exported_again(store: &Store) {
    let sample = include_bytes!("../../../../ops/sample/holodules.csv").as_slice();
    let entries = Batch::read(Form::Csv, sample).unwrap().entries;
    assert_eq!(store.upsert(entries.clone()).await.unwrap(), [Upserted::Inserted; 587]);
    assert_eq!(store.upsert(entries).await.unwrap(), [Upserted::Unchanged; 587]);
    let listing = store.day(day("20201209")).await.unwrap().holodules;
    assert_eq!((listing.len(), listing[0].key.as_deref()), (17, Some("HL0503_20201209_230000")));
    assert_eq!(videos(store, "20201213").await, [""; 0]);

    let mut exporter = Exporter::new(Form::Csv, false);
    let mut file = exporter.begin();
    for record in export(store).await {
        file.extend(exporter.record(&record).unwrap());
    }
    // The collector leaves ties unordered: the same lines, byte for byte.
    let lines = |file: &[u8]| file.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<BTreeSet<_>>();
    assert_eq!(file.len(), sample.len());
    assert_eq!(lines(&file), lines(sample));
}

async fn uploads_at_the_same_time_store_each_holodule_once(store: &Store) {
    let entries: Vec<_> = (0..40)
        .map(|n| {
            let video_id = if n % 2 == 0 { format!("video_{n:05}") } else { String::new() };
            entry(&format!("HL0001_20201209_{n:06}"), &video_id, "20201209 100000")
        })
        .collect();
    let uploads: Vec<_> = (0..8)
        .map(|_| {
            let (store, entries) = (store.clone(), entries.clone());
            tokio::spawn(async move { store.upsert(entries).await })
        })
        .collect();
    let mut inserted = 0;
    for upload in uploads {
        let outcomes = upload.await.unwrap().unwrap();
        inserted += outcomes.iter().filter(|outcome| **outcome == Upserted::Inserted).count();
    }
    assert_eq!(inserted, 40);
    assert_eq!(export(store).await.len(), 40);
}

async fn each_change_publishes_its_days_and_no_change_publishes_none(store: &Store) {
    let mut version = store.version();
    let mut changed = async |expected: &[&str]| {
        assert!(store.version() > std::mem::replace(&mut version, store.version()), "{expected:?}");
        let days: Days = expected.iter().map(|text| day(text)).collect();
        assert_eq!(store.changed_days().await, days);
    };
    let at = |datetime: &str| vec![entry("HL0001_20201209_100000", "video_aaaaa", datetime)];
    let id = Identifier::parse("video_aaaaa").unwrap();
    store.upsert(at("20201209 100000")).await.unwrap();
    changed(&["20201209"]).await;
    // Writes without effect are not reported with later ones.
    store.upsert(at("20201209 100000")).await.unwrap();
    store.upsert(at("20201209 110000")).await.unwrap();
    changed(&["20201209"]).await;
    store.upsert(at("20201210 110000")).await.unwrap();
    changed(&["20201209", "20201210"]).await;
    store.delete_holodule(&Identifier::parse("video_bbbbb").unwrap()).await.unwrap();
    store.delete_holodule(&id).await.unwrap();
    changed(&["20201210"]).await;
    let seen = store.version();
    store.delete_holodule(&id).await.unwrap();
    store.upsert(Vec::new()).await.unwrap();
    assert_eq!(store.version(), seen);
}
