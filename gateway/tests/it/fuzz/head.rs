//! The head of an HTTP/1 request. A head that the gateway accepts is valid by RFC 9112, and pingora parses the same
//! method, target, version and fields from it.

use std::io::Cursor;

use futures_util::FutureExt as _;
use holodule_gateway::framing::{
    self, BodyFraming, HeadError, Settings, check_head, end_of_head, inspect, read_head, scheme_and_authority,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
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
    let target = check_grammar(head, &parts);
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
fn check_inspect(parts: &Parts, body: BodyFraming) {
    let Parts { method, uri, version, headers, .. } = parts;
    let head = framing::RequestHead { method, uri, version: *version, headers };
    let target = match inspect(head, &Settings::default()) {
        Ok(target) => target,
        // Checked in the parsed head only.
        Err(HeadError::Malformed("the path is not canonical") | HeadError::HeadersTooLarge) => return,
        Err(refusal) => panic!("a parsed head is refused: {refusal}"),
    };
    assert_eq!(target.body, body);
    assert!(
        target.path().as_str().starts_with('/')
            && !target.host().is_empty()
            && target.authority.starts_with(target.host())
    );
}

/// Parses the head strictly by RFC 9112, sections 2 to 5, compares the request with it, and returns the target.
fn check_grammar(head: &[u8], parts: &Parts) -> String {
    let text = head.strip_suffix(b"\r\n\r\n").expect("a head ends in an empty line");
    let mut lines = text.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    assert_eq!(lines.clone().map(|line| line.len() + 2).sum::<usize>(), text.len() + 2, "each line ends in CRLF");
    let line = std::str::from_utf8(lines.next().unwrap()).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = words[..] else { panic!("{line:?} has three words") };
    assert_eq!((method, version), (parts.method.as_str(), &*format!("{:?}", parts.version)));
    assert!(is_token(method.as_bytes()) && !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(!target.contains('#') && (!target.starts_with('/') || parts.uri == target), "{target}");
    let mut expected = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':').expect("a field has a colon");
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        assert!(is_token(name) && value.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)));
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
        let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
        let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
        let value = HeaderValue::from_bytes(&value[start..end]).unwrap();
        expected.append(HeaderName::from_bytes(name).unwrap(), value);
    }
    assert_eq!(parts.headers, expected);
    target.to_owned()
}

fn is_token(text: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_tchar)
}

/// pingora gets the head without the scheme and the authority of an absolute target.
fn check_pingora(head: &[u8], target: &str, parts: &Parts) {
    let (mut head, mut target) = (head.to_vec(), target.to_owned());
    let range = scheme_and_authority(&head);
    assert_eq!(range.is_none(), target.starts_with('/'));
    if let Some(range) = range {
        let removed: String = target.drain(..range.len()).collect();
        assert!(removed.contains("://"), "{removed}");
        // As the session's stream does for an empty path.
        let path = if target.starts_with('/') { "" } else { "/" };
        target.insert_str(0, path);
        head.splice(range, path.bytes());
    }
    let mut session = HttpSession::new(Box::new(Cursor::new(head)));
    let read = session.read_request().now_or_never().expect("the head is complete");
    read.expect("pingora accepts an accepted head");
    let request = session.req_header();
    assert_eq!(String::from_utf8_lossy(request.raw_path()), target);
    assert_eq!((&request.method, request.version), (&parts.method, parts.version));
    assert_eq!(request.headers, parts.headers);
}
