//! Parses times as people and spreadsheets write them.

use time::{Date, Duration, Month, PrimitiveDateTime, Time};

use crate::model::WallClock;

/// Japan standard time's offset from UTC, all year.
const JAPAN_MINUTES: i64 = 9 * 60;

/// Converts a time to its stored form; other text is returned unchanged, for the model to reject.
///
/// Accepted are the stored and the collector's form, and year, month and day separated by `-` or `/`, with or without
/// leading zeros, then a space or `T`, then hours, minutes and optionally seconds, as written by Excel and ISO 8601. A
/// time with an offset (`Z`, `+09:00`, `+0900`, `+09`) is converted to Japan standard time. A fraction of a second must
/// be zero. The order is always year, month, day: anything else is ambiguous.
pub(super) fn stored(text: String) -> String {
    if WallClock::parse(&text).is_ok() {
        return text;
    }
    parse(&text).map_or(text, |time| time.to_string())
}

fn parse(text: &str) -> Option<WallClock> {
    let (date, rest) = text.split_once([' ', 'T'])?;
    let separator = date.chars().find(|c| matches!(c, '-' | '/'))?;
    let mut parts = date.split(separator);
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = parts.next().is_none() && year.len() == 4;
    let month = Month::try_from(u8::try_from(number(month)?).ok()?).ok()?;
    let date = Date::from_calendar_date(i32::from(number(year)?), month, u8::try_from(number(day)?).ok()?).ok()?;

    let (time, offset) = match rest.find(['Z', '+', '-']) {
        Some(at) => {
            let (time, offset) = rest.split_at_checked(at)?;
            (time, Some(minutes(offset)?))
        }
        None => (rest, None),
    };
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let zero = !fraction.is_empty() && fraction.bytes().all(|byte| byte == b'0');
    let mut parts = time.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next().unwrap_or("00"));
    let exact = parts.next().is_none() && minute.len() == 2 && second.len() == 2;
    if !(whole && zero && exact) {
        return None;
    }
    let part = |text| u8::try_from(number(text)?).ok();
    let time = Time::from_hms(part(hour)?, part(minute)?, part(second)?).ok()?;
    let mut at = PrimitiveDateTime::new(date, time);
    if let Some(offset) = offset {
        at = at.checked_add(Duration::minutes(JAPAN_MINUTES - offset))?;
    }
    let (date, (hour, minute, second)) = (at.date(), at.time().as_hms());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    WallClock::parse(&format!("{year:04}{month:02}{day:02} {hour:02}{minute:02}{second:02}")).ok()
}

/// Parses an offset from UTC, in minutes: `Z`, or a sign, two digits of hours and optionally two of minutes.
fn minutes(offset: &str) -> Option<i64> {
    if offset == "Z" {
        return Some(0);
    }
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let digits = offset.get(1..)?;
    let (hours, minutes) = match digits.len() {
        2 => (digits, "00"),
        4 => digits.split_at_checked(2)?,
        5 => digits.split_once(':')?,
        _ => return None,
    };
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours <= 14 && minutes < 60).then(|| sign * (i64::from(hours) * 60 + i64::from(minutes)))
}

/// The value of one to four ASCII digits.
fn number(text: &str) -> Option<u16> {
    let digits = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_the_same_time() {
        for text in [
            "20270101 200000",
            "2027-01-01 20:00:00",
            "2027/1/1 20:00",
            "2027/01/01 20:00",
            "2027/1/1 20:00:00",
            "2027-1-1 20:00",
            "2027-01-01T20:00",
            "2027-01-01T20:00:00",
            "2027-01-01T20:00:00.000",
            "2027-01-01T20:00:00+09:00",
            "2027-01-01 20:00:00+0900",
            "2027-01-01T20:00+09",
            "2027-01-01T11:00:00Z",
            "2027-01-01T11:00:00.000Z",
            "2027-01-01T06:00:00-05:00",
            "2027-01-01T16:30:00+05:30",
        ] {
            assert_eq!(stored(text.to_owned()), "20270101 200000", "{text}");
        }
        assert_eq!(stored("2026-12-31T15:00:00Z".to_owned()), "20270101 000000", "another day, month and year");
        assert_eq!(stored("2027/1/1 0:05".to_owned()), "20270101 000500");
    }

    #[test]
    fn other_text_is_left_for_the_model_to_reject() {
        for text in [
            "",
            "not a date",
            "2020-12-09 25:00:00",
            "2020-13-32 10:00:00",
            "2021/2/29 10:00",
            "2027/1/1",
            "1/1/2027 20:00",
            "27/1/1 20:00",
            "2027/1-1 20:00",
            "2027/1/1 20:0",
            "2027/1/1 20",
            "2027/1/1  20:00",
            "2027/1/1 20:00 ",
            "2027/1/1 20:00:00.5",
            "2027/1/1 8:00 PM",
            "2027-01-01T20:00:60",
            "2027-01-01T20:00+15:00",
            "2027-01-01T20:00+9",
            "2027-01-01T20:00ZZ",
            "2027-01-01T20:00+09:00Z",
            "46388.8333",
            "9999-12-31T20:00:00Z",
            "２０２７/1/1 20:00",
        ] {
            assert_eq!(stored(text.to_owned()), text);
        }
    }
}
