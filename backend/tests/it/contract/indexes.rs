//! The embedded engine's files without indexes of lists, and how they get them.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use holodule_backend::model::{Identifier, PageRequest, Selection, Sort, datetimes_of};
use holodule_backend::store::{Store, StoreError};
use redb::{Database, ReadableDatabase, TableDefinition, TableHandle};

use super::lists::{Random, agree_with_the_export};
use super::{day, entry, settings};

/// The variable with the file for the test below when it runs as a separate program.
const BUILD: &str = "HOLODULE_TEST_BUILD";
const PATIENCE: Duration = Duration::from_secs(60);
/// The tables of holodules in format 1.
const OLD_TABLES: &[&str] = &["holodules", "holodules_by_key", "holodules_by_video_id"];
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const BUILT_UP_TO: TableDefinition<'_, (), (&str, &str, u64)> = TableDefinition::new("holodule_indexes_built_up_to");

fn url(path: &Path) -> String {
    format!("embedded:{}", path.display())
}

async fn open(path: &Path) -> Store {
    Store::open(&settings(&url(path))).await.unwrap()
}

async fn take_over(path: &Path) -> Store {
    Store::take_over(&settings(&url(path)), Duration::from_secs(5)).await.unwrap()
}

/// Stores holodules of four days in a file of format 1.
pub(crate) async fn old_file(path: &Path, holodules: usize) {
    let store = open(path).await;
    for first in (0..holodules).step_by(1000) {
        let one = |n: usize| {
            let datetime = format!("202012{:02} {:02}{:02}00", 8 + n % 4, n / 4 % 24, n % 60);
            entry(&format!("HL05{:02}_20201209_{n:06}", n % 7), &format!("video_{n:05}"), &datetime)
        };
        store.upsert((first..holodules.min(first + 1000)).map(one).collect()).await.unwrap();
    }
    drop(store);
    downgrade(path);
}

/// Removes what format 2 adds.
fn downgrade(path: &Path) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    let tables: Vec<_> = transaction.list_tables().unwrap().collect();
    let is_new = |name: &str| name.starts_with("holodule") && !OLD_TABLES.contains(&name);
    for table in tables.into_iter().filter(|table| is_new(table.name())) {
        transaction.delete_table(table).unwrap();
    }
    assert_eq!(transaction.open_table(META).unwrap().insert("format", 1).unwrap().unwrap().value(), 2);
    transaction.commit().unwrap();
    drop(database);
    assert_eq!(layout(path), (1, OLD_TABLES.iter().map(|name| (*name).to_owned()).collect()));
}

/// The format, and the names of the tables of holodules.
fn layout(path: &Path) -> (u64, Vec<String>) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_read().unwrap();
    let mut names: Vec<_> = transaction.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
    names.retain(|name| name.starts_with("holodule"));
    names.sort_unstable();
    let format = transaction.open_table(META).unwrap().get("format").unwrap().unwrap().value();
    (format, names)
}

/// How far a killed process has built the indexes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Built {
    Nothing,
    UpTo(String, String, u64),
    Everything,
}

fn built(path: &Path) -> Built {
    if layout(path).0 == 1 {
        return Built::Nothing;
    }
    built_up_to(path).map_or(Built::Everything, |(datetime, key, id)| Built::UpTo(datetime, key, id))
}

/// The last indexed record, if the indexes are being built.
fn built_up_to(path: &Path) -> Option<(String, String, u64)> {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_read().unwrap();
    let table = transaction.open_table(BUILT_UP_TO).ok()?;
    let last = table.get(()).unwrap()?;
    let (datetime, key, id) = last.value();
    Some((datetime.to_owned(), key.to_owned(), id))
}

/// The number of holodules in the days of [`old_file`]; `None` while the indexes are built.
async fn total(store: &Store) -> Option<u64> {
    let selection = Selection { ranges: vec![datetimes_of(day("20201208"), day("20201211"))], ..Selection::default() };
    let page = PageRequest { sort: Sort::Ascending, limit: 1, after: None };
    match store.list(&selection, &page).await {
        Ok(listing) => Some(listing.total),
        Err(StoreError::Unavailable(reason)) => {
            assert_eq!(reason, "the indexes of lists are being built");
            None
        }
        Err(other) => panic!("{other}"),
    }
}

async fn until_built(store: &Store) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(total) = total(store).await {
            return total;
        }
        assert!(Instant::now() < deadline, "the indexes are not built");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_file_of_format_1_gets_indexes_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    old_file(&path, 5500).await;
    let store = open(&path).await;
    let mut written = 0;
    // Insertions, moves and deletions on both sides of what is indexed.
    while total(&store).await.is_none() {
        let news = |n: usize| entry("", &format!("newer_{n:05}"), &format!("202012{:02} 100000", 8 + n % 4));
        let moved = |n: usize| entry("", &format!("video_{n:05}"), &format!("202012{:02} 110000", 8 + n % 3));
        store
            .upsert((0..8).flat_map(|n| [news(written + n), moved((written + n) * 7 % 5500)]).collect())
            .await
            .unwrap();
        let gone = Identifier::parse(&format!("video_{:05}", 5499 - written)).unwrap();
        assert!(store.delete_holodule(&gone).await.unwrap());
        written += 8;
    }
    assert!(written >= 16, "the indexes were complete before the first writes");
    assert_eq!(until_built(&store).await, store.count_holodules().await.unwrap());
    let mut random = Random::new(written as u64);
    store.upsert(vec![entry("", "video_00001", "20201208 000000")]).await.unwrap();
    agree_with_the_export(&store, &mut random, 40).await;
    drop(store);
    let (format, tables) = layout(&path);
    assert!(format == 2 && tables.iter().any(|name| name == "holodules_by_tag"), "{tables:?}");
    assert_eq!(built_up_to(&path), None);
}

#[tokio::test]
async fn a_process_that_takes_over_leaves_the_format_until_its_predecessor_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    old_file(&path, 40).await;
    let store = take_over(&path).await;
    store.upsert(vec![entry("", "newer_00001", "20201208 000000")]).await.unwrap();
    assert!(store.delete_holodule(&Identifier::parse("video_00003").unwrap()).await.unwrap());
    assert_eq!(total(&store).await, None);
    drop(store);
    assert_eq!(layout(&path), (1, OLD_TABLES.iter().map(|name| (*name).to_owned()).collect()));

    let store = take_over(&path).await;
    store.taken_over().await.unwrap();
    assert_eq!(until_built(&store).await, 40);
    drop(store);
    let store = take_over(&path).await;
    assert_eq!(total(&store).await, Some(40), "a file with indexes needs nothing");
}

/// Opens the file, and prints after each attempt to list whether the indexes are complete.
async fn build(path: &Path) {
    let store = open(path).await;
    loop {
        let built = total(&store).await;
        // Bypasses the test harness, which captures output.
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{}", built.map_or("building", |_| "built")).unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test]
async fn a_killed_build_is_continued() {
    if let Some(path) = std::env::var_os(BUILD) {
        return build(Path::new(&path)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    old_file(&path, 9000).await;
    let mut reached = Vec::new();
    for round in 1.. {
        let mut builder = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "contract::indexes::a_killed_build_is_continued", "--nocapture"])
            .env(BUILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(builder.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut states = lines.filter(|line| line == "building" || line == "built");
        // Later in each round, so that each round gets further.
        let is_built = states.by_ref().take(round * 10).any(|state| state == "built");
        builder.kill().unwrap();
        builder.wait().unwrap();
        let built = built(&path);
        assert!(!is_built || built == Built::Everything, "{built:?}");
        assert!(reached.last() <= Some(&built), "round {round} lost records: {reached:?}, {built:?}");
        reached.push(built);
        if reached.last() == Some(&Built::Everything) {
            break;
        }
    }
    let is_partial = |built: &Built| matches!(built, Built::UpTo(..));
    assert!(reached.iter().any(is_partial), "none was killed between two batches: {reached:?}");
    let store = open(&path).await;
    assert_eq!(total(&store).await, Some(9000));
    agree_with_the_export(&store, &mut Random::new(3), 10).await;
}
