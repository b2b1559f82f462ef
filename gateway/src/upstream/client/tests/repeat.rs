//! Which requests are retried (RFC 9110, section 9.2.2).

use super::*;

fn put(
    client: &UpstreamClient,
    method: &str,
    body: RequestBody,
) -> impl Future<Output = Result<Response<ResponseBody>, UpstreamError>> {
    client.open(parts(method.parse().unwrap(), "/"), body)
}

fn chunk(text: &'static str) -> BodyChunk {
    BodyChunk::Data(Bytes::from_static(text.as_bytes()))
}

const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

#[tokio::test]
async fn only_idempotent_requests_are_retried() {
    for (method, is_repeated) in [
        ("GET", true),
        ("HEAD", true),
        ("OPTIONS", true),
        ("PUT", true),
        ("DELETE", true),
        ("POST", false),
        ("PATCH", false),
        ("BREW", false),
    ] {
        let (backend, client) = Backend::start(|_| {}).await;
        let mut stale = opened(&backend, &client).await;
        let answering = async {
            stale.request().await;
            drop(stale);
            if is_repeated {
                let mut new = backend.accept().await;
                assert!(new.request().await.starts_with(method));
                new.write(NO_CONTENT).await;
            }
        };
        let (answer, ()) = tokio::join!(put(&client, method, RequestBody::default()), answering);
        match answer {
            Ok(answer) => assert!(is_repeated && answer.status() == 204, "{method}"),
            Err(error) => assert!(!is_repeated && matches!(error, UpstreamError::NoResponse(..)), "{method}: {error}"),
        }
        assert!(backend.has_no_more().await, "{method}");
    }
}

/// The rest of the body is sent after the retry has begun.
#[tokio::test]
async fn a_partly_sent_body_is_sent_from_its_beginning() {
    let (backend, client) = Backend::start(|_| {}).await;
    let mut stale = opened(&backend, &client).await;
    let (upload, body) = RequestBody::streamed();
    let exchanging = async {
        upload.send(chunk("abc")).await.unwrap();
        stale.read_until("\r\n\r\n3\r\nabc\r\n").await;
        drop(stale);
        let mut new = backend.accept().await;
        new.read_until("\r\n\r\n3\r\nabc\r\n").await;
        upload.send(chunk("de")).await.unwrap();
        upload.send(BodyChunk::End).await.unwrap();
        new.read_until("2\r\nde\r\n0\r\n\r\n").await;
        new.write(NO_CONTENT).await;
    };
    let (answer, ()) = tokio::join!(put(&client, "PUT", body), exchanging);
    assert_eq!(answer.unwrap().status(), 204);
    assert!(backend.has_no_more().await);
}

/// The end has been sent too.
#[tokio::test]
async fn a_completely_sent_body_is_sent_again() {
    let (backend, client) = Backend::start(|_| {}).await;
    let mut stale = opened(&backend, &client).await;
    let (upload, body) = RequestBody::streamed();
    let exchanging = async {
        upload.send(chunk("abc")).await.unwrap();
        upload.send(BodyChunk::End).await.unwrap();
        stale.read_until("\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
        drop(stale);
        let mut new = backend.accept().await;
        new.read_until("\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
        new.write(NO_CONTENT).await;
    };
    let (answer, ()) = tokio::join!(put(&client, "PUT", body), exchanging);
    assert_eq!(answer.unwrap().status(), 204);
    assert!(backend.has_no_more().await);
}

#[tokio::test]
async fn a_body_over_the_buffer_limit_is_not_sent_again() {
    let (backend, client) = Backend::start(|_| {}).await;
    let mut stale = opened(&backend, &client).await;
    let (upload, body) = RequestBody::streamed();
    let exchanging = async {
        upload.send(BodyChunk::Data(Bytes::from(vec![b'a'; 64 * 1024]))).await.unwrap();
        upload.send(chunk("b")).await.unwrap();
        stale.read_until("1\r\nb\r\n").await;
        drop(stale);
    };
    let (answer, ()) = tokio::join!(put(&client, "PUT", body), exchanging);
    assert!(matches!(answer.unwrap_err(), UpstreamError::NoResponse("api", _)));
    assert!(backend.has_no_more().await);
}

/// The backend has begun to respond, so it has processed the request.
#[tokio::test]
async fn no_retry_after_the_first_byte_of_a_response() {
    for begun in ["H", "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let (backend, client) = Backend::start(|_| {}).await;
        let mut kept = opened(&backend, &client).await;
        let (answer, ()) = tokio::join!(get(&client, "/"), async {
            kept.request().await;
            kept.write(begun).await;
            drop(kept);
        });
        assert!(matches!(answer.unwrap_err(), UpstreamError::NoResponse("api", _)), "{begun:?}");
        assert!(backend.has_no_more().await, "{begun:?}");
    }
}

#[tokio::test]
async fn there_is_only_one_retry() {
    let (backend, client) = Backend::start(|_| {}).await;
    let mut stale = opened(&backend, &client).await;
    let (answer, ()) = tokio::join!(get(&client, "/"), async {
        stale.request().await;
        drop(stale);
        backend.accept().await.request().await;
    });
    assert!(matches!(answer.unwrap_err(), UpstreamError::NoResponse("api", _)));
    assert!(backend.has_no_more().await);
}
