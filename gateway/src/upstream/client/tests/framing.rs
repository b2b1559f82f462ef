//! Responses of each framing, complete and cut off.

use super::*;

#[tokio::test]
async fn a_large_response_of_any_framing_is_complete() {
    let (backend, client) = Backend::start(|_| {}).await;
    let whole = "0123456789abcdef".repeat(256 * 1024);
    for framing in ["length", "chunks", "close"] {
        let (answer, connection) = tokio::join!(async { text(get(&client, "/").await.unwrap()).await }, async {
            let mut connection = backend.accept().await;
            connection.request().await;
            connection.write("HTTP/1.1 200 OK\r\n").await;
            match framing {
                "length" => connection.write(&format!("Content-Length: {}\r\n\r\n{whole}", whole.len())).await,
                "chunks" => {
                    connection.write("Transfer-Encoding: chunked\r\n\r\n").await;
                    for piece in whole.as_bytes().chunks(100_000) {
                        connection.write(&format!("{:x}\r\n", piece.len())).await;
                        connection.0.write_all(piece).await.unwrap();
                        connection.write("\r\n").await;
                    }
                    connection.write("0\r\n\r\n").await;
                }
                _ => {
                    connection.write(&format!("\r\n{whole}")).await;
                    connection.0.shutdown().await.unwrap();
                }
            }
            connection
        });
        assert!(answer == whole, "{framing}: {} bytes", answer.len());
        drop(connection);
        settle().await;
    }
}

#[tokio::test]
async fn an_incomplete_response_is_an_error() {
    let (backend, client) = Backend::start(|_| {}).await;
    let (answer, ()) = tokio::join!(get(&client, "/"), async {
        let mut connection = backend.accept().await;
        connection.request().await;
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab").await;
    });
    let mut body = answer.unwrap().into_body();
    assert_eq!(body.size_hint().exact(), Some(3));
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ab");
    assert!(!body.is_end_stream());
    assert!(body.frame().await.unwrap().is_err());
}

#[tokio::test]
async fn a_body_is_collected_up_to_the_limit_and_within_the_deadlines() {
    let (backend, client) = Backend::start(|_| {}).await;
    let (far, now) = (client.upstream.deadlines(Instant::now()), client.upstream.deadline(Instant::now()));
    let silence = Deadlines::new("api", Duration::ZERO, far.end());
    let (whole, cut) = ("3\r\nabc\r\n0\r\nTrailer: 1\r\n\r\n", "3\r\nabc\r\n");
    for (framing, body, limit, deadlines, expected) in [
        ("Content-Length: 3", "abc", 3, far, Ok(Some("abc"))),
        ("Content-Length: 3", "abc", 2, far, Ok(None)),
        ("Transfer-Encoding: chunked", whole, 3, far, Ok(Some("abc"))),
        ("Transfer-Encoding: chunked", whole, 2, far, Ok(None)),
        // Data that is available does not extend the deadline.
        ("Content-Length: 3", "abc", 3, now, Err("the api upstream did not respond in time")),
        ("Transfer-Encoding: chunked", cut, 3, silence, Err("the api upstream did not respond in time")),
    ] {
        let (answer, _connection) = tokio::join!(get(&client, "/"), async {
            let mut connection = backend.accept().await;
            connection.request().await;
            connection.write(&format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{framing}\r\n\r\n{body}")).await;
            connection
        });
        let collected = answer.unwrap().into_body().collect_within(deadlines, limit).await;
        let collected = collected.map_err(|error| error.to_string());
        let expected = expected.map(|body| body.map(Bytes::from)).map_err(str::to_owned);
        assert_eq!(collected, expected, "{framing} {body:?} {limit}");
    }
}

#[tokio::test]
async fn a_response_that_switches_protocols_is_an_error() {
    let (backend, client) = Backend::start(|_| {}).await;
    let (answer, connection) = tokio::join!(get(&client, "/"), async {
        let mut connection = backend.accept().await;
        connection.request().await;
        connection.write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
        connection
    });
    let error = answer.unwrap_err().to_string();
    assert_eq!(error, "invalid response from the api upstream: status 101 was not requested");
    connection.closed().await;
}
