//! The access log: one line for each request, without credentials. Of a query only names are logged,
//! since tokens end up in its values.
//!
//! Every request has its line, so it is put together here, in memory that its thread keeps, and
//! does not pass through `tracing`. It looks like the other lines, and stands in order with them.

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

/// One request that has ended.
#[derive(Debug)]
pub struct Access<'a> {
    /// What both sides call it.
    pub request_id: &'a str,
    /// The client's address.
    pub client: IpAddr,
    /// The method; logged by a name from a fixed set.
    pub method: &'a Method,
    /// The route's name.
    pub route: &'a str,
    /// The canonical path as the client sent it, before a prefix is stripped and an alias resolved;
    /// `None` where the head was refused before it had one.
    pub path: Option<&'a str>,
    /// The query behind it, of which only names are logged.
    pub query: Option<&'a str>,
    /// HTTP/1.0, HTTP/1.1 or HTTP/2; `None` where the head could not be read.
    pub protocol: Option<&'static str>,
    /// The TLS version: one of the listener's `VERSIONS`.
    pub tls: Option<&'a str>,
    /// The `User-Agent` field.
    pub user_agent: Option<&'a [u8]>,
    /// The status that was sent, if any was.
    pub status: Option<StatusCode>,
    /// How long the backend took, where it was asked.
    pub upstream: Option<Duration>,
    /// How long it all took.
    pub total: Duration,
    /// Whom it was answered for, once that was proven.
    pub identity: Option<&'a str>,
    /// Body bytes sent.
    pub bytes: usize,
    /// What the cache did for it, in fixed words, where its route has one.
    pub cache: Option<&'static str>,
    /// Why it was refused or failed, in fixed words.
    pub reason: Option<&'static str>,
}

/// Where the lines of requests go; nowhere, by default.
#[derive(Clone, Default)]
pub struct AccessLog(Option<(Lines, Form)>);

impl AccessLog {
    pub(super) fn new(lines: Lines, form: Form) -> Self {
        Self(Some((lines, form)))
    }

    /// Whether lines are written at all.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Writes the line of a request that has just ended.
    pub fn write(&self, access: &Access<'_>) {
        thread_local! {
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let Some((lines, form)) = &self.0 else { return };
        // A thread that is ending has no such memory any more, and no requests.
        let _ = LINE.try_with(|line| {
            let mut line = line.borrow_mut();
            line.clear();
            access.tell(SystemTime::now(), &mut Line { out: &mut line, form: *form });
            lines.push(&line);
        });
    }
}

impl Access<'_> {
    /// Counts the request and writes its line.
    pub fn record(&self, metrics: &Metrics, log: &AccessLog) {
        metrics.request(self.route, self.method, self.status, self.total, self.upstream);
        if let Some(cache) = self.cache {
            metrics.cache_request(self.route, cache);
        }
        log.write(self);
    }

    /// The status, or a word for why there was no response.
    fn status_word(&self) -> u16 {
        match (self.status, self.reason) {
            (Some(status), _) => status.as_u16(),
            (None, Some("client" | "client_slow")) => CLIENT_LEFT,
            (None, _) => 0,
        }
    }

    /// The fields in their order. What is not known is left out.
    fn tell(&self, now: SystemTime, line: &mut Line<'_>) {
        line.begin(now);
        line.text("request_id", Some(self.request_id));
        line.address("client", Some(self.client));
        line.text("method", Some(method_label(self.method)));
        line.text("route", Some(self.route));
        line.text("path", self.path.map(|path| target::shown(path, self.query)).as_deref());
        line.number("status", self.status_word().into());
        line.milliseconds("upstream_ms", self.upstream);
        line.milliseconds("total_ms", Some(self.total));
        line.text("identity", self.identity);
        line.number("bytes", u64::try_from(self.bytes).unwrap_or(u64::MAX));
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
            cache: Some("miss"),
            reason: None,
        }
    }

    fn told(access: &Access<'_>, form: Form) -> String {
        let mut out = Vec::new();
        access.tell(SystemTime::UNIX_EPOCH + MOMENT, &mut Line { out: &mut out, form });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_one_json_object_in_its_order() {
        assert_eq!(
            told(&access(), Form::Json),
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
    fn what_is_not_known_is_left_out() {
        let known = Access { reason: Some("token"), ..access() };
        let known = Access { path: None, protocol: None, tls: None, user_agent: None, ..known };
        let access = Access { status: None, upstream: None, identity: None, cache: None, ..known };
        let line: Value = serde_json::from_str(&told(&access, Form::Json)).unwrap();
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
    fn a_client_that_left_has_a_status_of_its_own() {
        for (reason, status) in [(Some("client"), 499), (Some("client_slow"), 499), (Some("drain"), 0), (None, 0)] {
            let text = told(&Access { status: None, reason, ..access() }, Form::Json);
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["status"], status);
        }
    }

    #[test]
    fn a_name_cannot_end_its_line_or_speak_to_a_terminal() {
        let name = "a\"\\\n\u{1b}[2J\u{9b}2J\u{2028}é\u{0}";
        let access = Access { identity: Some(name), user_agent: Some(name.as_bytes()), ..access() };
        let line = told(&access, Form::Json);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["user_agent"], name);
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["identity"], name);
        for ansi in [false, true] {
            let with_name = told(&access, Form::Text { ansi });
            let without = told(&self::access(), Form::Text { ansi });
            let commands = |text: &str| text.chars().filter(|c| c.is_control()).count();
            assert_eq!(commands(&with_name), commands(&without), "{with_name:?}");
        }
    }

    #[test]
    fn text_for_people_has_the_same_fields() {
        let text = told(&access(), Form::Text { ansi: false });
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
    fn addresses_and_numbers_are_written_as_ever() {
        for address in ["0.0.0.0", "255.10.1.0", "203.0.113.7", "::", "::ffff:1.2.3.4", "2001:db8::1"] {
            let line: Value =
                serde_json::from_str(&told(&Access { client: address.parse().unwrap(), ..access() }, Form::Json))
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
    fn the_default_log_is_none() {
        let log = AccessLog::default();
        assert!(!log.is_on());
        log.write(&access());
    }
}
