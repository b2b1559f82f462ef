//! An address that is a name, whose addresses change.

use super::*;
use crate::upstream::UpstreamPeer;

/// A client of `app.internal`, and two listeners on one port, as peers.
async fn two_listeners() -> (UpstreamClient, [Backend; 2], [UpstreamPeer; 2]) {
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = first.local_addr().unwrap().port();
    let second = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let settings = Settings {
        connect_timeout: AGES,
        read_timeout: AGES,
        request_timeout: AGES,
        idle_timeout: AGES,
        max_connections: 8,
    };
    let upstream = Upstream::new("app", format!("app.internal:{port}").parse().unwrap(), settings);
    let peers = [&first, &second].map(|listener| UpstreamPeer::Inet(listener.local_addr().unwrap()));
    (UpstreamClient::new(Arc::new(upstream)), [Backend(first), Backend(second)], peers)
}

#[tokio::test]
async fn a_changed_name_is_followed_by_idle_connections_too() {
    let (client, [old, new], [old_peer, new_peer]) = two_listeners().await;
    assert!(matches!(get(&client, "/").await.unwrap_err(), UpstreamError::Unreachable("app", _)));
    client.upstream.replace(0, vec![old_peer.clone()]);
    let mut idle = opened(&old, &client).await;
    // The same addresses, and one more: the connection is reused.
    client.upstream.replace(0, vec![old_peer.clone()]);
    client.upstream.replace(0, vec![old_peer, new_peer.clone()]);
    exchange(&client, &mut idle).await;
    client.upstream.replace(0, vec![new_peer]);
    idle.closed().await;
    opened(&new, &client).await;
    assert!(old.has_no_more().await);
}

#[tokio::test]
async fn a_connection_in_use_is_closed_after_its_response_if_its_address_is_gone() {
    let (client, [old, new], [old_peer, new_peer]) = two_listeners().await;
    client.upstream.replace(0, vec![old_peer]);
    let (answer, connection) = tokio::join!(get(&client, "/"), async {
        let mut connection = old.accept().await;
        connection.request().await;
        client.upstream.replace(0, vec![new_peer]);
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        connection
    });
    assert_eq!(text(answer.unwrap()).await, "ok");
    connection.closed().await;
    opened(&new, &client).await;
}
