//! Requests that wait for a connection.

use super::*;

/// A request whose response has begun; 2 bytes of its body are missing.
async fn begun(backend: &Backend, client: &UpstreamClient) -> (Response<ResponseBody>, Accepted) {
    let (answer, connection) = tokio::join!(get(client, "/"), async {
        let mut connection = backend.accept().await;
        connection.request().await;
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").await;
        connection
    });
    (answer.unwrap(), connection)
}

#[tokio::test]
async fn waiting_requests_get_released_connections_in_turn() {
    let (backend, client) = Backend::start(|settings| settings.max_connections = 1).await;
    let mut connection = opened(&backend, &client).await;
    let first = tokio::join!(get(&client, "/1"), async {
        assert_eq!(connection.request().await, "GET /1 HTTP/1.1");
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").await;
    });
    let asked = async {
        tokio::join!(
            async { text(get(&client, "/2").await.unwrap()).await },
            async { text(get(&client, "/3").await.unwrap()).await },
            async {
                // When the others wait.
                connection.write("ok").await;
                assert_eq!(text(first.0.unwrap()).await, "ok");
                // A later request is served later, even if a connection was just released.
                let late = async { text(get(&client, "/4").await.unwrap()).await };
                let answering = async {
                    for place in 2..=4 {
                        assert_eq!(connection.request().await, format!("GET /{place} HTTP/1.1"));
                        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                    }
                };
                tokio::join!(late, answering)
            },
        )
    };
    let (second, third, (fourth, ())) = asked.await;
    assert_eq!((second.as_str(), third.as_str(), fourth.as_str()), ("ok", "ok", "ok"));
    assert!(backend.has_no_more().await);
}

#[tokio::test]
async fn a_waiting_request_gets_the_slot_of_a_closed_connection() {
    let (backend, client) = Backend::start(|settings| settings.max_connections = 1).await;
    let (first, connection) = begun(&backend, &client).await;
    let (_, ()) = tokio::join!(opened(&backend, &client), async {
        drop(first);
        connection.closed().await;
    });
}

#[tokio::test]
async fn a_request_that_waits_too_long_fails_and_leaves_the_queue() {
    let (backend, client) = Backend::start(|settings| {
        settings.max_connections = 1;
        settings.connect_timeout = Duration::from_millis(50);
    })
    .await;
    let (first, mut connection) = begun(&backend, &client).await;
    for _ in 0..3 {
        assert!(matches!(get(&client, "/").await.unwrap_err(), UpstreamError::Unreachable("api", _)));
    }
    connection.write("ok").await;
    assert_eq!(text(first).await, "ok");
    exchange(&client, &mut connection).await;
}

#[tokio::test]
async fn each_of_several_released_connections_is_given_to_a_waiting_request() {
    let (backend, client) = Backend::start(|settings| settings.max_connections = 2).await;
    let (first, mut one) = begun(&backend, &client).await;
    let (second, mut other) = begun(&backend, &client).await;
    let waiting = async {
        let answer = async || text(get(&client, "/").await.unwrap()).await;
        tokio::join!(answer(), answer())
    };
    let releasing = async {
        // When the others wait.
        one.write("ok").await;
        other.write("ok").await;
        settle().await;
        assert_eq!((text(first).await, text(second).await), ("ok".to_owned(), "ok".to_owned()));
        // Both requests arrive before the first response, so each has its own connection.
        for connection in [&mut one, &mut other] {
            connection.request().await;
        }
        for connection in [&mut one, &mut other] {
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    };
    let (answers, ()) = tokio::join!(waiting, releasing);
    assert_eq!(answers, ("ok".to_owned(), "ok".to_owned()));
    assert!(backend.has_no_more().await);
}

#[tokio::test]
async fn an_idle_connection_makes_room_for_another_client_unless_its_own_is_exempt() {
    let (backend, ordinary) = Backend::start(|settings| {
        settings.max_connections = 1;
        settings.connect_timeout = Duration::from_millis(50);
    })
    .await;
    let exempt = UpstreamClient::exempt(Arc::clone(&ordinary.upstream));
    let idle = opened(&backend, &ordinary).await;
    let mut own = opened(&backend, &exempt).await;
    idle.closed().await;
    assert!(matches!(get(&ordinary, "/").await.unwrap_err(), UpstreamError::Unreachable("api", _)));
    let waiting = async { get(&ordinary, "/").await.unwrap_err() };
    // It is used and released while the other client waits.
    let (error, ()) = tokio::join!(waiting, exchange(&exempt, &mut own));
    assert!(matches!(error, UpstreamError::Unreachable("api", _)), "{error}");
    exchange(&exempt, &mut own).await;
}
