//! Plans a list: the table from which it is read, and the conditions that each record must meet.

use std::collections::BTreeSet;
use std::ops::{Bound, Range};

use memchr::memmem::Finder;
use redb::{ReadOnlyTable, ReadTransaction};

use super::abandoned::Abandoned;
use super::indexes::{BY_CODE, BY_NAME, BY_TAG, COUNTS, HolodulePosition, IndexKey, RecordKey, TEXTS, span_of};
use super::scan::{Cursor, Merge, whole, with_value};
use crate::model::{Holodule, Selection, Sort};

/// The cost of checking one record by its position, relative to that of searching the next text in sequence.
const CHECK_COST: u64 = 4;

/// The table that a list is read from.
pub(super) enum Source<'a> {
    /// All records of the ranges.
    Records,
    /// The records whose text contains the needle.
    Texts(&'a ReadOnlyTable<RecordKey, &'static str>, &'a Finder<'static>),
    /// The records with one of the values.
    Values(&'a ReadOnlyTable<IndexKey, ()>, &'a BTreeSet<String>),
}

/// One kind of values of a selection, and its index.
struct Kind<'a> {
    values: &'a BTreeSet<String>,
    index: ReadOnlyTable<IndexKey, ()>,
    /// Whether a record can have several of the values.
    is_multiple: bool,
}

enum Chosen {
    Records,
    Texts,
    Kind(usize),
}

/// How a selection is read.
pub(super) struct Plan<'a> {
    ranges: Vec<Range<String>>,
    kinds: Vec<Kind<'a>>,
    counts: ReadOnlyTable<&'static str, u64>,
    texts: ReadOnlyTable<RecordKey, &'static str>,
    finder: Option<Finder<'static>>,
    chosen: Chosen,
    /// Whether the text is checked for each record of the source.
    checks_text: bool,
    /// The values to check for each record of the source.
    checks: Option<Selection>,
    abandoned: Abandoned,
}

impl<'a> Plan<'a> {
    /// If the read is abandoned, its counts and positions end early.
    pub(super) fn new(
        transaction: &ReadTransaction,
        selection: &'a Selection,
        abandoned: &Abandoned,
    ) -> Result<Self, redb::Error> {
        let mut kinds = Vec::new();
        for (values, index, is_multiple) in
            [(&selection.codes, BY_CODE, false), (&selection.names, BY_NAME, false), (&selection.tags, BY_TAG, true)]
        {
            if let Some(values) = values {
                let index = transaction.open_table(index)?;
                kinds.push(Kind { values, index, is_multiple: is_multiple && values.len() > 1 });
            }
        }
        // Records without a `datetime` are stored under an empty one, and are in no range.
        let start = |start: &str| if start.is_empty() { "\0".to_owned() } else { start.to_owned() };
        let ranges = selection.ranges.iter().map(|range| start(&range.start)..range.end.clone());
        let mut plan = Self {
            ranges: ranges.filter(|range| !range.is_empty()).collect(),
            kinds,
            counts: transaction.open_table(COUNTS)?,
            texts: transaction.open_table(TEXTS)?,
            finder: selection.text.as_ref().map(|text| Finder::new(text.as_str()).into_owned()),
            chosen: Chosen::Records,
            checks_text: false,
            checks: None,
            abandoned: abandoned.clone(),
        };
        plan.choose(selection)?;
        Ok(plan)
    }

    fn choose(&mut self, selection: &Selection) -> Result<(), redb::Error> {
        let values = || Some(Selection { text: None, ..selection.clone() });
        match (self.kinds.len(), &self.finder) {
            (0, None) => {}
            (0, Some(_)) => self.chosen = Chosen::Texts,
            (1, None) => self.chosen = Chosen::Kind(0),
            (number, finder) => {
                let (smallest, records) = self.smallest()?;
                if finder.is_some() && records.saturating_mul(CHECK_COST) > self.records_of_whole_days()? {
                    self.chosen = Chosen::Texts;
                    self.checks = values();
                } else {
                    self.checks_text = finder.is_some();
                    self.chosen = Chosen::Kind(smallest);
                    self.checks = values().filter(|_| number > 1);
                }
            }
        }
        Ok(())
    }

    /// The kind with the fewest records, and their number.
    fn smallest(&self) -> Result<(usize, u64), redb::Error> {
        let mut smallest = (0, u64::MAX);
        for (number, kind) in self.kinds.iter().enumerate() {
            let count = self.count_values(kind, smallest.1)?;
            if count < smallest.1 {
                smallest = (number, count);
            }
        }
        Ok(smallest)
    }

    /// The records of all days of which a part is selected.
    fn records_of_whole_days(&self) -> Result<u64, redb::Error> {
        let mut total = 0;
        for range in &self.ranges {
            for count in self.counts.range(span_of(&range.start)..=span_of(&range.end))? {
                total += count?.1.value();
            }
        }
        Ok(total)
    }

    pub(super) fn ranges(&self) -> &[Range<String>] {
        &self.ranges
    }

    pub(super) fn abandoned(&self) -> &Abandoned {
        &self.abandoned
    }

    pub(super) fn source(&self) -> Source<'_> {
        match (&self.chosen, &self.finder) {
            (Chosen::Texts, Some(finder)) => Source::Texts(&self.texts, finder),
            (Chosen::Kind(number), _) if let Some(kind) = self.kinds.get(*number) => {
                Source::Values(&kind.index, kind.values)
            }
            _ => Source::Records,
        }
    }

    /// Whether the source has exactly the selected records, so that [`Plan::count`] is their number.
    pub(super) fn is_exact(&self) -> bool {
        !matches!(self.chosen, Chosen::Texts) && !self.checks_text && self.checks.is_none()
    }

    /// Whether a record of the source is selected.
    pub(super) fn selects(
        &self,
        records: &ReadOnlyTable<RecordKey, &'static [u8]>,
        (datetime, key, id): &HolodulePosition,
    ) -> Result<bool, redb::Error> {
        let position = (datetime.as_str(), key.as_str(), *id);
        if self.checks_text
            && let Some(finder) = &self.finder
        {
            let text = self.texts.get(position)?;
            if text.is_none_or(|text| finder.find(text.value().as_bytes()).is_none()) {
                return Ok(false);
            }
        }
        let Some(checks) = &self.checks else { return Ok(true) };
        let record = records.get(position)?;
        let holodule = record.and_then(|record| serde_json::from_slice::<Holodule>(record.value()).ok());
        Ok(holodule.is_some_and(|holodule| checks.matches(&holodule)))
    }

    /// The number of records of an exact source.
    pub(super) fn count(&self, records: &ReadOnlyTable<RecordKey, &'static [u8]>) -> Result<u64, redb::Error> {
        match &self.chosen {
            Chosen::Kind(number) if let Some(kind) = self.kinds.get(*number) => self.count_values(kind, u64::MAX),
            _ => {
                let mut total = 0;
                for range in &self.ranges {
                    total += self.count_records(records, range)?;
                }
                Ok(total)
            }
        }
    }

    /// The number of records with one of the values, or more than `limit` if it is greater.
    fn count_values(&self, kind: &Kind<'_>, limit: u64) -> Result<u64, redb::Error> {
        let mut total = 0;
        for range in &self.ranges {
            let cursor = |value| kind.index.range::<(&str, &str, &str, u64)>(with_value(value, whole(range)));
            if kind.is_multiple {
                let cursors = kind.values.iter().map(|value| cursor(value).map(Cursor::Index));
                let cursors = vec![cursors.collect::<Result<_, _>>()?];
                let mut merge = Merge::new(cursors, Sort::Ascending, self.abandoned.clone());
                while total <= limit && merge.next()?.is_some() {
                    total += 1;
                }
            } else {
                for value in kind.values {
                    let mut found = cursor(value)?;
                    while total <= limit && !self.abandoned.get() && found.next().transpose()?.is_some() {
                        total += 1;
                    }
                }
            }
        }
        Ok(total)
    }

    /// The number of records in a range: of whole days from the stored numbers.
    fn count_records(
        &self,
        records: &ReadOnlyTable<RecordKey, &'static [u8]>,
        range: &Range<String>,
    ) -> Result<u64, redb::Error> {
        let (start, end) = (range.start.as_str(), range.end.as_str());
        let (first, last) = (span_of(start), span_of(end));
        let scan = |from: &str, to: &str, span: &str| {
            let mut count = 0;
            for record in records.range((from, "", 0)..(to, "", 0))? {
                if self.abandoned.get() || span_of(record?.0.value().0) != span {
                    break;
                }
                count += 1;
            }
            Ok::<u64, redb::Error>(count)
        };
        if first == last {
            return scan(start, end, first);
        }
        // Of the first day, all, or those from `start`; of the last day, those before `end`.
        let mut total = scan(last, end, last)?;
        let mut whole_days = self.counts.range(first..last)?;
        if start.len() > first.len() {
            total += scan(start, end, first)?;
            whole_days = self.counts.range::<&str>((Bound::Excluded(first), Bound::Excluded(last)))?;
        }
        for count in whole_days {
            total += count?.1.value();
        }
        Ok(total)
    }
}
