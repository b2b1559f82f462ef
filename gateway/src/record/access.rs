//! The access log: one line per request, without credentials. Only the names of query parameters are logged,
//! since their values can contain tokens.
//!
//! Lines are formatted here, in a buffer per thread, because `tracing` would cost more per request. They have
//! the format of the other log lines and are written in order with them.

use std::cell::RefCell;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};

use super::line::{Form, Line};
use super::lines::Lines;
use super::metrics::Metrics;
use super::requests::method_label;
use super::target;

/// The status of a request whose client left before a response, as nginx logs it.
const CLIENT_LEFT: u16 = 499;

/// A completed request.
#[derive(Debug)]
pub struct Access<'a> {
    /// The request ID, which is also sent to the client and the backend.
    pub request_id: &'a str,
    /// The id of the trace, if traces are exported.
    pub trace_id: Option<&'a str>,
    /// The client's address.
    pub client: IpAddr,
    /// The method, logged as [`method_label`].
    pub method: &'a Method,
    /// The route's name.
    pub route: &'a str,
    /// The canonical path as the client sent it, before a prefix is stripped and an alias resolved;
    /// `None` if the head was refused before the path was parsed.
    pub path: Option<&'a str>,
    /// The query, of which only parameter names are logged.
    pub query: Option<&'a str>,
    /// HTTP/1.0, HTTP/1.1 or HTTP/2; `None` if the head could not be read.
    pub protocol: Option<&'static str>,
    /// The TLS version: one of `tls::VERSIONS`.
    pub tls: Option<&'a str>,
    /// The `User-Agent` field.
    pub user_agent: Option<&'a [u8]>,
    /// The status sent, if any.
    pub status: Option<StatusCode>,
    /// How long the backend took, if a request was sent to it.
    pub upstream: Option<Duration>,
    /// The duration of the whole request.
    pub total: Duration,
    /// The authenticated identity.
    pub identity: Option<&'a str>,
    /// Body bytes sent.
    pub bytes: u64,
    /// The tunnel that followed the response.
    pub tunnel: Option<Tunnelled>,
    /// The cache result, from a fixed set, if its route is cached.
    pub cache: Option<&'static str>,
    /// Why it was refused or failed, from a fixed set.
    pub reason: Option<&'static str>,
}

/// A tunnel that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Tunnelled {
    /// The duration of the request until the tunnel was open, which counts as its duration in metrics.
    pub handshake: Duration,
    /// The bytes received from the client.
    pub received: u64,
}

/// The output of the access log; off by default.
#[derive(Clone, Default)]
pub struct AccessLog(Option<(Lines, Form)>);

impl AccessLog {
    pub(super) fn new(lines: Lines, form: Form) -> Self {
        Self(Some((lines, form)))
    }

    /// Returns whether the access log is on.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Writes the line of a request that has just completed.
    pub fn write(&self, access: &Access<'_>) {
        thread_local! {
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let Some((lines, form)) = &self.0 else { return };
        // A thread that is ending has no buffer, and serves no requests.
        let _ = LINE.try_with(|line| {
            let mut line = line.borrow_mut();
            line.clear();
            access.format(SystemTime::now(), &mut Line { out: &mut line, form: *form });
            lines.push(&line);
        });
    }
}

impl Access<'_> {
    /// Counts the request and writes its line.
    pub fn record(&self, metrics: &Metrics, log: &AccessLog) {
        let total = self.tunnel.map_or(self.total, |tunnel| tunnel.handshake);
        metrics.request(self.route, self.method, self.status, total, self.upstream);
        if self.is_failure() {
            metrics.request_failure(self.route);
        }
        if let Some(cache) = self.cache {
            metrics.cache_request(self.route, cache);
        }
        log.write(self);
    }

    /// Whether the gateway or the service behind it failed the request: by its status, by a response that broke off,
    /// or by a refusal in the form of gRPC, whose status is 200. The end of a tunnel is no failure of its handshake, and
    /// 501 answers a handshake that the route does not support.
    fn is_failure(&self) -> bool {
        match (self.status, self.reason) {
            (Some(StatusCode::SWITCHING_PROTOCOLS | StatusCode::NOT_IMPLEMENTED), _) => false,
            (Some(status), _) if status.is_server_error() => true,
            (None, Some("drain")) => true,
            (_, reason) => matches!(
                reason,
                Some(
                    "internal"
                        | "panic"
                        | "revocation"
                        | "ticket_full"
                        | "unavailable"
                        | "upstream"
                        | "upstream_slow"
                        | "upstream_unreachable"
                )
            ),
        }
    }

    /// The status sent, 499 if the client left before a response, otherwise 0.
    fn status_word(&self) -> u16 {
        match (self.status, self.reason) {
            (Some(status), _) => status.as_u16(),
            (None, Some("client" | "client_slow")) => CLIENT_LEFT,
            (None, _) => 0,
        }
    }

    /// Appends the fields in order. Absent ones are omitted.
    fn format(&self, now: SystemTime, line: &mut Line<'_>) {
        line.begin(now);
        line.text("request_id", Some(self.request_id));
        line.text("trace_id", self.trace_id);
        line.address("client", Some(self.client));
        line.text("method", Some(method_label(self.method)));
        line.text("route", Some(self.route));
        line.text("path", self.path.map(|path| target::shown(path, self.query)).as_deref());
        line.number("status", self.status_word().into());
        line.milliseconds("upstream_ms", self.upstream);
        line.milliseconds("total_ms", Some(self.total));
        line.text("identity", self.identity);
        line.number("bytes", self.bytes);
        if let Some(tunnel) = self.tunnel {
            line.number("bytes_received", tunnel.received);
        }
        line.text("cache", self.cache);
        line.text("reason", self.reason);
        line.text("protocol", self.protocol);
        line.text("tls", self.tls);
        line.text("user_agent", self.user_agent.map(target::agent).as_deref());
        line.end();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// 2024-02-29T23:59:07.000042Z, a leap day.
    const MOMENT: Duration = Duration::new(1_709_251_147, 42_999);

    fn access() -> Access<'static> {
        Access {
            request_id: "0123456789abcdef",
            trace_id: None,
            client: "2001:db8::1".parse().unwrap(),
            method: &Method::GET,
            route: "holodules",
            path: Some("/Holodules/20240229"),
            query: Some("day=1&token"),
            protocol: Some("HTTP/2"),
            tls: Some("1.3"),
            user_agent: Some(b"curl/8"),
            status: Some(StatusCode::OK),
            upstream: Some(Duration::from_micros(1500)),
            total: Duration::from_nanos(2_000_499),
            identity: Some("user01"),
            bytes: 5120,
            tunnel: None,
            cache: Some("miss"),
            reason: None,
        }
    }

    fn formatted(access: &Access<'_>, form: Form) -> String {
        let mut out = Vec::new();
        access.format(SystemTime::UNIX_EPOCH + MOMENT, &mut Line { out: &mut out, form });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_one_json_object_with_ordered_fields() {
        assert_eq!(
            formatted(&access(), Form::Json),
            concat!(
                r#"{"timestamp":"2024-02-29T23:59:07.000042Z","level":"INFO","request_id":"0123456789abcdef","#,
                r#""client":"2001:db8::1","method":"GET","route":"holodules","path":"/Holodules/20240229?day&...","#,
                r#""status":200,"upstream_ms":1.5,"total_ms":2.0,"identity":"user01","bytes":5120,"cache":"miss","#,
                r#""protocol":"HTTP/2","tls":"1.3","user_agent":"curl/8","target":"access"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn absent_fields_are_omitted() {
        let sparse = Access { reason: Some("token"), ..access() };
        let sparse = Access { path: None, protocol: None, tls: None, user_agent: None, ..sparse };
        let access = Access { status: None, upstream: None, identity: None, cache: None, ..sparse };
        let line: Value = serde_json::from_str(&formatted(&access, Form::Json)).unwrap();
        let names: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected = [
            "timestamp",
            "level",
            "request_id",
            "client",
            "method",
            "route",
            "status",
            "total_ms",
            "bytes",
            "reason",
            "target",
        ];
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert_eq!((&line["status"], &line["reason"]), (&json!(0), &json!("token")));
    }

    #[test]
    fn a_client_that_left_is_logged_as_499() {
        for (reason, status) in [(Some("client"), 499), (Some("client_slow"), 499), (Some("drain"), 0), (None, 0)] {
            let text = formatted(&Access { status: None, reason, ..access() }, Form::Json);
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["status"], status);
        }
    }

    #[test]
    fn failures_are_those_of_the_gateway_and_its_services() {
        let is_failure = |status, reason| {
            let status = (status != 0).then(|| StatusCode::from_u16(status).unwrap());
            Access { status, reason, ..access() }.is_failure()
        };
        for (status, reason) in [
            (500, Some("internal")),
            (500, None),
            (502, Some("upstream")),
            (503, Some("revocation")),
            (504, Some("upstream_slow")),
            (200, Some("upstream")),
            (200, Some("upstream_unreachable")),
            (0, Some("drain")),
            (0, Some("panic")),
        ] {
            assert!(is_failure(status, reason), "{status} {reason:?}");
        }
        for (status, reason) in [
            (200, None),
            (404, Some("route")),
            (429, Some("address")),
            (501, Some("upgrade")),
            (501, None),
            (101, Some("upstream")),
            (101, Some("drain")),
            (200, Some("drain")),
            (200, Some("client")),
            (0, Some("client_slow")),
        ] {
            assert!(!is_failure(status, reason), "{status} {reason:?}");
        }
    }

    #[test]
    fn values_cannot_contain_line_breaks_or_terminal_escapes() {
        let name = "a\"\\\n\u{1b}[2J\u{9b}2J\u{2028}é\u{0}";
        let access = Access { identity: Some(name), user_agent: Some(name.as_bytes()), ..access() };
        let line = formatted(&access, Form::Json);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["user_agent"], name);
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["identity"], name);
        for ansi in [false, true] {
            let with_name = formatted(&access, Form::Text { ansi });
            let without = formatted(&self::access(), Form::Text { ansi });
            let commands = |text: &str| text.chars().filter(|c| c.is_control()).count();
            assert_eq!(commands(&with_name), commands(&without), "{with_name:?}");
        }
    }

    #[test]
    fn the_text_format_has_the_same_fields() {
        let text = formatted(&access(), Form::Text { ansi: false });
        assert_eq!(
            text,
            concat!(
                r#"2024-02-29T23:59:07.000042Z  INFO request_id="0123456789abcdef" client=2001:db8::1 method="GET" "#,
                r#"route="holodules" path="/Holodules/20240229?day&..." status=200 upstream_ms=1.5 total_ms=2.0 "#,
                r#"identity="user01" bytes=5120 cache="miss" protocol="HTTP/2" tls="1.3" user_agent="curl/8""#,
                "\n"
            )
        );
    }

    #[test]
    fn addresses_and_numbers_are_formatted_as_by_display() {
        for address in ["0.0.0.0", "255.10.1.0", "203.0.113.7", "::", "::ffff:1.2.3.4", "2001:db8::1"] {
            let line: Value =
                serde_json::from_str(&formatted(&Access { client: address.parse().unwrap(), ..access() }, Form::Json))
                    .unwrap();
            assert_eq!(line["client"], address);
        }
        for number in [0, 9, 10, 1_000_000, u64::MAX] {
            let mut out = Vec::new();
            crate::record::line::decimal(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    #[test]
    fn the_default_log_is_off() {
        let log = AccessLog::default();
        assert!(!log.is_on());
        log.write(&access());
    }
}
