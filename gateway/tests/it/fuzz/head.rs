//! The head of an HTTP/1 request. What the gateway accepts, httparse and the parser behind the gate accept too, with
//! the same method, target, version and fields.

use std::io::Cursor;

use futures_util::FutureExt as _;
use holodule_gateway::framing::{
    self, Body, Refusal, Settings, absolute_part, check_head, end_of_head, inspect, read_head,
};
use http::HeaderMap;
use http::request::Parts;
use pingora::protocols::http::v1::server::HttpSession;

/// Checks the head that `data` begins with.
pub fn check(data: &[u8]) {
    let end = end_of_head(data, 0);
    check_end(data, end);
    let Some(head) = end.map(|end| &data[..end]) else { return };
    let settings = Settings::default();
    let (checked, read) = (check_head(head, &settings), read_head(head, &settings));
    assert_eq!(checked, read.as_ref().map(|(body, _)| *body).map_err(|refusal| *refusal));
    let Ok((body, parts)) = read else { return };
    let parts = parts.expect("every accepted head of this size is a request");
    check_inspect(&parts, body);
    let target = check_httparse(head, &parts);
    check_pingora(head, &target, &parts);
}

/// Reading a head in pieces finds the same end.
fn check_end(data: &[u8], end: Option<usize>) {
    let last = end.map_or(data.len(), |end| end - 1);
    let sampled = (0..last).step_by(1 + last / 32).chain(last.saturating_sub(3)..=last);
    for seen in sampled {
        assert_eq!(end_of_head(data, seen), end, "the first {seen} bytes contain no end");
    }
}

/// The checks of a parsed request agree with those of the bytes.
fn check_inspect(parts: &Parts, body: Body) {
    let Parts { method, uri, version, headers, .. } = parts;
    let head = framing::Head { method, uri, version: *version, headers };
    let target = match inspect(head, &Settings::default()) {
        Ok(target) => target,
        // Only known once the head is parsed.
        Err(Refusal::Malformed("the path is not canonical") | Refusal::HeadersTooLarge) => return,
        Err(refusal) => panic!("an accepted head is an accepted request: {refusal}"),
    };
    assert_eq!(target.body, body);
    assert!(
        target.path().as_str().starts_with('/')
            && !target.host().is_empty()
            && target.authority.starts_with(target.host())
    );
}

/// Compares the request with that of httparse, and returns the target that this one found.
fn check_httparse(head: &[u8], parts: &Parts) -> String {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut fields);
    assert_eq!(request.parse(head), Ok(httparse::Status::Complete(head.len())));
    assert_eq!(request.method, Some(parts.method.as_str()));
    assert_eq!(request.version, Some(u8::from(parts.version == http::Version::HTTP_11)));
    let mut expected = HeaderMap::new();
    for field in request.headers.iter() {
        let name = http::HeaderName::from_bytes(field.name.as_bytes()).unwrap();
        expected.append(name, http::HeaderValue::from_bytes(field.value).unwrap());
    }
    assert_eq!(parts.headers, expected);
    let target = request.path.unwrap();
    if target.starts_with('/') {
        assert_eq!(parts.uri, target);
    }
    target.to_owned()
}

/// pingora gets the head without the scheme and the authority of an absolute target.
fn check_pingora(head: &[u8], target: &str, parts: &Parts) {
    let (mut head, mut target) = (head.to_vec(), target.to_owned());
    let range = absolute_part(&head);
    assert_eq!(range.is_none(), target.starts_with('/'));
    if let Some(range) = range {
        let removed: String = target.drain(..range.len()).collect();
        assert!(removed.contains("://"), "{removed}");
        // As the stream does it, where there is no path.
        let path = if target.starts_with('/') { "" } else { "/" };
        target.insert_str(0, path);
        head.splice(range, path.bytes());
    }
    let mut session = HttpSession::new(Box::new(Cursor::new(head)));
    let read = session.read_request().now_or_never().expect("the head is all there");
    read.expect("pingora accepts an accepted head");
    let request = session.req_header();
    assert_eq!(String::from_utf8_lossy(request.raw_path()), target);
    assert_eq!((&request.method, request.version), (&parts.method, parts.version));
    assert_eq!(request.headers, parts.headers);
}
