//! The table of `GET, HEAD /holodules/{yyyymmdd}` in the wire contract, row by row.

use holodule_backend::model::Holodule;

use crate::http::{self, Reply};
use crate::service::{Service, holodule};

const CACHED: &str = "public, max-age=0, s-maxage=5, stale-while-revalidate=30, stale-if-error=86400";

async fn with_two_days() -> Service {
    let service = Service::start().await;
    let tie = Holodule { key: Some("HL0001_20201209_230000".to_owned()), ..holodule(3, "20201209 230000") };
    let coded = Holodule { code: Some("HL0004".to_owned()), description: None, ..holodule(4, "20201209 000000") };
    service
        .holodules([
            holodule(1, "20201208 235959"),
            coded,
            holodule(2, "20201209 230000"),
            tie,
            holodule(5, "20201210 000000"),
        ])
        .await;
    service
}

fn refused(reply: &Reply, status: u16, body: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.body, format!("{body}\n"));
    assert_eq!(reply.header("content-type"), "application/json");
}

#[tokio::test]
async fn a_day_is_listed_newest_first_ties_by_key() {
    let service = with_two_days().await;
    let reply = service.get("/holodules/20201209").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.header("cache-control"), CACHED);
    let expected = concat!(
        r#"{"result":3,"holodules":["#,
        r#"{"key":"HL0001_20201209_230000","video_id":"video000003","datetime":"20201209 230000","name":"ときのそら","title":"title 3","url":"https://www.youtube.com/watch?v=video000003","description":"two\nlines"},"#,
        r#"{"key":"HL0002_20201209_230000","video_id":"video000002","datetime":"20201209 230000","name":"ときのそら","title":"title 2","url":"https://www.youtube.com/watch?v=video000002","description":"two\nlines"},"#,
        r#"{"key":"HL0004_20201209_000000","code":"HL0004","video_id":"video000004","datetime":"20201209 000000","name":"ときのそら","title":"title 4","url":"https://www.youtube.com/watch?v=video000004"}"#,
        "]}\n"
    );
    assert_eq!(reply.body, expected);
    assert_eq!(reply.header("content-length"), expected.len().to_string());
}

#[tokio::test]
async fn the_capital_spelling_has_the_same_response() {
    let service = with_two_days().await;
    let (small, capital) = (service.get("/holodules/20201209").await, service.get("/Holodules/20201209").await);
    assert_eq!(
        (small.status, small.body, small.headers["etag"].clone()),
        (200, capital.body, capital.headers["etag"].clone())
    );
}

#[tokio::test]
async fn head_returns_only_headers() {
    let service = with_two_days().await;
    let get = service.get("/holodules/20201209").await;
    let head = http::send(&service.api, "HEAD", "/holodules/20201209", &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    for name in ["etag", "cache-control", "content-type", "content-length"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
}

#[tokio::test]
async fn a_day_without_holodules_is_not_found() {
    let service = with_two_days().await;
    let reply = service.get("/holodules/20201213").await;
    refused(&reply, 404, r#"{"error":"Not found"}"#);
    assert_eq!(reply.header("cache-control"), "public, max-age=0, s-maxage=5");
}

#[tokio::test]
async fn an_invalid_day_is_a_bad_request() {
    let service = with_two_days().await;
    for day in [
        "2020120",
        "202012090",
        "20201301",
        "20210229",
        "2020-12-09",
        "2020120%39",
        "%EF%BC%92020120",
        "..",
        "20201209;",
    ] {
        let reply = service.get(&format!("/holodules/{day}")).await;
        refused(&reply, 400, r#"{"error":"Bad Request"}"#);
        assert_eq!(reply.header("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn another_method_is_not_allowed() {
    let service = with_two_days().await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        let reply = http::send(&service.api, method, "/holodules/20201209", &[], "").await;
        refused(&reply, 405, r#"{"error":"Method Not Allowed"}"#);
        assert_eq!(reply.header("allow"), "GET, HEAD");
    }
}

#[tokio::test]
async fn other_paths_and_the_admin_routes_are_not_found() {
    let service = with_two_days().await;
    for path in ["/", "/holodules/", "/holodules/20201209/", "/users", "/metrics", "/credentials/verify", "/readyz"] {
        refused(&service.get(path).await, 404, r#"{"error":"Not found"}"#);
    }
    let posted =
        http::send(&service.api, "POST", "/credentials/verify", &[("Content-Type", "application/json")], "{}").await;
    assert_eq!(posted.status, 404);
}

#[tokio::test]
async fn an_unchanged_response_is_not_sent_again() {
    let service = with_two_days().await;
    let tag = service.get("/holodules/20201209").await.headers["etag"].clone();
    assert!(tag.starts_with('"'), "a strong one: {tag}");
    for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
        let reply = http::send(&service.api, "GET", "/holodules/20201209", &[("If-None-Match", &known)], "").await;
        assert_eq!((reply.status, reply.body.as_str()), (304, ""), "{known}");
        assert_eq!((reply.header("etag"), reply.header("cache-control")), (tag.as_str(), CACHED));
    }
    let reply = http::send(&service.api, "GET", "/holodules/20201209", &[("If-None-Match", "\"other\"")], "").await;
    assert_eq!(reply.status, 200);
    service.holodules([Holodule { title: Some("another".to_owned()), ..holodule(2, "20201209 230000") }]).await;
    let reply = http::send(&service.api, "GET", "/holodules/20201209", &[("If-None-Match", &tag)], "").await;
    assert_eq!(reply.status, 200, "the day has changed");
}

#[tokio::test]
async fn a_read_takes_no_body_and_ignores_the_query() {
    let service = with_two_days().await;
    let reply = http::send(&service.api, "GET", "/holodules/20201209", &[], "GET /users HTTP/1.1\r\n\r\n").await;
    refused(&reply, 400, r#"{"error":"Bad Request"}"#);
    let empty = http::send(&service.api, "GET", "/holodules/20201209?x=1", &[("Content-Length", "0")], "").await;
    assert_eq!(empty.status, 200);
}
