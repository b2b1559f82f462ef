mod churn;
mod closing;
mod framing;
mod names;
mod queue;
mod repeat;

use std::io;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::upstream::{Address, BodyChunk, Settings};

/// Longer than anything in these tests takes.
const AGES: Duration = Duration::from_secs(60);

/// A backend whose responses the test writes.
struct Backend(TcpListener);

/// One connection to it.
struct Accepted(TcpStream);

impl Backend {
    /// The backend, and a client of it.
    async fn start(change: impl FnOnce(&mut Settings)) -> (Self, UpstreamClient) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = Settings {
            connect_timeout: AGES,
            read_timeout: AGES,
            request_timeout: AGES,
            idle_timeout: AGES,
            max_connections: 8,
        };
        change(&mut settings);
        let address = Address::Inet(listener.local_addr().unwrap());
        (Self(listener), UpstreamClient::new(Arc::new(Upstream::new("api", address, settings))))
    }

    async fn accept(&self) -> Accepted {
        Accepted(self.0.accept().await.unwrap().0)
    }

    /// Whether there is no further connection to accept.
    async fn has_no_more(&self) -> bool {
        timeout(Duration::ZERO, self.0.accept()).await.is_err()
    }
}

impl Accepted {
    async fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until `end`, inclusive.
    async fn read_until(&mut self, end: &str) -> String {
        self.try_read_until(end).await.unwrap()
    }

    async fn try_read_until(&mut self, end: &str) -> io::Result<String> {
        let mut read = String::new();
        while !read.ends_with(end) {
            read.push(char::from(self.0.read_u8().await?));
        }
        Ok(read)
    }

    /// The first line of a request without a body.
    async fn request(&mut self) -> String {
        let head = self.read_until("\r\n\r\n").await;
        head.lines().next().unwrap().to_owned()
    }

    /// Waits until the client closes the connection, without sending anything.
    async fn closed(mut self) {
        match self.0.read_u8().await {
            Ok(byte) => panic!("read {byte}"),
            Err(error) => assert!(
                matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset),
                "{error}"
            ),
        }
    }
}

impl UpstreamClient {
    /// Sends a request without a deadline.
    async fn open(&self, parts: Parts, body: RequestBody) -> Result<Response<ResponseBody>, UpstreamError> {
        let deadlines = self.upstream.endless(AGES);
        self.open_with(parts, body, deadlines, Interim::Discard).await
    }
}

fn parts(method: Method, path: &'static str) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri) = (method, Uri::from_static(path));
    parts
}

async fn get(client: &UpstreamClient, path: &'static str) -> Result<Response<ResponseBody>, UpstreamError> {
    client.open(parts(Method::GET, path), RequestBody::default()).await
}

async fn text(answer: Response<ResponseBody>) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Sends a request, and responds on `connection`.
async fn exchange(client: &UpstreamClient, connection: &mut Accepted) {
    let answer = async {
        connection.request().await;
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    };
    let (answer, ()) = tokio::join!(async { text(get(client, "/").await.unwrap()).await }, answer);
    assert_eq!(answer, "ok");
}

/// Opens a connection by one request with a response.
async fn opened(backend: &Backend, client: &UpstreamClient) -> Accepted {
    let (answer, connection) = tokio::join!(get(client, "/"), async {
        let mut connection = backend.accept().await;
        connection.request().await;
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        connection
    });
    assert_eq!(text(answer.unwrap()).await, "");
    connection
}

/// `COUNT` idle connections, the longest idle first.
async fn idle<const COUNT: usize>(backend: &Backend, client: &UpstreamClient) -> [Accepted; COUNT] {
    let mut asked = Vec::new();
    for _ in 0..COUNT {
        let mut answer = Box::pin(get(client, "/"));
        // The request remains in flight, so that the next opens a connection.
        let connection = tokio::select! {
            _ = &mut answer => panic!("nothing was answered"),
            connection = async {
                let mut connection = backend.accept().await;
                connection.request().await;
                connection
            } => connection,
        };
        asked.push((answer, connection));
    }
    let mut unused = Vec::new();
    for (answer, mut connection) in asked {
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(text(answer.await.unwrap()).await, "");
        unused.push(connection);
    }
    unused.try_into().ok().unwrap()
}

/// Returns once events of other sockets before this call have been processed: a later one has been.
async fn settle() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    for _ in 0..3 {
        far.write_all(b"a").await.unwrap();
        near.read_u8().await.unwrap();
    }
}

#[tokio::test]
async fn the_connection_that_was_used_last_is_used_next() {
    let (backend, client) = Backend::start(|_| {}).await;
    let asked = async { tokio::join!(get(&client, "/a"), get(&client, "/b")) };
    let responding = async {
        let (mut first, mut second) = (backend.accept().await, backend.accept().await);
        assert_eq!(first.request().await, "GET /a HTTP/1.1");
        assert_eq!(second.request().await, "GET /b HTTP/1.1");
        second.write("HTTP/1.1 204 No Content\r\n\r\n").await;
        first.write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n").await;
        (first, second)
    };
    let ((a, b), (mut first, mut second)) = tokio::join!(asked, responding);
    drop(b);
    first.write("a").await;
    assert_eq!(text(a.unwrap()).await, "a");
    for _ in 0..3 {
        exchange(&client, &mut first).await;
    }
    let (answer, ()) = tokio::join!(get(&client, "/"), async {
        first.request().await;
        exchange(&client, &mut second).await;
        first.write("HTTP/1.1 204 No Content\r\n\r\n").await;
    });
    assert_eq!(answer.unwrap().status(), 204);
    assert!(backend.has_no_more().await);
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_skipped_for_any_method() {
    let (backend, client) = Backend::start(|_| {}).await;
    for _ in 0..2 {
        let unused = opened(&backend, &client).await;
        drop(unused);
        settle().await;
        let (upload, body) = RequestBody::streamed();
        upload.send(BodyChunk::Data(Bytes::from_static(b"abc"))).await.unwrap();
        let (answer, mut connection) = tokio::join!(client.open(parts(Method::POST, "/"), body), async {
            let mut connection = backend.accept().await;
            connection.read_until("\r\n\r\n3\r\nabc\r\n").await;
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            connection
        });
        assert_eq!(answer.unwrap().status(), 200);
        upload.send(BodyChunk::End).await.unwrap_err();
        assert_eq!(connection.0.read(&mut [0; 16]).await.unwrap_or(0), 0, "an unfinished request ends its connection");
    }
}

#[tokio::test]
async fn an_idempotent_request_that_fails_on_a_reused_connection_is_retried_once() {
    let (backend, client) = Backend::start(|_| {}).await;
    let mut stale = opened(&backend, &client).await;
    let (answer, mut reused) = tokio::join!(get(&client, "/again"), async {
        assert_eq!(stale.request().await, "GET /again HTTP/1.1");
        drop(stale);
        let mut connection = backend.accept().await;
        assert_eq!(connection.request().await, "GET /again HTTP/1.1");
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        connection
    });
    assert_eq!(text(answer.unwrap()).await, "");
    let post = client.open(parts(Method::POST, "/once"), RequestBody::Whole(Bytes::from_static(b"abc")));
    let (answer, ()) = tokio::join!(post, async {
        reused.read_until("\r\n\r\nabc").await;
        drop(reused);
    });
    assert!(matches!(answer.unwrap_err(), UpstreamError::NoResponse("api", _)));
    assert!(backend.has_no_more().await);
    let (answer, ()) = tokio::join!(get(&client, "/new"), async {
        backend.accept().await.request().await;
    });
    assert!(matches!(answer.unwrap_err(), UpstreamError::NoResponse("api", _)));
    assert!(backend.has_no_more().await, "no retry after a failure on a new connection");
}

/// The other idle connections may be stale too, and there is only one retry.
#[tokio::test]
async fn a_retry_uses_a_new_connection_and_no_idle_one() {
    let (backend, client) = Backend::start(|settings| settings.max_connections = 3).await;
    let [mut oldest, mut other, mut stale] = idle(&backend, &client).await;
    let (answer, mut new) = tokio::join!(get(&client, "/again"), async {
        assert_eq!(stale.request().await, "GET /again HTTP/1.1");
        drop(stale);
        let mut new = tokio::select! {
            new = backend.accept() => new,
            again = other.request() => panic!("{again} on an idle connection"),
        };
        assert_eq!(new.request().await, "GET /again HTTP/1.1");
        new.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        new
    });
    assert_eq!(text(answer.unwrap()).await, "");
    // It uses the slot of the closed one, and no other was closed.
    let (answer, ()) = tokio::join!(get(&client, "/"), async {
        new.request().await;
        let (answer, ()) = tokio::join!(get(&client, "/"), async {
            other.request().await;
            exchange(&client, &mut oldest).await;
            other.write("HTTP/1.1 204 No Content\r\n\r\n").await;
        });
        assert_eq!(answer.unwrap().status(), 204);
        new.write("HTTP/1.1 204 No Content\r\n\r\n").await;
    });
    assert_eq!(answer.unwrap().status(), 204);
    assert!(backend.has_no_more().await);
}

#[tokio::test]
async fn an_unsolicited_response_closes_its_connection() {
    let (backend, client) = Backend::start(|_| {}).await;
    for when in ["at once", "later"] {
        let (answer, mut connection) = tokio::join!(get(&client, "/"), async {
            let mut connection = backend.accept().await;
            connection.request().await;
            let more = if when == "at once" { "HTTP/1.1 200 OK\r\nX: stray\r\n\r\n" } else { "" };
            connection.write(&format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{more}")).await;
            connection
        });
        assert_eq!(text(answer.unwrap()).await, "ok");
        if when == "later" {
            connection.write("HTTP/1.1 200 OK\r\nX: stray\r\n\r\n").await;
            settle().await;
        }
        let mut next = opened(&backend, &client).await;
        connection.closed().await;
        exchange(&client, &mut next).await;
        drop(next);
        settle().await;
    }
}

#[tokio::test]
async fn a_body_is_sent_while_the_response_is_read() {
    let (backend, client) = Backend::start(|_| {}).await;
    let (upload, body) = RequestBody::streamed();
    let chunk = |text: &'static str| BodyChunk::Data(Bytes::from_static(text.as_bytes()));
    upload.send(chunk("a")).await.unwrap();
    let sending = async {
        // While waiting for the head.
        upload.send(chunk("b")).await.unwrap();
        upload.send(chunk("c")).await.unwrap();
    };
    let answering = async {
        let mut connection = backend.accept().await;
        connection.read_until("1\r\na\r\n1\r\nb\r\n1\r\nc\r\n").await;
        connection.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n").await;
        connection
    };
    let (answer, (), mut connection) = tokio::join!(client.open(parts(Method::POST, "/"), body), sending, answering);
    let mut body = answer.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ab");
    let sending = async {
        // While reading the body.
        for text in ["d", "e", "f"] {
            upload.send(chunk(text)).await.unwrap();
        }
        upload.send(BodyChunk::End).await.unwrap();
    };
    let answering = async {
        connection.read_until("1\r\nd\r\n1\r\ne\r\n1\r\nf\r\n0\r\n\r\n").await;
        connection.write("1\r\nc\r\n0\r\n\r\n").await;
    };
    let (rest, (), ()) = tokio::join!(body.collect(), sending, answering);
    assert_eq!(rest.unwrap().to_bytes(), "c");
    exchange(&client, &mut connection).await;
}

/// The end of the request is queued but not sent when the response ends.
#[tokio::test]
async fn a_response_that_ends_before_its_request_does_not_close_the_connection() {
    let (backend, client) = Backend::start(|_| {}).await;
    let (upload, body) = RequestBody::streamed();
    let (answer, mut connection) = tokio::join!(client.open(parts(Method::POST, "/"), body), async {
        let mut connection = backend.accept().await;
        connection.read_until("\r\n\r\n").await;
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        connection
    });
    let mut body = answer.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ok");
    upload.send(BodyChunk::End).await.unwrap();
    assert!(body.frame().await.is_none());
    connection.read_until("0\r\n\r\n").await;
    exchange(&client, &mut connection).await;
}

/// Many more than the budget of a task.
#[tokio::test]
async fn many_concurrent_connections_are_all_used_and_reused() {
    let (backend, client) = Backend::start(|settings| settings.max_connections = 200).await;
    for _ in 0..2 {
        let asked = futures_util::future::join_all((0..200).map(|_| async {
            let answer = client.send(Request::get("/").body(Bytes::new()).unwrap(), 16).await;
            assert_eq!(answer.unwrap().body(), "ok");
        }));
        let answering = async {
            loop {
                let mut connection = backend.accept().await;
                tokio::spawn(async move {
                    while connection.try_read_until("\r\n\r\n").await.is_ok() {
                        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                    }
                });
            }
        };
        tokio::select! {
            _ = asked => {}
            () = answering => {}
        }
    }
    assert!(backend.has_no_more().await);
}
