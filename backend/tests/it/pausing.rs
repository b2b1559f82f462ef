//! A server that pauses, and continues or leaves its connections to another server.

use std::sync::Arc;
use std::time::Duration;

use holodule_backend::feed::Feed;
use holodule_backend::handler::App;
use holodule_backend::password::Hasher;
use holodule_backend::record::Metrics;
use holodule_backend::server::{Address, BoundListener, Listeners, OpenConnection, Server};
use holodule_backend::store::{self, Store};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http::{self, Stream};
use crate::service::Setup;

/// Longer than anything in these tests takes.
const AGES: Duration = Duration::from_secs(60);
const GET: &str = "GET /holodules/20201209 HTTP/1.1\r\nHost: localhost\r\n\r\n";

const CREDENTIALS: &str = "{\"username\": \"a\", \"password\": \"b\"}";

/// The head of a request with this JSON body.
fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

async fn app(folder: &TempDir, setup: &Setup) -> Arc<App> {
    let url = format!("embedded:{}", folder.path().join("store.redb").display()).parse().unwrap();
    let settings = store::Settings { url, operation_timeout: AGES, max_connections: 4, text_cache: 1 << 20 };
    let store = Store::open(&settings).await.unwrap();
    let (hasher, feed) = (Hasher::new(&setup.password).unwrap(), Feed::start(store.clone()).unwrap());
    Arc::new(App::new(store, hasher, feed, Metrics::new().unwrap(), setup.handler.clone(), || 0))
}

/// A server, with its addresses.
async fn start(folder: &TempDir, setup: &Setup) -> (Server, Address, Address) {
    let listeners = Listeners::bind(&setup.api, &setup.admin).await.unwrap();
    let (api, admin) = (listeners.api.address().unwrap(), listeners.admin.address().unwrap());
    (Server::start(listeners, &setup.server, app(folder, setup).await), api, admin)
}

/// A server on the sockets of `other`.
async fn start_on(other: &Server, (api, admin): (&Address, &Address), folder: &TempDir, setup: &Setup) -> Server {
    let [api_socket, admin_socket] = other.sockets().unwrap();
    let api = BoundListener::adopt(api_socket, api).unwrap().unwrap();
    let admin = BoundListener::adopt(admin_socket, admin).unwrap().unwrap();
    Server::start(Listeners { api, admin }, &setup.server, app(folder, setup).await)
}

/// Reads one response without a body of unknown length, and returns its status.
async fn status(stream: &mut Box<dyn Stream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(stream.read_u8().await.unwrap()));
    }
    assert!(!head.contains("connection: close"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    stream.read_exact(&mut vec![0; length]).await.unwrap();
    head.split(' ').nth(1).unwrap().to_owned()
}

/// Waits until a request besides the one of this function is in flight.
async fn until_in_flight(admin: &Address) {
    let line = "backend_requests_in_flight{listener=\"admin\"} 2";
    while !http::send(admin, "GET", "/metrics", &[], "").await.body.contains(line) {}
}

/// An open connection on which there was a request.
async fn used(address: &Address) -> Box<dyn Stream> {
    let mut stream = http::connect(address).await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    // There is no such holodule on the api listener, and no such method on the admin listener.
    assert!(["404", "405"].contains(&status(&mut stream).await.as_str()));
    stream
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn on_unix_sockets(folder: &TempDir) -> Setup {
    let at = |name: &str| Address::Unix(folder.path().join(name));
    Setup { api: at("api.sock"), admin: at("admin.sock"), ..Setup::default() }
}

#[tokio::test]
async fn requests_during_a_pause_are_answered_after_it() {
    let folder = folder();
    for setup in [Setup::default(), on_unix_sockets(&folder)] {
        let (mut server, api, _) = start(&self::folder(), &setup).await;
        let (mut old, mut unused) = (used(&api).await, http::connect(&api).await);
        let mut begun = used(&api).await;
        begun.write_all(&GET.as_bytes()[..10]).await.unwrap();
        assert!(server.pause(AGES).await);
        let mut new = http::connect(&api).await;
        for stream in [&mut old, &mut unused, &mut new] {
            stream.write_all(GET.as_bytes()).await.unwrap();
        }
        begun.write_all(&GET.as_bytes()[10..]).await.unwrap();
        let waiting = tokio::time::timeout(Duration::from_millis(200), old.read_u8()).await;
        assert!(waiting.is_err(), "a response during the pause: {waiting:?}");
        server.resume();
        for mut stream in [old, unused, new, begun] {
            assert_eq!(status(&mut stream).await, "404");
            stream.write_all(GET.as_bytes()).await.unwrap();
            assert_eq!(status(&mut stream).await, "404");
        }
        assert_eq!(server.drain().await.cut, 0);
    }
}

#[tokio::test]
async fn a_pause_waits_for_requests_in_flight_and_reports_if_there_are_any() {
    let (mut server, _, admin) = start(&folder(), &Setup::default()).await;
    let mut uploading = http::connect(&admin).await;
    let (head, body) = (post("/credentials/verify", CREDENTIALS), CREDENTIALS);
    uploading.write_all(head.as_bytes()).await.unwrap();
    uploading.write_all(&body.as_bytes()[..5]).await.unwrap();
    until_in_flight(&admin).await;
    let earlier = tokio::time::timeout(Duration::from_millis(200), server.earlier_requests_ended()).await;
    assert!(earlier.is_err());
    assert!(!server.pause(Duration::from_millis(200)).await);
    server.resume();
    assert!(!server.pause(Duration::from_millis(1)).await);
    uploading.write_all(&body.as_bytes()[5..]).await.unwrap();
    assert_eq!(status(&mut uploading).await, "401");
    assert!(server.pause(AGES).await);
    server.earlier_requests_ended().await;
    server.resume();
    // The connection was open all the time.
    uploading.write_all(head.as_bytes()).await.unwrap();
    uploading.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(status(&mut uploading).await, "401");
}

#[tokio::test]
async fn a_body_that_was_not_read_is_never_taken_for_a_request() {
    let (mut server, _, admin) = start(&folder(), &Setup::default()).await;
    let mut refused = http::connect(&admin).await;
    let smuggled = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let head = post("/nowhere", smuggled);
    refused.write_all(head.as_bytes()).await.unwrap();
    let mut response = vec![0; 4096];
    let length = refused.read(&mut response).await.unwrap();
    assert!(response[..length].starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&response));
    assert!(server.pause(AGES).await);
    // The service may have closed the connection.
    let _ = refused.write_all(smuggled.as_bytes()).await;
    server.resume();
    let mut rest = String::new();
    let _ = tokio::time::timeout(AGES, refused.read_to_string(&mut rest)).await.unwrap();
    assert!(!rest.contains("HTTP/1.1 200"), "{rest}");
}

#[tokio::test]
async fn the_feed_ends_with_a_pause_and_accepts_subscribers_after_it() {
    let (mut server, _, admin) = start(&folder(), &Setup::default()).await;
    let mut feed = http::connect(&admin).await;
    let subscribe = "GET /revocation/feed HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for _ in 0..2 {
        feed.write_all(subscribe.as_bytes()).await.unwrap();
        assert_eq!(feed.read_u8().await.unwrap(), b'H');
        server.earlier_requests_ended().await;
        assert!(server.pause(AGES).await, "a subscriber does not count");
        let mut rest = String::new();
        feed.read_to_string(&mut rest).await.unwrap();
        assert!(rest.starts_with("TTP/1.1 200") && rest.ends_with("0\r\n\r\n"), "{rest}");
        server.resume();
        feed = http::connect(&admin).await;
    }
}

#[tokio::test]
async fn connections_continue_at_the_server_that_they_are_left_to() {
    let folder = folder();
    for setup in [Setup::default(), on_unix_sockets(&folder)] {
        let (old_folder, new_folder) = (self::folder(), self::folder());
        let (mut old, api, admin) = start(&old_folder, &setup).await;
        let (mut idle, mut other) = (used(&api).await, used(&api).await);
        let mut begun = used(&admin).await;
        begun.write_all(b"GET /hea").await.unwrap();
        assert!(old.pause(AGES).await);
        let new = start_on(&old, (&api, &admin), &new_folder, &setup).await;
        idle.write_all(GET.as_bytes()).await.unwrap();
        let mut fresh = http::connect(&api).await;
        let mut passed = 0;
        let drained = old.leave(async |connection: OpenConnection| {
            let listener = connection.listener();
            let (socket, buffered) = connection.into_parts().unwrap();
            new.adopter().adopt(OpenConnection::new(listener, socket, buffered).unwrap());
            passed += 1;
        });
        assert_eq!(drained.await.cut, 0);
        assert_eq!(passed, 3);
        for stream in [&mut other, &mut fresh] {
            stream.write_all(GET.as_bytes()).await.unwrap();
        }
        begun.write_all(b"lthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        for stream in [&mut idle, &mut other, &mut fresh] {
            assert_eq!(status(stream).await, "404");
        }
        assert_eq!(status(&mut begun).await, "200");
        drop(used(&api).await);
        if let Address::Unix(path) = &api {
            assert!(path.exists(), "it is the new server's");
            new.drain().await;
            assert!(!path.exists());
        }
    }
}

#[tokio::test]
async fn a_request_in_flight_ends_at_the_old_server_and_the_next_goes_to_the_new_one() {
    let (old_folder, new_folder, setup) = (folder(), folder(), Setup::default());
    let (old, api, admin) = start(&old_folder, &setup).await;
    let mut uploading = http::connect(&admin).await;
    let (head, body) = (post("/credentials/verify", CREDENTIALS), CREDENTIALS);
    uploading.write_all(head.as_bytes()).await.unwrap();
    until_in_flight(&admin).await;
    let new = start_on(&old, (&api, &admin), &new_folder, &setup).await;
    let leaving = old.leave(async |connection: OpenConnection| {
        let listener = connection.listener();
        let (socket, buffered) = connection.into_parts().unwrap();
        new.adopter().adopt(OpenConnection::new(listener, socket, buffered).unwrap());
    });
    let client = async {
        assert_eq!(http::send(&admin, "GET", "/healthz", &[], "").await.status, 200, "the new server accepts");
        uploading.write_all(body.as_bytes()).await.unwrap();
        assert_eq!(status(&mut uploading).await, "401");
        uploading.write_all(GET.as_bytes()).await.unwrap();
        assert_eq!(status(&mut uploading).await, "405");
    };
    let (drained, ()) = tokio::join!(leaving, client);
    assert_eq!(drained.cut, 0);
}

#[tokio::test]
async fn a_socket_of_another_address_is_not_adopted() {
    let folder = folder();
    let unix = on_unix_sockets(&folder);
    let (tcp_server, ..) = start(&self::folder(), &Setup::default()).await;
    let (unix_server, ..) = start(&self::folder(), &unix).await;
    let adopt = |server: &Server, address: &Address| {
        let [api, _] = server.sockets().unwrap();
        BoundListener::adopt(api, address).unwrap()
    };
    let free: Address = "127.0.0.1:0".parse().unwrap();
    assert!(adopt(&tcp_server, &free).is_some());
    assert!(adopt(&tcp_server, &"127.0.0.1:1".parse().unwrap()).is_none());
    assert!(adopt(&tcp_server, &"[::1]:0".parse().unwrap()).is_none());
    assert!(adopt(&tcp_server, &unix.api).is_none());
    assert!(adopt(&unix_server, &free).is_none());
    assert!(adopt(&unix_server, &unix.admin).is_none());
}
