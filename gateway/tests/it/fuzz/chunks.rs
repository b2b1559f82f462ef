//! A chunked body. It ends at the same byte in whatever pieces it arrives, and httparse and pingora find the same
//! chunks.

use std::io::Cursor;

use futures_util::FutureExt as _;
use holodule_gateway::downstream::chunks::Chunks;
use pingora::protocols::http::v1::server::HttpSession;

/// The length of a body, `None` if it is not complete, or an error if it is not chunked.
type Outcome = Result<Option<usize>, ()>;

/// Checks the chunked body that `data` begins with.
pub fn check(data: &[u8]) {
    let outcome = follow(&[data]);
    assert_eq!(follow(&data.chunks(1).collect::<Vec<_>>()), outcome, "byte by byte");
    for at in (1..data.len()).step_by(1 + data.len() / 64) {
        let (first, second) = data.split_at(at);
        assert_eq!(follow(&[first, second]), outcome, "split at {at}");
    }
    let Ok(Some(end)) = outcome else { return };
    assert_eq!(follow(&[&data[..end]]), Ok(Some(end)), "what follows does not matter");
    assert_eq!(follow(&[&data[..end - 1]]), Ok(None), "it does not end earlier");
    let expected = content(&data[..end]);
    check_pingora(&data[..end], &expected);
}

fn follow(pieces: &[&[u8]]) -> Outcome {
    let (mut chunks, mut count) = (Chunks::default(), 0);
    for piece in pieces {
        let taken = chunks.follow(piece).map_err(drop)?;
        count += taken;
        assert!(taken <= piece.len() && (taken == piece.len() || chunks.ended()));
    }
    Ok(chunks.ended().then_some(count))
}

/// The content of a whole body, its framing read by httparse.
fn content(mut body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((at, size))) = httparse::parse_chunk_size(body) else {
            panic!("httparse finds no size in {:?}", String::from_utf8_lossy(body));
        };
        body = &body[at..];
        if size == 0 {
            break;
        }
        let (data, rest) = body.split_at(usize::try_from(size).unwrap());
        content.extend_from_slice(data);
        body = rest.strip_prefix(b"\r\n").expect("a chunk ends in CRLF");
    }
    let mut trailers = [httparse::EMPTY_HEADER; 2048];
    let Ok(httparse::Status::Complete((end, _))) = httparse::parse_headers(body, &mut trailers) else {
        panic!("httparse reads no trailers in {:?}", String::from_utf8_lossy(body));
    };
    assert_eq!(end, body.len(), "the body ends with its trailers");
    content
}

/// pingora reads the same content.
fn check_pingora(body: &[u8], expected: &[u8]) {
    let head = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut session = HttpSession::new(Box::new(Cursor::new([head, body].concat())));
    let read = async {
        session.read_request().await.unwrap();
        let mut content = Vec::new();
        while let Some(piece) = session.read_body_bytes().await.expect("pingora accepts an accepted body") {
            content.extend_from_slice(&piece);
        }
        content
    };
    assert_eq!(read.now_or_never().expect("the body is complete"), expected);
}
