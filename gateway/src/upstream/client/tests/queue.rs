//! Whoever finds all connections in use waits in turn.

use super::*;

/// A request whose answer has begun, with 2 bytes of its body still to come.
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
async fn who_waits_for_a_connection_gets_in_turn_what_is_given_back() {
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
                // Once the others wait.
                connection.write("ok").await;
                assert_eq!(text(first.0.unwrap()).await, "ok");
                // What comes later is served later, even where a connection was just given back.
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
async fn who_waits_for_a_connection_gets_the_room_of_one_that_is_closed() {
    let (backend, client) = Backend::start(|settings| settings.max_connections = 1).await;
    let (first, connection) = begun(&backend, &client).await;
    let (_, ()) = tokio::join!(opened(&backend, &client), async {
        drop(first);
        connection.closed().await;
    });
}

#[tokio::test]
async fn who_waits_too_long_for_a_connection_is_told_and_leaves_the_queue() {
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
async fn as_many_as_are_given_back_at_once_are_served() {
    let (backend, client) = Backend::start(|settings| settings.max_connections = 2).await;
    let (first, mut one) = begun(&backend, &client).await;
    let (second, mut other) = begun(&backend, &client).await;
    let waiting = async {
        let answer = async || text(get(&client, "/").await.unwrap()).await;
        tokio::join!(answer(), answer())
    };
    let giving_back = async {
        // Once the others wait.
        one.write("ok").await;
        other.write("ok").await;
        heard_of_all().await;
        assert_eq!((text(first).await, text(second).await), ("ok".to_owned(), "ok".to_owned()));
        // None is answered before both have come, each by a connection of its own.
        for connection in [&mut one, &mut other] {
            connection.request().await;
        }
        for connection in [&mut one, &mut other] {
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    };
    let (answers, ()) = tokio::join!(waiting, giving_back);
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
    let mut kept = opened(&backend, &exempt).await;
    idle.closed().await;
    assert!(matches!(get(&ordinary, "/").await.unwrap_err(), UpstreamError::Unreachable("api", _)));
    let waiting = async { get(&ordinary, "/").await.unwrap_err() };
    // It is used while the other waits, and put back.
    let (error, ()) = tokio::join!(waiting, exchange(&exempt, &mut kept));
    assert!(matches!(error, UpstreamError::Unreachable("api", _)), "{error}");
    exchange(&exempt, &mut kept).await;
}
