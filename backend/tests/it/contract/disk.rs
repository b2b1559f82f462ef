//! The embedded engine on a full disk, and with processes killed at random times.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use holodule_backend::store::{Store, StoreError};

use super::{entry, settings, videos};

/// The variable with the folder for a test that runs as a separate program.
pub(crate) const FOLDER: &str = "HOLODULE_TEST_FOLDER";

async fn open(path: &Path) -> Result<Store, StoreError> {
    Store::open(&settings(&format!("embedded:{}", path.display()))).await
}

/// The files in the folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(name).collect();
    names.sort_unstable();
    names
}

/// Runs this test program with one test and the folder.
fn again(program: &str, arguments: &[&str], test: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).args(["--exact", test, "--nocapture"]).env(FOLDER, folder);
    command
}

/// Runs the test with a file system of `size` mounted on the folder, in user and mount namespaces, which need no
/// privileges.
pub(crate) fn on_a_small_disk(test: &str, size: &str) {
    let folder = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let mount = format!("mount -t tmpfs -o size={size} none \"${FOLDER}\" && exec \"$0\" \"$@\"");
    let arguments = ["--user", "--map-root-user", "--mount", "sh", "-c", mount.as_str(), program.to_str().unwrap()];
    let output = again("unshare", &arguments, test, folder.path()).output().unwrap();
    let printed = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
}

pub(crate) fn resize(folder: &Path, size: &str) {
    let options = format!("remount,size={size}");
    assert!(Command::new("mount").args(["-o", &options]).arg(folder).status().unwrap().success());
}

/// Fills the remaining space.
pub(crate) fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("filler");
    let mut file = File::create(&path).unwrap();
    for size in [65_536, 4096, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
    path
}

#[tokio::test]
async fn a_full_disk_fails_writes_until_there_is_space_and_no_reads() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        return on_a_small_disk("contract::disk::a_full_disk_fails_writes_until_there_is_space_and_no_reads", "8m");
    };
    let path = folder.join("store.redb");
    let store = open(&path).await.unwrap();
    let upload = |number: usize| {
        (0..100).map(|n| entry("", &format!("v_{number:04}_{n:04}"), "20201209 100000")).collect::<Vec<_>>()
    };
    let mut stored = 0;
    for _ in 0..3 {
        let filler = fill(&folder);
        let mut refused = 0;
        while refused < 3 {
            match store.upsert(upload(stored)).await {
                Ok(_) => stored += 1,
                Err(StoreError::Unavailable(_)) => refused += 1,
                Err(other) => panic!("{other}"),
            }
            store.ping().await.unwrap();
            let listed = videos(&store, "20201209").await.len();
            assert!(listed == stored * 100 || listed == (stored + 1) * 100, "{listed} of {stored} uploads");
        }
        fs::remove_file(filler).unwrap();
        store.upsert(upload(stored)).await.unwrap();
        stored += 1;
    }
    // Starting needs no space either.
    let filler = fill(&folder);
    drop(store);
    let store = open(&path).await.unwrap();
    assert_eq!(videos(&store, "20201209").await.len(), stored * 100);
    fs::remove_file(filler).unwrap();
    store.upsert(upload(stored)).await.unwrap();
}

#[tokio::test]
async fn a_first_start_on_a_full_disk_leaves_nothing_behind() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        return on_a_small_disk("contract::disk::a_first_start_on_a_full_disk_leaves_nothing_behind", "4k");
    };
    let path = folder.join("store.redb");
    let mut refused = 0;
    // One more page each time, so that each write of the creation fails once.
    for pages in 1..2000 {
        resize(&folder, &format!("{}k", pages * 4));
        match open(&path).await {
            Err(StoreError::Unusable(_)) => refused += 1,
            Err(other) => panic!("{other}"),
            Ok(store) => {
                store.ping().await.unwrap();
                assert_eq!(names(&folder), ["store.redb"]);
                assert!(refused > 3, "{refused}");
                return;
            }
        }
        assert!(names(&folder).is_empty(), "{:?} of {pages} pages", names(&folder));
    }
    panic!("it never opens");
}

/// Opens the store, writes forever, and reports each upload.
async fn open_and_write(path: &Path) {
    let report = |text: String| {
        // Bypasses the test harness, which captures output.
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{text}").unwrap();
        out.flush().unwrap();
    };
    report("opening".to_owned());
    let store = open(path).await.unwrap();
    let first = usize::try_from(store.count_holodules().await.unwrap()).unwrap();
    for number in first.. {
        store.upsert(vec![entry("", &format!("video_{number:05}"), "20201209 100000")]).await.unwrap();
        report(format!("stored {}", number + 1));
    }
}

/// A pseudo-random sequence, the same in each run.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[tokio::test]
async fn a_process_can_be_killed_at_any_time() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return open_and_write(&Path::new(&folder).join("store.redb")).await;
    }
    let program = std::env::current_exe().unwrap();
    let mut folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    drop(open(&folder.path().join("store.redb")).await.unwrap());
    let mut window = u64::try_from(started.elapsed().as_micros()).unwrap() * 3;
    let mut seed = 20_201_209;
    let (mut acknowledged, mut in_creation) = (0, 0);
    for round in 0..200 {
        // Every other process has to create the file.
        if round % 2 == 0 {
            folder = tempfile::tempdir().unwrap();
            acknowledged = 0;
        }
        let path = folder.path().join("store.redb");
        let test = "contract::disk::a_process_can_be_killed_at_any_time";
        let mut writer = again(program.to_str().unwrap(), &[], test, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap());
        let mut line = String::new();
        while line.trim() != "opening" {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "round {round}: it ended by itself");
        }
        std::thread::sleep(Duration::from_micros(next(&mut seed) % window));
        writer.kill().unwrap();
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        writer.wait().unwrap();
        let stored = rest.lines().filter_map(|line| line.strip_prefix("stored ")?.parse::<usize>().ok());
        acknowledged = stored.max().unwrap_or(0).max(acknowledged);
        // About half of the kills should happen before the file exists, on machines of any speed.
        if !path.exists() {
            in_creation += 1;
            window += window / 4;
        } else if round % 2 == 0 {
            window -= window / 5;
        }

        let store = open(&path).await.unwrap_or_else(|error| panic!("round {round}: {error}"));
        let stored = videos(&store, "20201209").await.len();
        assert!(stored >= acknowledged, "round {round}: {stored} of {acknowledged} are there");
        assert_eq!(names(folder.path()), ["store.redb"], "round {round}");
        acknowledged = stored;
    }
    assert!((5..=95).contains(&in_creation), "{in_creation} were killed before their file was complete");
}
