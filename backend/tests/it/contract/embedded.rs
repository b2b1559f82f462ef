//! The embedded engine: its file, and a killed process.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
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
    let mode = fs::metadata(&path).unwrap().permissions().mode();
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
    fs::write(&path, &text).unwrap();
    assert!(matches!(open(&path).await, Err(StoreError::Unusable(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
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
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    assert!(matches!(open(&path).await, Err(StoreError::Unusable(_))));
}

#[tokio::test]
async fn a_path_that_is_not_a_regular_file_is_refused_and_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    let _socket = UnixListener::bind(at("socket")).unwrap();
    fs::create_dir(at("folder")).unwrap();
    // Through links, so that a bug cannot damage the system's device.
    symlink("/dev/null", at("null")).unwrap();
    symlink("fifo", at("link")).unwrap();
    for name in ["fifo", "socket", "folder", "null", "link"] {
        let before = fs::symlink_metadata(at(name)).unwrap();
        let error = open(&at(name)).await.err().unwrap().to_string();
        assert!(error.contains("is not a regular file"), "{name}: {error}");
        let after = fs::symlink_metadata(at(name)).unwrap();
        assert_eq!((after.ino(), after.mode()), (before.ino(), before.mode()), "{name}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5, "no draft is left");
}

#[tokio::test]
async fn a_link_remains_whether_its_target_is_missing_empty_or_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("sub")).unwrap();
    fs::write(at("sub/empty"), "").unwrap();
    for target in ["sub/missing", "sub/empty"] {
        let link = at(&target.replace('/', "-"));
        symlink(target, &link).unwrap();
        for _ in 0..2 {
            drop(open(&link).await.unwrap());
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "{target}");
            assert!(fs::metadata(at(target)).unwrap().len() > 0, "{target}");
        }
    }
    assert_eq!(fs::read_dir(at("sub")).unwrap().count(), 2, "no draft is left");
}
