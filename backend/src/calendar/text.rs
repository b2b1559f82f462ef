//! Content lines (RFC 5545, section 3.1).

use time::OffsetDateTime;

use crate::model::WallClock;

/// The longest line, in octets without its end.
const LINE_OCTETS: usize = 75;

/// The content lines of an object.
#[derive(Debug, Default)]
pub(super) struct Lines(String);

impl Lines {
    /// Adds a line with a value that needs no escapes. It must have no control characters.
    pub(super) fn raw(&mut self, name: &str, value: &str) {
        let line = [name, ":", value].concat();
        let mut room = LINE_OCTETS;
        for character in line.chars() {
            if character.len_utf8() > room {
                self.0.push_str("\r\n ");
                // The space counts.
                room = LINE_OCTETS - 1;
            }
            self.0.push(character);
            room -= character.len_utf8();
        }
        self.0.push_str("\r\n");
    }

    /// Adds a line with a text (RFC 5545, section 3.3.11).
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.raw(name, &escaped(value));
    }

    /// Adds a line with a list of texts, unless it is empty.
    pub(super) fn texts(&mut self, name: &str, values: &[String]) {
        if !values.is_empty() {
            let values: Vec<String> = values.iter().map(|value| escaped(value)).collect();
            self.raw(name, &values.join(","));
        }
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// Text with its special characters escaped. Every form of a line break becomes `\n`. Other control characters cannot
/// be expressed, and are left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\r' if characters.peek() == Some(&'\n') => {}
            // Besides the line feed, programs may read each of these as the end of a line.
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => escaped.push_str("\\n"),
            '\\' | ';' | ',' => escaped.extend(['\\', character]),
            '\t' => escaped.push('\t'),
            control if control.is_control() => {}
            other => escaped.push(other),
        }
    }
    escaped
}

/// A time in Japan, in the local form: `20201209T230000`.
pub(super) fn local(time: WallClock) -> String {
    time.to_string().replace(' ', "T")
}

/// A time in UTC: `20201209T140000Z`. `seconds` since the Unix epoch outside the years that have such a form are the
/// epoch.
pub(super) fn utc(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok().filter(|time| (0..=9999).contains(&time.year()));
    let time = time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, (hour, minute, second)) = (time.date(), time.time().as_hms());
    let month = u8::from(date.month());
    format!("{:04}{month:02}{:02}T{hour:02}{minute:02}{second:02}Z", date.year(), date.day())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfolded(lines: &str) -> String {
        lines.replace("\r\n ", "")
    }

    #[test]
    fn long_lines_are_folded_between_characters() {
        let long = "配信🎮e\u{301},x".repeat(40);
        for length in 0..long.chars().count() {
            let value: String = long.chars().take(length).collect();
            let mut lines = Lines::default();
            lines.raw("SUMMARY", &value);
            let lines = lines.into_string();
            let folded: Vec<&str> = lines.strip_suffix("\r\n").unwrap().split("\r\n").collect();
            assert!(folded.iter().all(|line| line.len() <= LINE_OCTETS), "{folded:?}");
            assert!(folded.iter().skip(1).all(|line| line.starts_with(' ') && line.len() > 1), "{folded:?}");
            // All but the last are full, or have no room for another character.
            assert!(folded.iter().rev().skip(1).all(|line| line.len() > LINE_OCTETS - 4), "{folded:?}");
            assert_eq!(unfolded(&lines), format!("SUMMARY:{value}\r\n"));
        }
    }

    #[test]
    fn texts_are_escaped() {
        assert_eq!(escaped("a\\b;c,d:\"e\""), "a\\\\b\\;c\\,d:\"e\"");
        assert_eq!(
            escaped("a\r\nb\rc\nd\u{85}e\u{2028}f\u{2029}g\u{b}h\u{c}i\r\r\n"),
            "a\\nb\\nc\\nd\\ne\\nf\\ng\\nh\\ni\\n\\n"
        );
        assert_eq!(escaped("a\u{0}\u{7}\tb\u{7f}\u{9b}"), "a\tb");
    }

    #[test]
    fn no_text_begins_another_line() {
        let mut lines = Lines::default();
        lines.text("SUMMARY", "x\r\nEND:VEVENT\rEND:VCALENDAR\nATTENDEE:y");
        assert_eq!(unfolded(&lines.into_string()).matches("\r\n").count(), 1);
        let mut lines = Lines::default();
        lines.texts("CATEGORIES", &["a,b".into(), "c\nd".into()]);
        lines.texts("CATEGORIES", &[]);
        assert_eq!(lines.into_string(), "CATEGORIES:a\\,b,c\\nd\r\n");
    }

    #[test]
    fn times_have_the_basic_form() {
        assert_eq!(utc(1_607_526_000), "20201209T150000Z");
        assert_eq!((utc(0), utc(i64::MAX)), ("19700101T000000Z".into(), "19700101T000000Z".into()));
        assert_eq!(local(WallClock::parse("20201210 000000").unwrap()), "20201210T000000");
    }
}
