//! What clients and operators see of an upgrade.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Upgraded, is_running};
use crate::support::backend::{Backend, Seen, Step, answer};
use crate::support::client::{Connection, PATIENCE};
use crate::support::revocation::RevocationStub;
use crate::support::{DAY, DAY_BODY, admin, api, get, request, serve_day, until};

const ROUTES: (&str, &str) = (
    "ROUTE",
    "[{ name = 'days', methods = ['GET', 'POST'], path = '/holodules/{day}' }, \
      { name = 'events', methods = ['GET'], path = '/events' }]",
);

/// Answers once the test releases it.
pub fn held(release: &Arc<Semaphore>) -> impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static {
    let release = Arc::clone(release);
    move |seen| [vec![Step::WaitFor(Arc::clone(&release))], serve_day(seen)].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_serves_the_same_addresses_with_the_new_configuration() {
    let (api, admin) = (api().await, admin().await);
    let mut program = Upgraded::start(&api, &admin, &[]).await;
    let first = program.child.id();
    let max_age = async |connection: &mut Connection| {
        let answer = connection.exchange(get(DAY, "")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, DAY_BODY));
        answer.value("strict-transport-security").to_owned()
    };
    let before = program.announced().unwrap();
    assert_eq!(before["process"], first);
    assert_eq!(max_age(&mut program.connect().await).await, "max-age=31536000");

    program.configure("hsts = { max_age = 5 }");
    let second = program.upgrade().await;
    assert_ne!(second, first);
    assert_eq!(max_age(&mut program.connect().await).await, "max-age=5");
    program.first_has_ended().await;
    let after = program.announced().unwrap();
    assert_eq!((&after["https"], &after["ops"]), (&before["https"], &before["ops"]));
    assert_eq!(after["process"], second);

    // Again, from a process that was itself started by an upgrade.
    let third = program.upgrade().await;
    until("the second process has ended", async || !is_running(second)).await;
    assert_eq!(max_age(&mut program.connect().await).await, "max-age=5");
    // The third one detects the end a moment later.
    until("no process drains", async || program.page().await.draining.is_empty()).await;
    let page = program.page().await;
    assert_eq!((page.process, page.predecessor, page.unsuccessful), (third, Some(second), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_progress_are_answered_by_the_old_process() {
    let release = Arc::new(Semaphore::new(0));
    let (api, admin) = (Backend::start(held(&release)).await, admin().await);
    let mut program = Upgraded::start(&api, &admin, &[ROUTES]).await;
    let mut download = program.connect().await;
    download.send(get(DAY, "")).await;
    let mut upload = program.connect().await;
    upload.send(format!("{}first ", request("POST", DAY, "Content-Length: 12\r\n"))).await;
    until("the backend has the request", async || !api.seen().is_empty()).await;

    program.upgrade().await;
    assert_eq!(program.child.try_wait().unwrap(), None);
    upload.send("second").await;
    release.add_permits(2);
    for connection in [&mut download, &mut upload] {
        let answer = connection.answer("GET").await;
        assert_eq!((answer.status, answer.body.as_str(), answer.value("connection")), (200, DAY_BODY, "close"));
    }
    let uploaded = api.seen().into_iter().find(|seen| seen.method == "POST").unwrap();
    assert_eq!(uploaded.body, b"first second");
    program.first_has_ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_connections_wait_in_the_queue_until_the_new_process_accepts() {
    let (api, admin) = (api().await, admin().await);
    let program = Upgraded::start(&api, &admin, &[]).await;
    let upgrading = async {
        for _ in 0..3 {
            program.upgrade().await;
        }
    };
    let connecting = async {
        let mut answered = 0;
        loop {
            let mut connection = program.connect().await;
            assert_eq!(connection.exchange(get(DAY, "Connection: close\r\n")).await.status, 200);
            answered += 1;
            tokio::task::yield_now().await;
            if program.page().await.predecessor.is_some() && answered > 50 {
                return;
            }
        }
    };
    tokio::join!(upgrading, connecting);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_until_the_drain_ends_it() {
    let chunks = tokio::sync::broadcast::channel(16).0;
    let sender = chunks.clone();
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let api = Backend::start(move |seen| match seen.target.as_str() {
        "/events" => vec![Step::Write(head.to_vec()), Step::Follow(sender.clone())],
        _ => answer("404 Not Found", &[], ""),
    });
    let (api, admin) = (api.await, admin().await);
    let mut program = Upgraded::start(&api, &admin, &[ROUTES]).await;
    let mut stream = program.connect().await;
    stream.send(get("/events", "")).await;
    until("the stream is open", async || chunks.receiver_count() == 1).await;
    chunks.send(b"9\r\ndata: 1\n\n\r\n".to_vec()).unwrap();
    stream.read_until("data: 1\n\n").await;
    program.upgrade().await;
    // In order: the last chunk.
    assert!(String::from_utf8(stream.rest().await).unwrap().ends_with("0\r\n\r\n"));
    program.first_has_ended().await;
    let cut = program.lines().into_iter().find(|line| line["route"] == "events").unwrap();
    assert_eq!((&cut["status"], &cut["reason"]), (&200.into(), &"drain".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ops_listener_is_the_new_process_s() {
    let release = Arc::new(Semaphore::new(0));
    let (api, admin) = (Backend::start(held(&release)).await, admin().await);
    let mut program = Upgraded::start(&api, &admin, &[("DRAIN_TIMEOUT", "60")]).await;
    let first = program.child.id();
    let mut pending = program.connect().await;
    pending.send(get(DAY, "")).await;
    until("the backend has the request", async || !api.seen().is_empty()).await;
    let mut scraper = TcpStream::connect(program.ops).await.unwrap();
    scraper.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut buffer = [0; 1024];
    assert!(scraper.read(&mut buffer).await.unwrap() > 0);

    let second = program.upgrade().await;
    // A connection that a scraper keeps is closed by the old process, which still drains.
    let left = timeout(PATIENCE, scraper.read(&mut buffer)).await.unwrap();
    assert_eq!(left.unwrap(), 0);
    assert_eq!(program.child.try_wait().unwrap(), None);
    for _ in 0..20 {
        let page = program.page().await;
        assert_eq!((page.process, page.draining.as_slice()), (second, [first].as_slice()));
        let (status, ready) = program.ops("/readyz").await.unwrap();
        assert_eq!((status, ready.contains("\"draining\":false")), (200, true), "{ready}");
    }
    assert_eq!(program.metric("gateway_draining_processes").await, 1.0);
    assert_eq!(program.metric("gateway_upgrades_total{result=\"succeeded\"}").await, 1.0);
    release.add_permits(1);
    assert_eq!(pending.answer("GET").await.status, 200);
    program.first_has_ended().await;
    assert_eq!(program.metric("gateway_draining_processes").await, 0.0);
    assert_eq!(program.page().await.draining, Vec::<u32>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_are_added_and_removed() {
    let (api, admin) = (api().await, admin().await);
    let mut program = Upgraded::start(&api, &admin, &[]).await;
    assert!(program.announced().unwrap()["http"].is_null());
    program.configure("http_addr = '127.0.0.1:0'");
    program.upgrade().await;
    program.first_has_ended().await;
    let http: std::net::SocketAddr = program.announced().unwrap()["http"].as_str().unwrap().parse().unwrap();
    let mut client = TcpStream::connect(http).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    client.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 308");

    let path = program.folder.path().join("gateway.toml");
    let settings = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, settings.replace("http_addr = '127.0.0.1:0'", "")).unwrap();
    program.upgrade().await;
    // Also its connections, in order.
    timeout(PATIENCE, client.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    until("the redirect listener is closed", async || TcpStream::connect(http).await.is_err()).await;
    assert_eq!(program.connect().await.exchange(get(DAY, "")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_accepts_only_with_a_connected_revocation_feed() {
    let (revocation, admin) = RevocationStub::start().await;
    let api = api().await;
    let program = Upgraded::start(&api, &admin, &[("REVOCATION_ENABLED", "true")]).await;
    revocation.set_heartbeats(false);
    let upgrade = program.try_upgrade();
    let beats = async {
        // Longer than a gateway waits that is not started by an upgrade.
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(program.page().await.predecessor, None);
            assert_eq!(program.connect().await.exchange(get(DAY, "")).await.status, 200);
        }
        revocation.set_heartbeats(true);
    };
    let (output, ()) = tokio::join!(upgrade, beats);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(program.connect().await.exchange(get(DAY, "")).await.status, 200);
}
