//! The header fields of responses, from the backend and of the gateway.

use serde_json::Value;

use crate::program::{Program, folder};
use crate::support::backend::{Backend, Seen, Step, answer, json_answer};
use crate::support::{DAY, DAY_BODY, Gateway, admin, api, get, request};

#[tokio::test]
async fn a_response_is_private_and_reveals_nothing_about_the_backend() {
    let api = Backend::start(|_| {
        let headers = [
            ("Content-Type", "application/json"),
            ("ETag", "\"abc\""),
            ("Cache-Control", "public, max-age=0, s-maxage=5"),
            ("CDN-Cache-Control", "max-age=60"),
            ("Surrogate-Control", "max-age=60"),
            ("Expires", "Thu, 01 Jan 2099 00:00:00 GMT"),
            ("Age", "3"),
            ("Server", "backend/1.0"),
            ("X-Request-Id", "the backend's"),
            ("X-Content-Type-Options", "none"),
            ("Strict-Transport-Security", "max-age=1"),
            ("Vary", "Accept"),
            ("X-Kept", "yes"),
        ];
        answer("200 OK", &headers, DAY_BODY)
    })
    .await;
    let admin = admin().await;
    let gateway = Gateway::start(&api, &admin);
    let answer = gateway.get(DAY).await;
    let mut names: Vec<_> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "cache-control",
        "connection",
        "content-length",
        "content-type",
        "date",
        "etag",
        "strict-transport-security",
        "vary",
        "x-content-type-options",
        "x-kept",
        "x-request-id",
    ];
    assert_eq!(names, expected);
    assert_eq!(answer.value("cache-control"), "private, no-cache");
    assert_eq!(answer.value("etag"), "\"abc\"");
    assert_eq!(answer.value("x-content-type-options"), "nosniff");
    assert_eq!(answer.value("strict-transport-security"), "max-age=31536000");
    assert_eq!(answer.value("x-request-id"), api.only().values("x-request-id")[0]);
    assert_eq!(answer.body, DAY_BODY);
}

#[tokio::test]
async fn hsts_is_configurable() {
    let (api, admin) = (api().await, admin().await);
    for (max_age, expected) in [("0", vec![]), ("60", vec!["max-age=60"])] {
        let gateway = Gateway::start_with(&api, &admin, &[("HSTS_MAX_AGE", max_age)]);
        for path in [DAY, "/nothing", "//"] {
            assert_eq!(gateway.get(path).await.values("strict-transport-security"), expected, "{path}");
        }
    }
}

#[tokio::test]
async fn every_response_of_the_gateway_has_a_request_id_and_is_not_stored() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    for request in [
        get("/nothing", ""),
        request("PUT", DAY, ""),
        get("//", ""),
        get(DAY, "Authorization: x\r\n"),
        "GET /auth HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
    ] {
        let answer = gateway.exchange(&request).await;
        assert!(answer.status >= 400);
        assert_eq!(answer.value("x-request-id").len(), 32, "{request}");
        assert_eq!(answer.value("x-content-type-options"), "nosniff");
        assert_eq!(answer.value("cache-control"), "no-store");
        assert!(answer.values("server").is_empty());
    }
}

#[tokio::test]
async fn a_304_is_forwarded() {
    let api = Backend::start(|seen| {
        assert_eq!(seen.values("if-none-match"), ["\"abc\""]);
        vec![Step::Write(
            b"HTTP/1.1 304 Not Modified\r\nETag: \"abc\"\r\nCache-Control: public, s-maxage=5\r\n\r\n".to_vec(),
        )]
    })
    .await;
    let admin = admin().await;
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    for _ in 0..2 {
        let answer = connection.exchange(get(DAY, "If-None-Match: \"abc\"\r\n")).await;
        assert_eq!((answer.status, answer.body.as_str()), (304, ""));
        assert_eq!((answer.value("etag"), answer.value("cache-control")), ("\"abc\"", "private, no-cache"));
    }
}

#[tokio::test]
async fn refusals_of_the_backend_are_forwarded_in_the_contracts_shape() {
    let api = Backend::start(|seen| match seen.target.rsplit('/').next().unwrap() {
        "20201213" => json_answer("404 Not Found", "{\"error\":\"Not found\"}\n"),
        "2020" => json_answer("400 Bad Request", "{\"error\":\"Bad Request\"}\n"),
        _ => answer(
            "503 Service Unavailable",
            &[("Content-Type", "application/json"), ("Retry-After", "7")],
            "{\"error\":\"Service Unavailable\"}\n",
        ),
    })
    .await;
    let admin = admin().await;
    let gateway = Gateway::start(&api, &admin);
    gateway.get("/holodules/20201213").await.assert_json(404, r#"{"error":"Not found"}"#);
    gateway.get("/holodules/2020").await.assert_json(400, r#"{"error":"Bad Request"}"#);
    let answer = gateway.get("/holodules/20201214").await;
    answer.assert_json(503, r#"{"error":"Service Unavailable"}"#);
    assert_eq!(answer.value("retry-after"), "7");
}

#[tokio::test]
async fn bodies_of_any_framing_and_size_are_forwarded_whole() {
    let large = "0123456789abcdef".repeat(64 * 1024);
    let expected = large.clone();
    let api = Backend::start(move |seen| {
        use crate::support::backend::Step::{Close, Write};
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n";
        match seen.target.as_str() {
            "/holodules/length" => {
                vec![Write(format!("{head}Content-Length: {}\r\n\r\n{large}", large.len()).into_bytes())]
            }
            "/holodules/chunks" => {
                let (first, second) = large.split_at(70_000);
                let chunks = format!("{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n", first.len(), second.len());
                vec![Write(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}").into_bytes())]
            }
            "/holodules/close" => vec![Write(format!("{head}\r\n{large}").into_bytes()), Close],
            _ => answer("204 No Content", &[], ""),
        }
    })
    .await;
    let admin = admin().await;
    let gateway = Gateway::start(&api, &admin);
    for path in ["/holodules/length", "/holodules/chunks", "/holodules/close"] {
        let answer = gateway.get(path).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body == expected, "{path}: {} bytes", answer.body.len());
    }
    let mut connection = gateway.connect().await;
    assert_eq!(connection.exchange(get("/holodules/nothing", "")).await.status, 204);
    assert_eq!(connection.exchange(get("/holodules/nothing", "")).await.status, 204);
}

#[tokio::test]
async fn a_response_of_100_fields_is_forwarded_and_one_of_more_is_502() {
    let answers = |seen: &Seen| {
        let fields = if seen.target == DAY { 100 } else { 101 };
        let others = "X-Field: 1\r\n".repeat(fields - 1);
        vec![Step::Write(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{others}\r\nok").into_bytes())]
    };
    let (api, admin) = (Backend::start(answers).await, admin().await);
    let folder = folder();
    let program = Program::start(folder.path(), &api, &admin, &[]).await;
    let answer = program.connect().await.exchange(get(DAY, "")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert_eq!(answer.values("x-field").len(), 99);
    let answer = program.connect().await.exchange(get("/holodules/20201210", "")).await;
    answer.assert_json(502, r#"{"error":"Bad Gateway"}"#);
    let log = program.stop();
    let cause = "invalid response from the api upstream: its head exceeds 64 KiB or 100 fields";
    let failed = log.lines().filter(|line| line.contains("a request failed"));
    let causes: Vec<_> = failed.map(|line| serde_json::from_str::<Value>(line).unwrap()["cause"].clone()).collect();
    assert_eq!(causes, [cause], "{log}");
}
