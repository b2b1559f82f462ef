mod churn;
mod closing;
mod framing;
mod queue;
mod repeat;

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::upstream::{Address, BodyChunk, Settings};

/// Far more than anything here takes.
const AGES: Duration = Duration::from_secs(60);

/// A backend whose every word the test says.
struct Backend(TcpListener);

/// One connection to it.
struct Accepted(TcpStream);

impl Backend {
    /// With a client of it.
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

    /// Whether nobody has connected since the last that was accepted.
    async fn has_no_more(&self) -> bool {
        timeout(Duration::ZERO, self.0.accept()).await.is_err()
    }
}

impl Accepted {
    async fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until `end` has come.
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

    /// Waits until the client has closed it, having sent nothing more.
    async fn closed(mut self) {
        match self.0.read_u8().await {
            Ok(byte) => panic!("{byte} came"),
            Err(error) => assert!(
                matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset),
                "{error}"
            ),
        }
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

/// Asks, and answers by `connection`.
async fn exchange(client: &UpstreamClient, connection: &mut Accepted) {
    let answer = async {
        connection.request().await;
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    };
    let (answer, ()) = tokio::join!(async { text(get(client, "/").await.unwrap()).await }, answer);
    assert_eq!(answer, "ok");
}

/// Opens a connection, by a request that is answered.
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

/// So many connections that nobody uses, the longest unused first.
async fn unused<const COUNT: usize>(backend: &Backend, client: &UpstreamClient) -> [Accepted; COUNT] {
    let mut asked = Vec::new();
    for _ in 0..COUNT {
        let mut answer = Box::pin(get(client, "/"));
        // It stays under way, so that the next takes a connection of its own.
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

/// Returns once whatever came by a socket before is known: this came later, and was heard of.
async fn heard_of_all() {
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
    let note_response = async {
        let (mut first, mut second) = (backend.accept().await, backend.accept().await);
        assert_eq!(first.request().await, "GET /a HTTP/1.1");
        assert_eq!(second.request().await, "GET /b HTTP/1.1");
        second.write("HTTP/1.1 204 No Content\r\n\r\n").await;
        first.write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n").await;
        (first, second)
    };
    let ((a, b), (mut first, mut second)) = tokio::join!(asked, note_response);
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
async fn a_connection_that_was_closed_while_unused_is_passed_over_whatever_the_request() {
    let (backend, client) = Backend::start(|_| {}).await;
    for _ in 0..2 {
        let unused = opened(&backend, &client).await;
        drop(unused);
        heard_of_all().await;
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
async fn what_fails_on_a_kept_connection_is_sent_once_more_if_it_may_be() {
    let (backend, client) = Backend::start(|_| {}).await;
    let mut stale = opened(&backend, &client).await;
    let (answer, mut kept) = tokio::join!(get(&client, "/again"), async {
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
        kept.read_until("\r\n\r\nabc").await;
        drop(kept);
    });
    assert!(matches!(answer.unwrap_err(), UpstreamError::Broken("api", _)));
    assert!(backend.has_no_more().await);
    let (answer, ()) = tokio::join!(get(&client, "/new"), async {
        backend.accept().await.request().await;
    });
    assert!(matches!(answer.unwrap_err(), UpstreamError::Broken("api", _)));
    assert!(backend.has_no_more().await, "on a new connection it was no accident");
}

/// The others were kept as long, and each that is stale too would cost a try.
#[tokio::test]
async fn what_is_sent_once_more_goes_on_a_new_connection_and_not_on_the_next_that_is_kept() {
    let (backend, client) = Backend::start(|settings| settings.max_connections = 3).await;
    let [mut oldest, mut other, mut stale] = unused(&backend, &client).await;
    let (answer, mut new) = tokio::join!(get(&client, "/again"), async {
        assert_eq!(stale.request().await, "GET /again HTTP/1.1");
        drop(stale);
        let mut new = tokio::select! {
            new = backend.accept() => new,
            again = other.request() => panic!("{again} on one that was kept"),
        };
        assert_eq!(new.request().await, "GET /again HTTP/1.1");
        new.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        new
    });
    assert_eq!(text(answer.unwrap()).await, "");
    // It took the place of the one that was closed, and no other had to make room.
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
async fn what_nobody_asked_for_answers_nobody() {
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
            heard_of_all().await;
        }
        let mut next = opened(&backend, &client).await;
        connection.closed().await;
        exchange(&client, &mut next).await;
        drop(next);
        heard_of_all().await;
    }
}

#[tokio::test]
async fn a_body_is_sent_on_while_the_answer_comes() {
    let (backend, client) = Backend::start(|_| {}).await;
    let (upload, body) = RequestBody::streamed();
    let piece = |text: &'static str| BodyChunk::Data(Bytes::from_static(text.as_bytes()));
    upload.send(piece("a")).await.unwrap();
    let sending = async {
        // While the head is waited for.
        upload.send(piece("b")).await.unwrap();
        upload.send(piece("c")).await.unwrap();
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
        // While the body is.
        for text in ["d", "e", "f"] {
            upload.send(piece(text)).await.unwrap();
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

/// The last piece of the request is there, but was not sent yet, when the answer ends.
#[tokio::test]
async fn an_answer_that_overtakes_the_end_of_its_request_keeps_the_connection() {
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

/// Many more than a task may do before it has to let others run.
#[tokio::test]
async fn many_connections_at_once_are_all_answered_on_and_kept() {
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
