//! A head that is accepted has one meaning, and pingora's parser reads the same.

use std::io::Cursor;

use holodule_gateway::framing::{BodyFraming, Settings, check_head, end_of_head, read_head, scheme_and_authority};
use http::request::Parts;
use pingora::protocols::http::v1::server::HttpSession;

use crate::support::random::{self, Random};

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "OPTIONS", "BREW", "get"];

const TARGETS: [&str; 6] =
    ["/", "/holodules/20201209", "/auth", "/a/b?c=d&e", "https://localhost/a", "https://localhost:8443/a?b"];

/// Fields that affect framing or routing, similar ones, and others.
const FIELDS: [&str; 22] = [
    "Host: localhost",
    "Host: localhost:8443",
    "Content-Length: 5",
    "Content-Length: 0",
    "Content-Length: 5, 5",
    "Content-Length: +5",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: Chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: identity",
    "Connection: close",
    "Connection: keep-alive, x-a",
    "Expect: 100-continue",
    "Upgrade: h2c",
    "Accept: */*",
    "Accept:",
    "X-A: b",
    "X-A: \t b \t",
    "X-A: b c: d",
    "X-A: \u{e9}",
    "x_a: b",
    "x_auth_identity: b",
];

/// Bytes that programs are known to interpret differently.
const ODDITIES: [&[u8]; 22] = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\n\r",
    b"\r\r\n",
    b"\r\n ",
    b"\r\n\t",
    b"\0",
    b"\t",
    b" ",
    b"  ",
    b":",
    b",",
    b";",
    b"\x0b",
    b"\x0c",
    b"\x7f",
    b"\x80",
    b"\xc2\xa0",
    b"\xff",
    b"_",
    b"#",
];

fn head(random: &mut Random) -> Vec<u8> {
    let mut lines = vec![format!(
        "{} {} HTTP/1.{}",
        random.pick(&METHODS),
        random.pick(&TARGETS),
        if random.one_in(8) { 0 } else { 1 }
    )];
    if !random.one_in(10) {
        lines.push(FIELDS[random.below(2)].to_owned());
    }
    for _ in 0..random.below(5) {
        lines.push(random.pick(&FIELDS).to_owned());
    }
    let mut head = format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes();
    for _ in 0..random.below(4) {
        let at = random.below(head.len());
        match random.below(5) {
            0 => drop(head.remove(at)),
            1 => head[at] = random.byte(),
            2 => head[at] ^= 0x20,
            _ => drop(head.splice(at..at, random.pick(&ODDITIES).iter().copied())),
        }
    }
    head
}

/// A request as it was parsed.
#[derive(Debug, PartialEq, Eq)]
struct Meaning {
    method: String,
    target: String,
    version: String,
    /// Names in lower case, sorted.
    fields: Vec<(String, Vec<u8>)>,
}

/// Parses a head strictly by RFC 9112.
fn reference(head: &[u8]) -> Option<(Meaning, BodyFraming)> {
    let is_token = |text: &[u8]| {
        !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
    };
    let mut lines = Vec::new();
    let mut rest = head;
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let (line, after) = (&rest[..end], &rest[end + 2..]);
        if line.is_empty() {
            // Nothing may follow the end of the head.
            (after.is_empty()).then_some(())?;
            break;
        }
        (!line.contains(&b'\r') && !line.contains(&b'\n') && !line.contains(&0)).then_some(())?;
        lines.push(line);
        rest = after;
    }
    let (request, fields) = lines.split_first()?;
    let words: Vec<&[u8]> = request.split(|&byte| byte == b' ').collect();
    let [method, target, version @ (b"HTTP/1.1" | b"HTTP/1.0")] = words[..] else { return None };
    (is_token(method) && !target.is_empty() && target.iter().all(u8::is_ascii_graphic)).then_some(())?;
    let mut read = Vec::new();
    for field in fields {
        let colon = field.iter().position(|&byte| byte == b':')?;
        let name = &field[..colon];
        let white = |byte: &u8| matches!(byte, b' ' | b'\t');
        let mut value = field[colon + 1..].to_vec();
        while value.last().is_some_and(white) {
            value.pop();
        }
        let value: Vec<u8> = value.into_iter().skip_while(white).collect();
        (is_token(name) && value.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))).then_some(())?;
        read.push((String::from_utf8(name.to_ascii_lowercase()).ok()?, value));
    }
    read.sort();
    let values = |name: &str| read.iter().filter(|(key, _)| key == name).map(|(_, value)| value).collect::<Vec<_>>();
    (values("host").len() == 1).then_some(())?;
    let body = match (&values("transfer-encoding")[..], &values("content-length")[..]) {
        ([], []) => BodyFraming::None,
        ([encoding], []) if version == b"HTTP/1.1" && encoding.eq_ignore_ascii_case(b"chunked") => BodyFraming::Chunked,
        ([], [length]) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            let length: u64 = std::str::from_utf8(length).ok()?.parse().ok()?;
            if length == 0 { BodyFraming::None } else { BodyFraming::Length(length) }
        }
        _ => return None,
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Some((Meaning { method: text(method), target: text(target), version: text(version), fields: read }, body))
}

/// The gateway's own parse of a request that was sent with `target`.
fn meaning_of(request: &Parts, target: &str) -> Meaning {
    let fields = request.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    let mut fields: Vec<_> = fields.collect();
    fields.sort();
    let uri = request.uri.to_string();
    // In an absolute target, the scheme becomes lower case and an empty path becomes `/`.
    let spellings = [uri.clone(), uri.replacen("/?", "?", 1), uri.trim_end_matches('/').to_owned()];
    let is_absolute = !target.starts_with('/');
    let is_same = uri == target || is_absolute && spellings.iter().any(|uri| uri.eq_ignore_ascii_case(target));
    Meaning {
        method: request.method.to_string(),
        target: if is_same { target.to_owned() } else { uri },
        version: format!("{:?}", request.version),
        fields,
    }
}

/// pingora's parse of a head, and the number of bytes in the body that follows; `None` if it refuses either.
async fn parse_with_pingora(head: &[u8], body: &[u8]) -> Option<(Meaning, usize)> {
    let next = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut session = HttpSession::new(Box::new(Cursor::new([head, body, next].concat())));
    session.read_request().await.ok()?;
    let request = session.req_header();
    let fields = request.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    let mut fields: Vec<_> = fields.collect();
    fields.sort();
    let meaning = Meaning {
        method: request.method.to_string(),
        target: String::from_utf8(request.raw_path().to_vec()).unwrap(),
        version: format!("{:?}", request.version),
        fields,
    };
    let mut length = 0;
    if !session.is_body_empty() {
        while let Some(piece) = session.read_body_bytes().await.ok()? {
            length += piece.len();
        }
    }
    Some((meaning, length))
}

#[test]
fn an_accepted_head_has_the_same_meaning_for_the_reference_and_pingora() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (settings, mut accepted) = (Settings::default(), 0_u64);
    random::check("heads against a reference and pingora", 20_000, |random| {
        let bytes = head(random);
        let Some(end) = end_of_head(&bytes, 0) else { return };
        let head = &bytes[..end];
        let (checked, read) = (check_head(head, &settings), read_head(head, &settings));
        assert_eq!(read.as_ref().map(|(body, _)| *body), checked.as_ref().map(|body| *body));
        let (Ok(body), Ok((_, request))) = (checked, read) else { return };
        accepted += 1;
        let shown = String::from_utf8_lossy(head);
        let (meaning, expected) = reference(head).unwrap_or_else(|| panic!("{shown:?} is accepted"));
        assert_eq!(body, expected, "{shown:?}");
        let request = request.unwrap_or_else(|| panic!("{shown:?} gives no request"));
        assert_eq!(meaning_of(&request, &meaning.target), meaning, "{shown:?}");
        // pingora compares an absolute target with Host literally, so it gets the path only.
        let (mut sent_head, mut meaning) = (head.to_vec(), meaning);
        if let Some(range) = scheme_and_authority(head) {
            meaning.target.replace_range(..range.len(), "");
            sent_head.drain(range);
        }
        let (sent, length) = match body {
            BodyFraming::None => (Vec::new(), 0),
            BodyFraming::Length(length @ 1..=1000) => (vec![b'x'; usize::try_from(length).unwrap()], length),
            // Too long to be sent here.
            BodyFraming::Length(_) => return,
            BodyFraming::Chunked => (b"3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n".to_vec(), 5),
        };
        let (parsed, found) = runtime
            .block_on(parse_with_pingora(&sent_head, &sent))
            .unwrap_or_else(|| panic!("pingora refuses {shown:?}"));
        assert_eq!(parsed, meaning, "{shown:?}");
        assert_eq!(found as u64, length, "{shown:?}");
    });
    assert!(accepted > 0, "no case was accepted");
}

#[test]
fn a_valid_head_is_accepted() {
    random::check("valid heads", 2_000, |random| {
        let fields =
            ["Accept: */*", "X-A: b", "X-A: \t b \t", "X-A: b c: d", "X-A: \u{e9}", "Connection: close", "x_a:"];
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: localhost\r\n", random.pick(&METHODS), TARGETS[random.below(4)]);
        for _ in 0..random.below(20) {
            head.push_str(random.pick(&fields));
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        assert!(check_head(head.as_bytes(), &Settings::default()).is_ok(), "{head:?}");
    });
}
