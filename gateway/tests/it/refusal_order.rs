//! ops/WIRE.md, "The order of refusals": of two faults, the earlier one decides the response.

use crate::role::scoped;
use crate::support::token::token;
use crate::support::{DAY, Gateway, admin, api};

/// A request that can have several faults at once.
struct Draft {
    method: &'static str,
    path: String,
    query: String,
    host: &'static str,
    headers: String,
    token: Option<String>,
    body: &'static str,
}

impl Draft {
    fn valid() -> Self {
        Self {
            method: "GET",
            path: DAY.to_owned(),
            query: String::new(),
            host: "localhost",
            headers: String::new(),
            token: Some(scoped("viewer")),
            body: "",
        }
    }

    fn write(&self) -> String {
        let Self { method, path, query, host, headers, token, body } = self;
        let token = token.as_ref().map(|token| format!("Authorization: JWT {token}\r\n")).unwrap_or_default();
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        format!("{method} {path}{query} HTTP/1.1\r\nHost: {host}\r\n{token}{headers}{length}\r\n{body}")
    }
}

/// A fault: its name, the status of its refusal, and the change that causes it.
type Fault = (&'static str, u16, fn(&mut Draft));

/// The faults in the contract's order.
const FAULTS: [Fault; 13] = [
    ("framing", 400, |draft| draft.headers.push_str("X-Odd : a space before the colon\r\n")),
    ("method never taken", 400, |draft| draft.method = "TRACE"),
    ("path", 400, |draft| draft.path.insert_str(0, "/.")),
    ("target", 414, |draft| draft.query = format!("?q={}", "a".repeat(3000))),
    ("headers", 431, |draft| draft.headers.push_str(&format!("X-Long: {}\r\n", "a".repeat(16_400)))),
    ("host", 421, |draft| draft.host = "elsewhere.example"),
    ("token", 401, |draft| draft.token = None),
    ("route", 404, |draft| draft.path.insert_str(0, "/nothing")),
    ("method", 405, |draft| {
        if draft.method == "GET" {
            draft.method = "DELETE";
        }
    }),
    ("network", 403, |draft| {
        if draft.path == DAY {
            draft.path = "/denied".to_owned();
        }
    }),
    ("scope", 403, |draft| draft.token = draft.token.as_ref().map(|_| token("user01"))),
    ("upgrade", 501, |draft| draft.headers.push_str("Connection: Upgrade\r\nUpgrade: websocket\r\n")),
    ("body", 400, |draft| draft.body = "x=1"),
];

const ROUTES: &str = "[{ path = '/holodules/{day}', methods = ['GET', 'HEAD'], require = { any = ['viewer'] } }, \
     { path = '/denied', methods = ['GET', 'HEAD'], require = { any = ['viewer'] }, deny = ['127.0.0.0/8'] }]";

#[tokio::test]
async fn of_two_faults_the_earlier_one_is_reported() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start_with(&api, &admin, &[("ROUTE", ROUTES)]);
    for (index, (earlier, status, make_earlier)) in FAULTS.iter().enumerate() {
        for (later, _, make_later) in &FAULTS[index..] {
            let mut draft = Draft::valid();
            // The earlier fault is made last, so that the later one does not undo it.
            make_later(&mut draft);
            if earlier != later {
                make_earlier(&mut draft);
            }
            let answer = gateway.exchange(draft.write()).await;
            assert_eq!(answer.status, *status, "{earlier} and {later}: {answer:?}");
        }
    }
    assert!(api.seen().is_empty() && admin.seen().is_empty());
    assert_eq!(gateway.exchange(Draft::valid().write()).await.status, 200);
}

#[tokio::test]
async fn the_login_has_the_same_order_without_a_token() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let long = "a".repeat(3000);
    let rows = [
        (400, "POST /auth HTTP/1.1\r\nHost: elsewhere.example\r\nHost: localhost\r\n\r\n".to_owned()),
        (400, "POST //auth HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n".to_owned()),
        (414, format!("POST /auth?{long} HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n")),
        (421, "GET /auth HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n".to_owned()),
        (405, "GET /auth HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()),
        (415, "POST /auth HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n".to_owned()),
    ];
    for (status, request) in rows {
        assert_eq!(gateway.exchange(&request).await.status, status, "{request}");
    }
    assert!(admin.seen().is_empty());
}
