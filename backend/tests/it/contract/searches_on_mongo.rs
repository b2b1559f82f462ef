//! Searches on MongoDB, whose texts are in memory after the first.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use holodule_backend::model::{Needle, PageRequest, Selection, Sort, ValidHolodule, datetimes_of};
use holodule_backend::store::{Settings, Store};
use mongodb::bson::{Bson, Document, doc};

use super::lists_on_mongo::{profiled, titles};
use super::mongo::{database, insert, open_indexed};
use super::{day, holodule, settings};

fn december(needle: &str) -> Selection {
    let ranges = vec![datetimes_of(day("20201201"), day("20201231"))];
    Selection { ranges, text: Some(Needle::parse(needle).unwrap()), ..Selection::default() }
}

fn set(values: &[&str]) -> Option<BTreeSet<String>> {
    Some(values.iter().map(|value| (*value).to_owned()).collect())
}

async fn with_cache(url: &str, text_cache: u64) -> Store {
    Store::open(&Settings { text_cache, ..settings(url) }).await.unwrap()
}

async fn total(store: &Store, selection: &Selection) -> u64 {
    let page = PageRequest { sort: Sort::Ascending, limit: 3, after: None };
    store.list(selection, &page).await.unwrap().total
}

/// The `number`th of December, with a title of its number.
fn entry(number: u32, title: &str) -> ValidHolodule {
    let datetime = format!("202012{:02} {:02}0000", number % 28 + 1, number % 24);
    let mut holodule = holodule("", &format!("video{number:06}"), &datetime);
    holodule.title = Some(title.to_owned());
    ValidHolodule::new(holodule).unwrap()
}

/// Documents as other programs may write them.
fn documents() -> Vec<Document> {
    (0..300)
        .map(|n| {
            let datetime = format!("202012{:02} {:02}0000", n % 9 + 1, n % 5);
            let mut document = doc! { "datetime": &datetime, "title": format!("t{n:03} ＡＰＥＸ") };
            document.insert("key", format!("HL050{}_{}", n % 3, datetime.replace(' ', "_")));
            match n % 7 {
                0 => _ = document.insert("code", "HL0503"),
                1 => _ = document.insert("code", Bson::Null),
                2 => _ = document.insert("code", ""),
                3 => _ = document.insert("key", 7),
                4 => _ = document.remove("key"),
                _ => {}
            }
            match n % 4 {
                0 => _ = document.insert("name", "獅白ぼたん"),
                1 => _ = document.insert("name", ""),
                2 => _ = document.insert("name", "apex"),
                _ => {}
            }
            match n % 5 {
                0 => _ = document.insert("tags", vec!["a", "b"]),
                1 => _ = document.insert("tags", "a"),
                2 => _ = document.insert("tags", doc! { "a": 1 }),
                3 => _ = document.insert("tags", vec![Bson::from(1), Bson::from("b"), Bson::from(vec!["a"])]),
                _ => {}
            }
            match n % 11 {
                0 => _ = document.insert("_id", n),
                1 => _ = document.insert("_id", format!("id{n}")),
                2 => _ = document.insert("title", n),
                _ => {}
            }
            document
        })
        .collect()
}

#[tokio::test]
async fn searches_in_memory_find_what_the_server_does() {
    let (database, url) = database().await;
    insert(&database, "holodules", documents()).await;
    open_indexed(&url).await;
    let (on_server, in_memory) = (with_cache(&url, 0).await, with_cache(&url, 1 << 20).await);
    let narrow =
        vec!["20201202 01".to_owned().."20201204".to_owned(), "20201205 030000".to_owned().."20201206!".to_owned()];
    let selections = [
        december("apex"),
        december("T1"),
        december("獅白"),
        december("nothing"),
        Selection { ranges: narrow, ..december("apex") },
        Selection { codes: set(&["HL0501", "HL0503", ""]), ..december("apex") },
        Selection { codes: set(&[]), ..december("apex") },
        Selection { names: set(&["", "apex"]), ..december("t") },
        Selection { tags: set(&["a"]), ..december("apex") },
        Selection { tags: set(&["b", "1"]), codes: set(&["HL0502"]), names: set(&["apex"]), ..december("apex") },
        // Without a text, from what the searches left in memory.
        Selection { codes: set(&["HL0501"]), text: None, ..december("apex") },
        Selection { codes: set(&["HL0502", "HL0503"]), tags: set(&["a"]), text: None, ..december("apex") },
    ];
    for selection in selections {
        for sort in [Sort::Ascending, Sort::Descending] {
            for limit in [3, 100, 1000] {
                let expected = titles(&on_server, &selection, sort, limit).await;
                assert_eq!(
                    titles(&in_memory, &selection, sort, limit).await,
                    expected,
                    "{selection:?} {sort:?} {limit}"
                );
            }
        }
    }
    assert_eq!(on_server.search_cache().bytes, 0);
    let cache = in_memory.search_cache();
    assert!(cache.bytes > 0 && cache.hits > cache.misses && cache.misses == 31, "{cache:?}");
}

/// Those of the first search are in memory for the second.
#[tokio::test]
async fn a_repeated_search_reads_the_documents_of_its_page_only() {
    let (database, url) = database().await;
    insert(&database, "holodules", documents()).await;
    open_indexed(&url).await;
    let store = with_cache(&url, 1 << 20).await;
    assert_eq!(total(&store, &december("apex")).await, 279);
    let by_code = Selection { codes: set(&["HL0501"]), text: None, ..december("apex") };
    for selection in [december("apex"), december("nothing"), by_code] {
        let commands = profiled(&database, total(&store, &selection)).await;
        assert!(!commands.is_empty());
        for command in commands {
            let plan = command.get_str("planSummary").unwrap();
            assert!(plan.starts_with("COUNT_SCAN") || plan.starts_with("IXSCAN { _id: 1 }"), "{command}");
            assert!(command.get_i32("docsExamined").unwrap() <= 4, "{command}");
        }
    }
}

#[tokio::test]
async fn a_search_finds_what_this_process_wrote_before_it() {
    let (_, url) = database().await;
    let store = open_indexed(&url).await;
    let selection = december("needle");
    for number in 0..20 {
        assert_eq!(total(&store, &selection).await, u64::from(number));
        store.upsert(vec![entry(number, "a needle")]).await.unwrap();
    }
    assert_eq!(total(&store, &selection).await, 20);
    store.upsert(vec![entry(7, "another")]).await.unwrap();
    assert_eq!(total(&store, &selection).await, 19);
    assert!(store.delete_holodule(entry(8, "").identifier()).await.unwrap());
    assert_eq!(total(&store, &selection).await, 18);
    // It moves to another day of the range, with another title.
    let moved = ValidHolodule::new(holodule("", "video000009", "20201230 230000")).unwrap();
    store.upsert(vec![moved]).await.unwrap();
    assert_eq!((total(&store, &selection).await, total(&store, &december("a")).await), (17, 18));
    assert!(store.search_cache().hits > 0);
}

/// Days are read while they are written. Whatever is in memory afterwards is the last state.
#[tokio::test]
async fn a_read_that_races_with_writes_leaves_nothing_stale() {
    let (_, url) = database().await;
    let store = open_indexed(&url).await;
    let started = Instant::now();
    let mut searches = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let store = store.clone();
        searches.spawn(async move {
            while started.elapsed() < Duration::from_secs(2) {
                total(&store, &december("needle")).await;
            }
        });
    }
    let mut number = 0;
    while started.elapsed() < Duration::from_secs(2) {
        store.upsert(vec![entry(number % 28, &format!("needle {number}"))]).await.unwrap();
        let written = Needle::parse(&format!("needle {number}")).unwrap();
        let selection = Selection { text: Some(written), ..december("x") };
        assert_eq!(total(&store, &selection).await, 1, "{number}");
        number += 1;
    }
    while let Some(searched) = searches.join_next().await {
        searched.unwrap();
    }
    assert_eq!(total(&store, &december("needle")).await, u64::from(number.min(28)));
}

/// A standalone server does not report them.
#[tokio::test]
async fn documents_inserted_or_deleted_by_others_are_noticed_by_their_number() {
    let (database, url) = database().await;
    insert(&database, "holodules", documents()).await;
    let store = open_indexed(&url).await;
    assert_eq!(total(&store, &december("apex")).await, 279);
    insert(&database, "holodules", [doc! { "datetime": "20201215 230000", "title": "apex" }]).await;
    assert_eq!(total(&store, &december("apex")).await, 280);
    // Of no day, but in the range.
    insert(&database, "holodules", [doc! { "datetime": "20201215T230000", "title": "apex" }]).await;
    for _ in 0..2 {
        assert_eq!(total(&store, &december("apex")).await, 281);
    }
    let holodules = database.collection::<Document>("holodules");
    holodules.delete_many(doc! { "title": "apex" }).await.unwrap();
    assert_eq!(total(&store, &december("apex")).await, 279);
}

#[tokio::test]
async fn memory_is_bounded_whatever_is_searched() {
    let (database, url) = database().await;
    insert(&database, "holodules", documents()).await;
    open_indexed(&url).await;
    let mut some_evicted = false;
    for text_cache in [1, 5_000, 26_000, 28_000, 30_000, 32_000, 34_000, 36_000] {
        let store = with_cache(&url, text_cache).await;
        for _ in 0..3 {
            assert_eq!(total(&store, &december("apex")).await, 279);
            assert!(store.search_cache().bytes <= text_cache, "{:?}", store.search_cache());
        }
        // Days that fitted were read more than once.
        let cache = store.search_cache();
        some_evicted |= cache.bytes > text_cache / 2 && cache.misses > 31;
        let day = Selection { ranges: vec![day("20201220").datetimes()], ..december("apex") };
        assert_eq!(total(&store, &day).await, 0);
    }
    assert!(some_evicted, "no bound was reached");
}
