//! The states of a stream, from its start alone.

use std::ops::Range;

use crate::model::WallClock;

/// The state of a stream. Documents have a start and no end: a stream counts as live for an assumed duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Status {
    /// It starts later.
    Upcoming,
    /// It has started less than the assumed duration ago.
    Live,
    /// It has started earlier.
    Past,
}

impl Status {
    /// All values, in the order of the documentation.
    pub(super) const ALL: [Self; 3] = [Self::Upcoming, Self::Live, Self::Past];

    /// The value of the parameter.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Upcoming => "upcoming",
            Self::Live => "live",
            Self::Past => "past",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// The stored `datetime` texts at which the status changes, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Boundaries {
    /// The first text of a live stream.
    pub(super) live: String,
    /// The first text of an upcoming stream.
    pub(super) upcoming: String,
}

impl Boundaries {
    /// The boundaries at `now` (seconds since the Unix epoch), if a stream lasts `assumed_duration` seconds. `None`
    /// outside the years 0000 to 9999.
    pub(super) fn at(now: i64, assumed_duration: u32) -> Option<Self> {
        let text = |second: i64| Some(WallClock::at_unix(second)?.to_string());
        let next = now.checked_add(1)?;
        Some(Self { live: text(next.checked_sub(i64::from(assumed_duration))?)?, upcoming: text(next)? })
    }

    /// The parts of `range` with one of these states, ascending and disjoint.
    pub(super) fn narrow(&self, range: &Range<String>, states: &[Status]) -> Vec<Range<String>> {
        let (live, upcoming) = (&self.live, &self.upcoming);
        let parts = [
            (Status::Past, &range.start, live.min(&range.end)),
            (Status::Live, live.max(&range.start), upcoming.min(&range.end)),
            (Status::Upcoming, upcoming.max(&range.start), &range.end),
        ];
        let mut ranges: Vec<Range<String>> = Vec::new();
        for (status, start, end) in parts {
            if !states.contains(&status) || start >= end {
                continue;
            }
            match ranges.last_mut() {
                Some(last) if last.end == *start => last.end.clone_from(end),
                _ => ranges.push(start.clone()..end.clone()),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "20201209 230000";

    fn states(states: &[Status], datetime: &str) -> bool {
        let now = WallClock::parse(NOW).unwrap().unix();
        let range = "20201201 ".to_owned().."20201231!".to_owned();
        let ranges = Boundaries::at(now, 7200).unwrap().narrow(&range, states);
        assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start), "{ranges:?}");
        ranges.iter().any(|range| range.contains(&datetime.to_owned()))
    }

    #[test]
    fn each_stream_of_the_range_has_one_status() {
        for (datetime, expected) in [
            ("20201201 000000", Status::Past),
            ("20201209 210000", Status::Past),
            ("20201209 210001", Status::Live),
            ("20201209 230000", Status::Live),
            ("20201209 230001", Status::Upcoming),
            ("20201231 235959", Status::Upcoming),
        ] {
            for status in Status::ALL {
                assert_eq!(states(&[status], datetime), status == expected, "{datetime} {status:?}");
            }
            assert!(states(&Status::ALL, datetime));
        }
        for outside in ["20201130 235959", "20210101 000000"] {
            assert!(!states(&Status::ALL, outside));
        }
    }

    #[test]
    fn states_are_alternatives() {
        let both = [Status::Upcoming, Status::Past];
        assert!(states(&both, "20201209 210000") && states(&both, "20201209 230001"));
        assert!(!states(&both, "20201209 220000"));
        assert!(!states(&[], "20201209 220000"));
    }

    #[test]
    fn a_range_on_one_side_of_now_has_no_other_states() {
        let boundaries = Boundaries::at(WallClock::parse(NOW).unwrap().unix(), 7200).unwrap();
        let earlier = "20201201 ".to_owned().."20201205!".to_owned();
        assert_eq!(boundaries.narrow(&earlier, &[Status::Live, Status::Upcoming]), Vec::<Range<String>>::new());
        assert_eq!(boundaries.narrow(&earlier, &Status::ALL), std::slice::from_ref(&earlier));
        let later = "20201210 ".to_owned().."20201211!".to_owned();
        assert_eq!(boundaries.narrow(&later, &[Status::Upcoming]), std::slice::from_ref(&later));
        assert_eq!(boundaries.narrow(&later, &[Status::Live, Status::Past]), Vec::<Range<String>>::new());
        assert_eq!((Boundaries::at(i64::MAX, 1), Boundaries::at(i64::MIN, 1)), (None, None));
    }
}
