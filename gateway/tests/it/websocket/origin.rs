//! Which web pages may open a tunnel.

use super::{Tunnels, handshake, switch};

#[tokio::test]
async fn pages_of_other_origins_are_refused() {
    let origins = [("CORS_ALLOWED_ORIGINS", "['https://app.example:8443']")];
    let tunnels = Tunnels::start_with("", &origins).await;
    for origin in ["https://localhost", "https://LOCALHOST", "https://app.example:8443"] {
        let sent = handshake(&format!("Origin: {origin}\r\n"));
        let (_client, head, service) = tunnels.open_with(&sent, &switch("")).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{origin}: {head}");
        assert_eq!(service.values("origin"), [origin]);
    }
    for origin in [
        "null",
        "http://localhost",
        "https://localhost:8443",
        "https://app.example",
        "https://localhost.evil.example",
        "",
    ] {
        let answer = tunnels.gateway.exchange(handshake(&format!("Origin: {origin}\r\n"))).await;
        answer.assert_json(403, r#"{"error":"Forbidden"}"#);
    }
    let twice = handshake("Origin: https://localhost\r\nOrigin: https://localhost\r\n");
    assert_eq!(tunnels.gateway.exchange(twice).await.status, 403);
    tunnels.service.assert_idle().await;
}

#[tokio::test]
async fn the_port_of_the_host_is_part_of_the_origin() {
    let tunnels = Tunnels::start().await;
    for (host, origin) in [("localhost:8443", "https://localhost:8443"), ("localhost:443", "https://localhost")] {
        let sent = handshake(&format!("Origin: {origin}\r\n")).replace("Host: localhost", &format!("Host: {host}"));
        let (_client, head, _service) = tunnels.open_with(&sent, &switch("")).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{origin}: {head}");
    }
    let sent = handshake("Origin: https://localhost\r\n").replace("Host: localhost", "Host: localhost:8443");
    assert_eq!(tunnels.gateway.exchange(sent).await.status, 403);
}

#[tokio::test]
async fn the_origins_of_a_route_replace_those_of_all_paths() {
    let origins = [("CORS_ALLOWED_ORIGINS", "['https://app.example']")];
    let tunnels = Tunnels::start_with(", cors = { allowed_origins = ['https://chat.example'] }", &origins).await;
    for origin in ["https://localhost", "https://chat.example"] {
        let sent = handshake(&format!("Origin: {origin}\r\n"));
        let (_client, head, _service) = tunnels.open_with(&sent, &switch("")).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{origin}: {head}");
    }
    for origin in ["https://app.example", "null", "https://chat.example.evil.example"] {
        let sent = handshake(&format!("Origin: {origin}\r\n"));
        assert_eq!(tunnels.gateway.exchange(&sent).await.status, 403, "{origin}");
        // The public route has those of all paths.
        let open = sent.replace("GET /ws ", "GET /open ");
        if origin == "https://app.example" {
            let (_client, head, _service) = tunnels.open_with(&open, &switch("")).await;
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        } else {
            assert_eq!(tunnels.gateway.exchange(&open).await.status, 403, "{origin}");
        }
    }
    let none = Tunnels::start_with(", cors = { allowed_origins = [] }", &origins).await;
    let sent = handshake("Origin: https://app.example\r\n");
    assert_eq!(none.gateway.exchange(sent).await.status, 403);
    none.service.assert_idle().await;
}
