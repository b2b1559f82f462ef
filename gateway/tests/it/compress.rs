//! Responses that are compressed while they are forwarded, over both HTTP versions.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::support::backend::{Backend, Step, answer};
use crate::support::client::Connection;
use crate::support::coded::{CODINGS, Coded, decoded, decoded_so_far, raw, text};
use crate::support::random::Random;
use crate::support::{Gateway, admin, get, request, until, until_unchanged};

const ROUTES: &str = "[{ name = 'all', path = '/all/{*rest}', methods = ['GET', 'HEAD', 'POST', 'PUT'],
    compress = ['zstd', 'br', 'gzip'] },
    { name = 'plain', path = '/plain/{*rest}', methods = ['GET', 'PUT'] }]";

const JSON: (&str, &str) = ("Content-Type", "application/json");
const TAG: (&str, &str) = ("ETag", "\"x\"");

struct Edge {
    gateway: Gateway,
    api: Backend,
    _admin: Backend,
}

impl Edge {
    async fn start(steps: Vec<Step>) -> Self {
        Self::start_with(steps, &[]).await
    }

    async fn start_with(steps: Vec<Step>, settings: &[(&str, &str)]) -> Self {
        let (api, admin) = (Backend::start(move |_| steps.clone()).await, admin().await);
        let settings: Vec<_> = [("ROUTE", ROUTES)].into_iter().chain(settings.iter().copied()).collect();
        let gateway = Gateway::start_with(&api, &admin, &settings);
        Self { gateway, api, _admin: admin }
    }

    async fn get(&self, headers: &str) -> Coded {
        Coded::http1(&self.gateway, get("/all/a", headers)).await
    }
}

/// A `200` with these fields and a chunked body of these pieces.
fn chunked(headers: &[(&str, &str)], pieces: &[&str]) -> Vec<Step> {
    let mut text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n".to_owned();
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    for piece in pieces {
        text.push_str(&chunk(piece));
    }
    text.push_str("0\r\n\r\n");
    vec![Step::Write(text.into_bytes())]
}

fn chunk(piece: &str) -> String {
    format!("{:x}\r\n{piece}\r\n", piece.len())
}

/// The next chunk of a response; `None` for the last, empty one.
async fn read_chunk(connection: &mut Connection) -> Option<Vec<u8>> {
    let size = connection.read_until("\r\n").await;
    let size = usize::from_str_radix(size.trim(), 16).unwrap();
    let mut chunk = connection.read_bytes(size + 2).await;
    chunk.truncate(size);
    (size > 0).then_some(chunk)
}

#[tokio::test]
async fn a_forwarded_response_is_compressed_in_the_accepted_coding() {
    let body = text(50_000);
    let (one, other) = body.split_at(body.find('\n').unwrap());
    for steps in [answer("200 OK", &[JSON, TAG], &body), chunked(&[JSON, TAG], &[one, other])] {
        let edge = Edge::start(steps).await;
        for coding in CODINGS {
            let http1 = edge.get(&format!("Accept-Encoding: {coding}\r\n")).await;
            assert_eq!(http1.answer.value("transfer-encoding"), "chunked");
            let http2 = Coded::http2(&edge.gateway, "GET", "/all/a", &[("accept-encoding", coding)]).await;
            assert!(http2.answer.values("transfer-encoding").is_empty());
            for sent in [http1, http2] {
                sent.assert_is(200, Some(coding), &body);
                assert!(sent.answer.values("content-length").is_empty());
                assert_eq!(sent.answer.value("etag"), format!("\"x-{coding}\""));
            }
            // The backend may compress instead.
            assert_eq!(edge.api.seen().pop().unwrap().values("accept-encoding"), [coding]);
        }
        for (accept, varies) in [("", false), ("Accept-Encoding: deflate\r\n", true)] {
            let plain = edge.get(accept).await;
            plain.assert_is(200, None, &body);
            assert_eq!((plain.answer.value("etag"), plain.varies()), ("\"x\"", varies));
        }
    }
}

#[tokio::test]
async fn errors_and_responses_to_other_methods_are_compressed() {
    let body = text(2000);
    let edge = Edge::start(answer("404 Not Found", &[JSON], &body)).await;
    edge.get("Accept-Encoding: gzip\r\n").await.assert_is(404, Some("gzip"), &body);
    let post = request("POST", "/all/a", "Accept-Encoding: br\r\nContent-Length: 3\r\n") + "abc";
    Coded::http1(&edge.gateway, post).await.assert_is(404, Some("br"), &body);
    let mut connection = edge.gateway.connect().await;
    for _ in 0..3 {
        let (answer, sent) = connection.exchange_bytes(get("/all/a", "Accept-Encoding: zstd\r\n")).await;
        Coded { answer, sent }.assert_is(404, Some("zstd"), &body);
    }
}

#[tokio::test]
async fn a_slow_body_is_not_held_back() {
    for coding in CODINGS {
        let permits = Arc::new(Semaphore::new(0));
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/x-ndjson\r\n\r\n";
        let mut steps = vec![Step::Write(head.into())];
        for number in 0..3 {
            steps.push(Step::Write(chunk(&format!("event {number}\n")).into_bytes()));
            steps.push(Step::WaitFor(Arc::clone(&permits)));
        }
        steps.push(Step::Write(b"0\r\n\r\n".to_vec()));
        let edge = Edge::start(steps).await;
        let mut connection = edge.gateway.connect().await;
        connection.send(get("/all/a", &format!("Accept-Encoding: {coding}\r\n"))).await;
        let head = connection.read_until("\r\n\r\n").await;
        assert!(head.to_lowercase().contains(&format!("content-encoding: {coding}\r\n")), "{head}");
        let (mut body, mut expected) = (Vec::new(), String::new());
        for number in 0..3 {
            expected.push_str(&format!("event {number}\n"));
            // The next event is sent only after this one was decoded.
            while decoded_so_far(coding, &body) != expected.as_bytes() {
                body.extend_from_slice(&read_chunk(&mut connection).await.unwrap());
            }
            permits.add_permits(1);
        }
        while let Some(piece) = read_chunk(&mut connection).await {
            body.extend_from_slice(&piece);
        }
        assert!(decoded(coding, &body).unwrap() == expected.as_bytes());
    }
}

#[tokio::test]
async fn what_must_not_be_compressed_is_forwarded_as_it_is() {
    let (long, small) = (text(2000), text(255));
    let rows = [
        ("200 OK", &[JSON, TAG][..], &small, ""),
        ("200 OK", &[JSON, TAG, ("Cache-Control", "max-age=1, no-transform")], &long, ""),
        ("200 OK", &[JSON, TAG], &long, "Cache-Control: no-transform\r\n"),
        ("200 OK", &[("Content-Type", "text/event-stream"), TAG], &long, ""),
        ("200 OK", &[("Content-Type", "image/webp"), TAG], &long, ""),
        ("200 OK", &[TAG], &long, ""),
        ("200 OK", &[JSON, TAG, ("Content-Digest", "sha-256=:x:")], &long, ""),
        ("206 Partial Content", &[JSON, TAG, ("Content-Range", "bytes 0-1999/9999")], &long, "Range: bytes=0-1999\r\n"),
        ("416 Range Not Satisfiable", &[JSON, TAG, ("Content-Range", "bytes */9")], &long, "Range: bytes=10-\r\n"),
    ];
    for (status, headers, body, fields) in rows {
        let edge = Edge::start(answer(status, headers, body)).await;
        let number = status.split(' ').next().unwrap().parse().unwrap();
        let accept = format!("Accept-Encoding: gzip, br, zstd\r\n{fields}");
        let sent = edge.get(&accept).await;
        sent.assert_is(number, None, body);
        assert_eq!(
            (sent.answer.value("etag"), sent.answer.value("content-length")),
            ("\"x\"", &*body.len().to_string())
        );
    }
    let edge = Edge::start(answer("200 OK", &[JSON, TAG, ("Content-Encoding", "x-own")], &long)).await;
    let sent = edge.get("Accept-Encoding: gzip\r\n").await;
    assert_eq!((sent.coding(), sent.answer.value("etag"), sent.sent.len()), (Some("x-own"), "\"x\"", 2000));
    // Small, which only its end shows.
    let edge = Edge::start(chunked(&[JSON, TAG], &[&small])).await;
    edge.get("Accept-Encoding: gzip\r\n").await.assert_is(200, None, &small);
    let edge =
        Edge::start(vec![Step::Write(b"HTTP/1.1 204 No Content\r\nContent-Type: text/plain\r\n\r\n".to_vec())]).await;
    edge.get("Accept-Encoding: gzip\r\n").await.assert_is(204, None, "");
}

#[tokio::test]
async fn other_routes_are_not_touched() {
    let body = text(2000);
    let edge = Edge::start(answer("200 OK", &[JSON, TAG, ("Accept-Ranges", "bytes")], &body)).await;
    let fields = "Accept-Encoding: gzip\r\nIf-Match: \"x-gzip\"\r\nIf-Range: \"x-gzip\"\r\nRange: bytes=0-\r\n";
    let sent = Coded::http1(&edge.gateway, get("/plain/a", fields)).await;
    assert!(sent.coding().is_none() && sent.answer.values("vary").is_empty() && sent.text() == body);
    let seen = edge.api.only();
    assert_eq!((seen.values("if-match"), seen.values("if-range")), (vec!["\"x-gzip\""], vec!["\"x-gzip\""]));
}

#[tokio::test]
async fn without_accept_encoding_every_byte_is_that_of_a_route_without_compression() {
    let body = text(3000);
    let headers = [JSON, TAG, ("Accept-Ranges", "bytes"), ("Vary", "Accept")];
    for steps in [
        answer("200 OK", &headers, &body),
        chunked(&headers, &[&body]),
        answer("404 Not Found", &[JSON], "{}"),
        vec![Step::Write(b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n".to_vec())],
    ] {
        let edge = Edge::start(steps).await;
        for fields in ["", "If-None-Match: \"x\"\r\n", "Range: bytes=0-\r\nIf-Range: \"x\"\r\n"] {
            let ours = raw(&edge.gateway, "GET", "/all/a", fields).await;
            assert_eq!(ours, raw(&edge.gateway, "GET", "/plain/a", fields).await, "{fields}");
        }
        let seen = edge.api.seen();
        assert!(seen.chunks(2).all(|pair| pair[0].headers.len() == pair[1].headers.len()));
    }
}

#[tokio::test]
async fn vary_is_merged_and_ranges_are_not_offered() {
    let headers = [JSON, ("Vary", "Accept"), ("Vary", "Cookie"), ("Accept-Ranges", "bytes")];
    let edge = Edge::start(answer("200 OK", &headers, &text(2000))).await;
    let sent = edge.get("Accept-Encoding: gzip\r\n").await;
    assert_eq!(sent.answer.value("vary"), "Accept, Cookie, Accept-Encoding");
    assert!(sent.answer.values("accept-ranges").is_empty());
    let plain = edge.get("").await;
    assert_eq!(plain.answer.values("vary"), ["Accept", "Cookie"]);
    assert_eq!(plain.answer.value("accept-ranges"), "bytes");
}

#[tokio::test]
async fn head_has_the_fields_of_get() {
    let body = text(2000);
    let length = body.len().to_string();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: \"x\"\r\nContent-Length: {length}\r\n\r\n");
    let (api, admin) = (
        Backend::start(move |seen| {
            let rest = if seen.method == "HEAD" { "" } else { body.as_str() };
            vec![Step::Write(format!("{head}{rest}").into_bytes())]
        })
        .await,
        admin().await,
    );
    let gateway = Gateway::start_with(&api, &admin, &[("ROUTE", ROUTES)]);
    for accept in ["", "gzip", "br", "zstd"] {
        let fields = format!("Accept-Encoding: {accept}\r\n");
        let short = Coded::http1(&gateway, request("HEAD", "/all/a", &fields)).await;
        let full = Coded::http1(&gateway, get("/all/a", &fields)).await;
        assert_eq!(short.fields(), full.fields(), "{accept}");
        assert!(short.sent.is_empty());
        let short = Coded::http2(&gateway, "HEAD", "/all/a", &[("accept-encoding", accept)]).await;
        let full = Coded::http2(&gateway, "GET", "/all/a", &[("accept-encoding", accept)]).await;
        assert_eq!((short.fields(), short.sent.len()), (full.fields(), 0), "{accept}");
    }
}

#[tokio::test]
async fn conditions_reach_the_backend_with_its_own_tags() {
    let not_modified = b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n".to_vec();
    let edge = Edge::start(vec![Step::Write(not_modified)]).await;
    let fields = "If-None-Match: \"y\", \"x-gzip\"\r\nAccept-Encoding: gzip\r\n";
    let known = edge.get(fields).await;
    assert_eq!((known.answer.status, known.answer.value("etag"), known.coding()), (304, "\"x-gzip\"", None));
    assert_eq!(known.answer.value("vary"), "Accept-Encoding");
    assert_eq!(edge.api.seen().pop().unwrap().values("if-none-match"), ["\"y\", \"x\""]);
    let put = request("PUT", "/all/a", "If-Match: \"x-br\"\r\nContent-Length: 1\r\n") + "a";
    Coded::http1(&edge.gateway, put).await;
    assert_eq!(edge.api.seen().pop().unwrap().values("if-match"), ["\"x\""]);
    edge.get("Range: bytes=1-\r\nIf-Range: \"x-zstd\"\r\n").await;
    let seen = edge.api.seen().pop().unwrap();
    assert!(seen.values("range").is_empty() && seen.values("if-range").is_empty(), "{seen:?}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_ended() {
    let mut steps = answer("200 OK", &[JSON], &text(500_000));
    if let Some(Step::Write(bytes)) = steps.first_mut() {
        bytes.truncate(300_000);
    }
    steps.push(Step::Wait(Duration::from_millis(200)));
    steps.push(Step::Close);
    let edge = Edge::start(steps).await;
    for coding in CODINGS {
        let mut connection = edge.gateway.connect().await;
        connection.send(get("/all/a", &format!("Accept-Encoding: {coding}\r\n"))).await;
        connection.read_until("\r\n\r\n").await;
        let rest = connection.rest().await;
        assert!(!rest.is_empty() && !rest.ends_with(b"\r\n0\r\n\r\n"), "{coding}: {} bytes", rest.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_is_streamed() {
    let body = text(4_000_000);
    let edge = Edge::start(answer("200 OK", &[JSON], &body)).await;
    for coding in CODINGS {
        edge.get(&format!("Accept-Encoding: {coding}\r\n")).await.assert_is(200, Some(coding), &body);
        let http2 = Coded::http2(&edge.gateway, "GET", "/all/a", &[("accept-encoding", coding)]).await;
        http2.assert_is(200, Some(coding), &body);
    }
}

/// HTTP/1.0 has no chunks: the end of the connection ends the body.
#[tokio::test]
async fn an_http_1_0_client_gets_a_compressed_body() {
    let body = text(50_000);
    let edge = Edge::start(answer("200 OK", &[JSON, TAG], &body)).await;
    for coding in CODINGS {
        let request = get("/all/a", &format!("Accept-Encoding: {coding}\r\n")).replace("HTTP/1.1", "HTTP/1.0");
        let mut connection = edge.gateway.connect().await;
        connection.send(request).await;
        let head = connection.read_until("\r\n\r\n").await.to_lowercase();
        assert!(head.contains(&format!("content-encoding: {coding}\r\n")), "{head}");
        assert!(!head.contains("transfer-encoding") && !head.contains("content-length"), "{head}");
        assert!(decoded(coding, &connection.rest().await).unwrap() == body.as_bytes());
    }
}

/// The gateway holds no more of a response than without compression.
#[tokio::test]
async fn a_client_that_does_not_read_stops_the_backend() {
    let mut random = Random::new(1);
    // The window of gzip is smaller than what is repeated.
    let noise = (0..1_000_000).map(|_| random.byte()).collect::<Vec<_>>().repeat(64);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nContent-Type: text/plain\r\n\r\n", noise.len());
    let edge = Edge::start(vec![Step::Write(head.into_bytes()), Step::Write(noise)]).await;
    let mut connection = edge.gateway.connect().await;
    connection.send(get("/all/a", "Accept-Encoding: gzip\r\n")).await;
    connection.read_until("\r\n\r\n").await;
    until_unchanged("the backend waits", || edge.api.written()).await;
    assert!(edge.api.written() < 40_000_000, "{} bytes", edge.api.written());
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_request_to_the_backend() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n";
    let edge = Edge::start(vec![Step::Write((head.to_owned() + &chunk("a")).into_bytes()), Step::Hang]).await;
    let mut connection = edge.gateway.connect().await;
    connection.send(get("/all/a", "Accept-Encoding: gzip\r\n")).await;
    connection.read_until("\r\n\r\n").await;
    drop(connection);
    until("the request to the backend is cancelled", async || edge.api.abandoned() == 1).await;
}

#[tokio::test]
async fn the_deadline_of_a_response_applies() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n";
    let steps = vec![Step::Write((head.to_owned() + &chunk("a")).into_bytes()), Step::Hang];
    let edge = Edge::start_with(steps, &[("UPSTREAM_REQUEST_TIMEOUT", "0.5")]).await;
    let mut connection = edge.gateway.connect().await;
    connection.send(get("/all/a", "Accept-Encoding: gzip\r\n")).await;
    connection.read_until("\r\n\r\n").await;
    assert!(!connection.rest().await.ends_with(b"\r\n0\r\n\r\n"));
    until("the request to the backend is cancelled", async || edge.api.abandoned() == 1).await;
}

/// The client would compare the hash with that of another body.
#[tokio::test]
async fn a_hash_of_the_body_is_no_trailer_of_a_compressed_response() {
    let body = text(2000);
    let trailers = "Content-Digest: sha-256=:AA==:\r\nContent_MD5: AA==\r\nRepr-Digest: sha-256=:AA==:\r\nX-End: 1\r\n";
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n";
    let sent = format!("{head}{}0\r\n{trailers}\r\n", chunk(&body));
    let edge = Edge::start(vec![Step::Write(sent.into_bytes())]).await;
    for (accept, expected) in [
        ("Accept-Encoding: gzip\r\n", &["x-end"][..]),
        ("", &["content-digest", "content_md5", "repr-digest", "x-end"]),
    ] {
        let mut connection = edge.gateway.connect().await;
        connection.send(get("/all/a", &format!("TE: trailers\r\n{accept}"))).await;
        let head = connection.read_until("\r\n\r\n").await.to_lowercase();
        assert_eq!(head.contains("content-encoding: gzip"), !accept.is_empty());
        while read_last_chunk(&mut connection).await.is_some() {}
        let mut names = Vec::new();
        loop {
            let line = connection.read_until("\r\n").await.to_lowercase();
            match line.split_once(':') {
                Some((name, _)) => names.push(name.to_owned()),
                None => break,
            }
        }
        names.sort_unstable();
        assert_eq!(names, expected);
    }
}

/// The next chunk; of the last, empty one, only its size is read.
async fn read_last_chunk(connection: &mut Connection) -> Option<Vec<u8>> {
    let size = connection.read_until("\r\n").await;
    let size = usize::from_str_radix(size.trim(), 16).unwrap();
    if size == 0 {
        return None;
    }
    Some(connection.read_bytes(size + 2).await)
}
