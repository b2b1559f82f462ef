//! gRPC over HTTP/2, with trailers: its requests pass like any others.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};

use super::{Call, Http2Service};
use crate::support::h2::Http2;
use crate::support::token::token;

/// A message with its prefix: not compressed, and the length.
fn message(content: &[u8]) -> Bytes {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[0], &length[..], content].concat().into()
}

fn status(code: &str) -> HeaderMap {
    [("grpc-status", code), ("grpc-message", "a%20b")]
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .into_iter()
        .collect()
}

/// Responds with the message of the request and a status in the trailers, or with a status alone.
async fn echo(mut call: Call) {
    let head = call.request.headers();
    assert_eq!(
        (&head["content-type"], &head["te"]),
        (&"application/grpc".parse().unwrap(), &"trailers".parse().unwrap())
    );
    assert_eq!(head["grpc-timeout"], "1S");
    assert_eq!(head["x-auth-identity"], "user01");
    let mut response = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    if call.request.uri().path().ends_with("/Fails") {
        response.headers_mut().extend(status("5"));
        call.response.send_response(response, true).unwrap();
        return;
    }
    let body = call.body().await.unwrap();
    let mut stream = call.response.send_response(response, false).unwrap();
    stream.send_data(body.into(), false).unwrap();
    stream.send_trailers(status("0")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unary_call_has_its_message_and_its_status() {
    let service = Http2Service::plain(|call| Box::pin(echo(call))).await;
    let gateway = service.gateway("");
    let client = Http2::open(gateway.https).await;
    for method in ["Echo", "Fails"] {
        let request = Request::post(format!("https://localhost/app/test.Echo/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", "1S")
            .header("authorization", format!("JWT {}", token("user01")));
        let (response, mut upload) = client.begin(request.body(()).unwrap(), false).await.unwrap();
        let sent = upload.send_data(message(b"hello"), true);
        // A response without a message may arrive, and end the stream, before the message is sent.
        assert!(sent.is_ok() || method == "Fails", "{sent:?}");
        let (head, mut body) = response.await.unwrap().into_parts();
        assert_eq!((head.status.as_u16(), &head.headers["content-type"]), (200, &"application/grpc".parse().unwrap()));
        let (is_alone, mut received) = (body.is_end_stream(), Vec::new());
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            received.extend_from_slice(&data);
        }
        let trailers = body.trailers().await.unwrap();
        if method == "Echo" {
            assert_eq!((received, trailers), (message(b"hello").to_vec(), Some(status("0"))));
        } else {
            // There is a single frame, as gRPC requires of a status without a message.
            assert_eq!((is_alone, received.len(), trailers), (true, 0, None));
            assert_eq!(
                (&head.headers["grpc-status"], &head.headers["grpc-message"]),
                (&"5".parse().unwrap(), &"a%20b".parse().unwrap())
            );
        }
    }
    assert_eq!(service.used(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_has_a_grpc_status() {
    let service = Http2Service::plain(|call| Box::pin(echo(call))).await;
    let gateway = service.gateway("");
    let client = Http2::open(gateway.https).await;
    let valid = format!("JWT {}", token("user01"));
    for (path, authorization, code) in [
        ("/app/test.Echo/Echo", "JWT no", "16"),
        ("/other/test.Echo/Echo", &valid, "12"),
        ("/app/test.Echo//Echo", &valid, "13"),
    ] {
        let request = Request::post(format!("https://localhost{path}"))
            .header("content-type", "application/grpc+proto")
            .header("te", "trailers")
            .header("authorization", authorization);
        let (response, mut upload) = client.begin(request.body(()).unwrap(), false).await.unwrap();
        upload.send_data(message(b"hello"), true).unwrap();
        let (head, body) = response.await.unwrap().into_parts();
        assert_eq!((head.status.as_u16(), &head.headers["content-type"]), (200, &"application/grpc".parse().unwrap()));
        assert_eq!(head.headers["grpc-status"], code, "{path}");
        // A status without a message is a single frame.
        assert!(body.is_end_stream() && !head.headers.contains_key("content-length"));
    }
    // The metrics and the access log have the status of the refusal.
    let counted = r#"gateway_requests_total{method="POST",route="none",status_class="4xx"}"#;
    assert_eq!((gateway.metric(counted).await, service.used()), (Some(3.0), 0));
}
