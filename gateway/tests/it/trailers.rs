//! ops/WIRE.md, trailers: those of a response are filtered and passed on.

use http::{HeaderMap, Request};

use crate::support::backend::{Backend, Step};
use crate::support::h2::Http2;
use crate::support::token::token;
use crate::support::{Gateway, admin, get, request};

/// All in one route: its rules remove a field.
const ROUTES: &str = "[{ name = 'files', path = '/files/{*rest}', methods = ['GET', 'HEAD', 'POST'], \
       response_headers = { remove = ['X-Powered-By'], set = { X-Frame-Options = 'DENY' } } }, \
     { name = 'cached', path = '/cached', methods = ['GET'], shared = true }]";

const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Server-Timing, X-Hop\r\n\
                    Connection: X-Hop\r\nCache-Control: public, s-maxage=600\r\n\r\n";

/// The trailers of the service, of which only two are passed on.
const TRAILERS: &str = "Server-Timing: total;dur=1\r\nContent-Length: 99\r\nTransfer-Encoding: gzip\r\n\
                        X-Auth-Identity: root\r\nX_Auth_Identity: root\r\nSet-Cookie: a=b\r\nX-Powered-By: Flask\r\n\
                        X_Powered_By: Flask\r\nX-Frame-Options: ALLOWALL\r\nX-Hop: 1\r\nConnection: close\r\n\
                        Access-Control-Allow-Origin: *\r\nX-Request-Id: 1\r\nX-Checksum: abc\r\n";

const PASSED: [(&str, &str); 2] = [("server-timing", "total;dur=1"), ("x-checksum", "abc")];

async fn start() -> (Gateway, Backend) {
    let service = Backend::start(|seen| {
        let content = if seen.method == "HEAD" { String::new() } else { format!("3\r\nabc\r\n0\r\n{TRAILERS}\r\n") };
        let content = if seen.target.ends_with("/empty") { format!("0\r\n{TRAILERS}\r\n") } else { content };
        vec![Step::Write(format!("{HEAD}{content}").into_bytes())]
    })
    .await;
    let admin = admin().await;
    let settings = [("ROUTE", ROUTES), ("CACHE_MAX_BYTES", "67108864")];
    (Gateway::start_with(&service, &admin, &settings), service)
}

/// The lines behind the last chunk of the response to `request`, and of a second one on the same connection.
async fn lines_of(gateway: &Gateway, request: &str) -> Vec<String> {
    let mut connection = gateway.connect().await;
    let mut read = Vec::new();
    for _ in 0..2 {
        connection.send(request).await;
        let head = connection.read_until("\r\n\r\n").await.to_lowercase();
        assert!(head.contains("transfer-encoding: chunked") && !head.contains("trailer:"), "{head}");
        let content = if request.contains("/empty") { "0\r\n" } else { "3\r\nabc\r\n0\r\n" };
        assert_eq!(connection.read_until("0\r\n").await, content);
        let mut lines = Vec::new();
        loop {
            match connection.read_until("\r\n").await.trim_end() {
                "" => break,
                line => lines.push(line.to_lowercase()),
            }
        }
        lines.sort_unstable();
        read.push(lines);
    }
    assert_eq!(read[0], read[1]);
    read.remove(0)
}

fn passed() -> Vec<String> {
    PASSED.iter().map(|(name, value)| format!("{name}: {value}")).collect()
}

#[tokio::test]
async fn trailers_are_filtered_and_passed_on_over_http_1_1_if_the_client_requests_them() {
    let (gateway, service) = start().await;
    for path in ["/files/a", "/files/empty"] {
        for te in ["TE: trailers\r\n", "TE: gzip, Trailers\r\nConnection: TE\r\n"] {
            assert_eq!(lines_of(&gateway, &get(path, te)).await, passed(), "{path} {te}");
        }
        for te in ["", "TE: gzip\r\n", "TE: trailer\r\n"] {
            assert!(lines_of(&gateway, &get(path, te)).await.is_empty(), "{path} {te}");
        }
        // Through pingora's session.
        let post = request("POST", path, "TE: trailers\r\nContent-Length: 3\r\n") + "xyz";
        assert_eq!(lines_of(&gateway, &post).await, passed(), "{path}");
        let post = request("POST", path, "Content-Length: 3\r\n") + "xyz";
        assert!(lines_of(&gateway, &post).await.is_empty(), "{path}");
    }
    for seen in service.seen() {
        let expected: &[&str] = if seen.values("te").is_empty() { &[] } else { &["te"] };
        assert_eq!(seen.values("connection"), expected, "{seen:?}");
    }
    assert_eq!(service.seen().iter().filter(|seen| seen.values("te") == ["trailers"]).count(), 12);
}

#[tokio::test]
async fn a_response_to_http_1_0_or_without_a_body_has_no_trailers() {
    let (gateway, _service) = start().await;
    let answer = gateway.exchange(get("/files/a", "TE: trailers\r\n").replace("HTTP/1.1", "HTTP/1.0")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "abc"));
    let mut connection = gateway.connect().await;
    for _ in 0..2 {
        let answer = connection.exchange(request("HEAD", "/files/a", "TE: trailers\r\n")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    }
}

#[tokio::test]
async fn a_response_through_the_cache_has_no_trailers() {
    let (gateway, service) = start().await;
    let mut connection = gateway.connect().await;
    for source in ["miss", "hit"] {
        let answer = connection.exchange(get("/cached", "TE: trailers\r\n")).await;
        assert_eq!(
            (answer.value("x-cache"), answer.value("content-length"), answer.body.as_str()),
            (source, "3", "abc")
        );
        assert!(answer.values("server-timing").is_empty());
    }
    assert!(service.only().values("te").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_are_filtered_and_passed_on_over_http_2() {
    let (gateway, _service) = start().await;
    let client = Http2::open(gateway.https).await;
    for (method, path, content) in
        [("GET", "/files/a", "abc"), ("GET", "/files/empty", ""), ("POST", "/files/a", "abc"), ("HEAD", "/files/a", "")]
    {
        let request = Request::builder().method(method).uri(format!("https://localhost{path}"));
        let request = request.header("authorization", format!("JWT {}", token("user01"))).body(()).unwrap();
        let (response, mut upload) = client.begin(request, method != "POST").await.unwrap();
        if method == "POST" {
            let trailers = HeaderMap::from_iter([("x-request-trailer".parse().unwrap(), "1".parse().unwrap())]);
            upload.send_data("xyz".into(), false).unwrap();
            upload.send_trailers(trailers).unwrap();
        }
        let (head, mut body) = response.await.unwrap().into_parts();
        assert!(head.headers.get("trailer").is_none());
        let mut received = Vec::new();
        while let Some(data) = body.data().await {
            received.extend_from_slice(&data.unwrap());
        }
        assert_eq!(received, content.as_bytes(), "{method} {path}");
        let trailers = body.trailers().await.unwrap();
        let trailers: Vec<_> =
            trailers.iter().flatten().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(trailers, if method == "HEAD" { vec![] } else { PASSED.to_vec() }, "{method} {path}");
    }
}

#[tokio::test]
async fn trailers_of_a_request_are_discarded() {
    let (gateway, service) = start().await;
    let post = request("POST", "/files/a", "Transfer-Encoding: chunked\r\nTrailer: X-End\r\n");
    let answer = gateway.exchange(post + "3\r\nxyz\r\n0\r\nX-End: 1\r\nX-Auth-Identity: root\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    let seen = service.only();
    assert_eq!((seen.body.as_slice(), seen.values("x-end"), seen.values("trailer")), (&b"xyz"[..], vec![], vec![]));
    assert_eq!(seen.values("x-auth-identity"), ["user01"]);
}
