//! The parameters, the responses and the errors of lists, as in the wire contract.

use std::time::Duration;

use holodule_backend::model::Holodule;
use holodule_backend::store::{Settings, Store};
use mongodb::Client;
use mongodb::bson::doc;
use serde_json::json;

use super::{NOW, on_both_engines, on_embedded, setup, store_streamers, stream, videos};
use crate::contract::indexes::old_file;
use crate::http::{self, Reply};
use crate::mongod::Server;
use crate::service::Service;

const CACHED: &str = "public, max-age=0, s-maxage=30, stale-while-revalidate=30, stale-if-error=86400";
const BY_CLOCK: &str = "public, max-age=0, s-maxage=2";
const DAYS: &str = "from=20201201&to=20201231";

/// Checks a problem (RFC 9457) and returns it.
fn problem(reply: &Reply, status: u16) -> serde_json::Value {
    assert_eq!((reply.status, reply.header("content-type")), (status, "application/problem+json"), "{reply:?}");
    let body = reply.json();
    assert_eq!((&body["type"], &body["status"]), (&json!("about:blank"), &json!(status)));
    assert!(!body["title"].as_str().unwrap().is_empty() && !body["detail"].as_str().unwrap().is_empty());
    body
}

async fn a_list_has_the_days_with_their_entries(service: &Service) {
    store_streamers(service).await;
    let whole = Holodule {
        url: Some("https://www.youtube.com/watch?v=b__________".into()),
        description: Some("two\nlines".into()),
        channel_id: Some(json!("UC-own")),
        tags: Some(json!(["game"])),
        ..stream("HL0001", "20201209 235959", "b")
    };
    let unknown = Holodule { key: Some(String::new()), name: None, title: None, ..stream("", "20201209 000000", "a") };
    service
        .holodules([
            stream("HL0001", "20201208 235959", "before"),
            unknown,
            whole,
            stream("HL0001", "20201210 000000", "c"),
            stream("HL0002", "20201211 000000", "after"),
        ])
        .await;
    let reply = service.get("/holodules?from=20201209&to=2020-12-10").await;
    let expected = concat!(
        r#"{"total":3,"holodules":["#,
        r#"{"key":"","code":null,"video_id":"a__________","datetime":"20201209 000000","starts_at":"2020-12-09T00:00:00+09:00","group":null,"channel_id":null},"#,
        r#"{"key":"HL0001_20201209_235959","code":"HL0001","video_id":"b__________","datetime":"20201209 235959","name":"name of HL0001","title":"title of b","url":"https://www.youtube.com/watch?v=b__________","description":"two\nlines","starts_at":"2020-12-09T23:59:59+09:00","group":"a","channel_id":"UC-own"},"#,
        r#"{"key":"HL0001_20201210_000000","code":"HL0001","video_id":"c__________","datetime":"20201210 000000","name":"name of HL0001","title":"title of c","starts_at":"2020-12-10T00:00:00+09:00","group":"a","channel_id":"UC0001"}"#,
        r#"],"next":null}"#,
        "\n"
    );
    assert_eq!((reply.status, reply.body.as_str()), (200, expected));
    assert_eq!((reply.header("content-type"), reply.header("cache-control")), ("application/json", CACHED));
    let today = service.get("/holodules").await;
    assert_eq!((today.json()["total"].as_u64(), today.header("cache-control")), (Some(4), BY_CLOCK));
    let empty = service.get("/holodules?from=20210101&to=20210107").await;
    assert_eq!((empty.status, empty.body.as_str()), (200, "{\"total\":0,\"holodules\":[],\"next\":null}\n"));
}

async fn values_are_alternatives_and_parameters_restrict(service: &Service) {
    store_streamers(service).await;
    let tagged = |holodule, tags| Holodule { tags: Some(tags), ..holodule };
    service
        .holodules([
            tagged(stream("HL0001", "20201209 200000", "a"), json!(["game", "歌 1"])),
            tagged(stream("HL0002", "20201209 210000", "b"), json!(["game"])),
            stream("HLEN01", "20201209 220000", "c"),
            Holodule { code: Some("HLEN01".into()), ..stream("HL0002", "20201209 230000", "d") },
            Holodule { title: Some("ＡＰＥＸ (.*) ｶﾞ".into()), ..stream("HL0001", "20201210 000000", "e") },
        ])
        .await;
    for (query, expected) in [
        ("code=HL0001", &["a", "e"][..]),
        ("code=HL0001&code=HLEN01", &["a", "c", "d", "e"]),
        ("group=b", &["c", "d"]),
        ("group=a", &["a", "b", "e"]),
        ("group=a&code=HLEN01", &[]),
        ("group=a&code=HL0002", &["b"]),
        ("name=name%20of+HL0002", &["b", "d"]),
        ("name=name", &[]),
        ("tag=game", &["a", "b"]),
        ("tag=gam&tag=%E6%AD%8C+1", &["a"]),
        ("tag=game&code=HL0002", &["b"]),
        ("q=apex", &["e"]),
        ("q=%EF%BC%A1%EF%BC%B0", &["e"]),
        ("q=%E3%82%AC", &["e"]),
        ("q=.*", &["e"]),
        ("q=of+hl0002", &["b", "d"]),
        ("sort=-starts_at", &["e", "d", "c", "b", "a"]),
        ("status=live", &["c", "d"]),
        ("status=past&status=upcoming", &["a", "b", "e"]),
        ("status=live&group=b", &["c", "d"]),
    ] {
        assert_eq!(videos(service, &format!("/holodules?{DAYS}&{query}")).await, expected, "{query}");
    }
    assert_eq!(videos(service, &format!("/streamers/HL0001/holodules?{DAYS}&tag=game")).await, ["a"]);
    assert_eq!(videos(service, &format!("/streamers/HLEN%30%31/holodules?{DAYS}")).await, ["c", "d"]);
}

async fn a_state_changes_at_its_second(service: &Service) {
    service
        .holodules([
            stream("HL0001", "20201209 210000", "past"),
            stream("HL0001", "20201209 210001", "live"),
            stream("HL0002", "20201209 230000", "now"),
            stream("HL0001", "20201209 230001", "next"),
        ])
        .await;
    for (status, expected) in [("past", &["past"][..]), ("live", &["live", "now"]), ("upcoming", &["next"])] {
        let path = format!("/holodules?from=20201209&to=20201209&status={status}");
        assert_eq!(videos(service, &path).await, expected, "{status}");
        assert_eq!(service.get(&path).await.header("cache-control"), BY_CLOCK);
    }
}

async fn mistakes_are_problems(service: &Service) {
    store_streamers(service).await;
    let parameters = json!(["from", "to", "code", "name", "group", "tag", "q", "status", "sort", "limit", "cursor"]);
    for (query, parameter, known) in [
        ("code=HL0009", "code", json!(["HL0001", "HL0002", "HLEN01"])),
        ("group=c", "group", json!(["a", "b"])),
        ("status=soon", "status", json!(["upcoming", "live", "past"])),
        ("sort=title", "sort", json!(["starts_at", "-starts_at"])),
        ("channel=x", "channel", parameters),
        ("limit=0", "limit", json!(null)),
        ("limit=1001", "limit", json!(null)),
        ("limit=5&limit=5", "limit", json!(null)),
        ("from=20200101&to=20210101", "to", json!(null)),
        ("from=20201301", "from", json!(null)),
        ("q=x&from=20200101&to=20200402", "q", json!(null)),
        ("q=%FF", "q", json!(null)),
        ("name=%zz", "name", json!(null)),
        ("cursor=AQ", "cursor", json!(null)),
    ] {
        let reply = service.get(&format!("/holodules?{query}")).await;
        let body = problem(&reply, 400);
        assert_eq!((&body["parameter"], &body["known"]), (&json!(parameter), &known), "{query}");
        assert_eq!(reply.header("cache-control"), "no-store");
    }
    problem(&service.get("/streamers/HL0001/holodules?code=HL0001").await, 400);
    problem(&service.get("/streamers/HL0009/holodules").await, 404);
    problem(&service.get("/now?from=20201209").await, 400);
    problem(&service.get(&format!("/holodules?tag={}", "x".repeat(8192))).await, 414);
    for path in ["/holodules", "/now", "/streamers/HL0001/holodules"] {
        let reply = http::send(&service.api, "DELETE", path, &[], "").await;
        problem(&reply, 405);
        assert_eq!(reply.header("allow"), "GET, HEAD");
        problem(&http::send(&service.api, "GET", path, &[], "body").await, 400);
    }
}

async fn a_response_is_tagged(service: &Service) {
    store_streamers(service).await;
    service.holodules([stream("HL0001", "20201209 210000", "a")]).await;
    for path in ["/holodules?from=20201209", "/now", "/streamers/HL0001/holodules", "/streamers", "/streamers/HL0001"] {
        let get = service.get(path).await;
        let head = http::send(&service.api, "HEAD", path, &[], "").await;
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        for name in ["etag", "cache-control", "content-type", "content-length"] {
            assert_eq!(head.header(name), get.header(name), "{path} {name}");
        }
        let known = [("If-None-Match", get.header("etag"))];
        let again = http::send(&service.api, "GET", path, &known, "").await;
        assert_eq!((again.status, again.body.as_str(), again.header("etag")), (304, "", get.header("etag")), "{path}");
    }
    let tag = service.get("/holodules?from=20201209").await.header("etag").to_owned();
    service.holodules([stream("HL0002", "20201209 210000", "b")]).await;
    assert_ne!(service.get("/holodules?from=20201209").await.header("etag"), tag, "the list has changed");
}

async fn requests_are_counted_by_their_route(service: &Service) {
    store_streamers(service).await;
    for (path, route) in [
        ("/holodules?code=HL0001", "/holodules"),
        ("/now", "/now"),
        ("/streamers", "/streamers"),
        ("/streamers/HL0001", "/streamers/{id}"),
        ("/streamers/HL0001/holodules", "/streamers/{code}/holodules"),
        ("/schedules", "/schedules"),
    ] {
        assert_eq!(service.get(path).await.status, 200, "{path}");
        let series =
            format!("backend_requests_total{{listener=\"api\",method=\"GET\",route=\"{route}\",status_class=\"2xx\"}}");
        service.until(&series, 1.0).await;
    }
}

on_both_engines! {
    a_list_has_the_days_with_their_entries,
    values_are_alternatives_and_parameters_restrict,
    a_state_changes_at_its_second,
    mistakes_are_problems,
    a_response_is_tagged,
    requests_are_counted_by_their_route,
}

#[tokio::test]
async fn without_streamers_any_code_can_be_selected_and_no_group() {
    let service = on_embedded(setup()).await;
    service.holodules([stream("HL0501", "20201209 210000", "a")]).await;
    assert_eq!(videos(&service, "/holodules?code=HL0501").await, ["a"]);
    assert_eq!(videos(&service, "/streamers/HL0501/holodules").await, ["a"]);
    assert_eq!(problem(&service.get("/holodules?group=a").await, 400)["known"], json!([]));
    problem(&service.get("/holodules?code=x").await, 400);
    problem(&service.get("/streamers/x/holodules").await, 404);
}

#[tokio::test]
async fn the_assumed_duration_is_a_setting() {
    let mut setup = setup();
    setup.handler.lists.assumed_duration = 60;
    let service = on_embedded(setup).await;
    service.holodules([stream("HL0001", "20201209 225900", "a"), stream("HL0002", "20201209 225901", "b")]).await;
    assert_eq!(videos(&service, "/holodules?status=live").await, ["b"]);
}

#[tokio::test]
async fn searches_are_limited_in_their_rate() {
    let mut setup = setup();
    (setup.handler.lists.search.rate, setup.handler.lists.search.burst) = (1, 2);
    let service = on_embedded(setup).await;
    let mut refused = 0;
    for _ in 0..20 {
        let reply = service.get("/holodules?q=x").await;
        if reply.status == 429 {
            assert_eq!(reply.header("retry-after"), "1");
            problem(&reply, 429);
            refused += 1;
        }
    }
    assert!(refused > 0);
    assert_eq!(service.get("/holodules?tag=x").await.status, 200, "only searches are limited");
    assert_eq!(service.get("/schedules?keyword=x").await.body, "{\"error\":\"Too Many Requests\"}\n");
}

#[tokio::test]
async fn searches_are_limited_in_their_number() {
    let mut setup = setup();
    setup.handler.lists.search.concurrency = 0;
    let service = on_embedded(setup).await;
    for (path, status) in
        [("/holodules?q=x", 503), ("/schedules?keyword=x", 503), ("/holodules", 200), ("/schedules", 200)]
    {
        let reply = service.get(path).await;
        assert_eq!(reply.status, status, "{path}");
        assert_eq!(reply.header("retry-after"), if status == 503 { "1" } else { "" }, "{path}");
    }
}

#[tokio::test]
async fn searches_are_limited_in_their_time() {
    let server = tokio::task::spawn_blocking(|| Server::start(&["--fail-points"])).await.unwrap();
    let mut setup = setup();
    setup.handler.lists.search.timeout = Duration::from_millis(50);
    let settings = Settings {
        url: server.fresh_url().parse().unwrap(),
        operation_timeout: Duration::from_secs(20),
        max_connections: 20,
        text_cache: 1 << 20,
    };
    let service = Service::over(Store::open(&settings).await.unwrap(), setup).await;
    let delay = doc! { "failCommands": ["find", "aggregate"], "appName": "holodule-backend", "blockConnection": true,
    "blockTimeMS": 1000 };
    let fail = doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": delay };
    let client = Client::with_uri_str(server.url()).await.unwrap();
    client.database("admin").run_command(fail).await.unwrap();
    for path in ["/holodules?q=x", "/schedules?keyword=x"] {
        let reply = service.get(path).await;
        assert_eq!((reply.status, reply.header("retry-after")), (503, "1"), "{path}");
    }
    assert_eq!(service.get("/schedules").await.status, 200, "only searches have this timeout");
    tokio::task::spawn_blocking(|| drop(server)).await.unwrap();
}

#[tokio::test]
async fn without_a_store_the_response_is_503() {
    // Nothing listens there: the listener is dropped.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let settings = Settings {
        url: format!("mongodb://{free}/holoduledb").parse().unwrap(),
        operation_timeout: Duration::from_millis(500),
        max_connections: 4,
        text_cache: 1 << 20,
    };
    let service = Service::over(Store::open(&settings).await.unwrap(), setup()).await;
    for path in ["/holodules", "/now", "/streamers/HL0001/holodules"] {
        let reply = service.get(path).await;
        problem(&reply, 503);
        assert_eq!(reply.header("retry-after"), "5", "{path}");
    }
    for path in ["/streamers", "/schedules", "/schedules/1"] {
        assert_eq!(service.get(path).await.body, "{\"error\":\"Service Unavailable\"}\n", "{path}");
    }
}

/// Checks the responses to lists while the store cannot be read.
async fn are_unavailable(service: &Service) {
    for path in ["/holodules?from=20201209", "/holodules?q=x&from=20201209", "/now", "/streamers/HL0001/holodules"] {
        let reply = service.get(path).await;
        assert_eq!(problem(&reply, 503)["detail"], "the store is unavailable", "{path}");
        assert_eq!((reply.header("retry-after"), reply.header("cache-control")), ("5", "no-store"), "{path}");
    }
}

#[tokio::test]
async fn a_list_of_a_store_that_is_closed_for_an_upgrade_is_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        url: format!("embedded:{}", folder.path().join("store.redb").display()).parse().unwrap(),
        operation_timeout: Duration::from_millis(200),
        max_connections: 4,
        text_cache: 0,
    };
    let service = Service::over(Store::open(&settings).await.unwrap(), setup()).await;
    service.holodules([stream("HL0001", "20201209 210000", "a")]).await;
    let closed = service.store.close(Duration::from_secs(20)).await.unwrap();
    are_unavailable(&service).await;
    closed.reopen().await.unwrap();
    drop(closed);
    assert_eq!(videos(&service, "/holodules?from=20201209").await, ["a"]);
    // Another process has taken over.
    service.store.close(Duration::from_secs(20)).await.unwrap().leave();
    are_unavailable(&service).await;
    let plain = service.get("/schedules").await;
    assert_eq!((plain.status, plain.body.as_str()), (503, "{\"error\":\"Service Unavailable\"}\n"));
    assert_eq!(plain.header("retry-after"), "5");
}

#[tokio::test]
async fn a_list_without_its_indexes_is_unavailable_and_a_day_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    old_file(&path, 10).await;
    let settings = Settings {
        url: format!("embedded:{}", path.display()).parse().unwrap(),
        operation_timeout: Duration::from_secs(20),
        max_connections: 4,
        text_cache: 0,
    };
    let store = Store::take_over(&settings, Duration::ZERO).await.unwrap();
    let service = Service::over(store, setup()).await;
    are_unavailable(&service).await;
    assert_eq!(service.get("/holodules/20201209").await.status, 200);
}

#[tokio::test]
async fn the_clock_of_the_service_is_that_of_the_setup() {
    let service = on_embedded(setup()).await;
    let now = holodule_backend::model::WallClock::at_unix(NOW).unwrap().rfc3339();
    assert_eq!(service.get("/now").await.json()["now"], json!(now));
}
