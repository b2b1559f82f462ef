//! Writes a feed as an iCalendar object.

use super::revisions::{Revised, Status};
use super::text::{Lines, local, utc};
use crate::model::WallClock;

/// How often calendar programs should fetch a feed, in minutes.
pub const REFRESH_MINUTES: u32 = 30;

/// The name of a feed without a label.
const NAME: &str = "Holodules";
/// The time zone of all events.
const ZONE: &str = "Asia/Tokyo";

/// Writes a feed with these events and the name `label`. `duration` is the assumed duration of each event, in seconds.
///
/// The result depends on the arguments only: without a change, the bytes are the same.
pub fn render(label: Option<&str>, events: &[Revised], duration: i64) -> String {
    let mut lines = Lines::default();
    let refresh = format!("PT{REFRESH_MINUTES}M");
    lines.raw("BEGIN", "VCALENDAR");
    lines.raw("VERSION", "2.0");
    lines.raw("PRODID", "-//holodule//calendar//EN");
    lines.raw("CALSCALE", "GREGORIAN");
    lines.text("NAME", label.unwrap_or(NAME));
    lines.text("X-WR-CALNAME", label.unwrap_or(NAME));
    lines.raw("X-WR-TIMEZONE", ZONE);
    lines.raw("REFRESH-INTERVAL;VALUE=DURATION", &refresh);
    lines.raw("X-PUBLISHED-TTL", &refresh);
    // Japan has had no summer time since 1951.
    for (name, value) in [
        ("BEGIN", "VTIMEZONE"),
        ("TZID", ZONE),
        ("BEGIN", "STANDARD"),
        ("DTSTART", "19700101T000000"),
        ("TZOFFSETFROM", "+0900"),
        ("TZOFFSETTO", "+0900"),
        ("TZNAME", "JST"),
        ("END", "STANDARD"),
        ("END", "VTIMEZONE"),
    ] {
        lines.raw(name, value);
    }
    for event in events {
        write_event(&mut lines, event, duration);
    }
    lines.raw("END", "VCALENDAR");
    lines.into_string()
}

fn write_event(lines: &mut Lines, event: &Revised, duration: i64) {
    let starts_at = match &event.status {
        Status::Scheduled(event) => event.starts_at.unix(),
        Status::Cancelled { starts_at, .. } => *starts_at,
    };
    // Both are within the years of the window, unless the clock is wrong.
    let (Some(start), Some(end)) =
        (WallClock::at_unix(starts_at), WallClock::at_unix(starts_at.saturating_add(duration)))
    else {
        return;
    };
    let modified = utc(event.modified);
    lines.raw("BEGIN", "VEVENT");
    lines.raw("UID", &event.uid);
    // Without a METHOD, DTSTAMP is the time of the last revision (RFC 5545, section 3.8.7.2).
    lines.raw("DTSTAMP", &modified);
    lines.raw("LAST-MODIFIED", &modified);
    lines.raw("SEQUENCE", &event.sequence.to_string());
    lines.raw(&format!("DTSTART;TZID={ZONE}"), &local(start));
    lines.raw(&format!("DTEND;TZID={ZONE}"), &local(end));
    match &event.status {
        Status::Scheduled(event) => {
            lines.raw("STATUS", "CONFIRMED");
            lines.text("SUMMARY", &event.summary);
            if !event.description.is_empty() {
                lines.text("DESCRIPTION", &event.description);
            }
            if let Some(url) = &event.url {
                lines.raw("URL", url);
            }
            lines.texts("CATEGORIES", &event.categories);
        }
        Status::Cancelled { summary, .. } => {
            lines.raw("STATUS", "CANCELLED");
            lines.text("SUMMARY", summary);
        }
    }
    // An event does not make its subscriber busy.
    lines.raw("TRANSP", "TRANSPARENT");
    lines.raw("END", "VEVENT");
}

#[cfg(test)]
mod tests {
    use super::super::event::Event;
    use super::*;

    #[test]
    fn a_feed_is_written() {
        let event = Event {
            uid: "a@video.holodule.invalid".into(),
            starts_at: WallClock::parse("20201209 230000").unwrap(),
            summary: "a; b".into(),
            description: "c\nd".into(),
            url: Some("https://a/".into()),
            categories: vec!["e".into(), "f".into()],
        };
        let revised = |uid: &str, status| Revised { uid: uid.into(), sequence: 7, modified: 1_607_526_000, status };
        let events = [
            revised("a@video.holodule.invalid", Status::Scheduled(event)),
            revised("b@key.holodule.invalid", Status::Cancelled { starts_at: 1_607_526_000, summary: "gone".into() }),
        ];
        let text = render(Some("推し, mine"), &events, 7200);
        let expected = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//holodule//calendar//EN\r\nCALSCALE:GREGORIAN\r\n\
            NAME:推し\\, mine\r\nX-WR-CALNAME:推し\\, mine\r\nX-WR-TIMEZONE:Asia/Tokyo\r\n\
            REFRESH-INTERVAL;VALUE=DURATION:PT30M\r\nX-PUBLISHED-TTL:PT30M\r\n\
            BEGIN:VTIMEZONE\r\nTZID:Asia/Tokyo\r\nBEGIN:STANDARD\r\nDTSTART:19700101T000000\r\nTZOFFSETFROM:+0900\r\n\
            TZOFFSETTO:+0900\r\nTZNAME:JST\r\nEND:STANDARD\r\nEND:VTIMEZONE\r\n\
            BEGIN:VEVENT\r\nUID:a@video.holodule.invalid\r\nDTSTAMP:20201209T150000Z\r\n\
            LAST-MODIFIED:20201209T150000Z\r\nSEQUENCE:7\r\nDTSTART;TZID=Asia/Tokyo:20201209T230000\r\n\
            DTEND;TZID=Asia/Tokyo:20201210T010000\r\nSTATUS:CONFIRMED\r\nSUMMARY:a\\; b\r\nDESCRIPTION:c\\nd\r\n\
            URL:https://a/\r\nCATEGORIES:e,f\r\nTRANSP:TRANSPARENT\r\nEND:VEVENT\r\n\
            BEGIN:VEVENT\r\nUID:b@key.holodule.invalid\r\nDTSTAMP:20201209T150000Z\r\n\
            LAST-MODIFIED:20201209T150000Z\r\nSEQUENCE:7\r\nDTSTART;TZID=Asia/Tokyo:20201210T000000\r\n\
            DTEND;TZID=Asia/Tokyo:20201210T020000\r\nSTATUS:CANCELLED\r\nSUMMARY:gone\r\nTRANSP:TRANSPARENT\r\n\
            END:VEVENT\r\nEND:VCALENDAR\r\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_empty_feed_is_an_object() {
        let text = render(None, &[], 7200);
        assert!(text.contains("\r\nNAME:Holodules\r\n") && text.ends_with("END:VTIMEZONE\r\nEND:VCALENDAR\r\n"));
    }
}
