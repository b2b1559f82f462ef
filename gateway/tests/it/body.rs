//! ops/WIRE.md: request bodies, and whether the connection stays open.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::h2::Http2;
use crate::support::token::token;
use crate::support::{DAY, DAY_BODY, Gateway, admin, api, get, request};

/// A route that accepts a body, besides the default route.
const ROUTES: &str = "[{name = 'notes', methods = ['POST', 'PUT'], path = '/notes'}, \
                      {name = 'days', methods = ['GET', 'HEAD', 'DELETE', 'OPTIONS'], path = '/holodules/{day}'}]";

#[tokio::test]
async fn a_body_on_a_request_that_accepts_none_is_400() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("ROUTE", ROUTES)]);
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        for framed in ["Content-Length: 3\r\n\r\nx=1", "Transfer-Encoding: chunked\r\n\r\n3\r\nx=1\r\n0\r\n\r\n"] {
            let (headers, body) = framed.split_once("\r\n\r\n").unwrap();
            let mut connection = gateway.connect().await;
            let smuggled = get(DAY, "");
            connection.send(format!("{}{body}{smuggled}", request(method, DAY, &format!("{headers}\r\n")))).await;
            let answer = connection.answer(method).await;
            assert_eq!(answer.status, 400, "{method}: {answer:?}");
            if method != "HEAD" {
                answer.assert_json(400, r#"{"error":"Bad Request"}"#);
            }
            connection.assert_closed().await;
        }
    }
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn a_length_of_zero_is_no_body() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    for length in ["0", "00"] {
        let answer = connection.exchange(get(DAY, &format!("Content-Length: {length}\r\n"))).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, DAY_BODY), "{answer:?}");
    }
    assert_eq!(api.seen().len(), 2);
}

/// A server may respond with 411 if a request lacks Content-Length (RFC 9110, section 8.6).
#[tokio::test]
async fn methods_with_content_are_forwarded_with_a_length_of_zero_if_they_have_none() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("ROUTE", ROUTES)]);
    let mut connection = gateway.connect().await;
    let http2 = Http2::open(gateway.https).await;
    let lengths = [None, Some("0"), Some("00")];
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let path = if matches!(method, "POST" | "PUT") { "/notes" } else { DAY };
        for length in lengths {
            let field = length.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
            assert_eq!(connection.exchange(request(method, path, &field)).await.status, 200, "{method} {length:?}");
            let authorization = format!("JWT {}", token("user01"));
            let mut http2_request = http::Request::builder().method(method).uri(format!("https://localhost{path}"));
            http2_request = http2_request.header("authorization", authorization);
            if let Some(length) = length {
                http2_request = http2_request.header("content-length", length);
            }
            assert_eq!(http2.exchange(http2_request.body("").unwrap()).await.status, 200, "{method} {length:?}");
        }
    }
    let seen = api.seen();
    assert_eq!(seen.len(), 4 * lengths.len() * 2);
    for seen in seen {
        let expected = if seen.target == "/notes" { vec!["0"] } else { vec![] };
        assert_eq!(seen.values("content-length"), expected, "{seen:?}");
        assert!(seen.values("transfer-encoding").is_empty(), "{seen:?}");
    }
}

#[tokio::test]
async fn head_returns_the_headers_of_get_without_a_body() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    for path in [DAY, "/nothing"] {
        let mut get = connection.exchange(get(path, "")).await;
        let mut head = connection.exchange(request("HEAD", path, "")).await;
        assert_eq!((head.status, head.body.as_str()), (get.status, ""));
        for answer in [&mut get, &mut head] {
            answer.headers.retain(|(name, _)| name != "x-request-id" && name != "date");
        }
        assert_eq!(head.headers, get.headers, "{path}");
    }
    let seen = api.seen();
    assert_eq!([seen[0].method.as_str(), seen[1].method.as_str()], ["GET", "HEAD"]);
}

#[tokio::test]
async fn a_connection_serves_several_requests() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    // A refusal leaves the connection open as well if the request was read completely.
    for (path, status) in [(DAY, 200), ("/nothing", 404), (DAY, 200), ("/days", 404)] {
        let answer = connection.exchange(get(path, "")).await;
        assert_eq!((answer.status, answer.value("connection")), (status, "keep-alive"), "{answer:?}");
    }
    let without_token = format!("GET {DAY} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(connection.exchange(without_token).await.status, 401);
    assert_eq!(connection.exchange(get(DAY, "")).await.status, 200);
}

#[tokio::test]
async fn connection_close_is_honoured() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    for path in [DAY, "/nothing"] {
        let mut connection = gateway.connect().await;
        let answer = connection.exchange(get(path, "Connection: close\r\n")).await;
        assert_eq!(answer.value("connection"), "close");
        connection.assert_closed().await;
    }
}

#[tokio::test]
async fn an_http_1_0_connection_is_closed_after_the_response() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let token = token("user01");
    let head = format!("GET {DAY} HTTP/1.0\r\nHost: localhost\r\nAuthorization: JWT {token}\r\n");
    let mut connection = gateway.connect().await;
    let answer = connection.exchange(format!("{head}\r\n")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, DAY_BODY), "{answer:?}");
    assert!(answer.values("transfer-encoding").is_empty(), "HTTP/1.0 does not support chunks");
    connection.assert_closed().await;
    assert_eq!(gateway.exchange(format!("GET {DAY} HTTP/1.0\r\nHost: localhost\r\n\r\n")).await.status, 401);
    // Host is required in HTTP/1.0 as well.
    assert_eq!(gateway.exchange(format!("GET {DAY} HTTP/1.0\r\nAuthorization: JWT {token}\r\n\r\n")).await.status, 400);
}

#[tokio::test]
async fn a_body_is_forwarded_to_a_route_that_accepts_one() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("ROUTE", ROUTES)]);
    let mut connection = gateway.connect().await;
    let large = "0123456789abcdef".repeat(20_000);
    for (method, body) in [("POST", "x=1"), ("PUT", large.as_str())] {
        let head =
            request(method, "/notes", &format!("Content-Type: text/plain\r\nContent-Length: {}\r\n", body.len()));
        let answer = connection.exchange(format!("{head}{body}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let chunked = request("POST", "/notes", "Transfer-Encoding: chunked\r\n");
    let answer = connection.exchange(format!("{chunked}3\r\nx=1\r\n2;ext=1\r\n&y\r\n0\r\n\r\n")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let expected = connection
        .expect_continue(request("POST", "/notes", "Expect: 100-continue\r\nContent-Length: 3\r\n"), "x=1")
        .await;
    assert_eq!(expected.status, 200);
    let bodies: Vec<_> = api.seen().into_iter().map(|seen| String::from_utf8(seen.body).unwrap()).collect();
    assert_eq!(bodies, ["x=1", large.as_str(), "x=1&y", "x=1"]);
    let first = &api.seen()[0];
    assert_eq!((first.method.as_str(), first.target.as_str()), ("POST", "/notes"));
    assert_eq!((first.values("content-type"), first.values("content-length")), (vec!["text/plain"], vec!["3"]));
}

/// A backend that responds before it has read the body: `/refuse` processes no more of it, `/echo` returns each
/// piece as it arrives.
async fn early_responder() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                if head.starts_with("POST /echo ") {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n").await?;
                    let mut pieces = [0; 10];
                    for piece in pieces.chunks_mut(5) {
                        stream.read_exact(piece).await?;
                        stream.write_all(piece).await?;
                    }
                } else if head.starts_with("POST /refuse ") {
                    stream.write_all(b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 2\r\n\r\n{}").await?;
                    stream.read_to_end(&mut Vec::new()).await?;
                } else {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await?;
                }
                Ok::<_, std::io::Error>(())
            });
        }
    });
    address
}

const EARLY_ROUTES: &str = "[{name = 'echo', methods = ['POST'], path = '/echo'}, \
                            {name = 'refuse', methods = ['POST'], path = '/refuse'}]";

#[tokio::test]
async fn a_response_is_forwarded_while_the_body_still_arrives() {
    let (api, admin) = (early_responder().await, admin().await);
    let settings = [("UPSTREAM_API", api.as_str()), ("UPSTREAM_ADMIN", &admin.address), ("ROUTE", EARLY_ROUTES)];
    let gateway = Gateway::start_from(&settings);
    let mut connection = gateway.connect().await;
    connection.send(request("POST", "/echo", "Content-Length: 10\r\n")).await;
    connection.send("01234").await;
    assert!(connection.read_until("01234").await.starts_with("HTTP/1.1 200 OK\r\n"));
    connection.send("56789").await;
    connection.read_until("56789").await;
}

#[tokio::test]
async fn an_early_response_is_forwarded_and_the_connection_closed() {
    let (api, admin) = (early_responder().await, admin().await);
    let settings = [("UPSTREAM_API", api.as_str()), ("UPSTREAM_ADMIN", &admin.address), ("ROUTE", EARLY_ROUTES)];
    let gateway = Gateway::start_from(&settings);
    let mut connection = gateway.connect().await;
    connection.send(request("POST", "/refuse", "Content-Length: 10\r\n")).await;
    connection.send("01234").await;
    let answer = connection.answer("POST").await;
    assert_eq!((answer.status, answer.body.as_str()), (413, "{}"), "{answer:?}");
    // The rest of the body is not read as a request.
    connection.assert_closed().await;
}

#[tokio::test]
async fn a_malformed_chunk_is_400_and_closes_the_connection() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("ROUTE", ROUTES)]);
    let mut connection = gateway.connect().await;
    let head = request("POST", "/notes", "Transfer-Encoding: chunked\r\n");
    connection.send(format!("{head}zz\r\nx=1\r\n0\r\n\r\n")).await;
    connection.answer("POST").await.assert_json(400, r#"{"error":"Bad Request"}"#);
    connection.assert_closed().await;
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn a_chunked_login_must_follow_the_grammar() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let head = "POST /auth HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let login = r#"{"username":"user01","password":"password01"}"#;
    let length = login.len();
    let malformed = [
        format!("\r\n{login}\r\n0\r\n\r\n"),
        format!("{length:x};a\n\r\n{login}\r\n0\r\n\r\n"),
        format!("{length:x}\n{login}\r\n0\r\n\r\n"),
        format!("0x{length:x}\r\n{login}\r\n0\r\n\r\n"),
        format!("{length:x}\r\n{login}\r\n0\r\nContent-Length: 5\r\n folded\r\n\r\n"),
        format!("{length:x}\r\n{login}\r\n0\r\nno field\r\n\r\n"),
    ];
    for body in malformed {
        let mut connection = gateway.connect().await;
        connection.send_until_closed(format!("{head}{body}{}", get(DAY, ""))).await;
        let answer = connection.answer("POST").await;
        answer.assert_json(400, r#"{"error":"Bad Request"}"#);
        assert_eq!(answer.value("connection"), "close", "{body:?}");
        connection.assert_closed().await;
    }
    assert!(admin.seen().is_empty() && api.seen().is_empty());
    // After a well-formed body, the next request is served.
    let mut connection = gateway.connect().await;
    let valid = format!("{head}{length:x};a=b\r\n{login}\r\n0\r\nX-A: b\r\n\r\n");
    connection.send(format!("{valid}{}{valid}{}", get(DAY, ""), get(DAY, ""))).await;
    for method in ["POST", "GET", "POST", "GET"] {
        let answer = connection.answer(method).await;
        assert_eq!((answer.status, answer.value("connection")), (200, "keep-alive"), "{answer:?}");
    }
    assert_eq!((admin.seen().len(), api.seen().len()), (2, 2));
}

#[tokio::test]
async fn no_100_continue_is_sent_to_http_1_0_or_for_an_empty_body() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let login = r#"{"username":"user01","password":"password01"}"#;
    let head = |version: &str, length: usize| {
        format!(
            "POST /auth HTTP/{version}\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    // HTTP/1.0 has no interim responses (RFC 9110, section 10.1.1).
    let mut connection = gateway.connect().await;
    connection.send(format!("{}{login}", head("1.0", login.len()))).await;
    assert!(connection.rest().await.starts_with(b"HTTP/1.1 200 OK\r\n"));
    let mut connection = gateway.connect().await;
    connection.send(format!("{}{}", head("1.1", 0), get(DAY, "Connection: close\r\n"))).await;
    assert!(connection.rest().await.starts_with(b"HTTP/1.1 400 Bad Request\r\n"), "an empty login");
}
