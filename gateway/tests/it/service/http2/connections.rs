//! The connections that requests share: how many, and which requests they take.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use h2::Reason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::{Call, Http2Service, start};
use crate::service::service as table;
use crate::support::{get, request, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_concurrent_requests_use_as_few_connections_as_the_service_permits() {
    for (streams, most) in [(1000, 2), (30, 5)] {
        let all = Arc::new(Semaphore::new(0));
        let waiting = Arc::new(AtomicUsize::new(0));
        let (permits, arrived) = (Arc::clone(&all), Arc::clone(&waiting));
        let change = move |builder: &mut h2::server::Builder| {
            builder.max_concurrent_streams(streams);
        };
        let service = Http2Service::start(None, change, move |call| {
            let (permits, arrived) = (Arc::clone(&permits), Arc::clone(&arrived));
            Box::pin(async move {
                arrived.fetch_add(1, Ordering::SeqCst);
                permits.acquire().await.unwrap().forget();
                call.answer("done");
            })
        })
        .await;
        let gateway = Arc::new(start(&table("app", &[&service.address], ", http = '2'").replace("= 32", "= 120")));
        let clients: Vec<_> = (0..100)
            .map(|_| {
                let gateway = Arc::clone(&gateway);
                tokio::spawn(async move { gateway.get("/app/x").await.body })
            })
            .collect();
        // None is answered before all have arrived.
        until("all have arrived", async || waiting.load(Ordering::SeqCst) == 100).await;
        all.add_permits(100);
        for client in clients {
            assert_eq!(client.await.unwrap(), "done");
        }
        assert!(service.used() <= most, "{} connections for {streams} streams", service.used());
    }
}

#[tokio::test]
async fn max_connections_limits_the_requests_in_progress() {
    let permits = Arc::new(Semaphore::new(0));
    let (waiting, arrived) = (Arc::clone(&permits), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&arrived);
    let service = Http2Service::plain(move |call| {
        counted.fetch_add(1, Ordering::SeqCst);
        let waiting = Arc::clone(&waiting);
        Box::pin(async move {
            waiting.acquire().await.unwrap().forget();
            call.answer("done");
        })
    })
    .await;
    let fields = ", http = '2', connect_timeout = 0.3";
    let gateway = start(&table("app", &[&service.address], fields).replace("= 32", "= 4"));
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut connection = gateway.connect().await;
        connection.send(get("/app/x", "")).await;
        held.push(connection);
    }
    until("four requests are at the service", async || arrived.load(Ordering::SeqCst) == 4).await;
    assert_eq!(gateway.get("/app/x").await.status, 503);
    permits.add_permits(4);
    for mut connection in held {
        assert_eq!(connection.answer("GET").await.body, "done");
    }
    assert_eq!(service.used(), 1);
}

#[tokio::test]
async fn a_refused_stream_is_retried_once_for_any_method() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    // The first two streams are refused, and every one to /app/never.
    let service = Http2Service::plain(move |mut call| {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            if [0, 2].contains(&number) || call.request.uri().path() == "/app/never" {
                call.response.send_reset(Reason::REFUSED_STREAM);
            } else {
                let body = call.body().await.unwrap();
                call.answer(body);
            }
        })
    })
    .await;
    let gateway = service.gateway("");
    assert_eq!(gateway.get("/app/x").await.status, 200);
    let answer = gateway.exchange(format!("{}abc", request("POST", "/app/x", "Content-Length: 3\r\n"))).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "abc"));
    assert_eq!(calls.load(Ordering::SeqCst), 4);
    assert_eq!(gateway.get("/app/never").await.status, 502);
    assert_eq!(calls.load(Ordering::SeqCst), 6);
    // Another reason does not show that nothing was processed.
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let service = Http2Service::plain(move |mut call| {
        counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { call.response.send_reset(Reason::INTERNAL_ERROR) })
    })
    .await;
    assert_eq!(service.gateway("").get("/app/x").await.status, 502);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

/// A frame (RFC 9113, section 4.1) on stream 0.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 0], payload].concat()
}

/// Reads until the head of a request. False if the connection ends before.
async fn read_head(socket: &mut TcpStream) -> bool {
    let mut preface = [0; 24];
    if socket.read_exact(&mut preface).await.is_err() {
        return false;
    }
    loop {
        let mut head = [0; 9];
        if socket.read_exact(&mut head).await.is_err() {
            return false;
        }
        let mut payload = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
        socket.read_exact(&mut payload).await.unwrap();
        if head[3] == 1 {
            return true;
        }
    }
}

/// The address of a service whose first connection with a request gets `sent` and then nothing, while later ones reach
/// `good`; and the number of requests that got no response.
async fn failing_first(good: &Http2Service, sent: Vec<u8>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let failed = Arc::new(AtomicUsize::new(0));
    let (target, counted) = (good.address.clone(), Arc::clone(&failed));
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let (target, sent, counted) = (target.clone(), sent.clone(), Arc::clone(&counted));
            tokio::spawn(async move {
                if counted.load(Ordering::SeqCst) == 0 {
                    near.write_all(&[frame(4, 0, &[]), frame(4, 1, &[])].concat()).await.unwrap();
                    if read_head(&mut near).await {
                        counted.fetch_add(1, Ordering::SeqCst);
                        near.write_all(&sent).await.unwrap();
                        let _ = near.read_to_end(&mut Vec::new()).await;
                    }
                } else {
                    let mut far = TcpStream::connect(&target).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                }
            });
        }
    });
    (address, failed)
}

#[tokio::test]
async fn a_request_after_the_last_one_of_a_goaway_is_sent_on_another_connection() {
    let good = Http2Service::plain(|mut call| {
        Box::pin(async move {
            let body = call.body().await.unwrap();
            call.answer(body);
        })
    })
    .await;
    // A GOAWAY with 0 as the last stream.
    let (address, refused) = failing_first(&good, frame(7, 0, &[0; 8])).await;
    let gateway = start(&table("app", &[&address], ", http = '2', health_interval = 3600"));
    let up = format!("gateway_service_address_up{{address=\"{address}\",service=\"app\"}}");
    until("the address is up", async || gateway.metric(&up).await == Some(1.0)).await;
    let answer = gateway.exchange(format!("{}abc", request("POST", "/app/x", "Content-Length: 3\r\n"))).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "abc"));
    assert_eq!((refused.load(Ordering::SeqCst), good.used()), (1, 1));
}

#[tokio::test]
async fn a_graceful_goaway_completes_its_requests_and_later_ones_use_another_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let permits = Arc::new(Semaphore::new(0));
    let (waiting, used) = (Arc::clone(&permits), Arc::new(Mutex::new(BTreeSet::new())));
    let recorded = Arc::clone(&used);
    tokio::spawn(async move {
        for number in 0.. {
            let (socket, _) = listener.accept().await.unwrap();
            let (waiting, recorded) = (Arc::clone(&waiting), Arc::clone(&recorded));
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(socket).await.unwrap();
                while let Some(Ok((request, response))) = connection.accept().await {
                    recorded.lock().unwrap().insert(number);
                    // Each connection serves one request.
                    connection.graceful_shutdown();
                    let call = Call { request, response, connection: number };
                    let waiting = Arc::clone(&waiting);
                    tokio::spawn(async move {
                        waiting.acquire().await.unwrap().forget();
                        let number = call.connection;
                        call.answer(number.to_string());
                    });
                }
            });
        }
    });
    let gateway = start(&table("app", &[&address], ", http = '2', health_interval = 3600"));
    let mut first = gateway.connect().await;
    first.send(get("/app/x", "")).await;
    until("the first request is at the service", async || used.lock().unwrap().len() == 1).await;
    // Until the GOAWAY has arrived, the first connection gets further requests.
    let mut later = Vec::new();
    until("a later one is on another connection", async || {
        let mut client = gateway.connect().await;
        client.send(get("/app/x", "")).await;
        later.push(client);
        used.lock().unwrap().len() == 2
    })
    .await;
    permits.add_permits(1 + later.len());
    let second = later.last_mut().unwrap();
    let bodies: BTreeSet<_> = [first.answer("GET").await.body, second.answer("GET").await.body].into();
    assert_eq!(bodies.len(), 2, "{bodies:?}");
}

#[tokio::test]
async fn a_connection_on_which_nothing_arrives_gets_no_further_requests() {
    let good = Http2Service::plain(|call| Box::pin(async move { call.answer("good") })).await;
    let (address, heads) = failing_first(&good, Vec::new()).await;
    let gateway = start(&table("app", &[&address], ", http = '2', health_interval = 3600, read_timeout = 1.2"));
    let up = format!("gateway_service_address_up{{address=\"{address}\",service=\"app\"}}");
    until("the address is up", async || gateway.metric(&up).await == Some(1.0)).await;
    assert_eq!(gateway.get("/app/x").await.status, 504);
    assert_eq!(gateway.get("/app/x").await.body, "good");
    assert_eq!(heads.load(Ordering::SeqCst), 1);
}
