//! Lists on MongoDB: documents of other programs, and what the server reads.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use holodule_backend::model::{Needle, PageRequest, Position, ScheduleQuery, Selection, Sort, datetimes_of};
use holodule_backend::store::Store;
use mongodb::Database;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, DateTime, Document, doc};

use super::day;
use super::mongo::{database, insert, open_indexed};

fn set(values: &[&str]) -> Option<BTreeSet<String>> {
    Some(values.iter().map(|value| (*value).to_owned()).collect())
}

fn month() -> Selection {
    Selection { ranges: vec![datetimes_of(day("20201201"), day("20201231"))], ..Selection::default() }
}

fn request(sort: Sort, limit: usize, after: Option<Position>) -> PageRequest {
    PageRequest { sort, limit, after }
}

/// The titles of all pages. A document that cannot be read appears with its `_id`.
pub(super) async fn titles(store: &Store, selection: &Selection, sort: Sort, limit: usize) -> Vec<String> {
    let (mut titles, mut after) = (Vec::new(), None);
    loop {
        let listing = store.list(selection, &request(sort, limit, after)).await.unwrap();
        assert!(listing.entries.len() + listing.unreadable.len() <= limit);
        titles.extend(listing.entries.into_iter().map(|holodule| holodule.title.unwrap_or_default()));
        titles.extend(listing.unreadable);
        let Some(next) = listing.next else {
            assert_eq!(listing.total, titles.len() as u64, "{titles:?}");
            return titles;
        };
        after = Some(next);
    }
}

#[tokio::test]
async fn pages_have_each_document_once_whatever_the_types_of_its_key_and_id() {
    let (database, url) = database().await;
    let ids = [
        Bson::from("a"),
        Bson::from("b"),
        Bson::from(1),
        Bson::from(2.5),
        Bson::from(ObjectId::new()),
        Bson::from(ObjectId::new()),
        Bson::from(true),
        Bson::from(DateTime::now()),
        Bson::from(doc! { "a": 1 }),
        Bson::from(mongodb::bson::Binary { subtype: mongodb::bson::spec::BinarySubtype::Generic, bytes: vec![1] }),
        Bson::Null,
    ];
    let keys = [None, Some(Bson::Null), Some(Bson::from("")), Some(Bson::from("HL0501_x")), Some(Bson::from(7))];
    let with = |number: usize, key: Option<Bson>, id: Option<Bson>| {
        let mut document = doc! { "datetime": "20201209 230000", "title": format!("t{number:02}") };
        document.extend(key.map(|key| ("key".to_owned(), key)));
        document.extend(id.map(|id| ("_id".to_owned(), id)));
        document
    };
    let of_ids = ids.into_iter().enumerate().map(|(number, id)| with(number, None, Some(id)));
    let of_keys = keys.into_iter().cycle().take(20).enumerate().map(|(number, key)| with(20 + number, key, None));
    insert(&database, "holodules", of_ids.chain(of_keys).collect::<Vec<_>>()).await;
    let store = open_indexed(&url).await;
    let all = titles(&store, &month(), Sort::Ascending, 1000).await;
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 31);
    for selection in [month(), Selection { text: Some(Needle::parse("T").unwrap()), ..month() }] {
        for limit in [1, 2, 7] {
            let mut ascending = titles(&store, &selection, Sort::Ascending, limit).await;
            let descending = titles(&store, &selection, Sort::Descending, limit).await;
            assert_eq!(ascending.iter().collect::<BTreeSet<_>>(), all.iter().collect(), "{limit}");
            if limit == 1 {
                ascending.reverse();
                assert_eq!(ascending, descending);
            }
        }
    }
}

#[tokio::test]
async fn codes_are_those_of_documents_without_code_too() {
    let (database, url) = database().await;
    let of = |title: &str, code: Option<Bson>, key: &str| {
        let mut document = doc! { "title": title, "key": key, "datetime": "20201209 230000" };
        document.extend(code.map(|code| ("code".to_owned(), code)));
        document
    };
    let key = "HL0501_20201209_230000";
    let documents = [
        of("a", Some("HL0501".into()), "HL0502_20201209_230000"),
        of("b", None, key),
        of("c", Some(Bson::Null), key),
        of("d", Some("".into()), key),
        of("e", Some("HL0502".into()), key),
        of("f", Some(7.into()), key),
        of("g", None, "HL0501"),
        of("h", None, "HL05011_20201209_230000"),
        of("i", None, "xHL0501_20201209_230000"),
        of("j", None, ".L0501_20201209_230000"),
        of("k", Some(".L0501".into()), ""),
    ];
    insert(&database, "holodules", documents).await;
    let store = open_indexed(&url).await;
    let of_codes = async |codes: &[&str]| {
        let mut titles = titles(&store, &Selection { codes: set(codes), ..month() }, Sort::Ascending, 3).await;
        titles.sort();
        titles.concat()
    };
    assert_eq!(of_codes(&["HL0501"]).await, "abcd");
    assert_eq!(of_codes(&["HL0501", "HL0502", ".*"]).await, "abcde");
    assert_eq!(of_codes(&[".L0501"]).await, "k", "nothing is a pattern");
    assert_eq!(of_codes(&[""]).await, "");
    assert_eq!(of_codes(&[]).await, "");
}

#[tokio::test]
async fn unreadable_documents_are_counted_and_named() {
    let (database, url) = database().await;
    let unreadable = ObjectId::new();
    let documents = [
        doc! { "datetime": "20201209 100000", "title": "a", "tags": "x" },
        doc! { "_id": unreadable, "datetime": "20201209 110000", "title": 7, "tags": ["x"] },
        doc! { "datetime": 20_201_209_i64, "title": "b", "tags": ["x"] },
        doc! { "datetime": "20201209 120000", "title": "c", "tags": [["x"], { "x": 1 }] },
    ];
    insert(&database, "holodules", documents).await;
    let store = open_indexed(&url).await;
    let tag = Selection { tags: set(&["x"]), ..month() };
    assert_eq!(titles(&store, &tag, Sort::Ascending, 1).await, ["a".to_owned(), unreadable.to_hex()]);
    assert_eq!(titles(&store, &month(), Sort::Descending, 2).await.len(), 3);
}

/// Positions that no page returned.
#[tokio::test]
async fn invented_positions_are_no_error() {
    let (database, url) = database().await;
    insert(&database, "holodules", [doc! { "datetime": "20201209 100000", "title": "a" }]).await;
    let store = open_indexed(&url).await;
    let regex = mongodb::bson::rawdoc! { "_id": mongodb::bson::Regex { pattern: "a".try_into().unwrap(), options: "".try_into().unwrap() }, "key": [1] };
    for id in [vec![], vec![0xff; 40], regex.into_bytes()] {
        for (datetime, found) in [("20201209 095959", 1), ("20201209 100001", 0), ("", 1), ("\u{10ffff}", 0)] {
            let after = Position { datetime: datetime.into(), key: String::new(), id: id.clone() };
            let listing = store.list(&month(), &request(Sort::Ascending, 5, Some(after))).await.unwrap();
            assert_eq!((listing.entries.len(), listing.total), (found, 1), "{datetime}");
        }
    }
}

/// The commands on holodules while `work` runs, from the server's profile.
pub(super) async fn profiled(database: &Database, work: impl Future) -> Vec<Document> {
    database.run_command(doc! { "profile": 2 }).await.unwrap();
    work.await;
    database.run_command(doc! { "profile": 0 }).await.unwrap();
    let profile = database.collection::<Document>("system.profile");
    // Without those of the verification of indexes, which reads no documents.
    let of_holodules = doc! { "ns": format!("{}.holodules", database.name()), "planSummary": { "$exists": true } };
    let commands = profile.find(of_holodules).await.unwrap().try_collect().await.unwrap();
    profile.drop().await.unwrap();
    commands
}

#[tokio::test]
async fn schedules_of_codes_read_their_documents_only() {
    let (database, url) = database().await;
    let of_minute = |n: u32| {
        let datetime = format!("202012{:02} 10{:02}00", n / 60 + 1, n % 60);
        let mut document = doc! { "datetime": &datetime, "title": "ape" };
        match n % 100 {
            0 => _ = document.insert("code", "HL0503"),
            1 => _ = document.insert("key", format!("HL0503_{}", datetime.replace(' ', "_"))),
            other => _ = document.insert("code", format!("HL04{other:02}")),
        }
        document
    };
    insert(&database, "holodules", (0..1500).map(of_minute)).await;
    let store = open_indexed(&url).await;
    let of = |code: &str| ScheduleQuery { codes: BTreeSet::from([code.to_owned()]), ..ScheduleQuery::default() };
    for (code, found) in [("HL0503", 30), ("HL0599", 0), ("unknown", 0)] {
        let query = of(code);
        let commands = profiled(&database, async {
            assert_eq!(store.schedules(&query).await.unwrap().len(), found, "{code}");
        });
        for command in commands.await {
            assert!(command.get_str("planSummary").unwrap().starts_with("IXSCAN"), "{command}");
            let examined = command.get_i32("docsExamined").unwrap();
            // Those without a code are examined a second time in the filter above their index.
            assert!(usize::try_from(examined).unwrap() <= 2 * found, "{code}: {command}");
        }
    }
}

#[tokio::test]
async fn lists_sort_nothing_and_read_the_documents_of_their_page_only() {
    let (database, url) = database().await;
    let of_day = |day: u32| {
        (0..200).map(move |n| {
            let (code, minute) = (format!("HL05{:02}", n % 10), n % 60);
            let datetime = format!("202012{day:02} 10{minute:02}00");
            let mut document = doc! { "datetime": &datetime, "key": format!("{code}_{}", datetime.replace(' ', "_")),
            "name": &code, "tags": [&code, "all"], "title": "ape" };
            if n < 100 {
                document.insert("code", code);
            }
            document
        })
    };
    insert(&database, "holodules", (1..=25).flat_map(of_day)).await;
    let store = open_indexed(&url).await;
    let ten: Vec<String> = (0..5).map(|n| format!("HL05{n:02}")).collect();
    let ten: Vec<&str> = ten.iter().map(String::as_str).collect();
    let narrow = vec!["20201209 1010".to_owned().."20201215".to_owned(), "20201216".to_owned().."20201217".to_owned()];
    let selections = [
        month(),
        Selection { ranges: narrow, ..Selection::default() },
        Selection { codes: set(&["HL0503"]), ..month() },
        Selection { codes: set(&ten), ..month() },
        Selection { names: set(&["HL0503", "HL0504"]), ..month() },
        Selection { tags: set(&["HL0503", "all"]), ..month() },
    ];
    let limit = 10;
    for selection in selections {
        for sort in [Sort::Ascending, Sort::Descending] {
            let first = store.list(&selection, &request(sort, limit, None)).await.unwrap();
            for after in [None, first.next] {
                let ranges = u64::try_from(selection.ranges.len()).unwrap();
                let commands = profiled(&database, store.list(&selection, &request(sort, limit, after))).await;
                assert!(!commands.is_empty());
                for command in commands {
                    let number = |name: &str| u64::try_from(command.get_i32(name).unwrap_or_default()).unwrap();
                    let plan = command.get_str("planSummary").unwrap();
                    assert!(plan.starts_with("IXSCAN") || plan.starts_with("COUNT_SCAN"), "{plan} {command}");
                    assert!(!command.get_bool("hasSortStage").unwrap_or(false), "{command}");
                    let is_page = command.get_str("op").unwrap() == "query";
                    // Those at the same time as the position may be read again.
                    let most = if is_page { 4 * (limit as u64 + 1) * ranges } else { 0 };
                    assert!(number("docsExamined") <= most, "{selection:?} {command}");
                }
            }
        }
    }
}
