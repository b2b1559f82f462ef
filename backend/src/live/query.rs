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
    /// [`DEFAULT_DAYS`] from today on, and yesterday while its last streams may still be live. They change at midnight
    /// in Japan and at the end of that time.
    FromToday {
        /// How long a stream lasts, in seconds.
        assumed_duration: u32,
    },
    /// From the first to the last day, both inclusive, at most [`DAYS_LIMIT`].
    Fixed(Day, Day),
}

impl Span {
    /// The first and the last day at `now`, in seconds since the Unix epoch; `None` outside the years 0000 to 9999.
    pub(super) fn days_at(self, now: i64) -> Option<RangeInclusive<Day>> {
        match self {
            Self::FromToday { assumed_duration } => {
                let first = WallClock::at_unix(now.checked_sub(i64::from(assumed_duration))?)?.day();
                let today = WallClock::at_unix(now)?.day();
                Some(first..=today.checked_add(DEFAULT_DAYS - 1)?)
            }
            Self::Fixed(first, last) => Some(first..=last),
        }
    }

    /// When the days change next after `now`, in seconds since the Unix epoch; `None` if they never do.
    pub(super) fn changes_after(self, now: i64) -> Option<i64> {
        match self {
            Self::FromToday { assumed_duration } => {
                let delay = i64::from(assumed_duration);
                let midnight_after = |second| {
                    let tomorrow = WallClock::at_unix(second)?.day().checked_add(1)?;
                    Some(WallClock::parse(&format!("{tomorrow} 000000")).ok()?.unix())
                };
                Some(midnight_after(now)?.min(midnight_after(now.checked_sub(delay)?)? + delay))
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
    fn a_day_is_added_at_midnight_in_japan_and_one_removed_when_its_streams_have_ended() {
        let span = Span::FromToday { assumed_duration: 7200 };
        let second = |text| WallClock::parse(text).unwrap().unix();
        for (now, days, change) in [
            ("20201231 020000", "20201231 20210106", "20210101 000000"),
            ("20201231 235959", "20201231 20210106", "20210101 000000"),
            ("20210101 000000", "20201231 20210107", "20210101 020000"),
            ("20210101 015959", "20201231 20210107", "20210101 020000"),
            ("20210101 020000", "20210101 20210107", "20210102 000000"),
        ] {
            let within = span.days_at(second(now)).unwrap();
            assert_eq!(format!("{} {}", within.start(), within.end()), days, "{now}");
            assert_eq!(span.changes_after(second(now)), Some(second(change)), "{now}");
        }
        let day = Day::parse("20201209").unwrap();
        assert_eq!(Span::Fixed(day, day).changes_after(0), None);
        assert_eq!(Span::Fixed(day, day).days_at(0), Some(day..=day));
        assert_eq!((span.days_at(i64::MAX), span.days_at(i64::MIN)), (None, None));
    }
}
