//! The query of a stream.

use std::ops::RangeInclusive;

use crate::model::{Day, Filter, WallClock};

/// The number of days of a stream without `from` and `to`, today included.
pub(crate) const DEFAULT_DAYS: i64 = 7;
/// The maximum number of days of a stream.
pub(crate) const DAYS_LIMIT: i64 = 92;

/// The days of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Span {
    /// [`DEFAULT_DAYS`] from today on. They change at midnight in Japan.
    FromToday,
    /// From the first to the last day, both inclusive, at most [`DAYS_LIMIT`].
    Fixed(Day, Day),
}

impl Span {
    /// The first and the last day at `now`, in seconds since the Unix epoch; `None` outside the years 0000 to 9999.
    pub(super) fn days_at(self, now: i64) -> Option<RangeInclusive<Day>> {
        match self {
            Self::FromToday => {
                let today = WallClock::at_unix(now)?.day();
                Some(today..=today.checked_add(DEFAULT_DAYS - 1)?)
            }
            Self::Fixed(first, last) => Some(first..=last),
        }
    }

    /// When the days change next after `now`, in seconds since the Unix epoch; `None` if they never do.
    pub(super) fn changes_after(self, now: i64) -> Option<i64> {
        match self {
            Self::FromToday => {
                let tomorrow = WallClock::at_unix(now)?.day().checked_add(1)?;
                Some(WallClock::parse(&format!("{tomorrow} 000000")).ok()?.unix())
            }
            Self::Fixed(..) => None,
        }
    }
}

/// The query of a client. Streams with equal queries share one state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Query {
    /// The days.
    pub(crate) span: Span,
    /// The filter of the holodules of these days. It has no text.
    pub(crate) filter: Filter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_days_change_at_midnight_in_japan() {
        let second = |text| WallClock::parse(text).unwrap().unix();
        let days = |text| {
            let days = Span::FromToday.days_at(second(text)).unwrap();
            format!("{} {}", days.start(), days.end())
        };
        assert_eq!(days("20201231 235959"), "20201231 20210106");
        assert_eq!(days("20210101 000000"), "20210101 20210107");
        assert_eq!(Span::FromToday.changes_after(second("20201231 000000")), Some(second("20210101 000000")));
        assert_eq!(Span::FromToday.changes_after(second("20201231 235959")), Some(second("20210101 000000")));
        let day = Day::parse("20201209").unwrap();
        assert_eq!(Span::Fixed(day, day).changes_after(0), None);
        assert_eq!(Span::Fixed(day, day).days_at(0), Some(day..=day));
        assert_eq!(Span::FromToday.days_at(i64::MAX), None);
    }
}
