//! When a connection to the backend is closed.

use super::*;

#[tokio::test]
async fn dropping_a_response_or_a_request_before_its_end_closes_the_connection() {
    let (backend, client) = Backend::start(|settings| settings.max_connections = 1).await;
    let (answer, connection) = tokio::join!(get(&client, "/"), async {
        let mut connection = backend.accept().await;
        connection.request().await;
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na").await;
        connection
    });
    drop(answer.unwrap());
    connection.closed().await;
    let mut waiting = Box::pin(get(&client, "/"));
    let connection = tokio::select! {
        _ = &mut waiting => panic!("nothing was answered"),
        connection = async {
            let mut connection = backend.accept().await;
            connection.request().await;
            connection
        } => connection,
    };
    drop(waiting);
    connection.closed().await;
    opened(&backend, &client).await;
}

#[tokio::test]
async fn a_connection_that_the_backend_will_close_is_not_reused() {
    let (backend, client) = Backend::start(|_| {}).await;
    for _ in 0..2 {
        let (answer, connection) = tokio::join!(get(&client, "/"), async {
            let mut connection = backend.accept().await;
            connection.request().await;
            connection.write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
            connection
        });
        assert_eq!(text(answer.unwrap()).await, "ok");
        connection.closed().await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_the_idle_timeout() {
    let idle_timeout = Duration::from_millis(100);
    let (backend, client) = Backend::start(|settings| settings.idle_timeout = idle_timeout).await;
    let began = Instant::now();
    let connection = opened(&backend, &client).await;
    connection.closed().await;
    assert!(began.elapsed() >= idle_timeout);
    opened(&backend, &client).await;
}

#[tokio::test]
async fn an_idle_timeout_of_0_reuses_no_connection() {
    let (backend, client) = Backend::start(|settings| settings.idle_timeout = Duration::ZERO).await;
    opened(&backend, &client).await.closed().await;
    opened(&backend, &client).await.closed().await;
}

#[tokio::test]
async fn a_connection_that_the_backend_closes_is_closed_without_a_request() {
    let (backend, client) = Backend::start(|settings| settings.max_connections = 1).await;
    let mut connection = opened(&backend, &client).await;
    connection.0.shutdown().await.unwrap();
    connection.closed().await;
    opened(&backend, &client).await;
}

#[tokio::test]
async fn connections_are_closed_with_the_last_client() {
    let (backend, client) = Backend::start(|_| {}).await;
    let (first, second) = (client.clone(), client);
    let mut connection = opened(&backend, &first).await;
    drop(first);
    exchange(&second, &mut connection).await;
    drop(second);
    connection.closed().await;
}
