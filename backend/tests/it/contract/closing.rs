//! A store that is closed for another process.

use std::path::Path;
use std::time::Duration;

use holodule_backend::store::{Store, StoreError};
use tempfile::TempDir;

use super::{day, entry, on_both_engines, settings, videos};

/// Longer than anything in these tests takes.
const AGES: Duration = Duration::from_secs(60);

on_both_engines! {
    a_store_that_is_reopened_has_all_writes_and_accepts_more,
}

async fn a_store_that_is_reopened_has_all_writes_and_accepts_more(store: &Store) {
    store.upsert(vec![entry("", "video_aaaaa", "20201209 100000")]).await.unwrap();
    for _ in 0..2 {
        let closed = store.close(AGES).await.unwrap();
        closed.reopen().await.unwrap();
        drop(closed);
        store.ping().await.unwrap();
    }
    store.upsert(vec![entry("", "video_bbbbb", "20201209 110000")]).await.unwrap();
    assert_eq!(videos(store, "20201209").await, ["video_bbbbb", "video_aaaaa"]);
}

/// A store with one holodule, and its URL.
async fn stored() -> (Store, String, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("embedded:{}", folder.path().join("store.redb").display());
    let store = Store::open(&settings(&url)).await.unwrap();
    store.upsert(vec![entry("", "video_aaaaa", "20201209 100000")]).await.unwrap();
    (store, url, folder)
}

/// Whether the kernel lists a lock of the file. Trying to lock it could make another process fail.
fn is_locked(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = format!(":{} ", std::fs::metadata(path).unwrap().ino());
    std::fs::read_to_string("/proc/locks").unwrap().lines().any(|line| line.contains(&inode))
}

#[tokio::test]
async fn operations_wait_while_the_store_is_closed_and_continue_after_it() {
    let (store, url, folder) = stored().await;
    let path = folder.path().join("store.redb");
    assert!(is_locked(&path), "the test can see the lock");
    let closed = store.close(AGES).await.unwrap();
    assert!(!is_locked(&path));
    let mut reads: Vec<_> = (0..20).map(|_| Box::pin(store.day(day("20201209")))).collect();
    let mut write = Box::pin(store.upsert(vec![entry("", "video_bbbbb", "20201209 110000")]));
    for read in &mut reads {
        assert!(futures_util::poll!(read.as_mut()).is_pending());
    }
    assert!(futures_util::poll!(write.as_mut()).is_pending());
    // Another process fails to take over, after it opened the file.
    drop(Store::take_over(&settings(&url), Duration::ZERO).await.unwrap());
    closed.reopen().await.unwrap();
    drop(closed);
    for read in reads {
        assert!(!read.await.unwrap().holodules.is_empty());
    }
    write.await.unwrap();
    assert_eq!(videos(&store, "20201209").await.len(), 2);
}

#[tokio::test]
async fn operations_reopen_a_store_that_was_closed_and_not_reopened() {
    let (store, _, _folder) = stored().await;
    drop(store.close(AGES).await.unwrap());
    assert_eq!(videos(&store, "20201209").await.len(), 1);
}

#[tokio::test]
async fn operations_fail_after_another_process_has_taken_over() {
    let (store, url, _folder) = stored().await;
    let closed = store.close(AGES).await.unwrap();
    let mut waiting = Box::pin(store.day(day("20201209")));
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    let successor = Store::take_over(&settings(&url), AGES).await.unwrap();
    let error = closed.reopen().await.unwrap_err();
    assert!(error.to_string().contains("already open"), "{error}");
    closed.leave();
    for result in [waiting.await, store.day(day("20201209")).await] {
        let error = result.unwrap_err();
        assert!(matches!(&error, StoreError::Unavailable(text) if text.contains("taken over")), "{error}");
    }
    assert!(store.upsert(vec![entry("", "video_bbbbb", "20201209 110000")]).await.is_err());
    assert_eq!(videos(&successor, "20201209").await, ["video_aaaaa"]);
    assert!(store.close(AGES).await.is_err(), "it cannot be closed twice");
}

#[tokio::test]
async fn a_successor_waits_for_the_lock_and_an_operation_in_progress_prevents_closing() {
    let (store, url, _folder) = stored().await;
    let (records, mut received) = tokio::sync::mpsc::channel(1);
    let other = store.clone();
    let backup = tokio::spawn(async move { other.backup(records).await });
    received.recv().await.unwrap();
    assert!(Store::take_over(&settings(&url), Duration::ZERO).await.is_err());
    let waiting = tokio::spawn(async move { Store::take_over(&settings(&url), AGES).await });
    // The backup of one record may have ended.
    while received.recv().await.is_some() {}
    backup.await.unwrap().unwrap();
    drop(store.close(AGES).await.unwrap());
    store.close(AGES).await.unwrap().leave();
    drop(store);
    assert_eq!(videos(&waiting.await.unwrap().unwrap(), "20201209").await, ["video_aaaaa"]);
}
