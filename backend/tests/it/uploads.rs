//! Management of holodules: bulk uploads, single changes, exports.

use serde_json::json;

use crate::http::{self, Reply};
use crate::service::{Service, Setup, holodule};

const SAMPLE: &str = include_str!("../../../ops/sample/holodules.csv");
const DEFECTS: &str = include_str!("../../../ops/sample/defects.csv");

async fn upload(service: &Service, media_type: &str, body: &str) -> Reply {
    http::send(&service.admin, "POST", "/holodules", &[("Content-Type", media_type)], body).await
}

async fn export(service: &Service, form: &str) -> Reply {
    http::send(&service.admin, "GET", &format!("/holodules?format={form}"), &[], "").await
}

fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.split("\r\n").collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn the_sample_is_stored_once_and_exported_unchanged() {
    let service = Service::start().await;
    let first = upload(&service, "text/csv; charset=utf-8", SAMPLE).await;
    let counts = json!({"read": 587, "inserted": 587, "updated": 0, "unchanged": 0, "rejected": []});
    assert_eq!((first.status, first.json()), (200, counts));
    let again = upload(&service, "text/csv", SAMPLE).await;
    let counts = json!({"read": 587, "inserted": 0, "updated": 0, "unchanged": 587, "rejected": []});
    assert_eq!(again.json(), counts);
    assert_eq!(service.get("/holodules/20201209").await.json()["result"], 17);
    assert_eq!(service.get("/holodules/20201213").await.status, 404);

    let csv = export(&service, "csv").await;
    assert_eq!((csv.status, csv.header("content-type")), (200, "text/csv; charset=utf-8"));
    assert_eq!(csv.header("x-unreadable-documents"), "0");
    // The collector leaves ties unordered.
    assert_eq!(lines(&csv.body), lines(SAMPLE));
    for (form, media_type) in [("ndjson", "application/x-ndjson"), ("json", "application/json")] {
        let other = Service::start().await;
        let exported = export(&service, form).await;
        assert_eq!(exported.header("content-type"), media_type);
        let counts = upload(&other, media_type, &exported.body).await.json();
        assert_eq!((counts["inserted"].clone(), counts["rejected"].clone()), (json!(587), json!([])), "{form}");
        assert_eq!(export(&other, "csv").await.body, csv.body, "{form}");
    }
    assert_eq!(service.metric("backend_uploaded_rows_total{result=\"unchanged\"}").await, 587.0);
}

#[tokio::test]
async fn defects_are_refused_row_by_row_with_a_reason() {
    let service = Service::start().await;
    let reply = upload(&service, "text/csv", DEFECTS).await;
    let summary = reply.json();
    assert_eq!((reply.status, summary["read"].clone(), summary["inserted"].clone()), (200, json!(10), json!(2)));
    let rejected = summary["rejected"].as_array().unwrap();
    let rows: Vec<u64> = rejected.iter().map(|reject| reject["row"].as_u64().unwrap()).collect();
    assert_eq!(rows, [1, 2, 3, 4, 5, 6, 7, 10]);
    assert_eq!(rejected[6]["reason"], "superseded by row 8");
    assert!(rejected[7]["reason"].as_str().unwrap().contains("url"), "{}", rejected[7]);
}

#[tokio::test]
async fn a_response_of_the_api_can_be_uploaded() {
    let service = Service::start().await;
    service.holodules([holodule(1, "20201209 230000"), holodule(2, "20201209 220000")]).await;
    let answer = service.get("/holodules/20201209").await;
    let other = Service::start().await;
    assert_eq!(upload(&other, "application/json", &answer.body).await.json()["inserted"], 2);
    assert_eq!(other.get("/holodules/20201209").await.body, answer.body);
}

#[tokio::test]
async fn a_file_with_too_many_rows_is_rejected_early() {
    let service = Service::start().await;
    let row = serde_json::to_string(&holodule(1, "20201209 230000")).unwrap();
    // Nearly every byte is a row, which would take half a gigabyte.
    let (commas, lines) = (format!("[{row}{}]", ",".repeat(900_000)), format!("{row}\n{}", "x\n".repeat(450_000)));
    for (media_type, body) in [("application/json", commas), ("application/x-ndjson", lines)] {
        let reply = upload(&service, media_type, &body).await;
        assert_eq!(reply.status, 413, "{media_type}");
        assert_eq!(reply.json()["description"], "the upload has more than 200000 rows: send it in parts");
    }
    assert_eq!(service.get("/holodules/20201209").await.status, 404, "nothing was stored");
}

#[tokio::test]
async fn a_file_with_too_many_values_is_rejected_early() {
    let service = Service::start().await;
    let rows = |objects: usize| {
        let tags = vec!["{}"; objects].join(",");
        let row = |n| format!("{{\"video_id\":\"video{n:06}\",\"datetime\":\"20201209 230000\",\"tags\":[{tags}]}}\n");
        (0..1_000).map(row).collect::<String>()
    };
    let reply = upload(&service, "application/x-ndjson", &rows(204)).await;
    let description = "the upload has too many JSON values: send it in parts";
    assert_eq!((reply.status, reply.json()["description"].as_str()), (413, Some(description)));
    assert_eq!(service.get("/holodules/20201209").await.status, 404, "nothing was stored");
    let reply = upload(&service, "application/x-ndjson", &rows(205)).await.json();
    assert_eq!(reply["rejected"].as_array().unwrap().len(), 1_000, "the limit of one row applies too");
    assert_eq!(upload(&service, "application/x-ndjson", &rows(20)).await.json()["inserted"], 1_000);
}

const ROW: &str = r#"{"video_id":"aaaaaaaaaaa","datetime":"20201209 230000"}"#;

#[tokio::test]
async fn an_invalid_file_stores_nothing() {
    let mut setup = Setup::default();
    setup.handler.body_limit = 4096;
    let service = Service::with(setup).await;
    for (media_type, body, status) in [
        ("text/csv", "a,b\r\n1,2\r\n", 400),
        ("text/csv", "", 400),
        ("application/json", "{\"x\":1}", 400),
        ("application/json", "", 400),
        ("application/json", &format!("[{ROW}] GARBAGE [{ROW}]"), 400),
        ("application/json", &format!("[{ROW}][{ROW}]"), 400),
        ("application/json", &format!("{{\"holodules\":[{ROW}]"), 400),
        ("application/xml", "<x/>", 415),
        ("application/x-ndjson", &"x".repeat(5000), 413),
    ] {
        let reply = upload(&service, media_type, body).await;
        assert_eq!(reply.status, status, "{media_type} {body:.20}");
        assert!(reply.json()["description"].is_string());
    }
    assert_eq!(service.store.count_holodules().await.unwrap(), 0);
}

#[tokio::test]
async fn further_uploads_are_refused_at_once() {
    use tokio::io::AsyncWriteExt;

    let mut setup = Setup::default();
    setup.handler.concurrent_uploads = 1;
    let service = Service::with(setup).await;
    let mut stream = http::connect(&service.admin).await;
    let begun =
        b"POST /holodules HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\nContent-Length: 100\r\n\r\nkey";
    stream.write_all(begun).await.unwrap();
    // Two: this request, and the scrape itself.
    service.until("backend_requests_in_flight{listener=\"admin\"}", 2.0).await;
    let reply = upload(&service, "text/csv", SAMPLE).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, "1"));
}

#[tokio::test]
async fn one_is_put_changed_and_deleted() {
    let service = Service::start().await;
    let holodule = holodule(1, "20201209 230000");
    let body = serde_json::to_string(&holodule).unwrap();
    let put = service.admin("PUT", "/holodules/video000001", &body).await;
    assert_eq!((put.status, put.body.trim_end()), (201, body.as_str()));
    assert_eq!(service.admin("PUT", "/holodules/video000001", &body).await.status, 200);
    let changed = body.replace("title 1", "another");
    assert_eq!(service.admin("PUT", "/holodules/video000001", &changed).await.status, 200);
    assert_eq!(service.get("/holodules/20201209").await.json()["holodules"][0]["title"], "another");

    let keyed = body.replace("video000001", "").replace("https://www.youtube.com/watch?v=", "");
    let keyed = keyed.replace("HL0001", "HL0002");
    assert_eq!(service.admin("PUT", "/holodules/HL0002_20201209_230000", &keyed).await.status, 201);
    assert_eq!(service.get("/holodules/20201209").await.json()["result"], 2);

    for (path, body) in [
        ("/holodules/video000002", body.as_str()),
        ("/holodules/HL0001_20201209_230000", &body),
        ("/holodules/video000001", "{}"),
        ("/holodules/video000001", "nonsense"),
        ("/holodules/video000001", &body.replace("20201209 230000", "20201309 230000")),
    ] {
        assert_eq!(service.admin("PUT", path, body).await.status, 400, "{path} {body}");
    }
    assert_eq!(service.admin("DELETE", "/holodules/video000001", "").await.status, 204);
    assert_eq!(service.admin("DELETE", "/holodules/video000001", "").await.status, 404);
    assert_eq!(service.admin("DELETE", "/holodules/HL0002_20201209_230000", "").await.status, 204);
    assert_eq!(service.get("/holodules/20201209").await.status, 404);
}

#[tokio::test]
async fn an_empty_store_exports_an_empty_file() {
    let service = Service::start().await;
    assert_eq!(export(&service, "csv").await.body, "\u{feff}key,video_id,datetime,name,title,url,description\r\n");
    assert_eq!(export(&service, "ndjson").await.body, "");
    assert_eq!(export(&service, "json").await.body, "[]\n");
    for query in ["format=xml", "format=csv&x=1", "form=csv"] {
        let reply = http::send(&service.admin, "GET", &format!("/holodules?{query}"), &[], "").await;
        assert_eq!(reply.status, 400, "{query}");
    }
}
