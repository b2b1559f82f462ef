//! Days and times in Japan standard time, as stored: text without a zone. Nothing here reads the clock.

use std::fmt;
use std::ops::Range;

use time::{Date, Month, Time};

/// Seconds by which Japan standard time is ahead of UTC. It has no summer time.
const JAPAN_OFFSET: i64 = 9 * 3600;

/// A calendar day (proleptic Gregorian, years 0000 to 9999) in Japan standard time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

/// The text is not a calendar day of eight ASCII digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a day of the calendar as yyyymmdd")]
pub struct NotADay;

impl Day {
    /// Parses `yyyymmdd`: exactly eight ASCII digits of an existing day.
    ///
    /// # Errors
    /// [`NotADay`] for anything else; nothing is corrected.
    pub fn parse(text: &str) -> Result<Self, NotADay> {
        let [year @ .., m1, m2, d1, d2] = text.as_bytes() else { return Err(NotADay) };
        let [y1, y2, y3, y4] = year else { return Err(NotADay) };
        let year = number(&[*y1, *y2, *y3, *y4]).ok_or(NotADay)?;
        let month = number(&[*m1, *m2]).ok_or(NotADay)?;
        let day = number(&[*d1, *d2]).ok_or(NotADay)?;
        date(year, month, day).map(Self).ok_or(NotADay)
    }

    /// Parses `yyyymmdd` or the ISO form `yyyy-mm-dd` of an existing day.
    ///
    /// # Errors
    /// [`NotADay`] for anything else.
    pub fn parse_any(text: &str) -> Result<Self, NotADay> {
        Self::parse_iso(text).or_else(|_| Self::parse(text))
    }

    /// Parses the ISO form `yyyy-mm-dd` of an existing day.
    ///
    /// # Errors
    /// [`NotADay`] for anything else.
    pub fn parse_iso(text: &str) -> Result<Self, NotADay> {
        let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text.as_bytes() else { return Err(NotADay) };
        let digits = [*y1, *y2, *y3, *y4, *m1, *m2, *d1, *d2];
        std::str::from_utf8(&digits).map_err(|_| NotADay).and_then(Self::parse)
    }

    /// The day that is `days` later, or earlier if negative; `None` outside the years 0000 to 9999.
    pub fn checked_add(self, days: i64) -> Option<Self> {
        let date = self.0.checked_add(time::Duration::days(days))?;
        (0..=9999).contains(&date.year()).then_some(Self(date))
    }

    /// The number of days from `earlier` to this one; negative if it is later.
    pub fn days_since(self, earlier: Self) -> i64 {
        i64::from(self.0.to_julian_day()) - i64::from(earlier.0.to_julian_day())
    }

    /// The day of the week from 0, Monday, to 6, Sunday.
    pub fn weekday(self) -> u8 {
        self.0.weekday().number_days_from_monday()
    }

    /// Milliseconds from the Unix epoch to midnight of this day, read as if it were UTC.
    pub fn utc_millis(self) -> i64 {
        time::PrimitiveDateTime::new(self.0, Time::MIDNIGHT).assume_utc().unix_timestamp() * 1000
    }

    /// The ISO form, `yyyy-mm-dd`.
    pub fn iso(self) -> String {
        format!("{:04}-{:02}-{:02}", self.0.year(), u8::from(self.0.month()), self.0.day())
    }

    /// The day whose range of [`Day::datetimes`] contains this text.
    pub fn holding(datetime: &str) -> Option<Self> {
        let (day, _) = datetime.split_once(' ')?;
        Self::parse(day).ok()
    }

    /// The half-open range of stored `datetime` texts on this day: every text that begins with `yyyymmdd` and a space.
    pub fn datetimes(self) -> Range<String> {
        // '!' is the character after the space.
        format!("{self} ")..format!("{self}!")
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}{:02}{:02}", self.0.year(), u8::from(self.0.month()), self.0.day())
    }
}

impl std::str::FromStr for Day {
    type Err = NotADay;

    fn from_str(text: &str) -> Result<Self, NotADay> {
        Self::parse(text)
    }
}

/// A second in Japan standard time. Its text form is the stored one, `yyyymmdd hhmmss`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallClock {
    day: Day,
    time: Time,
}

impl WallClock {
    /// Parses the stored form, `yyyymmdd hhmmss`: an existing day and a time from 000000 to 235959.
    ///
    /// # Errors
    /// [`NotADay`] for anything else.
    pub fn parse(text: &str) -> Result<Self, NotADay> {
        let (day, time) = text.split_once(' ').ok_or(NotADay)?;
        let [h1, h2, m1, m2, s1, s2] = time.as_bytes() else { return Err(NotADay) };
        Self::new(Day::parse(day)?, [[*h1, *h2], [*m1, *m2], [*s1, *s2]])
    }

    /// Parses the collector's form, `YYYY-MM-DD HH:MM:SS`, with the same bounds.
    ///
    /// # Errors
    /// [`NotADay`] for anything else.
    pub fn parse_collector(text: &str) -> Result<Self, NotADay> {
        let (date, time) = text.split_once(' ').ok_or(NotADay)?;
        let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = date.as_bytes() else { return Err(NotADay) };
        let year = number(&[*y1, *y2, *y3, *y4]).ok_or(NotADay)?;
        let month = number(&[*m1, *m2]).ok_or(NotADay)?;
        let day = number(&[*d1, *d2]).ok_or(NotADay)?;
        let [h1, h2, b':', n1, n2, b':', s1, s2] = time.as_bytes() else { return Err(NotADay) };
        Self::new(Day(self::date(year, month, day).ok_or(NotADay)?), [[*h1, *h2], [*n1, *n2], [*s1, *s2]])
    }

    fn new(day: Day, [hour, minute, second]: [[u8; 2]; 3]) -> Result<Self, NotADay> {
        let part = |digits: [u8; 2]| number(&digits).and_then(|value| u8::try_from(value).ok()).ok_or(NotADay);
        let time = Time::from_hms(part(hour)?, part(minute)?, part(second)?).map_err(|_| NotADay)?;
        Ok(Self { day, time })
    }

    /// The time in Japan at `seconds` since the Unix epoch; `None` outside the years 0000 to 9999.
    pub fn at_unix(seconds: i64) -> Option<Self> {
        let local = time::OffsetDateTime::from_unix_timestamp(seconds.checked_add(JAPAN_OFFSET)?).ok()?;
        (0..=9999).contains(&local.year()).then(|| Self { day: Day(local.date()), time: local.time() })
    }

    /// The wall clock of UTC at `seconds` since the Unix epoch, for values that are not in Japan standard time, or that
    /// hold it as if it were UTC. `None` outside the years 0000 to 9999.
    pub fn in_utc(seconds: i64) -> Option<Self> {
        Self::at_unix(seconds.checked_sub(JAPAN_OFFSET)?)
    }

    /// Seconds since the Unix epoch.
    pub fn unix(self) -> i64 {
        time::PrimitiveDateTime::new(self.day.0, self.time).assume_utc().unix_timestamp() - JAPAN_OFFSET
    }

    /// The form of RFC 3339, with the offset of Japan: `2020-12-09T23:00:00+09:00`.
    pub fn rfc3339(self) -> String {
        format!("{}+09:00", self.iso())
    }

    /// The ISO form without an offset: `2020-12-09T23:00:00`.
    pub fn iso(self) -> String {
        let (hour, minute, second) = self.time.as_hms();
        format!("{}T{hour:02}:{minute:02}:{second:02}", self.day.iso())
    }

    /// The day.
    pub fn day(self) -> Day {
        self.day
    }

    /// The collector's form, `YYYY-MM-DD HH:MM:SS`.
    pub fn collector(self) -> String {
        let (date, (hour, minute, second)) = (self.day.0, self.time.as_hms());
        let month = u8::from(date.month());
        format!("{:04}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02}", date.year(), date.day())
    }
}

impl fmt::Display for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hour, minute, second) = self.time.as_hms();
        write!(f, "{} {hour:02}{minute:02}{second:02}", self.day)
    }
}

/// The value of ASCII digits: no sign, no space, no other script.
fn number(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0u16, |value, digit| {
        digit.is_ascii_digit().then(|| value.checked_mul(10)?.checked_add(u16::from(digit - b'0'))).flatten()
    })
}

fn date(year: u16, month: u16, day: u16) -> Option<Date> {
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    Date::from_calendar_date(i32::from(year), month, u8::try_from(day).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_and_have_an_iso_form() {
        let day = |text| Day::parse(text).unwrap();
        assert_eq!(Day::parse_any("2020-12-09"), Ok(day("20201209")));
        assert_eq!(Day::parse_any("20201209"), Ok(day("20201209")));
        for bad in ["2020-12-9", "2020/12/09", "2020-13-09", "２０２０-12-09", "2020-1209"] {
            assert_eq!(Day::parse_any(bad), Err(NotADay), "{bad}");
        }
        assert_eq!(day("20201231").checked_add(1), Some(day("20210101")));
        assert_eq!(day("20200301").checked_add(-1), Some(day("20200229")));
        assert_eq!((day("99991231").checked_add(1), day("00000101").checked_add(-1)), (None, None));
        assert_eq!(day("20210101").days_since(day("20201201")), 31);
        assert_eq!(day("20201209").iso(), "2020-12-09");
        assert_eq!(day("20201209").weekday(), 2);
    }

    #[test]
    fn times_are_of_japan() {
        let time = WallClock::parse("20201210 000000").unwrap();
        assert_eq!(time.unix(), 1_607_526_000);
        assert_eq!(WallClock::at_unix(1_607_526_000), Some(time));
        assert_eq!(time.rfc3339(), "2020-12-10T00:00:00+09:00");
        assert_eq!((WallClock::at_unix(i64::MAX), WallClock::at_unix(400_000_000_000)), (None, None));
    }

    #[test]
    fn a_day_is_eight_ascii_digits_of_the_calendar() {
        for good in ["20201209", "20200229", "20000229", "00010101", "99991231", "00000229"] {
            assert_eq!(Day::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "2020120",
            "202012091",
            "20201232",
            "20201301",
            "20200001",
            "20201200",
            "20210229",
            "19000229",
            "2020-12-09",
            "+2020129",
            " 2020129",
            "2020120a",
            "２０２０1209",
            "20201209 ",
            "20201209\n",
            ".*",
        ] {
            assert_eq!(Day::parse(bad), Err(NotADay), "{bad:?}");
        }
    }

    #[test]
    fn the_range_contains_exactly_the_day() {
        let range = Day::parse("20201209").unwrap().datetimes();
        for inside in ["20201209 000000", "20201209 235959", "20201209 250000", "20201209 "] {
            assert!(range.contains(&inside.to_owned()), "{inside}");
            assert_eq!(Day::holding(inside), Day::parse("20201209").ok(), "{inside}");
        }
        for outside in ["20201208 235959", "20201210 000000", "20201209", "202012090 00000", "20201209T000000"] {
            assert!(!range.contains(&outside.to_owned()), "{outside}");
            assert_ne!(Day::holding(outside), Day::parse("20201209").ok(), "{outside}");
        }
    }

    #[test]
    fn both_spellings_of_a_time_are_the_same_second() {
        let stored = WallClock::parse("20201209 230000").unwrap();
        assert_eq!(stored, WallClock::parse_collector("2020-12-09 23:00:00").unwrap());
        assert_eq!(stored.to_string(), "20201209 230000");
        assert_eq!(stored.collector(), "2020-12-09 23:00:00");
        assert_eq!(stored.day(), Day::parse("20201209").unwrap());
    }

    #[test]
    fn an_invalid_time_is_rejected() {
        for bad in [
            "20201209 250000",
            "20201209 006000",
            "20201209 000060",
            "20201332 000000",
            "20201209",
            "20201209 2300",
            "20201209  230000",
            "20201209 230000 ",
            "20201209 23000x",
        ] {
            assert_eq!(WallClock::parse(bad), Err(NotADay), "{bad:?}");
        }
        for bad in [
            "2020-12-09 25:00:00",
            "2020-13-32 10:00:00",
            "not a date",
            "2020-12-09T10:00:00",
            "2020-12-09 1:00:00",
            "2020/12/09 10:00:00",
            "",
        ] {
            assert_eq!(WallClock::parse_collector(bad), Err(NotADay), "{bad:?}");
        }
    }
}
