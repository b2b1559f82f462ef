//! Clients that use HTTP/2 receive an early response whole, without an error: they may still complete their request, and
//! are only stopped, with NO_ERROR, if they do not (RFC 9113, section 8.1).

use std::process::{Command, Stdio};

use bytes::Bytes;
use http::Response;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::Http2Service;
use crate::support::Gateway;
use crate::support::certificate::certificates;
use crate::support::client::PATIENCE;
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, RST_STREAM, block, frame, receive_frame,
};
use crate::support::token::token;
use crate::upload::{backend, gateway, refuse_and_reset};

/// The number of requests per case.
const ROUNDS: usize = 60;

/// The number of curl processes per case, and at the same time.
const CURLS: (usize, usize) = (40, 8);

/// An early response to `POST`.
struct Case<'a> {
    name: &'static str,
    gateway: &'a Gateway,
    path: &'static str,
    authorization: String,
    /// In the response.
    status: u16,
    /// A part of the body of the response.
    text: &'static str,
    /// The number of bytes of the body that the response needs.
    needed: usize,
}

/// A service that refuses each request at its head, over HTTP/2.
async fn refusing() -> Http2Service {
    Http2Service::plain(|mut call| {
        Box::pin(async move {
            let refusal = Response::builder().status(403).body(()).unwrap();
            let mut stream = call.response.send_response(refusal, false).unwrap();
            stream.send_data(Bytes::from_static(b"0123456789"), true).unwrap();
        })
    })
    .await
}

/// Responses of services over HTTP/1.1 and HTTP/2, and of the gateway itself.
fn cases<'a>(http1: &'a Gateway, http2: &'a Gateway) -> Vec<Case<'a>> {
    let valid = format!("JWT {}", token("user01"));
    let case = |name, path, status, text, needed| Case {
        name,
        gateway: http1,
        path,
        authorization: valid.clone(),
        status,
        text,
        needed,
    };
    vec![
        case("a service over HTTP/1.1 that closes the connection", "/notes/a", 413, "0123456789", 0),
        Case { gateway: http2, ..case("a service over HTTP/2", "/app/a", 403, "0123456789", 0) },
        Case { authorization: "JWT x".to_owned(), ..case("no valid token", "/notes/a", 401, "401", 0) },
        case("an unknown route", "/nothing", 404, "Not found", 0),
        case("a login of another content type", "/auth", 415, "415", 0),
        case("a login too large", "/auth", 413, "413", 5000),
    ]
}

async fn gateways() -> (Gateway, Gateway) {
    let unlimited = [("LIMIT_ADDRESS_RATE", "0"), ("LIMIT_IDENTITY_RATE", "0")];
    let (http1, _log) = gateway(&backend(refuse_and_reset).await, &unlimited).await;
    (http1, refusing().await.gateway(""))
}

impl Case<'_> {
    /// The content type of its body.
    fn content_type(&self) -> &'static str {
        if self.status == 415 { "text/plain" } else { "application/json" }
    }

    /// Sends requests of which nothing, a part or all of the body is sent before the response is received, and the rest
    /// afterwards. None of their streams may be reset.
    async fn assert_completed(&self) {
        let mut client = Frames::connect(self.gateway.https, &[]).await;
        let fields = block(&[
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", self.path),
            ("authorization", &self.authorization),
            ("content-type", self.content_type()),
        ]);
        for round in 0..ROUNDS {
            let name = format!("{}, round {round}", self.name);
            let stream = u32::try_from(round * 2 + 1).unwrap();
            let part = vec![b'x'; self.needed.max(7)];
            let mut sent = frame(HEADERS, END_HEADERS, stream, &fields);
            let ends = round % 3 == 2;
            if ends || round % 3 == 1 || self.needed > 0 {
                sent.extend(frame(DATA, if ends { END_STREAM } else { 0 }, stream, &part));
            }
            client.write_all(&sent).await.unwrap();
            client.flush().await.unwrap();
            let mut body = Vec::new();
            loop {
                let received = timeout(PATIENCE, receive_frame(&mut client)).await.expect(&name).expect(&name);
                assert!(!matches!(received.kind, RST_STREAM | GOAWAY), "{name}: {received:?}");
                if received.kind == DATA {
                    body.extend_from_slice(&received.payload);
                    if received.flags & END_STREAM != 0 {
                        break;
                    }
                }
            }
            let body = String::from_utf8(body).unwrap();
            assert!(body.contains(self.text), "{name}: {body}");
            let mut sent = if ends { Vec::new() } else { frame(DATA, END_STREAM, stream, b"the rest") };
            sent.extend(frame(PING, 0, 0, b"complete"));
            client.write_all(&sent).await.unwrap();
            client.flush().await.unwrap();
            loop {
                let received = timeout(PATIENCE, receive_frame(&mut client)).await.expect(&name).expect(&name);
                assert!(!matches!(received.kind, RST_STREAM | GOAWAY), "{name}: {received:?}");
                if received.kind == PING {
                    break;
                }
            }
        }
    }

    /// Runs curl with a body of this size.
    fn assert_received_by_curl(&self, size: usize) {
        let folder = tempfile::tempdir().unwrap();
        let (ca, body) = (folder.path().join("ca.pem"), folder.path().join("body"));
        std::fs::write(&ca, &certificates().ca).unwrap();
        std::fs::write(&body, vec![b'x'; size]).unwrap();
        let run = || {
            let mut command = Command::new("curl");
            command.args(["--http2", "--silent", "--show-error", "--max-time", "60", "--write-out"]);
            command.args([" %{http_code} over %{http_version}", "--cacert"]).arg(&ca);
            command.args(["--header", &format!("Authorization: {}", self.authorization)]);
            command.args(["--header", &format!("Content-Type: {}", self.content_type())]);
            command.arg("--data-binary").arg(format!("@{}", body.display()));
            command.arg(format!("https://localhost:{}{}", self.gateway.https.port(), self.path));
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let (total, at_once) = CURLS;
        for _ in 0..total / at_once {
            for curl in (0..at_once).map(|_| run()).collect::<Vec<_>>() {
                let output = curl.wait_with_output().unwrap();
                let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
                assert!(output.status.success(), "{}, {size} bytes: {errors}", self.name);
                let expected = format!("{} over 2", self.status);
                assert!(text.contains(self.text) && text.ends_with(&expected), "{}, {size} bytes: {text}", self.name);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_complete_its_request_after_an_early_response() {
    let (http1, http2) = gateways().await;
    for case in cases(&http1, &http2) {
        case.assert_completed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_receives_every_early_response() {
    let (http1, http2) = gateways().await;
    for case in cases(&http1, &http2) {
        for size in [case.needed.max(7), 200_000] {
            tokio::task::block_in_place(|| case.assert_received_by_curl(size));
        }
    }
}
