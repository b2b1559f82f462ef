//! Requests and responses over HTTP/2, complete and broken off.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::Response;
use tokio::sync::Semaphore;

use super::{Http2Service, start};
use crate::service::service as table;
use crate::service::tls::{Ca, tls, write};
use crate::support::backend::Backend;
use crate::support::client::Connection;
use crate::support::{Gateway, answer_of, get, request, until, until_unchanged};

#[tokio::test]
async fn requests_and_uploads_share_one_connection_with_and_without_tls() {
    let (ca, folder) = (Ca::new(), tempfile::tempdir().unwrap());
    let trusted = write(folder.path(), "ca.pem", &ca.pem());
    for server in [None, Some(ca.server(&["127.0.0.1"], None, &["http/1.1", "h2"]))] {
        let (scheme, fields) = match server {
            None => ("http", String::new()),
            Some(_) => ("https", tls(&trusted, "")),
        };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&seen);
        let service = Http2Service::start(
            server,
            |_| {},
            move |mut call| {
                let recorded = Arc::clone(&recorded);
                Box::pin(async move {
                    let body = call.body().await.unwrap();
                    let (uri, headers) = (call.request.uri().clone(), call.request.headers().clone());
                    recorded.lock().unwrap().push((uri, headers));
                    call.answer(format!("{} bytes", body.len()));
                })
            },
        )
        .await;
        let gateway = service.gateway(&fields);
        let answer = gateway.exchange(get("/app/x?y=1", "TE: trailers\r\nX-A: b\r\nCookie: a=1\r\n")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "0 bytes"));
        let body = "b".repeat(1_000_000);
        let head = request("PUT", "/app/x", "Content-Length: 1000000\r\n");
        assert_eq!(gateway.exchange(format!("{head}{body}")).await.body, "1000000 bytes");
        let head = request("POST", "/app/x", "Transfer-Encoding: chunked\r\n");
        assert_eq!(gateway.exchange(format!("{head}3\r\nabc\r\n0\r\n\r\n")).await.body, "3 bytes");
        assert_eq!(service.used(), 1);
        let seen = seen.lock().unwrap();
        let (uri, headers) = &seen[0];
        assert_eq!(uri.to_string(), format!("{scheme}://{}/app/x", service.address));
        assert_eq!(
            (&headers["x-a"], &headers["cookie"], &headers["x-forwarded-proto"]),
            (&"b".parse().unwrap(), &"a=1".parse().unwrap(), &"https".parse().unwrap())
        );
        // Trailers are requested if the client does.
        let te: Vec<_> = seen.iter().map(|(_, headers)| headers.get("te").map(|te| te.to_str().unwrap())).collect();
        assert_eq!(te, [Some("trailers"), None, None]);
        for absent in ["host", "connection", "transfer-encoding", "authorization"] {
            assert!(seen.iter().all(|(_, headers)| !headers.contains_key(absent)), "{absent}");
        }
    }
}

#[tokio::test]
async fn a_service_that_does_not_speak_http_2_is_503() {
    let (ca, folder) = (Ca::new(), tempfile::tempdir().unwrap());
    let trusted = write(folder.path(), "ca.pem", &ca.pem());
    let over_tls = Backend::start_tls(ca.server(&["127.0.0.1"], None, &["http/1.1"]), |_| answer_of("1.1")).await;
    let without_alpn = Backend::start_tls(ca.server(&["127.0.0.1"], None, &[]), |_| answer_of("1.1")).await;
    let plain = Backend::start(|_| answer_of("1.1")).await;
    for (backend, fields) in [(over_tls, tls(&trusted, "")), (without_alpn, tls(&trusted, "")), (plain, String::new())]
    {
        let gateway = start(&table("app", &[&backend.address], &format!(", http = '2'{fields}")));
        let answer = gateway.get("/app/x").await;
        assert_eq!((answer.status, answer.value("retry-after")), (503, "1"), "{fields}");
        let up = format!("gateway_service_address_up{{address=\"{}\",service=\"app\"}}", backend.address);
        until("the address is down", async || gateway.metric(&up).await == Some(0.0)).await;
    }
}

/// The text that a client receives until its connection ends.
async fn received(gateway: &Gateway) -> String {
    let mut connection: Connection = gateway.connect().await;
    connection.send(get("/app/x", "Connection: close\r\n")).await;
    String::from_utf8_lossy(&connection.rest().await).into_owned()
}

#[tokio::test]
async fn a_response_that_breaks_off_never_looks_complete() {
    for reason in [Reason::NO_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::REFUSED_STREAM] {
        let service = Http2Service::plain(move |mut call| {
            Box::pin(async move {
                let mut stream = call.response.send_response(Response::new(()), false).unwrap();
                stream.send_data("half".into(), false).unwrap();
                tokio::time::sleep(Duration::from_millis(300)).await;
                stream.send_reset(reason);
            })
        })
        .await;
        let received = received(&service.gateway("")).await;
        assert!(received.contains("half") && !received.ends_with("0\r\n\r\n"), "{reason}: {received}");
    }
    // Shorter or longer than announced.
    for body in ["ab", "abcd"] {
        let service = Http2Service::plain(move |mut call| {
            Box::pin(async move {
                let head = Response::builder().header("content-length", "3").body(()).unwrap();
                let mut stream = call.response.send_response(head, false).unwrap();
                let _ = stream.send_data(body.into(), true);
            })
        })
        .await;
        let received = received(&service.gateway("")).await;
        assert!(received.starts_with("HTTP/1.1 502 ") || !received.ends_with("abc"), "{body}: {received}");
    }
}

#[tokio::test]
async fn trailers_and_empty_frames_do_not_end_a_response_early() {
    let service = Http2Service::plain(|mut call| {
        Box::pin(async move {
            let mut stream = call.response.send_response(Response::new(()), false).unwrap();
            stream.send_data("a".into(), false).unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            stream.send_data(Bytes::new(), false).unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            stream.send_data("b".into(), false).unwrap();
            let trailers = [("x-checksum".parse().unwrap(), "1".parse().unwrap())];
            stream.send_trailers(trailers.into_iter().collect()).unwrap();
        })
    })
    .await;
    let gateway = service.gateway("");
    for _ in 0..3 {
        let answer = gateway.get("/app/x").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ab"));
    }
    assert_eq!(service.used(), 1);
}

#[tokio::test]
async fn an_early_response_reaches_the_client_and_the_connection_remains() {
    let service = Http2Service::plain(|mut call| {
        Box::pin(async move {
            if call.request.method() == http::Method::GET {
                return call.answer("next");
            }
            // When this is dropped, the stream is reset with NO_ERROR: the response is complete, and the rest of the request
            // is not wanted (RFC 9113, section 8.1).
            let head = Response::builder().status(413).body(()).unwrap();
            let mut stream = call.response.send_response(head, false).unwrap();
            stream.send_data("too large".into(), true).unwrap();
        })
    })
    .await;
    let gateway = service.gateway("");
    let mut connection = gateway.connect().await;
    connection.send(request("PUT", "/app/x", "Content-Length: 10000000\r\n")).await;
    connection.send("b".repeat(100_000)).await;
    let answer = connection.answer("PUT").await;
    assert_eq!((answer.status, answer.body.as_str()), (413, "too large"));
    assert_eq!(gateway.get("/app/x").await.body, "next");
    assert_eq!(service.used(), 1);
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_reset_and_the_connection_remains() {
    let (results, arrived) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let permits = Arc::new(Semaphore::new(0));
    let (recorded, counted, waiting) = (Arc::clone(&results), Arc::clone(&arrived), Arc::clone(&permits));
    let service = Http2Service::plain(move |mut call| {
        counted.fetch_add(1, Ordering::SeqCst);
        let (recorded, waiting) = (Arc::clone(&recorded), Arc::clone(&waiting));
        Box::pin(async move {
            if call.request.method() == http::Method::GET {
                waiting.acquire().await.unwrap().forget();
                return call.answer("held");
            }
            let body = call.body().await;
            recorded.lock().unwrap().push(body.map(|body| body.len()));
            call.response.send_response(Response::new(()), true).ok();
        })
    })
    .await;
    let gateway = service.gateway("");
    let mut held = gateway.connect().await;
    held.send(get("/app/x", "")).await;
    until("the other request is at the service", async || arrived.load(Ordering::SeqCst) == 1).await;
    let mut connection = gateway.connect().await;
    connection.send(request("PUT", "/app/x", "Content-Length: 1000\r\n")).await;
    connection.send("b".repeat(500)).await;
    until("the head is at the service", async || arrived.load(Ordering::SeqCst) == 2).await;
    drop(connection);
    until("the service sees the end", async || results.lock().unwrap().len() == 1).await;
    assert_eq!(*results.lock().unwrap(), [None]);
    permits.add_permits(1);
    assert_eq!(held.answer("GET").await.body, "held");
    assert_eq!(service.used(), 1);
}

/// The memory of the gateway for a response is bounded, and slow clients do not block others on the same connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_stop_their_own_responses_only() {
    const SLOW: usize = 20;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let service = Http2Service::plain(move |mut call| {
        let counted = Arc::clone(&counted);
        Box::pin(async move {
            if call.request.uri().path() == "/app/fast" {
                return call.answer("fast");
            }
            let mut stream = call.response.send_response(Response::new(()), false).unwrap();
            loop {
                stream.reserve_capacity(16_384);
                let Some(Ok(capacity)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
                let piece = Bytes::from(vec![b'a'; capacity.min(16_384)]);
                counted.fetch_add(piece.len(), Ordering::SeqCst);
                if stream.send_data(piece, false).is_err() {
                    return;
                }
            }
        })
    })
    .await;
    let gateway = service.gateway("");
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut connection = gateway.connect().await;
        connection.send(get("/app/slow", "")).await;
        slow.push(connection);
    }
    until_unchanged("the responses have stopped", || sent.load(Ordering::SeqCst)).await;
    assert_eq!(gateway.get("/app/fast").await.body, "fast");
    assert_eq!(service.used(), 1);
}

#[tokio::test]
async fn a_response_head_that_is_too_large_is_502() {
    for (fields, bytes) in [(200, 10), (2, 60_000)] {
        let service = Http2Service::plain(move |mut call| {
            Box::pin(async move {
                let mut head = Response::builder();
                for field in 0..fields {
                    head = head.header(format!("x-{field}"), "a".repeat(bytes));
                }
                let _ = call.response.send_response(head.body(()).unwrap(), true);
            })
        })
        .await;
        assert_eq!(service.gateway("").get("/app/x").await.status, 502, "{fields} fields of {bytes} bytes");
    }
}
