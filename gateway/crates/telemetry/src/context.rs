//! The trace context of a request (W3C Trace Context, level 2).

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The field with the trace, the parent and the flags (section 3.2).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The field with the state of each tracing system (section 3.3).
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The sender may have recorded its span (section 3.2.2.5.1).
const SAMPLED: u8 = 0x01;
/// The right half of the trace id is random (section 3.2.2.5.2, new in level 2).
const RANDOM: u8 = 0x02;

/// The length of `traceparent` in version 00.
const LENGTH: usize = 55;

/// The identity of a span: its trace, its own id, and whether it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub(crate) trace_id: [u8; 16],
    pub(crate) span_id: [u8; 8],
    flags: u8,
}

/// The id of a trace in lower-case hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId([u8; 32]);

impl TraceId {
    /// The 32 digits.
    pub fn as_str(&self) -> &str {
        // Digits are ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl TraceContext {
    /// The root of a new trace.
    pub(crate) fn root(trace_id: [u8; 16], span_id: [u8; 8], is_sampled: bool) -> Self {
        Self { trace_id, span_id, flags: RANDOM | u8::from(is_sampled) }
    }

    /// Another span of the same trace.
    pub(crate) fn with_span(self, span_id: [u8; 8]) -> Self {
        Self { span_id, ..self }
    }

    /// The context in the fields of a request; `None` without exactly one valid `traceparent` (section 4.3).
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(TRACEPARENT).iter();
        let first = fields.next()?;
        if fields.next().is_some() { None } else { Self::parse(first.as_bytes()) }
    }

    /// Parses the value of `traceparent`.
    ///
    /// Of a later version than 00, the parts that version 00 has are read (section 4.3). Flags that level 2 does not
    /// define are not passed on.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (head, rest) = value.split_at_checked(LENGTH)?;
        let [a, b, b'-', head @ ..] = head else { return None };
        let version = byte(*a, *b)?;
        let is_complete = rest.is_empty() || (version != 0 && rest.starts_with(b"-"));
        if version == 0xff || !is_complete {
            return None;
        }
        let (trace, head) = head.split_at_checked(32)?;
        let [b'-', head @ ..] = head else { return None };
        let (span, head) = head.split_at_checked(16)?;
        let [b'-', a, b] = head else { return None };
        let context =
            Self { trace_id: bytes(trace)?, span_id: bytes(span)?, flags: byte(*a, *b)? & (SAMPLED | RANDOM) };
        (context.trace_id != [0; 16] && context.span_id != [0; 8]).then_some(context)
    }

    /// Whether its spans are recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    pub(crate) fn flags(&self) -> u8 {
        self.flags
    }

    /// The id of the trace.
    pub fn trace_id(&self) -> TraceId {
        let mut digits = [0; 32];
        put_hexadecimal(&self.trace_id, &mut digits);
        TraceId(digits)
    }

    /// The value of `traceparent` for a request of this span, in version 00.
    pub fn to_value(&self) -> HeaderValue {
        let mut text = *b"00-................................-................-..";
        let (trace, rest) = text.split_at_mut(36);
        let (span, flags) = rest.split_at_mut(17);
        put_hexadecimal(&self.trace_id, trace.get_mut(3..35).unwrap_or_default());
        put_hexadecimal(&self.span_id, span.get_mut(..16).unwrap_or_default());
        put_hexadecimal(&[self.flags], flags);
        // Digits and dashes are valid.
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
    }
}

/// The value of a lower-case hexadecimal digit: upper-case ones are invalid (section 3.2.2.3).
fn digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn byte(high: u8, low: u8) -> Option<u8> {
    Some(digit(high)? << 4 | digit(low)?)
}

fn bytes<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    if pairs.len() != N {
        return None;
    }
    for (place, [high, low]) in bytes.iter_mut().zip(pairs) {
        *place = byte(*high, *low)?;
    }
    Some(bytes)
}

fn put_hexadecimal(bytes: &[u8], digits: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or_default();
    let (pairs, _) = digits.as_chunks_mut::<2>();
    for (byte, pair) in bytes.iter().zip(pairs) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn parse(text: &str) -> Option<TraceContext> {
        TraceContext::parse(text.as_bytes())
    }

    #[test]
    fn a_valid_value_is_parsed_and_written_again() {
        for (flags, is_sampled) in [("00", false), ("01", true), ("02", false), ("03", true)] {
            let text = format!("00-{TRACE}-{SPAN}-{flags}");
            let context = parse(&text).unwrap();
            assert_eq!(context.is_sampled(), is_sampled);
            assert_eq!(context.trace_id().as_str(), TRACE);
            assert_eq!(context.to_value(), text);
        }
    }

    #[test]
    fn flags_that_are_not_defined_are_not_passed_on() {
        assert_eq!(parse(&format!("00-{TRACE}-{SPAN}-fd")).unwrap().to_value(), format!("00-{TRACE}-{SPAN}-01"));
    }

    #[test]
    fn of_a_later_version_the_known_parts_are_read() {
        for text in [format!("01-{TRACE}-{SPAN}-01"), format!("cc-{TRACE}-{SPAN}-01-what-comes")] {
            assert_eq!(parse(&text).unwrap().to_value(), format!("00-{TRACE}-{SPAN}-01"), "{text}");
        }
        for text in [format!("01-{TRACE}-{SPAN}-01x"), format!("01-{TRACE}-{SPAN}-01.more")] {
            assert_eq!(parse(&text), None, "{text}");
        }
    }

    #[test]
    fn an_invalid_value_is_no_context() {
        let (upper_trace, upper_span) = (TRACE.to_uppercase(), SPAN.to_uppercase());
        let zeros = "0".repeat(32);
        for text in [
            String::new(),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("0x-{TRACE}-{SPAN}-01"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{upper_trace}-{SPAN}-01"),
            format!("00-{TRACE}-{upper_span}-01"),
            format!("00-{TRACE}-{SPAN}-0A"),
            format!("00-{TRACE}-{SPAN}-0"),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-011"),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01 "),
            format!("00_{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}_{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}_01"),
            format!("00-{TRACE}0-{SPAN}-1"),
            format!("00-{}g-{SPAN}-01", TRACE.get(1..).unwrap()),
        ] {
            assert_eq!(parse(&text), None, "{text:?}");
        }
    }

    #[test]
    fn two_fields_are_no_context() {
        let value = HeaderValue::try_from(format!("00-{TRACE}-{SPAN}-01")).unwrap();
        let mut headers = HeaderMap::new();
        assert_eq!(TraceContext::of(&headers), None);
        headers.append(TRACEPARENT, value.clone());
        assert_eq!(TraceContext::of(&headers).unwrap().trace_id().as_str(), TRACE);
        headers.append(TRACEPARENT, value);
        assert_eq!(TraceContext::of(&headers), None);
    }

    #[test]
    fn a_new_trace_states_that_its_id_is_random() {
        assert_eq!(TraceContext::root([1; 16], [2; 8], true).to_value().to_str().unwrap().get(53..), Some("03"));
        assert_eq!(TraceContext::root([1; 16], [2; 8], false).to_value().to_str().unwrap().get(53..), Some("02"));
    }
}
