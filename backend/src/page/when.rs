//! Days and times in the words of a language.

use super::language::Language;
use super::texts::{self, fill};
use crate::model::Day;

/// A month of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Month {
    first: Day,
}

impl Month {
    /// The month that contains a day.
    pub(crate) fn of(day: Day) -> Option<Self> {
        let text = day.to_string();
        Self::parse(&format!("{}-{}", text.get(..4)?, text.get(4..6)?))
    }

    /// Parses `yyyy-mm`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(Self { first: Day::parse_any(&format!("{text}-01")).ok()? })
    }

    /// The form that [`Month::parse`] accepts.
    pub(super) fn iso(self) -> String {
        let mut iso = self.first.iso();
        iso.truncate(7);
        iso
    }

    /// Its first day.
    pub(crate) fn first(self) -> Day {
        self.first
    }

    /// Its days in their order.
    pub(crate) fn days(self) -> impl Iterator<Item = Day> {
        let iso = self.iso();
        (0..31).filter_map(move |n| self.first.checked_add(n)).filter(move |day| day.iso().starts_with(&iso))
    }

    /// The month before it; `None` before the year 0000.
    pub(super) fn previous(self) -> Option<Self> {
        Self::of(self.first.checked_add(-1)?)
    }

    /// The month after it; `None` after the year 9999.
    pub(super) fn next(self) -> Option<Self> {
        Self::of(self.days().last()?.checked_add(1)?)
    }

    /// Such as December 2020.
    pub(super) fn in_words(self, language: Language) -> String {
        let (year, month, _) = parts(self.first, language);
        fill(texts::MONTH.of(language), &[("year", &year), ("month", month)])
    }
}

/// Such as Wednesday, 9 December 2020.
pub(super) fn in_words(day: Day, language: Language) -> String {
    let (year, month, number) = parts(day, language);
    let weekdays = if language == Language::Japanese { texts::WEEKDAYS } else { texts::LONG_WEEKDAYS };
    let weekday = weekdays.of(language).split(' ').nth(day.weekday().into()).unwrap_or_default();
    let values = [("weekday", weekday), ("day", &number), ("month", month), ("year", &year)];
    fill(texts::DATE.of(language), &values)
}

/// The number of a day in its month.
pub(super) fn number(day: Day) -> String {
    let text = day.to_string();
    text.get(6..).unwrap_or_default().trim_start_matches('0').to_owned()
}

/// The year, the name of the month and the number of the day.
fn parts(day: Day, language: Language) -> (String, &'static str, String) {
    let text = day.to_string();
    let year = text.get(..4).unwrap_or_default().to_owned();
    let month: usize = text.get(4..6).and_then(|month| month.parse().ok()).unwrap_or(1);
    let month = texts::MONTHS.of(language).split(' ').nth(month.saturating_sub(1)).unwrap_or_default();
    (year, month, number(day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_have_their_days() {
        let month = |text| Month::parse(text).unwrap();
        assert_eq!(month("2020-02").days().count(), 29);
        assert_eq!(month("2021-02").days().count(), 28);
        assert_eq!(month("9999-12").days().count(), 31);
        assert_eq!(month("2020-12").next().unwrap().iso(), "2021-01");
        assert_eq!(month("2020-01").previous().unwrap().iso(), "2019-12");
        assert_eq!((month("9999-12").next(), month("0000-01").previous()), (None, None));
        for bad in ["", "2020", "2020-13", "2020-1", "202012", "2020-12-01"] {
            assert_eq!(Month::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_day_is_in_the_words_of_the_language() {
        let day = Day::parse("20201209").unwrap();
        assert_eq!(in_words(day, Language::English), "Wednesday, 9 December 2020");
        assert_eq!(in_words(day, Language::Japanese), "2020年12月9日（水）");
        assert_eq!(Month::of(day).unwrap().in_words(Language::English), "December 2020");
        assert_eq!(Month::of(day).unwrap().in_words(Language::Japanese), "2020年12月");
    }
}
