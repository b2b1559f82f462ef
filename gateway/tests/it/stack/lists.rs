//! Lists through both programs: what a client may request, and that changes are visible although lists are cached.

use std::time::{Duration, Instant};

use mongodb::Client;
use mongodb::bson::{DateTime, Document, doc};
use serde_json::{Value, json};

use super::Stack;
use super::mongod::Server;
use super::process::wait_for;
use crate::support::client::Answer;

/// Less than the freshness lifetime of a list of fixed days.
const BEFORE_EXPIRY: Duration = Duration::from_secs(20);

const LISTS: [&str; 4] = [
    "/holodules?from=20201209&to=20201209",
    "/holodules?to=2020-12-09&from=2020-12-09&code=HL0503&code=HL0501",
    "/streamers/HL0503/holodules?from=20201209&to=20201209",
    // The last: it is not polled for long, since searches of a user are limited.
    "/holodules?from=20201209&to=20201209&group=hololive&q=%E3%81%AE",
];

/// The sample with its streamers, and a token.
fn load(stack: &Stack) -> String {
    stack.load();
    stack.command(&["streamers", "import", "-"], include_str!("../../../../ops/sample/streamers.csv"));
    stack.token("user01", "password01")
}

fn ok(stack: &Stack, path: &str, token: &str) -> Answer {
    let answer = stack.get(path, token);
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer
}

/// Waits until a response is served from the cache: a purge of the import may arrive later than the first request.
fn cached(stack: &Stack, path: &str, token: &str) -> Answer {
    wait_for("a cached response", || {
        let answer = ok(stack, path, token);
        (answer.value("x-cache") == "hit").then_some(answer)
    })
}

fn assert_changes_are_visible(stack: &Stack) {
    let token = load(stack);
    let totals = LISTS.map(|path| cached(stack, &format!("/holoapi{path}"), &token).json()["total"].as_u64().unwrap());
    assert_eq!(totals[0], 17);
    assert!(totals.iter().all(|total| *total > 0), "{totals:?}");
    let began = Instant::now();
    let holodule = json!({
        "key": "HL0503_20201209_120000", "video_id": "abcdefghijk", "datetime": "20201209 120000",
        "name": "尾丸ポルカ", "title": "のの", "url": "https://www.youtube.com/watch?v=abcdefghijk", "description": "",
    });
    stack.command(&["import", "--format", "ndjson", "-"], &format!("{holodule}\n"));
    for (path, total) in LISTS.iter().zip(totals) {
        wait_for(path, || (ok(stack, path, &token).json()["total"] == total + 1).then_some(()));
    }
    assert!(began.elapsed() < BEFORE_EXPIRY, "the lists may have expired");
    // A streamer of another group, on which the lists depend.
    let grouped = "/holodules?from=20201209&to=20201209&group=another";
    assert_eq!(stack.get(grouped, &token).status, 400);
    let began = Instant::now();
    stack.command(&["streamers", "import", "-"], "code,name,group\nHL0503,尾丸ポルカ,another\n");
    wait_for(grouped, || (stack.get(grouped, &token).status == 200).then_some(()));
    assert_eq!(ok(stack, grouped, &token).json()["total"], totals[2] + 1);
    wait_for("the group", || {
        let listed = ok(stack, LISTS[2], &token).json();
        (listed["holodules"][0]["group"] == "another").then_some(())
    });
    assert!(began.elapsed() < BEFORE_EXPIRY, "the lists may have expired");
    cached(stack, LISTS[0], &token);
}

#[test]
fn changes_are_visible_on_every_list_on_the_embedded_store() {
    assert_changes_are_visible(&Stack::embedded());
}

#[test]
fn changes_are_visible_on_every_list_on_mongodb() {
    assert_changes_are_visible(&Stack::on_store(&Server::shared().fresh_url()));
}

#[test]
fn the_backend_refuses_mistakes_in_its_own_form() {
    let stack = Stack::embedded();
    let token = load(&stack);
    for (path, parameter) in [
        ("/holodules?unknown=1", "unknown"),
        ("/holodules?from=20201209&limit=1&limit=2", "limit"),
        ("/holodules?code=HL9999", "code"),
        ("/streamers/HL0503/holodules?code=HL0503", "code"),
        ("/now?%66oo=1", "foo"),
        ("/holodules/stream?q=a", "q"),
    ] {
        for _ in 0..2 {
            let answer = stack.get(path, &token);
            let kind = answer.value("content-type");
            assert_eq!((answer.status, kind), (400, "application/problem+json"), "{path}: {answer:?}");
            assert_eq!(answer.json()["parameter"], parameter, "{path}: {answer:?}");
            assert_ne!(answer.values("x-cache"), ["hit"], "{path}");
        }
        assert_eq!(stack.curl(&[], path).status, 401, "{path}");
    }
    // What the day ignores remains ignored.
    assert_eq!(stack.get("/holodules/20201209?unknown=1", &token).json()["result"], 17);
}

#[test]
fn repeated_parameters_are_alternatives_and_cached_apart() {
    let stack = Stack::embedded();
    let token = load(&stack);
    let total = |query: &str| {
        let path = format!("/holodules?from=20201201&to=20201231{query}");
        let first = ok(&stack, &path, &token).json();
        assert_eq!(cached(&stack, &path, &token).json(), first, "{path}");
        first["total"].as_u64().unwrap()
    };
    let (one, other) = (total("&code=HL0503"), total("&code=HL0501"));
    assert!(one > 0 && other > 0 && one + other < total(""));
    assert_eq!(total("&code=HL0503&code=HL0501"), one + other);
    assert_eq!(total("&code=HL0501&code=HL0503"), one + other);
    let page = ok(&stack, "/holodules?from=20201201&to=20201231&limit=5", &token).json();
    let cursor = page["next"].as_str().unwrap();
    let next = ok(&stack, &format!("/holodules?from=20201201&to=20201231&limit=5&cursor={cursor}"), &token).json();
    assert!(next["holodules"][0]["datetime"].as_str() >= page["holodules"][4]["datetime"].as_str());
    assert_ne!(next["holodules"][0], page["holodules"][0]);
}

fn age_of_hit(answer: &Answer) -> Option<u64> {
    (answer.value("x-cache") == "hit").then(|| answer.value("age").parse().unwrap())
}

#[test]
fn what_depends_on_the_clock_is_fresh_for_two_seconds() {
    let stack = Stack::embedded();
    let token = load(&stack);
    let now = || ok(&stack, "/now", &token).json()["now"].as_str().unwrap().to_owned();
    let first = now();
    for path in ["/now", "/holodules?from=20201209&to=20201209&status=past", "/holodules"] {
        assert!(age_of_hit(&cached(&stack, path, &token)) < Some(2), "{path}");
        wait_for("another read", || {
            let age = age_of_hit(&ok(&stack, path, &token));
            assert!(age.is_none_or(|age| age < 2), "{path}: {age:?}");
            age.is_none().then_some(())
        });
    }
    assert!(now() > first);
    // The days of this list are fixed.
    let fixed = "/holodules?from=20201209&to=20201209";
    wait_for("an older response", || age_of_hit(&ok(&stack, fixed, &token)).filter(|age| *age > 2));
}

fn codes(listed: &Value) -> Vec<&str> {
    listed.as_array().unwrap().iter().map(|streamer| streamer["code"].as_str().unwrap()).collect()
}

#[test]
fn streamers_and_schedules_are_those_of_the_later_service() {
    let stack = Stack::embedded();
    let token = load(&stack);
    let streamers = ok(&stack, "/streamers", &token).json();
    assert_eq!(codes(&streamers["streamers"]).len(), 32);
    let id = streamers["streamers"][0]["id"].as_str().unwrap();
    for path in [format!("/streamers/{id}"), "/streamers/HL0001".to_owned(), format!("/holoapi/streamers/{id}")] {
        assert_eq!(ok(&stack, &path, &token).json(), streamers["streamers"][0], "{path}");
    }
    assert_eq!(ok(&stack, "/streamers?group=none", &token).json(), json!({ "streamers": [] }));
    // As its web client sends it.
    let path = "/schedules?sdate=2020-12-09&edate=2020-12-09&code=HL0503&keyword=%E3%81%AE";
    let headers = ["-H", &format!("Authorization: bearer {token}"), "-H", "Content-Type: application/json"];
    let answer = stack.curl(&headers, path);
    assert_eq!(answer.status, 200, "{answer:?}");
    let schedule = answer.json()["schedules"][0].clone();
    assert_eq!(
        (&schedule["code"], &schedule["streaming_at"].as_str().unwrap()[..10]),
        (&"HL0503".into(), "2020-12-09")
    );
    let id = schedule["id"].as_str().unwrap();
    assert_eq!(ok(&stack, &format!("/schedules/{id}"), &token).json(), schedule);
    for (path, message) in [("/schedules/unknown", "Schedule not found"), ("/streamers/unknown", "Streamer not found")]
    {
        assert_eq!(stack.get(path, &token).status, 404);
        let missing = stack.get(path, &token);
        assert_eq!((missing.status, missing.values("x-cache") == ["hit"]), (404, false), "{missing:?}");
        assert_eq!(missing.json(), json!({ "message": message, "identifier": "unknown" }));
    }
    for path in ["/streamers", "/schedules", "/now"] {
        assert_eq!(stack.curl(&["-X", "POST", headers[0], headers[1]], path).value("allow"), "GET, HEAD", "{path}");
    }
}

/// Within a second of a change, as for every list: far less than the freshness lifetime.
#[test]
fn schedules_of_another_program_are_visible_within_a_second_in_a_replica_set() {
    const SCHEDULES: &str = "/schedules?sdate=2020-12-09&edate=2020-12-09&code=HL0503";
    let server = Server::start(&["--replicas", "1"]);
    let stack = Stack::on_store(server.url());
    let token = load(&stack);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = runtime.block_on(async { Client::with_uri_str(server.url()).await.unwrap() });
    let schedules = client.default_database().unwrap().collection::<Document>("schedules");
    let titles = |answer: &Answer| -> Vec<String> {
        let listed = answer.json()["schedules"].as_array().unwrap().clone();
        listed.iter().map(|schedule| schedule["title"].as_str().unwrap().to_owned()).collect()
    };
    let before = titles(&cached(&stack, SCHEDULES, &token));
    let schedule = doc! {
        "code": "HL0503", "video_id": "of-another", "title": "first title",
        "streaming_at": DateTime::parse_rfc3339_str("2020-12-09T23:30:00Z").unwrap(),
    };
    let one = doc! { "video_id": "of-another" };
    let expect = |title: Option<&str>| {
        let changed = Instant::now();
        let expected: Vec<String> = title.map(str::to_owned).into_iter().chain(before.clone()).collect();
        wait_for("the change", || (titles(&ok(&stack, SCHEDULES, &token)) == expected).then_some(()));
        assert!(changed.elapsed() < Duration::from_secs(1), "{title:?}: {:?}", changed.elapsed());
        // The next change has to purge it again.
        cached(&stack, SCHEDULES, &token);
    };
    runtime.block_on(async { schedules.insert_one(schedule).await }).unwrap();
    expect(Some("first title"));
    let update = doc! { "$set": { "title": "second title" } };
    runtime.block_on(async { schedules.update_one(one.clone(), update).await }).unwrap();
    expect(Some("second title"));
    runtime.block_on(async { schedules.delete_one(one).await }).unwrap();
    expect(None);
}
