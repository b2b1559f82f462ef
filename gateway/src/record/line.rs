//! Formats a line of the access log, field by field, as JSON or text.

use std::cell::Cell;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

use crate::syntax::put_ipv4;

/// The format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A JSON object.
    Json,
    /// Text for people.
    Text {
        /// Whether to use terminal colours.
        ansi: bool,
    },
}

/// A line being formatted. Writing to memory cannot fail.
pub(super) struct Line<'a> {
    /// The buffer it is appended to.
    pub(super) out: &'a mut Vec<u8>,
    pub(super) form: Form,
}

impl Line<'_> {
    pub(super) fn begin(&mut self, now: SystemTime) {
        let (before, after): (&[u8], &[u8]) = match self.form {
            Form::Json => (br#"{"timestamp":""#, br#"","level":"INFO""#),
            Form::Text { ansi: false } => (b"", b"  INFO"),
            Form::Text { ansi: true } => (b"\x1b[2m", b"\x1b[0m \x1b[32m INFO\x1b[0m"),
        };
        self.out.extend_from_slice(before);
        timestamp(self.out, now);
        self.out.extend_from_slice(after);
    }

    /// Appends a field's name and what separates it from the previous field and from its value.
    fn name(&mut self, name: &'static str) {
        let (before, after): (&[u8], &[u8]) = match self.form {
            Form::Json => (b",\"", b"\":"),
            Form::Text { ansi: false } => (b" ", b"="),
            Form::Text { ansi: true } => (b" \x1b[3m", b"\x1b[0m\x1b[2m=\x1b[0m"),
        };
        self.out.extend_from_slice(before);
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(after);
    }

    pub(super) fn text(&mut self, name: &'static str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.name(name);
        // Nearly every text needs no escaping in either format. Checking each byte, without stopping at the
        // first odd one, lets the compiler vectorise the loop.
        let is_odd = |byte: u8| !(b' '..=b'~').contains(&byte) || byte == b'"' || byte == b'\\';
        if !value.bytes().fold(false, |odd, byte| odd | is_odd(byte)) {
            self.out.push(b'"');
            self.out.extend_from_slice(value.as_bytes());
            self.out.push(b'"');
            return;
        }
        let _ = match self.form {
            Form::Json => serde_json::to_writer(&mut *self.out, value).map_err(Into::into),
            // `Debug` escapes control characters, which a terminal could interpret.
            Form::Text { .. } => write!(self.out, "{value:?}"),
        };
    }

    pub(super) fn number(&mut self, name: &'static str, value: u64) {
        self.name(name);
        decimal(self.out, value);
    }

    /// Appends milliseconds with one to three decimals.
    pub(super) fn milliseconds(&mut self, name: &'static str, value: Option<Duration>) {
        let Some(value) = value else { return };
        self.name(name);
        let micros =
            value.as_secs().saturating_mul(1_000_000).saturating_add((u64::from(value.subsec_nanos()) + 500) / 1000);
        decimal(self.out, micros / 1000);
        self.out.push(b'.');
        let decimals = u32::try_from(micros % 1000).unwrap_or_default();
        match decimals {
            _ if decimals.is_multiple_of(100) => digits::<1>(self.out, decimals / 100),
            _ if decimals.is_multiple_of(10) => digits::<2>(self.out, decimals / 10),
            _ => digits::<3>(self.out, decimals),
        }
    }

    pub(super) fn address(&mut self, name: &'static str, value: Option<IpAddr>) {
        let Some(value) = value else { return };
        self.name(name);
        let quote: &[u8] = if self.form == Form::Json { b"\"" } else { b"" };
        self.out.extend_from_slice(quote);
        match value {
            IpAddr::V4(value) => put_ipv4(self.out, value),
            IpAddr::V6(value) => {
                let _ = write!(self.out, "{value}");
            }
        }
        self.out.extend_from_slice(quote);
    }

    pub(super) fn end(&mut self) {
        self.out.extend_from_slice(if self.form == Form::Json { b",\"target\":\"access\"}\n" } else { b"\n" });
    }
}

/// Appends UTC with microseconds (RFC 3339), as in the other log lines.
fn timestamp(out: &mut Vec<u8>, now: SystemTime) {
    thread_local! {
        /// The last second since 1970 that was formatted, and its text.
        static LAST: Cell<(u64, [u8; SECOND_BYTES])> = const { Cell::new((u64::MAX, [b'0'; SECOND_BYTES])) };
    }
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (mut second, mut text) = LAST.get();
    if second != now.as_secs() {
        (second, text) = (now.as_secs(), write_second(now.as_secs()));
        LAST.set((second, text));
    }
    out.extend_from_slice(&text);
    out.push(b'.');
    digits::<6>(out, now.subsec_micros());
    out.push(b'Z');
}

/// The length of a date and a time of day, in bytes.
const SECOND_BYTES: usize = "1970-01-01T00:00:00".len();

/// Formats the date and time of day of a second since 1970.
fn write_second(second: u64) -> [u8; SECOND_BYTES] {
    let moment = i64::try_from(second).ok().and_then(|second| OffsetDateTime::from_unix_timestamp(second).ok());
    // `time` supports years up to 9999.
    let moment = moment.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut out = Vec::with_capacity(SECOND_BYTES);
    digits::<4>(&mut out, moment.year().unsigned_abs());
    out.push(b'-');
    digits::<2>(&mut out, u8::from(moment.month()).into());
    out.push(b'-');
    digits::<2>(&mut out, moment.day().into());
    out.push(b'T');
    digits::<2>(&mut out, moment.hour().into());
    out.push(b':');
    digits::<2>(&mut out, moment.minute().into());
    out.push(b':');
    digits::<2>(&mut out, moment.second().into());
    out.try_into().unwrap_or([b'0'; SECOND_BYTES])
}

/// Appends a number in decimal digits.
pub(super) fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

/// Appends the last `WIDTH` decimal digits of a number.
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
    use serde_json::json;

    use super::*;

    /// 2024-02-29T23:59:07.000042Z, a leap day.
    const MOMENT: Duration = Duration::new(1_709_251_147, 42_999);

    #[test]
    fn text_is_formatted_as_by_serde_and_debug() {
        let every: Vec<String> = (0..=0x17f).filter_map(char::from_u32).map(|c| format!("a{c}b")).collect();
        for text in every.iter().map(String::as_str).chain([""]) {
            let written = |form| {
                let mut out = Vec::new();
                Line { out: &mut out, form }.text("x", Some(text));
                String::from_utf8(out).unwrap()
            };
            assert_eq!(written(Form::Json), format!(",\"x\":{}", json!(text)));
            assert_eq!(written(Form::Text { ansi: false }), format!(" x={text:?}"));
        }
    }

    #[test]
    fn milliseconds_are_formatted_like_a_float() {
        for micros in [0, 1, 10, 99, 100, 110, 999, 1000, 1001, 1010, 1100, 123_456, 60_000_000, 3_600_000_500] {
            let mut out = Vec::new();
            Line { out: &mut out, form: Form::Json }.milliseconds("x", Some(Duration::from_micros(micros)));
            #[expect(clippy::cast_precision_loss, reason = "these are exact")]
            let float = micros as f64 / 1000.0;
            assert_eq!(String::from_utf8(out).unwrap(), format!(",\"x\":{}", json!(float)), "{micros}");
        }
    }

    #[test]
    fn the_cached_second_is_replaced_when_it_changes() {
        let second = |second| String::from_utf8(write_second(second).to_vec()).unwrap();
        assert_eq!([second(0), second(1_709_251_147)], ["1970-01-01T00:00:00", "2024-02-29T23:59:07"]);
        let stamp = |after| {
            let mut out = Vec::new();
            timestamp(&mut out, SystemTime::UNIX_EPOCH + MOMENT + Duration::from_millis(after));
            String::from_utf8(out).unwrap()
        };
        let stamps = [0, 900, 1000, 1000, 0].map(stamp);
        let expected = ["07.000042", "07.900042", "08.000042", "08.000042", "07.000042"];
        assert_eq!(stamps, expected.map(|end| format!("2024-02-29T23:59:{end}Z")));
    }
}
