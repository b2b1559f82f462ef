//! `max_body_bytes` of a route: a body above it never reaches the service as a whole.

use bytes::Bytes;
use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Routed;
use crate::support::backend::{Seen, Step, answer};
use crate::support::h2::{Http2, read};
use crate::support::token::token;
use crate::support::{request, until};

const ROUTES: &str = "[{ name = 'small', path = '/small', methods = ['POST', 'PUT'], max_body_bytes = 1000 }, \
     { name = 'open', path = '/open', methods = ['POST'], public = true, max_body_bytes = 1000 }, \
     { name = 'any', path = '/any', methods = ['POST'], max_body_bytes = 0 }]";

fn length_of_body(seen: &Seen) -> Vec<Step> {
    answer("200 OK", &[], &seen.body.len().to_string())
}

async fn start() -> Routed {
    Routed::start(ROUTES, &[], length_of_body).await
}

fn chunked(length: usize) -> String {
    format!("{length:x}\r\n{}\r\n", "x".repeat(length))
}

#[tokio::test]
async fn a_declared_length_above_the_limit_is_413_before_the_service_is_contacted() {
    let routed = start().await;
    for path in ["/small", "/open"] {
        let at_limit = request("POST", path, "Content-Length: 1000\r\n") + &"x".repeat(1000);
        assert_eq!(routed.gateway.exchange(at_limit).await.body, "1000");
        routed.service.forget();
        // Without a byte of the body, and without a 100.
        let headers = "Content-Length: 1001\r\nExpect: 100-continue\r\n";
        let refused = routed.gateway.exchange(request("POST", path, headers)).await;
        refused.assert_json(413, r#"{"error":"Payload Too Large"}"#);
        assert_eq!(refused.value("connection"), "close");
        assert!(routed.service.seen().is_empty());
    }
    let large = request("POST", "/any", "Content-Length: 5000\r\n") + &"x".repeat(5000);
    assert_eq!(routed.gateway.exchange(large).await.body, "5000");
}

#[tokio::test]
async fn a_chunked_body_above_the_limit_is_413_and_its_request_to_the_service_breaks_off() {
    let routed = start().await;
    let head = request("PUT", "/small", "Transfer-Encoding: chunked\r\n");
    let whole = format!("{head}{}{}0\r\n\r\n", chunked(600), chunked(400));
    assert_eq!(routed.gateway.exchange(whole).await.body, "1000");
    routed.service.forget();
    for chunks in [vec![1001], vec![600, 401], vec![400; 3]] {
        let body: String = chunks.into_iter().map(chunked).collect();
        let refused = routed.gateway.exchange(format!("{head}{body}0\r\n\r\n")).await;
        refused.assert_json(413, r#"{"error":"Payload Too Large"}"#);
        assert_eq!(refused.value("connection"), "close");
    }
    // The stub records a request once it has its whole body.
    assert!(routed.service.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_is_the_same_on_http_2_with_and_without_a_length() {
    let routed = start().await;
    let client = Http2::open(routed.gateway.https).await;
    let post = || Request::post("https://localhost/small").header("authorization", format!("JWT {}", token("user01")));
    for (length, status) in [(1000, 200), (1001, 413)] {
        for declared in [true, false] {
            let request = if declared { post().header("content-length", length) } else { post() };
            let answer = client.exchange(request.body(&*"x".repeat(length)).unwrap()).await;
            assert_eq!(answer.status, status, "{length} {declared}: {answer:?}");
        }
    }
    // The stream stays open: the limit does not wait for its end.
    let (response, mut body) = client.begin(post().body(()).unwrap(), false).await.unwrap();
    body.send_data(Bytes::from(vec![b'x'; 1001]), false).unwrap();
    assert_eq!(read(response.await.unwrap()).await.unwrap().status, 413);
    assert_eq!(routed.service.seen().len(), 2);
}

#[tokio::test]
async fn a_response_that_has_begun_breaks_off_at_the_limit() {
    let api = crate::upload::backend(|mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await.unwrap();
        while stream.read_buf(&mut Vec::new()).await.is_ok_and(|count| count > 0) {}
    });
    let route = "[{ name = 'notes', path = '/notes/{note}', methods = ['POST'], max_body_bytes = 1000 }]";
    let (gateway, log) = crate::upload::gateway(&api.await, &[("ROUTE", route)]).await;
    let mut connection = gateway.connect().await;
    connection.send(request("POST", "/notes/a", "Transfer-Encoding: chunked\r\n") + &chunked(600)).await;
    let head = connection.read_until("abc\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    connection.send(chunked(401)).await;
    connection.assert_closed().await;
    until("the request is logged", async || !log.lines().is_empty()).await;
    assert_eq!((&log.lines()[0]["reason"], &log.lines()[0]["status"]), (&"body_size".into(), &200.into()));
}
