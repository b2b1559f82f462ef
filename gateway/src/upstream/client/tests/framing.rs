//! Responses of each framing, complete and cut off.

use super::*;

#[tokio::test]
async fn a_large_answer_comes_whole_whatever_it_is_framed_by() {
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
        heard_of_all().await;
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
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
