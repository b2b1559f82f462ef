//! The access log: one line a request, and nothing in it that opens a door. The query is
//! never told, since tokens end up in queries; nor is the name of a login that failed.
//!
//! Every request has its line, so it is put together here, in memory that its thread keeps, and
//! does not pass through `tracing`. It looks like the other lines, and stands in order with them.

use std::cell::RefCell;
use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde::Serialize;
use time::OffsetDateTime;

use super::lines::Lines;

/// One request, as the log tells it.
#[derive(Debug)]
pub struct Access<'a> {
    /// What both sides call it.
    pub request_id: &'a str,
    /// Who called.
    pub client: Option<IpAddr>,
    /// The method, from a fixed set.
    pub method: &'static str,
    /// The route's name, never the path.
    pub route: &'a str,
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

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A JSON object.
    Json,
    /// For people.
    Text {
        /// Whether a terminal is told what to make of it.
        ansi: bool,
    },
}

/// Where the lines of requests go; nowhere, by default.
#[derive(Clone, Default)]
pub struct AccessLog(Option<(Lines, Form)>);

impl AccessLog {
    pub(super) fn new(lines: Lines, form: Form) -> Self {
        Self(Some((lines, form)))
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
    /// The fields in their order. What is not known is left out.
    fn tell(&self, now: SystemTime, line: &mut Line<'_>) {
        line.begin(now);
        line.field("request_id", Some(self.request_id));
        line.field("client", self.client);
        line.field("method", Some(self.method));
        line.field("route", Some(self.route));
        // 0 where the client left before an answer.
        line.field("status", Some(self.status.map_or(0, |status| status.as_u16())));
        line.field("upstream_ms", self.upstream.map(milliseconds));
        line.field("total_ms", Some(milliseconds(self.total)));
        line.field("identity", self.identity);
        line.field("bytes", Some(self.bytes));
        line.field("cache", self.cache);
        line.field("reason", self.reason);
        line.end();
    }
}

/// A line that is being written. Writing to memory cannot fail.
struct Line<'a> {
    out: &'a mut Vec<u8>,
    form: Form,
}

impl Line<'_> {
    fn begin(&mut self, now: SystemTime) {
        let (before, after): (&[u8], &[u8]) = match self.form {
            Form::Json => (br#"{"timestamp":""#, br#"","level":"INFO""#),
            Form::Text { ansi: false } => (b"", b"  INFO"),
            Form::Text { ansi: true } => (b"\x1b[2m", b"\x1b[0m \x1b[32m INFO\x1b[0m"),
        };
        self.out.extend_from_slice(before);
        timestamp(self.out, now);
        self.out.extend_from_slice(after);
    }

    fn field(&mut self, name: &'static str, value: Option<impl Serialize + fmt::Debug>) {
        let Some(value) = value else { return };
        let (before, after): (&[u8], &[u8]) = match self.form {
            Form::Json => (b",\"", b"\":"),
            Form::Text { ansi: false } => (b" ", b"="),
            Form::Text { ansi: true } => (b" \x1b[3m", b"\x1b[0m\x1b[2m=\x1b[0m"),
        };
        self.out.extend_from_slice(before);
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(after);
        let _ = match self.form {
            Form::Json => serde_json::to_writer(&mut *self.out, &value).map_err(Into::into),
            // Escapes whatever a terminal could take for a command.
            Form::Text { .. } => write!(self.out, "{value:?}"),
        };
    }

    fn end(&mut self) {
        self.out.extend_from_slice(if self.form == Form::Json { b",\"target\":\"access\"}\n" } else { b"\n" });
    }
}

/// Milliseconds with three decimals: what a person reads and a program parses.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

/// UTC with microseconds (RFC 3339), as the other lines have it.
fn timestamp(out: &mut Vec<u8>, now: SystemTime) {
    let now = OffsetDateTime::from(now);
    digits::<4>(out, now.year().unsigned_abs());
    out.push(b'-');
    digits::<2>(out, u8::from(now.month()).into());
    out.push(b'-');
    digits::<2>(out, now.day().into());
    out.push(b'T');
    digits::<2>(out, now.hour().into());
    out.push(b':');
    digits::<2>(out, now.minute().into());
    out.push(b':');
    digits::<2>(out, now.second().into());
    out.push(b'.');
    digits::<6>(out, now.microsecond());
    out.push(b'Z');
}

/// The last `WIDTH` decimal digits of a number.
fn digits<const WIDTH: usize>(out: &mut Vec<u8>, mut number: u32) {
    let mut digits = [b'0'; WIDTH];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits);
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
            client: Some("2001:db8::1".parse().unwrap()),
            method: "GET",
            route: "holodules",
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
                r#""client":"2001:db8::1","method":"GET","route":"holodules","status":200,"upstream_ms":1.5,"#,
                r#""total_ms":2.0,"identity":"user01","bytes":5120,"cache":"miss","target":"access"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let known = Access { reason: Some("token"), ..access() };
        let access = Access { client: None, status: None, upstream: None, identity: None, cache: None, ..known };
        let line: Value = serde_json::from_str(&told(&access, Form::Json)).unwrap();
        let names: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected =
            ["timestamp", "level", "request_id", "method", "route", "status", "total_ms", "bytes", "reason", "target"];
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert_eq!((&line["status"], &line["reason"]), (&json!(0), &json!("token")));
    }

    #[test]
    fn a_name_cannot_end_its_line_or_speak_to_a_terminal() {
        let name = "a\"\\\n\u{1b}[2J\u{9b}2J\u{2028}é\u{0}";
        let access = Access { identity: Some(name), ..access() };
        let line = told(&access, Form::Json);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
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
                r#"route="holodules" status=200 upstream_ms=1.5 total_ms=2.0 identity="user01" bytes=5120 cache="miss""#,
                "\n"
            )
        );
    }

    #[test]
    fn the_default_log_is_none() {
        AccessLog::default().write(&access());
    }
}
