//! The collection `schedules` beside the holodules, and the collection `streamers` of other programs.

use holodule_backend::model::{Needle, Schedule, ScheduleQuery, Streamer, Streamers};
use holodule_backend::store::StreamersStored;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, DateTime, Document, doc};

use super::day;
use super::mongo::{database, insert, open};

/// Milliseconds of a wall clock that is stored as if it were UTC.
fn wall(text: &str) -> DateTime {
    DateTime::parse_rfc3339_str(format!("{text}Z")).unwrap()
}

fn schedule(video_id: &str, streaming_at: &str) -> Document {
    doc! { "code": "HL0503", "video_id": video_id, "streaming_at": wall(streaming_at), "title": "t" }
}

#[tokio::test]
async fn both_shapes_are_listed_once_and_the_later_one_wins() {
    let (database, url) = database().await;
    let id = ObjectId::new();
    let full = doc! { "_id": id, "code": "HL0503", "video_id": "a", "streaming_at": wall("2023-12-01T12:00:00.5"),
    "name": "n", "title": "t", "url": "u", "description": "d", "published_at": wall("2023-11-30T15:30:00"),
    "channel_id": "UC", "channel_title": "c", "tags": ["x", 1, "y"], "of_another_service": 1 };
    insert(&database, "schedules", [full, schedule("b", "2023-12-03T00:00:00")]).await;
    let holodules = [
        doc! { "video_id": "a", "key": "HL0503_20231205_120000", "datetime": "20231205 120000" },
        doc! { "video_id": "c", "key": "HL0502_20231202_120000", "datetime": "20231202 120000" },
        doc! { "video_id": "", "datetime": "20231201 000000", "code": "HL0501" },
        doc! { "video_id": "d", "datetime": "20231202 250000" },
        doc! { "video_id": "e", "datetime": "20231202 120000", "title": 1 },
    ];
    insert(&database, "holodules", holodules).await;
    let store = open(&url).await;
    let found = store.schedules(&ScheduleQuery::default()).await.unwrap();
    let shown: Vec<_> = found.iter().map(|s| (s.video_id.as_deref().unwrap(), s.key.as_str())).collect();
    let expected = [
        ("b", "HL0503_20231203_000000"),
        ("c", "HL0502_20231202_120000"),
        ("a", "HL0503_20231201_120000"),
        ("", "HL0501_20231201_000000"),
    ];
    assert_eq!(shown, expected);
    let text = serde_json::to_string(&found[2]).unwrap();
    let expected = r#","code":"HL0503","video_id":"a","streaming_at":"2023-12-01T12:00:00","name":"n","title":"t","url":"u","description":"d","published_at":"2023-11-30T15:30:00","channel_id":"UC","channel_title":"c","tags":["x","y"],"key":"HL0503_20231201_120000"}"#;
    assert_eq!(text, format!("{{\"id\":\"{}\"{expected}", id.to_hex()));
    for schedule in found {
        assert_eq!(store.schedule(&schedule.id).await.unwrap(), Some(schedule));
    }
    // The holodule does not appear on its own day either.
    let later = ScheduleQuery { from: Some(day("20231204")), ..ScheduleQuery::default() };
    assert_eq!(store.schedules(&later).await.unwrap(), []);
}

#[tokio::test]
async fn only_a_readable_schedule_replaces_a_holodule() {
    let (database, url) = database().await;
    let schedules = [
        doc! { "code": "HL0002", "video_id": "text", "streaming_at": "20230115 120000" },
        doc! { "code": "HL0002", "video_id": "none" },
        doc! { "code": "HL0002", "video_id": "null", "streaming_at": Bson::Null },
        doc! { "code": "HL0002", "video_id": "far", "streaming_at": DateTime::MAX },
        doc! { "code": "HL0002", "video_id": "twice", "streaming_at": "20230115 120000" },
        doc! { "code": "HL0002", "video_id": "twice", "streaming_at": wall("2023-01-15T12:00:00") },
        doc! { "code": "HL0003", "video_id": "moved", "streaming_at": wall("2023-01-16T12:00:00"), "title": "new" },
    ];
    insert(&database, "schedules", schedules).await;
    let videos = ["text", "none", "null", "far", "twice", "moved"];
    let holodule = |video_id: &&str| {
        doc! { "video_id": *video_id, "key": format!("HL0002_20230115_12000{}", video_id.len()),
        "datetime": "20230115 120000", "title": "old" }
    };
    insert(&database, "holodules", videos.iter().map(holodule)).await;
    let store = open(&url).await;
    let found = async |query: ScheduleQuery| {
        let found = store.schedules(&query).await.unwrap().into_iter();
        let mut found: Vec<_> = found.map(|schedule| schedule.video_id.unwrap()).collect();
        found.sort();
        found
    };
    let every = ["far", "moved", "none", "null", "text", "twice"];
    assert_eq!(found(ScheduleQuery::default()).await, every, "each once");
    let days = |day| ScheduleQuery { from: Some(day), to: Some(day), ..ScheduleQuery::default() };
    assert_eq!(found(days(day("20230115"))).await, ["far", "none", "null", "text", "twice"]);
    // A readable schedule replaces the holodule in each list: by its day, code and texts.
    assert_eq!(found(days(day("20230116"))).await, ["moved"]);
    let code = |code| ScheduleQuery::default().with_codes(Some(code), None, &Streamers::default());
    assert_eq!(found(code("HL0002")).await, ["far", "none", "null", "text", "twice"]);
    assert_eq!(found(code("HL0003")).await, ["moved"]);
    let keyword = |text| ScheduleQuery { keyword: Some(Needle::parse(text).unwrap()), ..ScheduleQuery::default() };
    assert_eq!(found(keyword("old")).await, ["far", "none", "null", "text"]);
    assert_eq!(found(keyword("new")).await, ["moved"]);
}

#[tokio::test]
async fn days_are_of_the_stored_wall_clock() {
    let (database, url) = database().await;
    let times = ["2023-11-30T23:59:59.999", "2023-12-01T00:00:00", "2023-12-01T23:59:59.999", "2023-12-02T00:00:00"];
    insert(&database, "schedules", times.iter().zip(["a", "b", "c", "d"]).map(|(at, id)| schedule(id, at))).await;
    let store = open(&url).await;
    let day = Some(day("20231201"));
    let found = store.schedules(&ScheduleQuery { from: day, to: day, ..ScheduleQuery::default() }).await.unwrap();
    let shown: Vec<_> = found.iter().map(|schedule| schedule.streaming_at.as_deref().unwrap()).collect();
    assert_eq!(shown, ["2023-12-01T23:59:59", "2023-12-01T00:00:00"]);
}

#[tokio::test]
async fn fields_of_other_types_are_missing() {
    let (database, url) = database().await;
    let odd = [
        doc! { "_id": 7, "streaming_at": wall("2023-12-01T12:00:00"), "code": 1, "title": Bson::Null, "tags": "x",
        "published_at": "2023" },
        doc! { "_id": "text", "streaming_at": "2023-12-01T12:00:00", "code": "HL0503" },
        doc! { "_id": "far", "streaming_at": DateTime::MAX },
    ];
    insert(&database, "schedules", odd).await;
    let store = open(&url).await;
    let expected = Schedule {
        id: "7".into(),
        streaming_at: Some("2023-12-01T12:00:00".into()),
        published_at: Some("2023".into()),
        ..Schedule::default()
    };
    assert_eq!(store.schedules(&ScheduleQuery::default()).await.unwrap(), std::slice::from_ref(&expected));
    assert_eq!(store.schedule("7").await.unwrap(), Some(expected));
    assert_eq!(store.schedule("text").await.unwrap().unwrap().streaming_at, None);
}

#[tokio::test]
async fn codes_and_keyword_restrict_both_shapes() {
    let (database, url) = database().await;
    let titled = doc! { "video_id": "b", "streaming_at": wall("2023-12-01T12:00:00"), "title": "ＡＰＥＸ" };
    let named = doc! { "video_id": "d", "streaming_at": wall("2023-12-01T12:00:00"), "name": "Apex" };
    insert(&database, "schedules", [schedule("a", "2023-12-01T12:00:00"), titled, named]).await;
    let old = doc! { "video_id": "c", "key": "HL0503_20231201_120000", "datetime": "20231201 120000", "code": "",
    "description": "apex" };
    insert(&database, "holodules", [old]).await;
    let store = open(&url).await;
    let videos = async |query: ScheduleQuery| {
        let found = store.schedules(&query).await.unwrap();
        let mut videos: Vec<_> = found.into_iter().filter_map(|schedule| schedule.video_id).collect();
        videos.sort();
        videos
    };
    let code = ScheduleQuery::default().with_codes(Some("HL0503"), None, &Streamers::default());
    assert_eq!(videos(code).await, ["a", "c"]);
    let keyword = Some(Needle::parse("apex").unwrap());
    assert_eq!(videos(ScheduleQuery { keyword, ..ScheduleQuery::default() }).await, ["b", "c", "d"]);
}

#[tokio::test]
async fn streamers_of_other_programs_are_read_as_they_are() {
    let (database, url) = database().await;
    let id = ObjectId::new();
    let documents = [
        doc! { "_id": id, "code": "HL0503", "name": "n", "group": "a", "affiliations": ["x", 1], "image_name": "i",
        "channel_id": "UC", "is_retired": false, "of_another_service": 1 },
        doc! { "_id": 7, "id": 3, "code": "HL0502", "name": 1, "group": Bson::Null, "affiliations": "x", "is_retired": 1 },
        doc! { "code": 1 },
        doc! { "name": "without code" },
    ];
    insert(&database, "streamers", documents).await;
    let store = open(&url).await;
    let read = store.streamers().await.unwrap();
    let first = Streamer { id: "3".into(), code: "HL0502".into(), ..Streamer::default() };
    let second = Streamer {
        id: id.to_hex(),
        code: "HL0503".into(),
        name: Some("n".into()),
        group: Some("a".into()),
        affiliations: vec!["x".into()],
        image_name: Some("i".into()),
        channel_id: Some("UC".into()),
        is_retired: Some(false),
    };
    assert_eq!(read.iter().collect::<Vec<_>>(), [&first, &second]);
    let codes: Vec<_> = read.stored().iter().map(|s| (s.code.as_str(), s.name.as_deref())).collect();
    let expected = [("", Some("without code")), ("", None), ("HL0502", None), ("HL0503", Some("n"))];
    assert_eq!(codes, expected, "as the author's service lists them");

    let changed = Streamer { group: Some("b".into()), ..Streamer { code: "HL0503".into(), ..Streamer::default() } };
    let new = Streamer { code: "HL0504".into(), is_retired: Some(true), ..Streamer::default() };
    let stored = store.store_streamers(vec![changed, first, new.clone()]).await.unwrap();
    assert_eq!(stored, StreamersStored { inserted: 1, updated: 1, unchanged: 1 });
    let stored = database.collection::<Document>("streamers").find_one(doc! { "_id": id }).await.unwrap().unwrap();
    assert_eq!((stored.get_str("group").unwrap(), stored.get_i32("of_another_service").unwrap()), ("b", 1));
    let read = store.streamers().await.unwrap();
    assert_eq!(read.get("HL0503"), Some(&Streamer { group: Some("b".into()), ..second }));
    assert_eq!(read.get("HL0504").map(|s| s.is_retired), Some(Some(true)));
}
