//! Compressed responses, and what real decoders make of them.

use std::io::Read;

use http::Request;

use super::client::Answer;
use super::h2::{Http2, read_bytes};
use super::token::token;
use super::{Gateway, request};

/// The content codings, in the order in which the default route prefers them.
pub const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];

/// A response and its body as it was sent.
#[derive(Debug)]
pub struct Coded {
    pub answer: Answer,
    pub sent: Vec<u8>,
}

impl Coded {
    /// Over HTTP/1.1, on a new connection.
    pub async fn http1(gateway: &Gateway, request: impl AsRef<[u8]>) -> Self {
        let (answer, sent) = gateway.connect().await.exchange_bytes(request).await;
        Self { answer, sent }
    }

    /// `method path` over HTTP/2 with a token and these fields, on a new connection.
    pub async fn http2(gateway: &Gateway, method: &str, path: &str, fields: &[(&str, &str)]) -> Self {
        let mut request = Request::builder().method(method).uri(format!("https://localhost{path}"));
        request = request.header("authorization", format!("JWT {}", token("user01")));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let client = Http2::open(gateway.https).await;
        let (response, _) = client.begin(request.body(()).unwrap(), true).await.unwrap();
        let (answer, sent) = read_bytes(response.await.unwrap()).await.unwrap();
        Self { answer, sent }
    }

    /// The coding; `None` for identity.
    pub fn coding(&self) -> Option<&str> {
        let values = self.answer.values("content-encoding");
        assert!(values.len() <= 1, "{self:?}");
        values.first().copied()
    }

    /// Whether `Vary` is `Accept-Encoding`. Asserts that there is none otherwise.
    pub fn varies(&self) -> bool {
        let values = self.answer.values("vary");
        assert!(values.is_empty() || values == ["Accept-Encoding"], "{self:?}");
        !values.is_empty()
    }

    /// The decoded body.
    pub fn text(&self) -> String {
        match self.coding() {
            Some(coding) => String::from_utf8(decoded(coding, &self.sent).unwrap()).unwrap(),
            None => String::from_utf8(self.sent.clone()).unwrap(),
        }
    }

    /// Asserts the status, the coding, the decoded body, and that the fields agree with them.
    pub fn assert_is(&self, status: u16, coding: Option<&str>, body: &str) {
        assert_eq!((self.answer.status, self.coding()), (status, coding), "{:?}", self.answer);
        assert!(self.text() == body, "another body: {:?}", self.answer);
        if let Some(length) = self.answer.values("content-length").first() {
            assert_eq!(length.parse(), Ok(self.sent.len()));
        }
        if coding.is_some() {
            assert!(self.varies() && self.sent.len() < body.len());
        }
    }

    /// The fields without those that differ for each response.
    pub fn fields(&self) -> Vec<(String, String)> {
        let varying = ["x-request-id", "date", "age", "x-cache", "connection"];
        let fields = self.answer.headers.iter().filter(|(name, _)| !varying.contains(&name.as_str()));
        let mut fields: Vec<_> = fields.cloned().collect();
        fields.sort();
        fields
    }
}

/// The response over HTTP/1.1 as it was sent, without the lines that differ for each response.
pub async fn raw(gateway: &Gateway, method: &str, path: &str, headers: &str) -> (Vec<String>, Vec<u8>) {
    let mut connection = gateway.connect().await;
    connection.send(request(method, path, &format!("Connection: close\r\n{headers}"))).await;
    let head = connection.read_until("\r\n\r\n").await;
    let differs = |line: &&str| ["x-request-id:", "date:"].iter().any(|name| line.to_lowercase().starts_with(name));
    (head.lines().filter(|line| !differs(line)).map(str::to_owned).collect(), connection.rest().await)
}

/// Decodes a whole body. Fails if it is malformed or truncated.
pub fn decoded(coding: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    decoder(coding, body).read_to_end(&mut all)?;
    Ok(all)
}

/// Decodes what there is of a body.
pub fn decoded_so_far(coding: &str, body: &[u8]) -> Vec<u8> {
    let (mut all, mut decoder) = (Vec::new(), decoder(coding, body));
    // Fails where the body is truncated.
    let _ = decoder.read_to_end(&mut all);
    all
}

fn decoder<'a>(coding: &str, body: &'a [u8]) -> Box<dyn Read + 'a> {
    match coding {
        "zstd" => Box::new(zstd::stream::read::Decoder::new(body).unwrap()),
        "br" => Box::new(brotli::Decompressor::new(body, 4096)),
        "gzip" => Box::new(flate2::read::GzDecoder::new(body)),
        other => panic!("{other} is no coding of the gateway"),
    }
}

/// Text of this length that shrinks like real text.
pub fn text(bytes: usize) -> String {
    let items =
        (0_u64..).map(|number| format!("{{\"key\":\"HL{:06}\",\"title\":\"歌枠\"}},\n", number * 7919 % 999_983));
    let mut text = String::new();
    for item in items {
        if text.len() + item.len() > bytes {
            let rest = bytes - text.len();
            return text + &"x".repeat(rest);
        }
        text.push_str(&item);
    }
    text
}
