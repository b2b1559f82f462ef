//! Undocumented behaviour of hyper and h2 that the gateway relies on. If an update changed it, requests would wait for
//! a wake-up that never happens.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Body as _;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;

#[derive(Default)]
struct Counter(AtomicUsize);

impl Counter {
    /// The number of wake-ups since the last call.
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// `upstream/answer.rs` polls the connection with its waker, and then the response with a no-op waker. So what the
/// connection has read must be available right after it was polled.
#[tokio::test]
async fn hyper_delivers_received_data_within_the_poll_of_the_connection() {
    let (near, mut far) = tokio::io::duplex(4096);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(near)).await.unwrap();
    let mut connection = pin!(connection);
    let request = Request::get("/").header("host", "a").body(Empty::new()).unwrap();
    let mut head = pin!(sender.try_send_request(request));
    let counter = Arc::new(Counter::default());
    let waker = Waker::from(Arc::clone(&counter));
    let mut counting = Context::from_waker(&waker);
    let mut noop = Context::from_waker(Waker::noop());

    assert!(connection.as_mut().poll(&mut counting).is_pending());
    assert!(head.as_mut().poll(&mut noop).is_pending());
    counter.take();
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n").await.unwrap();
    assert!(counter.take() > 0, "the connection is woken");
    assert!(connection.as_mut().poll(&mut counting).is_pending());
    let Poll::Ready(Ok(response)) = head.as_mut().poll(&mut noop) else { panic!("the head is not available") };

    let mut body = pin!(response.into_body());
    for piece in [b"half", b"rest"] {
        assert!(body.as_mut().poll_frame(&mut noop).is_pending());
        assert!(connection.as_mut().poll(&mut counting).is_pending());
        counter.take();
        far.write_all(piece).await.unwrap();
        assert!(counter.take() > 0, "the connection is woken");
        assert!(connection.as_mut().poll(&mut counting).is_pending());
        let Poll::Ready(Some(Ok(frame))) = body.as_mut().poll_frame(&mut noop) else {
            panic!("the data is not available")
        };
        assert_eq!(frame.into_data().unwrap(), piece.as_slice());
    }
    assert!(body.is_end_stream());
}

/// `downstream/http2/waker.rs` records whether the connection was woken while its requests were polled. So h2 must wake
/// it within the call that produces something to be written.
#[tokio::test]
async fn h2_wakes_its_connection_within_the_call_on_a_stream() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (client, server) = tokio::join!(h2::client::handshake(near), h2::server::handshake(far));
    let ((mut client, connection), mut server) = (client.unwrap(), server.unwrap());
    let connection = tokio::spawn(async move { connection.await.err() });
    let request = Request::post("https://localhost/").body(()).unwrap();
    let (_answer, mut upload) = client.send_request(request, false).unwrap();
    upload.send_data(Bytes::from(vec![b'a'; 40_000]), false).unwrap();
    let (request, mut respond) = server.accept().await.unwrap().unwrap();
    let mut body = request.into_body();

    let counter = Arc::new(Counter::default());
    let waker = Waker::from(Arc::clone(&counter));
    let mut counting = Context::from_waker(&waker);
    let mut received = 0;
    while received < 40_000 {
        assert!(server.poll_accept(&mut counting).is_pending());
        if let Poll::Ready(Some(data)) = body.poll_data(&mut Context::from_waker(Waker::noop())) {
            received += data.unwrap().len();
        }
        tokio::task::yield_now().await;
    }
    let mut assert_woken = |what: &str, server: &mut h2::server::Connection<_, Bytes>| {
        assert!(counter.take() > 0, "{what} does not wake the connection");
        assert!(server.poll_accept(&mut counting).is_pending());
        counter.take();
    };
    counter.take();
    body.flow_control().release_capacity(received).unwrap();
    assert_woken("capacity", &mut server);
    let mut out = respond.send_response(Response::new(()), false).unwrap();
    assert_woken("a head", &mut server);
    out.send_data(Bytes::from_static(b"data"), false).unwrap();
    assert_woken("data", &mut server);
    out.send_data(Bytes::new(), true).unwrap();
    assert_woken("an end", &mut server);
    drop((out, respond, body));
    assert_woken("a reset", &mut server);
    connection.abort();
}
