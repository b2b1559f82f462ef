//! Calendar feeds of a service, on both engines.

mod administrators;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use holodule_backend::calendar::CANCELLED_FOR;
use holodule_backend::model::{Holodule, Saved, SavedUser, StoredPassword, Streamer, WallClock};
use holodule_backend::store::{Restored, Settings, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

use administrators::an_administrator_lists_and_revokes_the_feeds_of_a_user;

use crate::http::{self, Reply};
use crate::mongod::Server;
use crate::service::{Service, Setup, holodule};

/// 2026-11-28 12:00:00 in Japan.
const NOW: i64 = 1_795_834_800;
const DAY: i64 = 24 * 3600;

/// A service with the user `user01`, at a time that tests set.
struct Stage {
    service: Service,
    clock: Arc<AtomicI64>,
    _folder: Option<TempDir>,
}

impl Stage {
    async fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stage = Self::over(&format!("embedded:{}", folder.path().join("store.redb").display())).await;
        stage.service.user("user01", "password01").await;
        Self { _folder: Some(folder), ..stage }
    }

    async fn mongo() -> Self {
        let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
        let stage = Self::over(&url).await;
        stage.service.user("user01", "password01").await;
        stage
    }

    async fn over(url: &str) -> Self {
        let settings = Settings {
            url: url.parse().unwrap(),
            operation_timeout: Duration::from_secs(20),
            max_connections: 20,
            text_cache: 1 << 20,
        };
        Self::with(Store::open(&settings).await.unwrap()).await
    }

    async fn with(store: Store) -> Self {
        let clock = Arc::new(AtomicI64::new(NOW));
        let setup = Setup { moving_clock: Some(Arc::clone(&clock)), ..Setup::default() };
        Self { service: Service::over(store, setup).await, clock, _folder: None }
    }

    async fn send(&self, method: &str, path: &str, user: Option<&str>, body: &str) -> Reply {
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(user.map(|user| ("X-Auth-Identity", user)));
        http::send(&self.service.api, method, path, if body.is_empty() { &headers[1..] } else { &headers }, body).await
    }

    /// The response to a creation by `user01`.
    async fn create(&self, body: &Value) -> Value {
        let reply = self.send("POST", "/calendar", Some("user01"), &body.to_string()).await;
        assert_eq!((reply.status, reply.header("cache-control")), (201, "no-store"), "{reply:?}");
        reply.json()
    }

    async fn fetch(&self, feed: &Value) -> Reply {
        let path = feed["path"].as_str().unwrap();
        assert_eq!(path, format!("/calendar/{}.ics", feed["key"].as_str().unwrap()));
        self.service.get(path).await
    }

    async fn events(&self, feed: &Value) -> BTreeMap<String, Shown> {
        let reply = self.fetch(feed).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        events(&reply.body)
    }

    async fn store(&self, holodules: impl IntoIterator<Item = Holodule>) {
        self.service.holodules(holodules).await;
    }
}

/// `(STATUS, SEQUENCE, LAST-MODIFIED, DTSTART)`
type Shown = (String, i64, String, String);

/// The events by the part of the UID before the at sign.
fn events(text: &str) -> BTreeMap<String, Shown> {
    let unfolded = text.replace("\r\n ", "");
    let mut events = BTreeMap::new();
    for event in unfolded.split("BEGIN:VEVENT\r\n").skip(1) {
        let value = |name: &str| {
            let line = event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix([':', ';']));
            line.unwrap_or_else(|| panic!("no {name} in {event}")).rsplit(':').next().unwrap().to_owned()
        };
        let shown = (value("STATUS"), value("SEQUENCE").parse().unwrap(), value("LAST-MODIFIED"), value("DTSTART"));
        let uid = value("UID").split('@').next().unwrap().to_owned();
        assert_eq!(events.insert(uid.clone(), shown), None, "{uid} occurs twice");
    }
    events
}

/// A holodule of a named streamer, some seconds from [`NOW`].
fn at(number: u32, seconds: i64, name: &str) -> Holodule {
    let datetime = WallClock::at_unix(NOW + seconds).unwrap().to_string();
    Holodule { name: Some(name.to_owned()), ..holodule(number, &datetime) }
}

macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod on_embedded {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::Stage::embedded().await).await;
            })*
        }
        mod on_mongo {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::Stage::mongo().await).await;
            })*
        }
    };
}
use on_both_engines;

on_both_engines!(
    changes_and_cancellations_are_revisions,
    a_change_of_groups_changes_feeds,
    the_next_thousand_events_come_first,
    an_event_without_a_time_is_left_out,
    concurrent_reads_agree,
    feeds_are_listed_in_the_order_of_their_creation,
    a_feed_belongs_to_the_user_of_the_gateway,
    the_owner_revokes_a_feed,
    an_administrator_lists_and_revokes_the_feeds_of_a_user,
);

async fn changes_and_cancellations_are_revisions(stage: &Stage) {
    stage
        .store([at(1, DAY, "a"), at(2, -DAY, "a"), at(3, DAY, "b"), at(4, -40 * DAY, "a"), at(5, 400 * DAY, "a")])
        .await;
    let (feed, both) = (stage.create(&json!({ "name": ["a"] })).await, stage.create(&json!({})).await);
    let first = stage.events(&feed).await;
    assert_eq!(first.keys().collect::<Vec<_>>(), ["video000001", "video000002"]);
    assert_eq!(stage.events(&both).await.len(), 3);
    assert_eq!(first["video000001"], ("CONFIRMED".into(), 0, "20261128T030000Z".into(), "20261129T120000".into()));

    stage.clock.store(NOW + 60, Ordering::SeqCst);
    assert_eq!(stage.events(&feed).await, first, "an unchanged feed is the same");
    stage.store([at(1, 2 * DAY, "a")]).await;
    assert_eq!(stage.service.admin("DELETE", "/holodules/video000002", "").await.status, 204);
    let second = stage.events(&feed).await;
    assert_eq!(second["video000001"], ("CONFIRMED".into(), 60, "20261128T030100Z".into(), "20261130T120000".into()));
    assert_eq!(second["video000002"], ("CANCELLED".into(), 60, "20261128T030100Z".into(), "20261127T120000".into()));

    // An event that changes so that it does not match is cancelled in this feed, and changed in the other.
    stage.clock.store(NOW + 120, Ordering::SeqCst);
    stage.events(&both).await;
    stage.store([at(1, 2 * DAY, "b")]).await;
    assert_eq!(stage.events(&feed).await["video000001"].0, "CANCELLED");
    assert_eq!(stage.events(&both).await["video000001"].0, "CONFIRMED");

    stage.clock.store(NOW + 120 + CANCELLED_FOR, Ordering::SeqCst);
    assert_eq!(stage.events(&feed).await, BTreeMap::new(), "cancellations end after a week");
}

async fn a_change_of_groups_changes_feeds(stage: &Stage) {
    let streamer = |group: &str| Streamer { code: "HL0001".into(), group: Some(group.into()), ..Streamer::default() };
    stage.service.store.store_streamers(vec![streamer("first")]).await.unwrap();
    stage.store([at(1, DAY, "a")]).await;
    let feed = stage.create(&json!({ "group": ["first"] })).await;
    assert_eq!(stage.events(&feed).await["video000001"].0, "CONFIRMED");
    stage.service.store.store_streamers(vec![streamer("second")]).await.unwrap();
    assert_eq!(stage.events(&feed).await["video000001"].0, "CANCELLED");
    let unknown = stage.send("POST", "/calendar", Some("user01"), r#"{"group":["first"]}"#).await;
    assert_eq!((unknown.status, unknown.header("content-type")), (400, "application/problem+json"));
    assert_eq!((&unknown.json()["parameter"], &unknown.json()["known"]), (&json!("group"), &json!(["second"])));
}

async fn the_next_thousand_events_come_first(stage: &Stage) {
    let (before, after) = (0..700u32, 700..1500u32);
    stage.store(before.map(|number| at(number, -DAY - i64::from(number) * 60, "a"))).await;
    stage.store(after.map(|number| at(number, DAY + i64::from(number) * 60, "a"))).await;
    let feed = stage.create(&json!({})).await;
    let shown = stage.events(&feed).await;
    assert_eq!(shown.len(), 1000);
    assert!((700..1500).all(|number| shown.contains_key(&format!("video{number:06}"))));
    assert!((0..200).all(|number| shown.contains_key(&format!("video{number:06}"))), "the latest of the past");
    // More of the future displace the past, which is not cancelled.
    stage.store((1500..1800).map(|number| at(number, 2 * DAY + i64::from(number) * 60, "a"))).await;
    let shown = stage.events(&feed).await;
    assert_eq!(shown.len(), 1000);
    assert!(shown.values().all(|event| event.0 == "CONFIRMED"));
    assert!((700..1500).all(|number| shown.contains_key(&format!("video{number:06}"))));
}

async fn an_event_without_a_time_is_left_out(stage: &Stage) {
    let texts = ["20261129 120000", "20261129 250000", "20261129", ""].into_iter().enumerate();
    let holodules = texts.map(|(number, datetime)| Holodule {
        video_id: Some(format!("defect_000{number}")),
        datetime: Some(datetime.to_owned()),
        ..Holodule::default()
    });
    let user = SavedUser {
        username: "user01".into(),
        id: None,
        password: StoredPassword::new("password01"),
        disabled: false,
        roles: holodule_backend::model::Roles::default(),
        created_at: None,
        password_changed_at: None,
    };
    let records: Vec<Saved> =
        holodules.map(|holodule| Saved::Holodule(Box::new(holodule))).chain([Saved::User(user)]).collect();
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    for record in records {
        sender.send(Ok(record)).await.unwrap();
    }
    drop(sender);
    let restored = stage.service.store.restore(receiver, true, NOW).await.unwrap();
    assert_eq!(restored, Restored::Done { duplicates: 0 });
    let feed = stage.create(&json!({})).await;
    assert_eq!(stage.events(&feed).await.keys().collect::<Vec<_>>(), ["defect_0000"]);
}

async fn concurrent_reads_agree(stage: &Stage) {
    // A second process on the same store.
    let other = Stage::with(stage.service.store.clone()).await;
    stage.store((0..50).map(|number| at(number, DAY, "a"))).await;
    let feed = stage.create(&json!({})).await;
    for round in 0..5 {
        let reads = (0..8).map(|number| if number % 2 == 0 { stage.events(&feed) } else { other.events(&feed) });
        let all = futures_util::future::join_all(reads).await;
        let last = stage.events(&feed).await;
        assert!(all.iter().all(|events| events.len() == 50));
        assert!(last.values().all(|event| event.0 == "CONFIRMED"));
        assert_eq!(last, other.events(&feed).await, "round {round}");
        stage.store((0..50).map(|number| at(number, DAY + 60 * (round + 1), "a"))).await;
    }
}

async fn feeds_are_listed_in_the_order_of_their_creation(stage: &Stage) {
    let mut labels = Vec::new();
    for number in 0..12 {
        let label = format!("{number}");
        let reply = stage.send("POST", "/calendar", Some("user01"), &json!({ "label": label }).to_string()).await;
        let location = format!("/calendar/{}", reply.json()["id"].as_str().unwrap());
        assert_eq!((reply.status, reply.header("location")), (201, location.as_str()));
        labels.push(label);
    }
    let list = stage.send("GET", "/calendar", Some("user01"), "").await.json();
    let listed: Vec<_> = list["calendars"].as_array().unwrap().iter().map(|feed| feed["label"].clone()).collect();
    assert_eq!(listed, labels, "all within the same second of the clock");
}

async fn a_feed_belongs_to_the_user_of_the_gateway(stage: &Stage) {
    for user in [None, Some(""), Some("static%3Amonitor"), Some("unknown")] {
        let reply = stage.send("POST", "/calendar", user, "{}").await;
        assert_eq!((reply.status, &reply.json()["status"]), (403, &json!(403)), "{user:?}");
    }
    for (method, path) in [("GET", "/calendar"), ("DELETE", "/calendar/0")] {
        assert_eq!(stage.send(method, path, None, "").await.status, 403);
    }
    let invalid = [
        "[]",
        "{",
        "{\"code\":\"HL0001\"}",
        "{\"codes\":[]}",
        "{\"label\":\"\"}",
        "{\"code\":[\"x\"]}",
        "{\"name\":[\"\"]}",
    ];
    for body in invalid {
        let reply = stage.send("POST", "/calendar", Some("user01"), body).await;
        assert_eq!((reply.status, reply.header("content-type")), (400, "application/problem+json"), "{body}");
    }
    let text = http::send(&stage.service.api, "POST", "/calendar", &[("X-Auth-Identity", "user01")], "{}").await;
    assert_eq!(text.status, 415);
    assert_eq!(stage.send("GET", "/calendar", Some("user01"), "").await.json(), json!({ "calendars": [] }));
    assert_eq!(stage.send("PUT", "/calendar", Some("user01"), "").await.header("allow"), "GET, HEAD, POST");
}

async fn the_owner_revokes_a_feed(stage: &Stage) {
    stage.service.user("user02", "password02").await;
    let feed = stage.create(&json!({ "label": "推し", "code": ["HL0001"], "tag": ["b", "a", "a"] })).await;
    let list = stage.send("GET", "/calendar", Some("user01"), "").await;
    let shown = json!({
        "id": feed["id"], "label": "推し", "created_at": "2026-11-28T12:00:00+09:00",
        "filter": { "code": ["HL0001"], "name": [], "group": [], "tag": ["a", "b"] },
    });
    assert_eq!(list.json(), json!({ "calendars": [shown] }));
    let head = stage.service.get(feed["path"].as_str().unwrap()).await;
    assert_eq!(head.header("cache-control"), "private, no-cache");
    assert_eq!(head.header("content-type"), "text/calendar; charset=utf-8");
    let path = format!("/calendar/{}", feed["id"].as_str().unwrap());
    let others = stage.send("DELETE", &path, Some("user02"), "").await;
    assert_eq!(others.status, 404);
    assert_eq!(stage.fetch(&feed).await.status, 200);
    assert_eq!(stage.send("DELETE", &path, Some("user01"), "").await.status, 204);
    let gone = stage.fetch(&feed).await;
    let unknown = stage.service.get("/calendar/x.ics").await;
    assert_eq!((gone.status, &gone.body), (404, &unknown.body));
    assert_eq!(gone.body, others.body);
}
