//! Ordered reads of index ranges. Memory depends on the number of ranges that are merged, not on their lengths.

use std::collections::{BTreeSet, VecDeque};
use std::ops::{Bound, Range};

use memchr::memmem::Finder;
use redb::{Key, Value};

use super::abandoned::Abandoned;
use super::indexes::{HolodulePosition, IndexKey, RecordKey, owned};
use crate::model::Sort;

/// Where a range of an index begins and ends.
pub(super) type Bounds<'a> = (Bound<(&'a str, &'a str, u64)>, Bound<(&'a str, &'a str, u64)>);

/// The same in the part of an index that has one value.
pub(super) type ValueBounds<'a> = (Bound<(&'a str, &'a str, &'a str, u64)>, Bound<(&'a str, &'a str, &'a str, u64)>);

/// All positions with a `datetime` in the range.
pub(super) fn whole(range: &Range<String>) -> Bounds<'_> {
    (Bound::Included((range.start.as_str(), "", 0)), Bound::Excluded((range.end.as_str(), "", 0)))
}

/// The part of the range that follows `after` in the order; `None` if it is empty.
pub(super) fn following<'a>(
    range: &'a Range<String>,
    after: Option<&'a HolodulePosition>,
    sort: Sort,
) -> Option<Bounds<'a>> {
    let (start, end) = whole(range);
    let Some((datetime, key, id)) = after else { return Some((start, end)) };
    let after = (datetime.as_str(), key.as_str(), *id);
    let (is_before, is_behind) = (after < (range.start.as_str(), "", 0), after >= (range.end.as_str(), "", 0));
    match sort {
        Sort::Ascending if is_behind => None,
        Sort::Ascending if !is_before => Some((Bound::Excluded(after), end)),
        Sort::Descending if is_before => None,
        Sort::Descending if !is_behind => Some((start, Bound::Excluded(after))),
        _ => Some((start, end)),
    }
}

/// The bounds in the part of an index that has `value`.
pub(super) fn with_value<'a>(value: &'a str, (start, end): Bounds<'a>) -> ValueBounds<'a> {
    let with = |(datetime, key, id)| (value, datetime, key, id);
    (start.map(with), end.map(with))
}

/// One range of one table.
pub(super) enum Cursor {
    /// A range of an index.
    Index(redb::Range<'static, IndexKey, ()>),
    /// A range of the records.
    Records(redb::Range<'static, RecordKey, &'static [u8]>),
    /// The texts of a range that contain a needle.
    Texts(redb::Range<'static, RecordKey, &'static str>, Box<Finder<'static>>),
}

impl Cursor {
    /// `None` at the end, or if the read is abandoned.
    fn next(&mut self, sort: Sort, abandoned: &Abandoned) -> Result<Option<HolodulePosition>, redb::Error> {
        if abandoned.get() {
            return Ok(None);
        }
        match self {
            Self::Index(range) => Ok(step(range, sort)?.map(|(key, _)| {
                let (_, datetime, key, id) = key.value();
                owned((datetime, key, id))
            })),
            Self::Records(range) => Ok(step(range, sort)?.map(|(key, _)| owned(key.value()))),
            Self::Texts(range, finder) => loop {
                match step(range, sort)? {
                    None => return Ok(None),
                    Some((key, text)) if finder.find(text.value().as_bytes()).is_some() => {
                        return Ok(Some(owned(key.value())));
                    }
                    Some(_) if abandoned.get() => return Ok(None),
                    Some(_) => {}
                }
            },
        }
    }
}

type Entry<K, V> = (redb::AccessGuard<'static, K>, redb::AccessGuard<'static, V>);

fn step<K: Key + 'static, V: Value + 'static>(
    range: &mut redb::Range<'static, K, V>,
    sort: Sort,
) -> Result<Option<Entry<K, V>>, redb::Error> {
    let next = match sort {
        Sort::Ascending => range.next(),
        Sort::Descending => range.next_back(),
    };
    Ok(next.transpose()?)
}

/// Several cursors as one: each position once, in order.
pub(super) struct Merge {
    /// The cursors of each range that follows.
    groups: VecDeque<Vec<Cursor>>,
    /// The cursors of the current range.
    cursors: Vec<Cursor>,
    /// The next position of each of `cursors` that has one.
    heads: BTreeSet<(HolodulePosition, usize)>,
    sort: Sort,
    abandoned: Abandoned,
}

impl Merge {
    /// `groups` has the cursors of each range, in ascending order of the ranges. If the read is abandoned, it ends early.
    pub(super) fn new(groups: Vec<Vec<Cursor>>, sort: Sort, abandoned: Abandoned) -> Self {
        Self { groups: groups.into(), cursors: Vec::new(), heads: BTreeSet::new(), sort, abandoned }
    }

    pub(super) fn next(&mut self) -> Result<Option<HolodulePosition>, redb::Error> {
        let (position, number) = loop {
            if let Some(head) = self.pop() {
                break head;
            }
            let group = match self.sort {
                Sort::Ascending => self.groups.pop_front(),
                Sort::Descending => self.groups.pop_back(),
            };
            let Some(group) = group else { return Ok(None) };
            self.cursors = group;
            for number in 0..self.cursors.len() {
                self.advance(number)?;
            }
        };
        self.advance(number)?;
        // A record may have several of the values.
        while let Some((same, number)) = self.pop() {
            if same != position {
                self.heads.insert((same, number));
                break;
            }
            self.advance(number)?;
        }
        Ok(Some(position))
    }

    fn pop(&mut self) -> Option<(HolodulePosition, usize)> {
        match self.sort {
            Sort::Ascending => self.heads.pop_first(),
            Sort::Descending => self.heads.pop_last(),
        }
    }

    fn advance(&mut self, number: usize) -> Result<(), redb::Error> {
        if let Some(cursor) = self.cursors.get_mut(number)
            && let Some(position) = cursor.next(self.sort, &self.abandoned)?
        {
            self.heads.insert((position, number));
        }
        Ok(())
    }
}
