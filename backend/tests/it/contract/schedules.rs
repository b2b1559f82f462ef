//! Schedules made of holodules, on both engines.

use holodule_backend::model::{Holodule, Needle, SCHEDULES_LIMIT, Schedule, ScheduleQuery, Streamers, ValidHolodule};
use holodule_backend::store::Store;

use super::{day, entry, holodule, on_both_engines};

on_both_engines! {
    holodules_are_listed_by_descending_start,
    days_codes_and_keyword_restrict,
    a_schedule_is_found_by_its_id,
    the_key_is_of_the_code_and_the_start,
    at_most_a_thousand_are_listed,
}

async fn videos(store: &Store, query: &ScheduleQuery) -> Vec<String> {
    let schedules = store.schedules(query).await.unwrap();
    schedules.into_iter().map(|schedule| schedule.video_id.unwrap_or_default()).collect()
}

async fn fill(store: &Store) {
    let second = Holodule {
        title: Some("ＡＰＥＸ.*".into()),
        name: Some("ときのそら".into()),
        ..holodule("HL0502_20201209_230000", "b", "20201209 230000")
    };
    let with_code = Holodule { code: Some("HL0503".into()), ..holodule("", "c", "20201210 000000") };
    let holodules = [holodule("HL0501_20201208_235959", "a", "20201208 235959"), second, with_code];
    let valid = holodules.map(|holodule| {
        let video_id = holodule.video_id.as_deref().map(|id| id.repeat(11));
        ValidHolodule::new(Holodule { video_id, ..holodule }).unwrap()
    });
    store.upsert(valid.to_vec()).await.unwrap();
}

const A: &str = "aaaaaaaaaaa";
const B: &str = "bbbbbbbbbbb";
const C: &str = "ccccccccccc";

async fn holodules_are_listed_by_descending_start(store: &Store) {
    assert_eq!(store.schedules(&ScheduleQuery::default()).await.unwrap(), []);
    fill(store).await;
    let schedules = store.schedules(&ScheduleQuery::default()).await.unwrap();
    let shown: Vec<_> = schedules.iter().map(|s| (s.streaming_at.as_deref().unwrap(), s.key.as_str())).collect();
    let expected = [
        ("2020-12-10T00:00:00", "HL0503_20201210_000000"),
        ("2020-12-09T23:00:00", "HL0502_20201209_230000"),
        ("2020-12-08T23:59:59", "HL0501_20201208_235959"),
    ];
    assert_eq!(shown, expected);
    assert_eq!(schedules[0].published_at, None);
    assert_eq!(schedules[0].tags, Vec::<String>::new());
}

async fn days_codes_and_keyword_restrict(store: &Store) {
    fill(store).await;
    let days = |from: Option<&str>, to: Option<&str>| ScheduleQuery {
        from: from.map(day),
        to: to.map(day),
        ..ScheduleQuery::default()
    };
    assert_eq!(videos(store, &days(Some("20201209"), Some("20201209"))).await, [B]);
    assert_eq!(videos(store, &days(Some("20201209"), None)).await, [C, B]);
    assert_eq!(videos(store, &days(None, Some("20201209"))).await, [B, A]);
    assert_eq!(videos(store, &days(Some("20201210"), Some("20201209"))).await, Vec::<String>::new());

    let code = |code| ScheduleQuery::default().with_codes(Some(code), None, &Streamers::default());
    assert_eq!(videos(store, &code("HL0501")).await, [A], "the beginning of the key");
    assert_eq!(videos(store, &code("HL0503")).await, [C]);
    assert_eq!(videos(store, &code("HL0504")).await, Vec::<String>::new());
    let both = code("HL0501").with_codes(Some("HL0503"), None, &Streamers::default());
    assert_eq!(videos(store, &both).await, [C, A]);

    let keyword = |text| ScheduleQuery { keyword: Some(Needle::parse(text).unwrap()), ..ScheduleQuery::default() };
    assert_eq!(videos(store, &keyword("apex.*")).await, [B]);
    assert_eq!(videos(store, &keyword("ときの")).await, [B], "the name");
    assert_eq!(videos(store, &keyword("a.*x")).await, Vec::<String>::new(), "no pattern");
    assert_eq!(videos(store, &keyword("Ｄ")).await, [C, B, A], "the description");
}

async fn a_schedule_is_found_by_its_id(store: &Store) {
    fill(store).await;
    store.upsert(vec![entry("HL0504_20201211_000000", "", "20201211 000000")]).await.unwrap();
    let schedules: Vec<Schedule> = store.schedules(&ScheduleQuery::default()).await.unwrap();
    assert_eq!(schedules.len(), 4);
    for schedule in schedules {
        assert_eq!(store.schedule(&schedule.id).await.unwrap(), Some(schedule));
    }
    for unknown in ["", "x", "0123456789abcdef01234567", "7", "1.zz.00", "1.00.00", "9.é"] {
        assert_eq!(store.schedule(unknown).await.unwrap(), None, "{unknown}");
    }
}

async fn the_key_is_of_the_code_and_the_start(store: &Store) {
    let moved = entry("HL0002_20230101_120000", "U0000000001", "20230102 130000");
    let other = Holodule { code: Some("HL0003".into()), ..holodule("HL0002_20230101_130000", "", "20230101 120000") };
    store.upsert(vec![moved, ValidHolodule::new(other).unwrap()]).await.unwrap();
    let schedules = store.schedules(&ScheduleQuery::default()).await.unwrap();
    let keys: Vec<_> = schedules.iter().map(|schedule| schedule.key.as_str()).collect();
    assert_eq!(keys, ["HL0002_20230102_130000", "HL0003_20230101_120000"]);
    assert_eq!(store.schedule(&schedules[0].id).await.unwrap().unwrap().key, "HL0002_20230102_130000");
}

async fn at_most_a_thousand_are_listed(store: &Store) {
    let entries = (0..SCHEDULES_LIMIT + 1).map(|n| {
        let (minute, second) = (n / 60, n % 60);
        entry("", &format!("{n:011}"), &format!("20201209 {:02}{:02}{second:02}", minute / 60, minute % 60))
    });
    store.upsert(entries.collect()).await.unwrap();
    let found = videos(store, &ScheduleQuery::default()).await;
    assert_eq!(found.len(), SCHEDULES_LIMIT);
    assert_eq!((found[0].as_str(), found[SCHEDULES_LIMIT - 1].as_str()), ("00000001000", "00000000001"));
}
