//! Reads the entries of a stream from the store.

use std::collections::BTreeSet;
use std::ops::Range;

use super::query::Query;
use super::state::Entry;
use crate::model::{Day, PAGE_LIMIT, PageRequest, Sort, datetimes_of};
use crate::store::{Store, StoreError};

/// The maximum number of entries of a stream.
pub(super) const ENTRIES_LIMIT: usize = 5000;

/// The entries of a query on some days.
pub(super) enum Listed {
    /// All of them.
    Entries(Vec<Entry>),
    /// There are more than [`ENTRIES_LIMIT`].
    TooMany,
}

/// Reads the entries of `query` on `days`, as of `now`. Documents that cannot be read are missing.
pub(super) async fn entries(
    store: &Store,
    query: &Query,
    days: &BTreeSet<Day>,
    now: i64,
) -> Result<Listed, StoreError> {
    let streamers = store.streamers().await?;
    let selection = query.filter.select(ranges(days), &streamers);
    let mut entries = Vec::new();
    let mut request = PageRequest { sort: Sort::Ascending, limit: PAGE_LIMIT, after: None };
    loop {
        let listing = store.list(&selection, &request).await?;
        let is_too_long = listing.total > ENTRIES_LIMIT as u64;
        if is_too_long || entries.len() + listing.entries.len() > ENTRIES_LIMIT {
            return Ok(Listed::TooMany);
        }
        entries.extend(listing.entries.iter().filter_map(|holodule| Entry::new(holodule, &streamers, now)));
        match listing.next {
            Some(position) => request.after = Some(position),
            None => return Ok(Listed::Entries(entries)),
        }
    }
}

/// The ranges of `datetime` of `days`. Those of successive days are one.
fn ranges(days: &BTreeSet<Day>) -> Vec<Range<String>> {
    let mut ranges: Vec<(Day, Day)> = Vec::new();
    for day in days {
        match ranges.last_mut() {
            Some((_, last)) if day.days_since(*last) == 1 => *last = *day,
            _ => ranges.push((*day, *day)),
        }
    }
    ranges.into_iter().map(|(first, last)| datetimes_of(first, last)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successive_days_are_one_range() {
        let days = ["20201231", "20210101", "20210103"].map(|day| Day::parse(day).unwrap());
        let ranges = ranges(&days.into_iter().collect());
        assert_eq!(
            ranges,
            ["20201231 ".to_owned().."20210101!".to_owned(), "20210103 ".to_owned().."20210103!".to_owned()]
        );
    }
}
