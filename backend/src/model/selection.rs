//! The selection, order and pages of lists of holodules.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::day::Day;
use super::holodule::Holodule;
use super::needle::Needle;
use super::streamer::Streamers;

/// The maximum number of entries of a page.
pub const PAGE_LIMIT: usize = 1000;
/// The maximum number of values of one kind in a filter.
pub const FILTER_VALUES_LIMIT: usize = 100;

/// The filter of a client. Values of the same kind are alternatives, and each kind that has values restricts the
/// selection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Filter {
    /// Codes of streamers.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub codes: BTreeSet<String>,
    /// Exact names of streamers, as stored in the holodules.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub names: BTreeSet<String>,
    /// Groups of streamers.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<String>,
    /// Exact tags of videos.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// A text in title, name or description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Needle>,
}

impl Filter {
    /// The selection of this filter in `ranges`.
    pub fn select(&self, ranges: Vec<Range<String>>, streamers: &Streamers) -> Selection {
        let in_groups = || self.groups.iter().flat_map(|group| streamers.codes_of(group)).map(str::to_owned);
        let codes = match (self.codes.is_empty(), self.groups.is_empty()) {
            (true, true) => None,
            (false, true) => Some(self.codes.clone()),
            (true, false) => Some(in_groups().collect()),
            (false, false) => Some(in_groups().filter(|code| self.codes.contains(code)).collect()),
        };
        let names = Some(self.names.clone()).filter(|names| !names.is_empty());
        let tags = Some(self.tags.clone()).filter(|tags| !tags.is_empty());
        Selection { ranges, codes, names, tags, text: self.text.clone() }
    }
}

/// A filter with its groups resolved, as the store reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    /// Half-open ranges of stored `datetime` texts, ascending and disjoint. None selects nothing.
    pub ranges: Vec<Range<String>>,
    /// The [`Holodule::effective_code`] is one of these; `None` if codes do not matter. An empty set selects nothing.
    pub codes: Option<BTreeSet<String>>,
    /// The name is one of these; `None` if names do not matter.
    pub names: Option<BTreeSet<String>>,
    /// A tag is one of these; `None` if tags do not matter.
    pub tags: Option<BTreeSet<String>>,
    /// A text in title, name or description.
    pub text: Option<Needle>,
}

impl Selection {
    /// Whether it contains a holodule. The store's answer must be the same.
    pub fn contains(&self, holodule: &Holodule) -> bool {
        self.is_in_range(holodule) && self.matches(holodule)
    }

    /// Whether a holodule starts in one of the ranges.
    pub fn is_in_range(&self, holodule: &Holodule) -> bool {
        let Some(datetime) = &holodule.datetime else { return false };
        self.ranges.iter().any(|range| range.contains(datetime))
    }

    /// Whether a holodule matches, whenever it starts.
    pub fn matches(&self, holodule: &Holodule) -> bool {
        let is_one_of = |set: &Option<BTreeSet<String>>, value: Option<&str>| match set {
            Some(set) => value.is_some_and(|value| set.contains(value)),
            None => true,
        };
        is_one_of(&self.codes, holodule.effective_code())
            && is_one_of(&self.names, holodule.name.as_deref())
            && self.tags.as_ref().is_none_or(|tags| holodule.tag_texts().any(|tag| tags.contains(tag)))
            && self.text.as_ref().is_none_or(|text| {
                [&holodule.title, &holodule.name, &holodule.description].into_iter().flatten().any(|t| text.is_in(t))
            })
    }
}

/// The order of a list: by the stored `datetime`, then by `key`, bytewise, then in an order of the store's own that does
/// not change. A missing text counts as empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sort {
    /// Earliest first.
    #[default]
    Ascending,
    /// The exact reverse.
    Descending,
}

/// The place of a holodule in the order of a list. A page begins after one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The stored `datetime`.
    pub datetime: String,
    /// The stored `key`, or an empty text.
    pub key: String,
    /// Bytes of the engine that determine the order among holodules with the same `datetime` and `key`. Those of
    /// another engine, or of a client's invention, select some page, never an error of the program.
    pub id: Vec<u8>,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PageRequest {
    /// The order.
    pub sort: Sort,
    /// The maximum number of entries, 0 to [`PAGE_LIMIT`]. With 0, only the total is determined.
    pub limit: usize,
    /// The position after which the page begins; `None` for the first page.
    pub after: Option<Position>,
}

/// The range of stored `datetime` texts of the days from `first` to `last`, both inclusive. Empty if `last` is before
/// `first`.
pub fn datetimes_of(first: Day, last: Day) -> Range<String> {
    first.datetimes().start..last.datetimes().end
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::streamer::Streamer;
    use super::*;

    fn set(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    fn streamers() -> Streamers {
        let streamer =
            |code: &str, group: &str| Streamer { code: code.into(), group: Some(group.into()), ..Streamer::default() };
        [streamer("HL0501", "a"), streamer("HL0502", "a"), streamer("HLEN01", "b")].into_iter().collect()
    }

    fn holodule() -> Holodule {
        serde_json::from_value(json!({
            "key": "HL0501_20201209_230000", "datetime": "20201209 230000", "name": "獅白ぼたん", "title": "ＡＰＥＸ",
            "tags": ["game", 1, "apex"],
        }))
        .unwrap()
    }

    #[test]
    fn kinds_restrict_and_values_are_alternatives() {
        let day = || vec![Day::parse("20201209").unwrap().datetimes()];
        let select = |filter: &Filter| filter.select(day(), &streamers()).contains(&holodule());
        assert!(select(&Filter::default()));
        assert!(select(&Filter { codes: set(&["HL0501", "HLEN01"]), ..Filter::default() }));
        assert!(!select(&Filter { codes: set(&["HL0502"]), ..Filter::default() }));
        assert!(select(&Filter { groups: set(&["a"]), ..Filter::default() }));
        assert!(!select(&Filter { groups: set(&["b"]), ..Filter::default() }));
        assert!(!select(&Filter { groups: set(&["b"]), codes: set(&["HL0501"]), ..Filter::default() }));
        assert!(select(&Filter { names: set(&["x", "獅白ぼたん"]), tags: set(&["apex"]), ..Filter::default() }));
        assert!(!select(&Filter { names: set(&["獅白ぼたん"]), tags: set(&["1"]), ..Filter::default() }));
        assert!(select(&Filter { text: Some(Needle::parse("apex").unwrap()), ..Filter::default() }));
        assert!(
            !select(&Filter { text: Some(Needle::parse("game").unwrap()), ..Filter::default() }),
            "tags are not part of the text"
        );
    }

    #[test]
    fn ranges_are_of_datetimes() {
        let day = |text| Day::parse(text).unwrap();
        let selection = |from, to| Selection { ranges: vec![datetimes_of(day(from), day(to))], ..Selection::default() };
        assert!(selection("20201201", "20201209").contains(&holodule()));
        assert!(selection("20201209", "20201231").contains(&holodule()));
        assert!(!selection("20201210", "20201231").contains(&holodule()));
        assert!(!selection("20201231", "20201201").contains(&holodule()));
        assert!(!Selection::default().contains(&holodule()));
    }
}
