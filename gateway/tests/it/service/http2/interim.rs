//! Trailers and early hints of a service over HTTP/2.

use std::sync::Arc;

use http::{Request, Response};
use tokio::sync::Semaphore;

use super::Http2Service;
use crate::support::get;
use crate::support::h2::Http2;
use crate::support::token::token;

/// Responds with `abc`, the trailers, and a field that no trailer may have.
async fn service() -> Http2Service {
    Http2Service::plain(|mut call| {
        Box::pin(async move {
            let head = Response::builder().header("trailer", "x-checksum").body(()).unwrap();
            let mut stream = call.response.send_response(head, false).unwrap();
            stream.send_data("abc".into(), false).unwrap();
            let trailers = [("x-checksum", "1"), ("set-cookie", "a=b"), ("x-auth-identity", "root")];
            let trailers = trailers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            stream.send_trailers(trailers.into_iter().collect()).unwrap();
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_are_filtered_and_passed_on() {
    let service = service().await;
    let gateway = service.gateway("");
    let mut connection = gateway.connect().await;
    for (te, trailers) in [("TE: trailers\r\n", "x-checksum: 1\r\n\r\n"), ("", "\r\n")] {
        connection.send(get("/app/x", te)).await;
        connection.read_until("\r\n\r\n").await;
        assert_eq!(connection.read_until("0\r\n").await, "3\r\nabc\r\n0\r\n");
        let received = connection.read_bytes(trailers.len()).await;
        assert_eq!(String::from_utf8_lossy(&received).to_lowercase(), trailers);
    }
    let client = Http2::open(gateway.https).await;
    let request = Request::builder().uri("https://localhost/app/x").header("te", "trailers");
    let request = request.header("authorization", format!("JWT {}", token("user01"))).body(()).unwrap();
    let (response, _) = client.begin(request, true).await.unwrap();
    let mut body = response.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "abc");
    assert!(body.data().await.is_none());
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers.len(), 1);
    assert_eq!(trailers["x-checksum"], "1");
    assert_eq!(service.used(), 1);
}

#[tokio::test]
async fn early_hints_arrive_before_the_response() {
    let permit = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&permit);
    let service = Http2Service::plain(move |mut call| {
        let waiting = Arc::clone(&waiting);
        Box::pin(async move {
            for (status, link) in [(100, "</a>"), (103, "</b>"), (104, "</c>")] {
                let interim = Response::builder().status(status).header("link", link).header("x-a", "1");
                call.response.send_informational(interim.body(()).unwrap()).unwrap();
            }
            waiting.acquire().await.unwrap().forget();
            call.answer("abc");
        })
    })
    .await;
    let gateway = service.gateway("");
    let mut connection = gateway.connect().await;
    for _ in 0..2 {
        connection.send(get("/app/x", "")).await;
        let head = connection.read_until("\r\n\r\n").await;
        assert_eq!(head.to_lowercase(), "http/1.1 103 early hints\r\nlink: </b>\r\n\r\n");
        permit.add_permits(1);
        let answer = connection.answer("GET").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "abc"));
    }
    // Without a client that takes them, they are discarded.
    permit.add_permits(1);
    let answer = gateway.exchange(get("/app/x", "").replace("HTTP/1.1", "HTTP/1.0")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "abc"));
}
