//! The texts of the holodules of a day, in the order of lists, with what a selection compares.

use std::collections::{BTreeSet, HashMap};
use std::mem::size_of;
use std::ops::Range;

use memchr::memmem::Finder;
use mongodb::bson::{RawBsonRef, RawDocument, rawdoc};

use super::super::users::text;
use crate::model::{Position, Selection, Sort, effective_code, fold_together};

/// The number in place of a missing value.
const NONE: u32 = u32::MAX;

/// The holodules of a day.
pub(in crate::store::mongo) struct DayTexts {
    /// The folded texts of each, followed by NUL.
    texts: Box<str>,
    /// `key` and `_id` of each, as in [`Position::id`].
    ids: Box<[u8]>,
    /// The distinct codes, names, tags and `datetime`s, by number.
    values: Box<[Box<str>]>,
    /// The numbers of the tags of each.
    tags: Box<[u32]>,
    /// Ascending.
    entries: Box<[Entry]>,
    lacks_codes: bool,
}

/// A holodule: where its parts end, and the numbers of its values or [`NONE`].
#[derive(Clone, Copy)]
struct Entry {
    text_end: u32,
    id_end: u32,
    tags_end: u32,
    datetime: u32,
    code: u32,
    name: u32,
}

/// A search in days.
pub(in crate::store::mongo) struct Query<'a> {
    selection: &'a Selection,
    finder: Option<Finder<'a>>,
}

impl<'a> Query<'a> {
    pub(in crate::store::mongo) fn new(selection: &'a Selection) -> Self {
        let finder = selection.text.as_ref().map(|needle| Finder::new(needle.as_str()));
        Self { selection, finder }
    }
}

/// The page continues after a position that no holodule of the day has.
pub(in crate::store::mongo) struct UnknownPosition;

impl DayTexts {
    /// The memory that it occupies, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let values: usize = self.values.iter().map(|value| value.len() + size_of::<Box<str>>()).sum();
        let entries = self.entries.len() * size_of::<Entry>() + self.tags.len() * size_of::<u32>();
        size_of::<Self>() + self.texts.len() + self.ids.len() + values + entries
    }

    /// Whether a holodule has no `code`.
    pub(in crate::store::mongo) fn lacks_codes(&self) -> bool {
        self.lacks_codes
    }

    /// The number of holodules in these ranges.
    pub(in crate::store::mongo) fn count(&self, ranges: &[Range<String>]) -> u64 {
        ranges.iter().map(|range| self.within(range).len() as u64).sum()
    }

    /// The selected holodules by their numbers, ascending.
    pub(in crate::store::mongo) fn find(&self, query: &Query<'_>) -> Vec<usize> {
        let numbers = |set: &Option<BTreeSet<String>>| set.as_ref().map(|set| self.numbers(set));
        let selection = query.selection;
        let (codes, names, tags) = (numbers(&selection.codes), numbers(&selection.names), numbers(&selection.tags));
        let has = |set: &Option<Vec<u32>>, value: u32| set.as_ref().is_none_or(|set| set.binary_search(&value).is_ok());
        let is_selected = |number: &usize| {
            let Some(entry) = self.entries.get(*number) else { return false };
            let has_tag = || self.tags_of(*number).iter().any(|tag| has(&tags, *tag));
            has(&codes, entry.code) && has(&names, entry.name) && (tags.is_none() || has_tag())
        };
        let ranges = selection.ranges.iter().map(|range| self.within(range));
        match &query.finder {
            None => ranges.flatten().filter(is_selected).collect(),
            Some(finder) => ranges.flat_map(|range| self.containing(range, finder)).filter(is_selected).collect(),
        }
    }

    /// Whether a holodule follows `after` in the order.
    pub(in crate::store::mongo) fn follows(
        &self,
        number: usize,
        after: &Position,
        sort: Sort,
    ) -> Result<bool, UnknownPosition> {
        let datetime = self.datetime(number);
        if datetime != after.datetime {
            return Ok((datetime > after.datetime.as_str()) == (sort == Sort::Ascending));
        }
        let start = self.entries.partition_point(|entry| self.value(entry.datetime) < datetime);
        let end = self.entries.partition_point(|entry| self.value(entry.datetime) <= datetime);
        let after = (start..end).find(|other| self.id(*other) == after.id).ok_or(UnknownPosition)?;
        Ok(match sort {
            Sort::Ascending => number > after,
            Sort::Descending => number < after,
        })
    }

    pub(in crate::store::mongo) fn datetime(&self, number: usize) -> &str {
        self.entries.get(number).map_or("", |entry| self.value(entry.datetime))
    }

    /// As in [`Position::id`].
    pub(in crate::store::mongo) fn id(&self, number: usize) -> &[u8] {
        self.ids.get(self.part(number, |entry| entry.id_end)).unwrap_or_default()
    }

    fn tags_of(&self, number: usize) -> &[u32] {
        self.tags.get(self.part(number, |entry| entry.tags_end)).unwrap_or_default()
    }

    /// Where a part of a holodule is.
    fn part(&self, number: usize, end: fn(&Entry) -> u32) -> Range<usize> {
        let end_of = |number: usize| self.entries.get(number).map_or(0, |entry| end(entry) as usize);
        number.checked_sub(1).map_or(0, end_of)..end_of(number)
    }

    fn value(&self, number: u32) -> &str {
        self.values.get(number as usize).map_or("", |value| value)
    }

    /// The numbers of those of these values that the day has, ascending.
    fn numbers(&self, set: &BTreeSet<String>) -> Vec<u32> {
        (0..NONE).zip(&self.values).filter(|(_, value)| set.contains(&***value)).map(|(number, _)| number).collect()
    }

    fn within(&self, range: &Range<String>) -> Range<usize> {
        let before = |end: &str| self.entries.partition_point(|entry| self.value(entry.datetime) < end);
        before(&range.start)..before(&range.end)
    }

    /// The holodules of `range` whose texts contain the needle.
    fn containing(&self, range: Range<usize>, finder: &Finder<'_>) -> Vec<usize> {
        let text_end = |number: usize| self.part(number, |entry| entry.text_end).end;
        let (mut from, mut number, mut found) =
            (self.part(range.start, |entry| entry.text_end).start, range.start, vec![]);
        let end = range.end.checked_sub(1).map_or(0, text_end);
        while let Some(at) = self.texts.as_bytes().get(from..end).and_then(|texts| finder.find(texts)) {
            // The texts of each end with NUL, which no needle contains: a match is in those of one holodule.
            let following = self.entries.get(number..range.end).unwrap_or_default();
            number += following.partition_point(|entry| entry.text_end as usize <= from + at);
            found.push(number);
            from = text_end(number);
            number += 1;
        }
        found
    }
}

/// Why a day cannot be represented: it is too large, or a document has a value that the server compares in its own way.
#[derive(Debug)]
pub(super) struct Unsuitable;

/// Collects the documents of a day.
pub(super) struct DayBuilder {
    texts: String,
    ids: Vec<u8>,
    values: HashMap<Box<str>, u32>,
    values_bytes: usize,
    tags: Vec<u32>,
    entries: Vec<Entry>,
    lacks_codes: bool,
    /// The maximum memory, in bytes.
    limit: usize,
}

impl DayBuilder {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            texts: String::new(),
            ids: Vec::new(),
            values: HashMap::new(),
            values_bytes: 0,
            tags: Vec::new(),
            entries: Vec::new(),
            lacks_codes: false,
            limit: limit.min(NONE as usize),
        }
    }

    /// Adds the next document in ascending order.
    pub(super) fn push(&mut self, document: &RawDocument) -> Result<(), Unsuitable> {
        let field = |name| document.get(name).map_err(|_| Unsuitable);
        let string = |name| match field(name)? {
            None | Some(RawBsonRef::Null) => Ok(None),
            Some(RawBsonRef::String(text)) => Ok(Some(text)),
            Some(_) => Err(Unsuitable),
        };
        let key_value = field("key")?.unwrap_or(RawBsonRef::Null);
        let key = match key_value {
            RawBsonRef::Null | RawBsonRef::Int32(_) | RawBsonRef::Int64(_) | RawBsonRef::Double(_) => None,
            RawBsonRef::String(text) => Some(text),
            _ => return Err(Unsuitable),
        };
        let (code, name) = (string("code")?, string("name")?);
        let datetime = string("datetime")?.ok_or(Unsuitable)?;
        self.lacks_codes |= code.is_none_or(str::is_empty);
        self.push_tags(field("tags")?)?;
        let texts = ["title", "name", "description"].into_iter().filter_map(|name| text(document, name));
        self.texts.push_str(&fold_together(texts));
        self.texts.push('\0');
        let id = field("_id")?.unwrap_or(RawBsonRef::Null);
        self.ids.extend_from_slice(rawdoc! { "key": key_value, "_id": id }.as_bytes());
        let end = |length: usize| u32::try_from(length).map_err(|_| Unsuitable);
        let entry = Entry {
            text_end: end(self.texts.len())?,
            id_end: end(self.ids.len())?,
            tags_end: end(self.tags.len())?,
            datetime: self.number(datetime),
            code: effective_code(code, key).map_or(NONE, |code| self.number(code)),
            name: name.map_or(NONE, |name| self.number(name)),
        };
        self.entries.push(entry);
        let numbers = self.entries.len() * size_of::<Entry>() + self.tags.len() * size_of::<u32>();
        let bytes = self.texts.len() + self.ids.len() + self.values_bytes + numbers;
        if bytes > self.limit { Err(Unsuitable) } else { Ok(()) }
    }

    fn push_tags(&mut self, tags: Option<RawBsonRef<'_>>) -> Result<(), Unsuitable> {
        match tags {
            Some(RawBsonRef::Symbol(_)) => return Err(Unsuitable),
            Some(RawBsonRef::String(tag)) => {
                let tag = self.number(tag);
                self.tags.push(tag);
            }
            Some(RawBsonRef::Array(tags)) => {
                for tag in tags {
                    match tag {
                        Ok(RawBsonRef::String(tag)) => {
                            let tag = self.number(tag);
                            self.tags.push(tag);
                        }
                        Ok(RawBsonRef::Symbol(_)) | Err(_) => return Err(Unsuitable),
                        Ok(_) => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn number(&mut self, value: &str) -> u32 {
        if let Some(number) = self.values.get(value) {
            return *number;
        }
        // More distinct values would exceed the limit.
        let number = u32::try_from(self.values.len()).unwrap_or(NONE);
        self.values_bytes += value.len() + size_of::<Box<str>>();
        self.values.insert(value.into(), number);
        number
    }

    pub(super) fn build(self) -> DayTexts {
        let mut values: Vec<(Box<str>, u32)> = self.values.into_iter().collect();
        values.sort_unstable_by_key(|(_, number)| *number);
        DayTexts {
            texts: self.texts.into_boxed_str(),
            ids: self.ids.into_boxed_slice(),
            values: values.into_iter().map(|(value, _)| value).collect(),
            tags: self.tags.into_boxed_slice(),
            entries: self.entries.into_boxed_slice(),
            lacks_codes: self.lacks_codes,
        }
    }
}
