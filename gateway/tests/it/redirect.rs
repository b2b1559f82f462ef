//! The redirect listener: which requests are redirected, and which files it serves.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::client::PATIENCE;
use crate::support::{Gateway, admin, api};

/// A gateway with a redirect listener, and the address of that.
async fn start(settings: &[(&str, &str)]) -> (Gateway, SocketAddr) {
    let (api, admin) = (api().await, admin().await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("addresses.json");
    let listeners = [("HTTP_ADDR", "127.0.0.1:0"), ("ANNOUNCE_FILE", file.to_str().unwrap())];
    let gateway = Gateway::start_with(&api, &admin, &[&listeners[..], settings].concat());
    let announced: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    (gateway, announced["http"].as_str().unwrap().parse().unwrap())
}

/// Everything received until the listener closes the connection.
async fn send(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("the connection stays open").unwrap();
    answer
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn unambiguous_requests_are_redirected_and_all_others_are_400() {
    let (gateway, http) = start(&[]).await;
    let port = gateway.https.port();
    let redirected = send(http, "GET /a?b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&redirected), "308", "{redirected}");
    assert!(redirected.contains(&format!("location: https://localhost:{port}/a?b\r\n")), "{redirected}");
    let absolute = "GET http://localhost/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&send(http, absolute).await), "308");
    for odd in [
        "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: evil.example@localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost:99999\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost:+1\r\n\r\n",
        "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET https://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\nHost: localhost\n\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\n",
        "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n",
        "GET //evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /.well-known/acme-challenge/token HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    ] {
        let answer = send(http, odd).await;
        assert_eq!(status(&answer), "400", "{odd:?}: {answer}");
        assert!(!answer.contains("location"), "{odd:?}: {answer}");
    }
    let elsewhere = "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&send(http, elsewhere).await), "421");
    let post = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx";
    let refused = send(http, post).await;
    assert!(status(&refused) == "405" && refused.contains("allow: GET, HEAD\r\n"), "{refused}");
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(3000));
    assert_eq!(status(&send(http, &long).await), "414");
    let large = format!("GET / HTTP/1.1\r\nHost: localhost\r\nA: {}\r\n\r\n", "a".repeat(30_000));
    assert_eq!(status(&send(http, &large).await), "431");
}

#[tokio::test]
async fn a_connection_serves_requests_until_one_has_a_body_or_asks_to_close() {
    let (_gateway, http) = start(&[]).await;
    let get = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let head = "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let close = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answers = send(http, &format!("{get}{head}{close}{get}")).await;
    assert_eq!(answers.matches("HTTP/1.1 308 ").count(), 3, "{answers}");
    assert_eq!(answers.matches("this is served by https\n").count(), 2, "HEAD has no body: {answers}");
    // A body is not read as a request.
    let with_body = "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n";
    let answers = send(http, &format!("{with_body}{get}")).await;
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
    let answers = send(http, "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(answers.matches("HTTP/1.1 308 ").count(), 1, "{answers}");
}

#[tokio::test]
async fn the_port_of_redirects_is_configurable() {
    for (port, location) in [("8443", "https://localhost:8443/a"), ("443", "https://localhost/a")] {
        let (_gateway, http) = start(&[("REDIRECT_PORT", port)]).await;
        let answer = send(http, "GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
        assert!(answer.contains(&format!("location: {location}\r\n")), "{answer}");
    }
}

/// The response to a request for this challenge.
async fn challenge(http: SocketAddr, name: &str) -> String {
    let path = format!("/.well-known/acme-challenge/{name}");
    send(http, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn challenges_are_regular_files_and_none_blocks_the_listener() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("token"), "token.thumbprint").unwrap();
    std::fs::write(at("large"), [b'x'; 5000]).unwrap();
    std::fs::write(other.path().join("secret"), "hush").unwrap();
    std::os::unix::fs::symlink(other.path().join("secret"), at("link")).unwrap();
    std::os::unix::fs::symlink(Path::new("/dev/zero"), at("device")).unwrap();
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    let (_gateway, http) = start(&[("ACME_CHALLENGES", folder.path().to_str().unwrap())]).await;
    for name in ["link", "device", "fifo", "large", "missing"] {
        let answer = challenge(http, name).await;
        assert_eq!(status(&answer), "404", "{name}: {answer}");
        // The same thread still serves other clients.
        assert!(challenge(http, "token").await.ends_with("\r\n\r\ntoken.thumbprint"));
    }
}
