//! The embedded engine: its file, and a killed process.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use holodule_backend::store::{Store, StoreError};

use super::{entry, settings, videos};

/// The variable with the file for the test below when it runs as a separate program.
const WRITE_TO: &str = "HOLODULE_TEST_WRITE_TO";
/// Holodules per upload.
const UPLOAD: usize = 10;

async fn open(path: &Path) -> Result<Store, StoreError> {
    Store::open(&settings(&format!("embedded:{}", path.display()))).await
}

/// Uploads forever, and prints each acknowledged upload.
async fn write_without_end(path: &Path) {
    let store = open(path).await.unwrap();
    let first = usize::try_from(store.count_holodules().await.unwrap()).unwrap().next_multiple_of(UPLOAD);
    for upload in (first..).step_by(UPLOAD) {
        let numbers = upload..upload + UPLOAD;
        let entries = numbers.map(|n| entry("", &format!("video_{n:05}"), "20201209 100000")).collect();
        store.upsert(entries).await.unwrap();
        // Bypasses the test harness, which captures output.
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nstored up to {}", upload + UPLOAD).unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test]
async fn acknowledged_writes_survive_a_killed_process() {
    if let Some(path) = std::env::var_os(WRITE_TO) {
        return write_without_end(Path::new(&path)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    for round in 1..=3 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "contract::embedded::acknowledged_writes_survive_a_killed_process", "--nocapture"])
            .env(WRITE_TO, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut acknowledged = 0;
        let mut uploads = 0;
        // Everything printed before the kill counts, also what is read after it.
        for line in BufReader::new(writer.stdout.take().unwrap()).lines() {
            if let Some(number) = line.unwrap().strip_prefix("stored up to ") {
                acknowledged = number.parse().unwrap();
                uploads += 1;
                if uploads == 20 * round {
                    writer.kill().unwrap();
                }
            }
        }
        writer.wait().unwrap();
        assert!(uploads >= 20 * round, "the writer ended by itself");

        let store = open(&path).await.unwrap();
        let stored = videos(&store, "20201209").await;
        assert_eq!(stored.len() % UPLOAD, 0, "an upload is stored whole or not at all");
        let expected: Vec<_> = (0..stored.len()).map(|n| format!("video_{n:05}")).collect();
        assert_eq!(stored, expected);
        assert!(stored.len() >= acknowledged, "{} of {acknowledged} are there", stored.len());
    }
}

#[tokio::test]
async fn a_file_is_opened_by_one_store_at_a_time_and_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = open(&path).await.unwrap();
    store.upsert(vec![entry("", "video_aaaaa", "20201209 100000")]).await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds passwords");
    assert!(matches!(open(&path).await, Err(StoreError::Unusable(_))));
    store.ping().await.unwrap();
    drop(store);
    let store = open(&path).await.unwrap();
    assert_eq!(videos(&store, "20201209").await, ["video_aaaaa"]);
    assert_eq!(store.duplicate_video_ids(), 0);
}

#[tokio::test]
async fn a_file_that_is_not_a_store_is_rejected_and_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    let text = "these are my notes\n".repeat(1000);
    std::fs::write(&path, &text).unwrap();
    assert!(matches!(open(&path).await, Err(StoreError::Unusable(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    let nowhere = folder.path().join("missing/store.redb");
    assert!(matches!(open(&nowhere).await, Err(StoreError::Unusable(_))));
}

#[tokio::test]
async fn a_truncated_store_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = open(&path).await.unwrap();
    let entries = (0..500).map(|n| entry("", &format!("video_{n:05}"), "20201209 100000")).collect();
    store.upsert(entries).await.unwrap();
    drop(store);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    assert!(matches!(open(&path).await, Err(StoreError::Unusable(_))));
}
