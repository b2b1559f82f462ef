//! Lists: what they contain, their order, their pages.

use std::collections::BTreeSet;
use std::ops::Range;

use futures_util::TryStreamExt;
use holodule_backend::model::{
    Day, Holodule, Identifier, Needle, PageRequest, Position, Saved, Selection, Sort, ValidHolodule, datetimes_of,
};
use holodule_backend::store::{Listing, Store};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{NOW, day, entry, holodule, on_both_engines};

/// A deterministic generator (xorshift).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn one<'a, T>(&mut self, values: &'a [T]) -> &'a T {
        &values[self.below(values.len())]
    }

    fn text(&mut self, values: &[&str]) -> Option<String> {
        let number = self.below(values.len() + 1);
        values.get(number).map(|value| (*value).to_owned())
    }

    fn set(&mut self, values: &[&str]) -> Option<BTreeSet<String>> {
        if self.below(3) > 0 {
            return None;
        }
        let number = self.below(4);
        Some((0..number).map(|_| (*self.one(values)).to_owned()).collect())
    }
}

const CODES: &[&str] = &["", "HL0501", "HL0502", "HLEN01", "not a code"];
const NAMES: &[&str] = &["", "獅白ぼたん", "ときのそら", "a"];
const TAGS: &[&str] = &["", "apex", "ＡＰＥＸ", "歌枠", "1"];
const TEXTS: &[&str] = &["", "ＡＰＥＸ 大会", "apex", "歌枠\n雑談", "ｶﾞﾁ恋", "[a.b*"];
const NEEDLES: &[&str] = &["apex", "ガ", ".", "雑談", "大会", "恋歌"];
const DATETIMES: &[&str] = &[
    "20201208 235959",
    "20201209 000000",
    "20201209 120000",
    "20201209 235959",
    "20201210 000000",
    "20201211",
    "20201209x",
    "2020",
    "",
    "年",
];
const KEYS: &[&str] = &["", "HL0501_20201209_120000", "HL0502_20201209_120000", "x_20201209_120000", "HLEN01"];

/// A holodule as older programs stored them. The URL identifies it.
fn any(random: &mut Random, number: usize) -> Holodule {
    let tags =
        [Value::Null, json!("apex"), json!([]), json!(["apex", 1, "apex"]), json!(["歌枠", ["apex"]]), json!([""])];
    Holodule {
        key: random.text(KEYS),
        code: random.text(CODES),
        video_id: (random.below(3) > 0).then(|| format!("video_{number:05}")),
        datetime: random.text(DATETIMES),
        name: random.text(NAMES),
        title: random.text(TEXTS),
        url: Some(format!("https://example.com/{number}")),
        description: random.text(TEXTS),
        tags: (random.below(3) > 0).then(|| random.one(&tags).clone()),
        ..Holodule::default()
    }
}

/// A valid one, which may have the video of another.
fn valid(random: &mut Random, number: usize) -> ValidHolodule {
    let datetimes = &DATETIMES[..5];
    let stored = Holodule {
        key: Some((*random.one(&["", "HL0501_20201209_120000"])).to_owned()),
        code: random.text(&CODES[1..4]),
        datetime: Some((*random.one(datetimes)).to_owned()),
        video_id: Some(format!("video_{:05}", random.below(number))),
        ..any(random, number)
    };
    ValidHolodule::new(stored).unwrap()
}

fn ranges(random: &mut Random) -> Vec<Range<String>> {
    let span = |from: &str, to: &str| datetimes_of(day(from), day(to));
    let choices = [
        vec![],
        vec![span("20201209", "20201209")],
        vec![span("20201201", "20201231")],
        vec![span("20201208", "20201208"), span("20201210", "20201212")],
        vec!["20201209 000001".to_owned().."20201209 235959".to_owned()],
        vec!["2020".to_owned().."20201209 1".to_owned(), "20201209 2".to_owned().."年年".to_owned()],
        vec!["2".to_owned().."20201209 120000".to_owned()],
    ];
    random.one(&choices).clone()
}

pub(super) fn selection(random: &mut Random) -> Selection {
    Selection {
        ranges: ranges(random),
        codes: random.set(CODES),
        names: random.set(NAMES),
        tags: random.set(TAGS),
        text: (random.below(3) == 0).then(|| Needle::parse(random.one::<&str>(NEEDLES)).unwrap()),
    }
}

pub(super) async fn restore(store: &Store, holodules: Vec<Holodule>) {
    let (sender, received) = mpsc::channel(holodules.len());
    for holodule in holodules {
        sender.send(Ok(Saved::Holodule(Box::new(holodule)))).await.unwrap();
    }
    drop(sender);
    store.restore(received, true, NOW).await.unwrap();
}

async fn export(store: &Store) -> Vec<Holodule> {
    let records: Vec<_> = store.export().await.unwrap().try_collect().await.unwrap();
    records.into_iter().map(|record| record.unwrap()).collect()
}

async fn page(store: &Store, selection: &Selection, sort: Sort, limit: usize, after: Option<Position>) -> Listing {
    let listing = store.list(selection, &PageRequest { sort, limit, after }).await.unwrap();
    assert!(listing.entries.len() <= limit && listing.unreadable.is_empty(), "{listing:?}");
    listing
}

/// All entries, page by page.
async fn pages(store: &Store, selection: &Selection, sort: Sort, limit: usize) -> Vec<Holodule> {
    let (mut entries, mut after, mut total) = (Vec::new(), None, None);
    loop {
        let listing = page(store, selection, sort, limit, after).await;
        assert_eq!(*total.get_or_insert(listing.total), listing.total, "it does not depend on the page");
        entries.extend(listing.entries);
        after = listing.next;
        if after.is_none() {
            assert_eq!(entries.len() as u64, total.unwrap());
            return entries;
        }
    }
}

fn order(holodule: &Holodule) -> (String, String) {
    (holodule.datetime.clone().unwrap_or_default(), holodule.key.clone().unwrap_or_default())
}

/// Lists are what [`Selection::contains`] and a sort select from an export.
pub(super) async fn agree_with_the_export(store: &Store, random: &mut Random, selections: usize) {
    let all = export(store).await;
    let mut found = 0;
    for _ in 0..selections {
        let selection = selection(random);
        let mut expected: Vec<_> = all.iter().filter(|holodule| selection.contains(holodule)).collect();
        expected.sort_by_key(|holodule| order(holodule));
        let ascending = pages(store, &selection, Sort::Ascending, *random.one(&[9, 50, 1000])).await;
        let of = |holodules: &mut dyn Iterator<Item = &Holodule>| holodules.map(order).collect::<Vec<_>>();
        assert_eq!(of(&mut ascending.iter()), of(&mut expected.iter().copied()), "{selection:?}");
        // The order of equal ones is the store's.
        let urls = |holodules: &mut dyn Iterator<Item = &Holodule>| {
            holodules.map(|holodule| holodule.url.clone().unwrap()).collect::<BTreeSet<_>>()
        };
        assert_eq!(urls(&mut ascending.iter()), urls(&mut expected.iter().copied()), "{selection:?}");
        let mut descending = pages(store, &selection, Sort::Descending, *random.one(&[9, 50, 1000])).await;
        descending.reverse();
        assert_eq!(descending, ascending, "{selection:?}");
        assert_eq!(page(store, &selection, Sort::Ascending, 0, None).await.total, expected.len() as u64);
        found += expected.len();
    }
    assert!(found > selections, "too few to compare");
}

pub(super) async fn lists_are_what_their_selections_contain(store: &Store) {
    let mut random = Random::new(20);
    restore(store, (0..400).map(|number| any(&mut random, number)).collect()).await;
    agree_with_the_export(store, &mut random, 150).await;
    for round in 0..4 {
        let changes = (0..60).map(|number| valid(&mut random, 400 + 60 * round + number)).collect();
        store.upsert(changes).await.unwrap();
        for _ in 0..20 {
            let video_id = format!("video_{:05}", random.below(500));
            store.delete_holodule(&Identifier::parse(&video_id).unwrap()).await.unwrap();
        }
        agree_with_the_export(store, &mut random, 40).await;
    }
    restore(store, (0..50).map(|number| any(&mut random, number)).collect()).await;
    agree_with_the_export(store, &mut random, 80).await;
}

fn days(first: &str, last: &str) -> Vec<Range<String>> {
    vec![datetimes_of(Day::parse(first).unwrap(), Day::parse(last).unwrap())]
}

fn videos(listing: &Listing) -> Vec<&str> {
    listing.entries.iter().map(|holodule| holodule.video_id.as_deref().unwrap_or_default()).collect()
}

pub(super) async fn pages_are_stable_under_changes(store: &Store) {
    let video = |number: usize| entry("", &format!("video_{number:05}"), &format!("20201209 10{number:02}00"));
    store.upsert((0..20).step_by(2).map(video).collect()).await.unwrap();
    let selection = Selection { ranges: days("20201209", "20201209"), ..Selection::default() };
    for sort in [Sort::Ascending, Sort::Descending] {
        let first = page(store, &selection, sort, 4, None).await;
        assert_eq!(first.total, 10);
        let last = videos(&first).last().copied().unwrap().to_owned();
        // One on each side, and the position itself is gone.
        store.upsert(vec![video(1), video(9), video(17)]).await.unwrap();
        assert!(store.delete_holodule(&Identifier::parse(&last).unwrap()).await.unwrap());
        let second = page(store, &selection, sort, 100, first.next.clone()).await;
        let expected: &[usize] = match sort {
            Sort::Ascending => &[8, 9, 10, 12, 14, 16, 17, 18],
            Sort::Descending => &[10, 9, 8, 6, 4, 2, 1, 0],
        };
        let expected: Vec<_> = expected.iter().map(|number| format!("video_{number:05}")).collect();
        assert_eq!(videos(&second), expected);
        assert_eq!((second.total, second.next), (12, None));
        let whole = page(store, &selection, sort, 3, None).await;
        assert_eq!((whole.entries.len(), whole.next.is_some()), (3, true));
        for number in [1, 9, 17] {
            let id = Identifier::parse(&format!("video_{number:05}")).unwrap();
            assert!(store.delete_holodule(&id).await.unwrap());
        }
        let last: usize = last.strip_prefix("video_").unwrap().parse().unwrap();
        store.upsert(vec![video(last)]).await.unwrap();
    }
}

pub(super) async fn the_last_page_has_no_next(store: &Store) {
    let key = |number: usize| format!("HL0501_20201209_{number:06}");
    let same_time = |number: usize| entry(&key(number), &format!("video_{number:05}"), "20201209 100000");
    store.upsert((0..6).map(same_time).collect()).await.unwrap();
    let selection = Selection { ranges: days("20201209", "20201209"), ..Selection::default() };
    let first = page(store, &selection, Sort::Ascending, 3, None).await;
    let second = page(store, &selection, Sort::Ascending, 3, first.next).await;
    assert_eq!((second.entries.len(), second.next), (3, None));
}

pub(super) async fn a_position_of_a_client_is_no_error(store: &Store) {
    store.upsert(vec![entry("", "video_aaaaa", "20201209 100000")]).await.unwrap();
    let by_code = Selection {
        ranges: days("20201201", "20201231"),
        names: Some(["尾丸ポルカ".to_owned()].into()),
        ..Selection::default()
    };
    let unfiltered = Selection { names: None, ..by_code.clone() };
    for (datetime, sort, entries) in [
        ("", Sort::Ascending, 1),
        ("", Sort::Descending, 0),
        ("9", Sort::Ascending, 0),
        ("9", Sort::Descending, 1),
        ("20201209 09", Sort::Ascending, 1),
    ] {
        for id in [vec![], vec![1], vec![0xff; 12], vec![0; 40]] {
            for key in ["", "\0", "年"] {
                let after = Position { datetime: datetime.to_owned(), key: key.to_owned(), id: id.clone() };
                for selection in [&by_code, &unfiltered] {
                    let listing = page(store, selection, sort, 10, Some(after.clone())).await;
                    assert_eq!((listing.total, listing.entries.len()), (1, entries), "{after:?}");
                }
            }
        }
    }
}

pub(super) async fn a_holodule_with_several_of_the_tags_is_listed_once(store: &Store) {
    let tagged = Holodule {
        tags: Some(json!(["a", "b", "a", 7])),
        ..holodule("HL0501_20201209_100000", "video_aaaaa", "20201209 100000")
    };
    store.upsert(vec![ValidHolodule::new(tagged).unwrap()]).await.unwrap();
    let tags = |tags: &[&str]| Selection {
        ranges: days("20201201", "20201231"),
        tags: Some(tags.iter().map(|tag| (*tag).to_owned()).collect()),
        ..Selection::default()
    };
    for (selected, total) in [(&["a", "b", "c"][..], 1), (&["b"], 1), (&["7"], 0), (&[], 0)] {
        let listing = page(store, &tags(selected), Sort::Ascending, 10, None).await;
        assert_eq!((listing.total, listing.entries.len() as u64), (total, total), "{selected:?}");
    }
}

on_both_engines!(
    lists_are_what_their_selections_contain,
    pages_are_stable_under_changes,
    the_last_page_has_no_next,
    a_position_of_a_client_is_no_error,
    a_holodule_with_several_of_the_tags_is_listed_once,
);
