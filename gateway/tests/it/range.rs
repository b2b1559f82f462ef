//! Ranges (RFC 9110, section 14): a service's partial responses pass unchanged, also on cached routes.

use http::Request;

use crate::support::backend::{Backend, Seen, Step, answer};
use crate::support::client::Answer;
use crate::support::h2::Http2;
use crate::support::token::token;
use crate::support::{Gateway, admin, get, request};

const ROUTES: &str = "[{ name = 'files', path = '/files/{*rest}', methods = ['GET', 'HEAD'], query = '*' }, \
     { name = 'cached', path = '/cached/{*rest}', methods = ['GET', 'HEAD'], shared = true }]";

const CONTENT: &str = "0123456789";
const MULTIPART: &str =
    "\r\n--b\r\nContent-Range: bytes 0-0/10\r\n\r\n0\r\n--b\r\nContent-Range: bytes 9-9/10\r\n\r\n9\r\n--b--\r\n";

/// A service with one file, which honours ranges if `If-Range` is absent or has its validator.
fn service(seen: &Seen) -> Vec<Step> {
    let fields = |range: &'static str, kind: &'static str| {
        let mut fields = vec![
            ("Accept-Ranges", "bytes"),
            ("ETag", "\"one\""),
            ("Cache-Control", "public, s-maxage=600"),
            ("Content-Type", kind),
        ];
        fields.extend((!range.is_empty()).then_some(("Content-Range", range)));
        fields
    };
    let is_current = matches!(seen.values("if-range").as_slice(), [] | ["\"one\""]);
    let range =
        seen.values("range").first().copied().filter(|_| is_current && seen.method == "GET").unwrap_or_default();
    match range {
        "bytes=2-4" => answer("206 Partial Content", &fields("bytes 2-4/10", "text/plain"), &CONTENT[2..5]),
        "bytes=-1" => answer("206 Partial Content", &fields("bytes 9-9/10", "text/plain"), &CONTENT[9..]),
        "bytes=0-0,9-9" => answer("206 Partial Content", &fields("", "multipart/byteranges; boundary=b"), MULTIPART),
        "bytes=10-" => answer("416 Range Not Satisfiable", &fields("bytes */10", "text/plain"), ""),
        _ if seen.method == "HEAD" => {
            let steps = answer("200 OK", &fields("", "text/plain"), CONTENT);
            let [Step::Write(bytes)] = steps.as_slice() else { unreachable!("one write") };
            vec![Step::Write(bytes[..bytes.len() - CONTENT.len()].to_vec())]
        }
        _ => answer("200 OK", &fields("", "text/plain"), CONTENT),
    }
}

async fn start() -> (Gateway, Backend) {
    let (service, admin) = (Backend::start(service).await, admin().await);
    let settings = [("ROUTE", ROUTES), ("CACHE_MAX_BYTES", "67108864")];
    (Gateway::start_with(&service, &admin, &settings), service)
}

/// The fields of a request, the expected status, `Content-Range` and content.
type Case = (&'static [(&'static str, &'static str)], u16, &'static str, &'static str);

const CASES: [Case; 8] = [
    (&[("range", "bytes=2-4")], 206, "bytes 2-4/10", "234"),
    (&[("range", "bytes=-1")], 206, "bytes 9-9/10", "9"),
    (&[("range", "bytes=0-0,9-9")], 206, "", MULTIPART),
    (&[("range", "bytes=10-")], 416, "bytes */10", ""),
    (&[("range", "bytes=2-4"), ("if-range", "\"one\"")], 206, "bytes 2-4/10", "234"),
    (&[("range", "bytes=2-4"), ("if-range", "\"two\"")], 200, "", CONTENT),
    (&[("if-range", "\"one\"")], 200, "", CONTENT),
    // A unit that the service does not know.
    (&[("range", "lines=1-2")], 200, "", CONTENT),
];

fn assert_case(answer: &Answer, (fields, status, range, content): Case) {
    assert_eq!((answer.status, answer.body.as_str()), (status, content), "{fields:?}: {answer:?}");
    assert_eq!(answer.values("content-range").first().copied().unwrap_or_default(), range, "{fields:?}");
    assert_eq!(answer.value("content-length"), content.len().to_string());
    assert_eq!((answer.value("accept-ranges"), answer.value("etag")), ("bytes", "\"one\""));
    assert_eq!(answer.value("cache-control"), "private, no-cache");
    let kind = if content == MULTIPART { "multipart/byteranges; boundary=b" } else { "text/plain" };
    assert_eq!(answer.value("content-type"), kind);
    assert!(answer.values("x-cache").is_empty(), "{fields:?}: {answer:?}");
}

/// Sends all cases for `path`, over HTTP/1.1 and HTTP/2, and checks what the service received.
async fn assert_cases(gateway: &Gateway, service: &Backend, path: &str) {
    let client = Http2::open(gateway.https).await;
    let mut connection = gateway.connect().await;
    for case in CASES {
        let (fields, ..) = case;
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        service.forget();
        assert_case(&connection.exchange(get(path, &lines)).await, case);
        let request = Request::get(format!("https://localhost{path}"));
        let request = request.header("authorization", format!("JWT {}", token("user01")));
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        assert_case(&client.exchange(request.body("").unwrap()).await, case);
        let seen = service.seen();
        assert_eq!(seen.len(), 2, "{fields:?}");
        for (name, value) in fields {
            assert!(seen.iter().all(|seen| seen.values(name) == [*value]), "{fields:?}: {seen:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partial_responses_pass_unchanged_over_both_versions() {
    let (gateway, service) = start().await;
    assert_cases(&gateway, &service, "/files/a").await;
    service.forget();
    let head = gateway.exchange(request("HEAD", "/files/a", "Range: bytes=2-4\r\n")).await;
    assert_eq!((head.status, head.value("content-length"), head.body.as_str()), (200, "10", ""));
    assert_eq!(service.only().values("range"), ["bytes=2-4"]);
}

/// RFC 9111, section 3.3, allows a cache to combine parts; this one forwards requests for them, and stores none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_a_cached_response_is_requested_from_the_service() {
    let (gateway, service) = start().await;
    // Before the response is stored, and afterwards.
    assert_cases(&gateway, &service, "/cached/a").await;
    for source in ["miss", "hit"] {
        let answer = gateway.get("/cached/a").await;
        assert_eq!((answer.status, answer.value("x-cache"), answer.body.as_str()), (200, source, CONTENT));
    }
    assert_cases(&gateway, &service, "/cached/a").await;
    service.forget();
    let answer = gateway.get("/cached/a").await;
    assert_eq!((answer.value("x-cache"), answer.body.as_str()), ("hit", CONTENT));
    assert!(service.seen().is_empty());
}

#[tokio::test]
async fn a_partial_response_to_a_whole_request_is_not_stored() {
    let service = Backend::start(|_| {
        let fields = [("Content-Range", "bytes 2-4/10"), ("Cache-Control", "public, s-maxage=600")];
        answer("206 Partial Content", &fields, "234")
    })
    .await;
    let admin = admin().await;
    let gateway = Gateway::start_with(&service, &admin, &[("ROUTE", ROUTES), ("CACHE_MAX_BYTES", "67108864")]);
    for _ in 0..2 {
        let answer = gateway.get("/cached/a").await;
        assert_eq!((answer.status, answer.body.as_str(), answer.values("x-cache")), (206, "234", vec![]), "{answer:?}");
    }
    // The fetch for the cache, and the request of the client.
    assert!(service.seen().len() > 2);
}
