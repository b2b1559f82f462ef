//! The tables from which lists are read: indexes by code, name and tag, the folded texts, and numbers of holodules.
//!
//! Files of format 1 lack them. They are built in batches while the store is used; until then, only records up to a
//! stored position are indexed.

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, TableError, WriteTransaction};

use super::{FORMAT, META};
use crate::model::{Holodule, fold_together};

/// The position of a record: `datetime`, `key` and id.
pub(super) type HolodulePosition = (String, String, u64);
/// The key of a record: `datetime`, `key` and id, a serial number.
pub(super) type RecordKey = (&'static str, &'static str, u64);
/// A value, and the key of a record that has it.
pub(super) type IndexKey = (&'static str, &'static str, &'static str, u64);

/// The index by [`Holodule::effective_code`].
pub(super) const BY_CODE: TableDefinition<'_, IndexKey, ()> = TableDefinition::new("holodules_by_code");
/// The index by name.
pub(super) const BY_NAME: TableDefinition<'_, IndexKey, ()> = TableDefinition::new("holodules_by_name");
/// The index by each tag that is a text.
pub(super) const BY_TAG: TableDefinition<'_, IndexKey, ()> = TableDefinition::new("holodules_by_tag");
/// The folded title, name and description, separated by NUL, which no needle contains. Empty ones are not stored.
pub(super) const TEXTS: TableDefinition<'_, RecordKey, &str> = TableDefinition::new("holodule_texts");
/// The number of records by [`span_of`] their `datetime`.
pub(super) const COUNTS: TableDefinition<'_, &str, u64> = TableDefinition::new("holodule_counts");
/// While the indexes are built: the last indexed record.
const BUILT_UP_TO: TableDefinition<'_, (), RecordKey> = TableDefinition::new("holodule_indexes_built_up_to");

/// The number of characters of `yyyymmdd` and a space, with which the `datetime`s of a day begin.
const SPAN_CHARACTERS: usize = 9;

/// The beginning of a `datetime` by which records are counted: that of its day. In the order of the `datetime`s, those
/// with the same beginning are consecutive.
pub(super) fn span_of(datetime: &str) -> &str {
    let end = datetime.char_indices().nth(SPAN_CHARACTERS).map_or(datetime.len(), |(end, _)| end);
    datetime.get(..end).unwrap_or(datetime)
}

/// Which records are indexed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// None: a file of format 1, which older programs can open.
    Nothing,
    /// Those up to this position.
    UpTo(HolodulePosition),
    /// All.
    Everything,
}

impl Extent {
    fn of(format: Option<u64>, last: Option<HolodulePosition>) -> Self {
        match (format, last) {
            (Some(FORMAT), None) => Self::Everything,
            (Some(FORMAT), Some(last)) => Self::UpTo(last),
            _ => Self::Nothing,
        }
    }

    fn includes(&self, position: (&str, &str, u64)) -> bool {
        match self {
            Self::Nothing => false,
            Self::UpTo((datetime, key, id)) => position <= (datetime.as_str(), key.as_str(), *id),
            Self::Everything => true,
        }
    }
}

/// Which records are indexed in a snapshot.
pub(super) fn extent(transaction: &ReadTransaction) -> Result<Extent, redb::Error> {
    let format = transaction.open_table(META)?.get("format")?.map(|format| format.value());
    let last = match transaction.open_table(BUILT_UP_TO) {
        Ok(table) => table.get(())?.map(|last| owned(last.value())),
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Extent::of(format, last))
}

pub(super) fn create_tables(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    Tables::open(transaction).map(drop)
}

/// Removes all entries. The extent remains.
pub(super) fn clear(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    for index in [BY_CODE, BY_NAME, BY_TAG] {
        transaction.delete_table(index)?;
    }
    transaction.delete_table(TEXTS)?;
    transaction.delete_table(COUNTS)?;
    // Unless the file is of format 1, the tables exist.
    Indexes::open(transaction).map(drop)
}

/// The indexes in a write transaction.
pub(super) struct Indexes<'t> {
    extent: Extent,
    /// `None` in a file of format 1, which must remain as an older program expects it.
    tables: Option<Tables<'t>>,
}

impl<'t> Indexes<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        let format = transaction.open_table(META)?.get("format")?.map(|format| format.value());
        if format != Some(FORMAT) {
            return Ok(Self { extent: Extent::Nothing, tables: None });
        }
        let last = transaction.open_table(BUILT_UP_TO)?.get(())?.map(|last| owned(last.value()));
        Ok(Self { extent: Extent::of(format, last), tables: Some(Tables::open(transaction)?) })
    }

    /// Which records are indexed.
    pub(super) fn extent(&self) -> &Extent {
        &self.extent
    }

    /// Indexes a record that was stored, unless it will be when the indexes are built.
    pub(super) fn insert(&mut self, position: (&str, &str, u64), holodule: &Holodule) -> Result<(), redb::Error> {
        match &mut self.tables {
            Some(tables) if self.extent.includes(position) => tables.insert(position, Some(holodule)),
            _ => Ok(()),
        }
    }

    /// Removes the entries of a record that was removed.
    pub(super) fn remove(&mut self, position: (&str, &str, u64), holodule: &Holodule) -> Result<(), redb::Error> {
        match &mut self.tables {
            Some(tables) if self.extent.includes(position) => tables.remove(position, holodule),
            _ => Ok(()),
        }
    }
}

/// Continues to build the indexes. `records` are all after the extent, in order, or the next of them; `None` for an
/// unreadable one, which is only counted. The extent ends with the last of them, or has no end if `is_all`.
pub(super) fn extend<'r>(
    transaction: &WriteTransaction,
    records: impl Iterator<Item = (&'r HolodulePosition, Option<&'r Holodule>)>,
    is_all: bool,
) -> Result<(), redb::Error> {
    // Older programs, which would not maintain the indexes, reject the file from now on.
    transaction.open_table(META)?.insert("format", FORMAT)?;
    let (mut tables, mut built_up_to) = (Tables::open(transaction)?, transaction.open_table(BUILT_UP_TO)?);
    let mut last = None;
    for (position, holodule) in records {
        let (datetime, key, id) = position;
        let position = (datetime.as_str(), key.as_str(), *id);
        tables.insert(position, holodule)?;
        last = Some(position);
    }
    if is_all {
        built_up_to.remove(())?;
    } else if let Some(last) = last {
        built_up_to.insert((), last)?;
    }
    Ok(())
}

struct Tables<'t> {
    by_code: Table<'t, IndexKey, ()>,
    by_name: Table<'t, IndexKey, ()>,
    by_tag: Table<'t, IndexKey, ()>,
    texts: Table<'t, RecordKey, &'static str>,
    counts: Table<'t, &'static str, u64>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            by_code: transaction.open_table(BY_CODE)?,
            by_name: transaction.open_table(BY_NAME)?,
            by_tag: transaction.open_table(BY_TAG)?,
            texts: transaction.open_table(TEXTS)?,
            counts: transaction.open_table(COUNTS)?,
        })
    }

    fn insert(
        &mut self,
        (datetime, key, id): (&str, &str, u64),
        holodule: Option<&Holodule>,
    ) -> Result<(), redb::Error> {
        let span = span_of(datetime);
        let count = self.counts.get(span)?.map_or(0, |count| count.value());
        self.counts.insert(span, count.saturating_add(1))?;
        let Some(holodule) = holodule else { return Ok(()) };
        if let Some(code) = holodule.effective_code() {
            self.by_code.insert((code, datetime, key, id), ())?;
        }
        if let Some(name) = &holodule.name {
            self.by_name.insert((name.as_str(), datetime, key, id), ())?;
        }
        for tag in holodule.tag_texts() {
            self.by_tag.insert((tag, datetime, key, id), ())?;
        }
        if let Some(text) = text_of(holodule) {
            self.texts.insert((datetime, key, id), text.as_str())?;
        }
        Ok(())
    }

    fn remove(&mut self, (datetime, key, id): (&str, &str, u64), holodule: &Holodule) -> Result<(), redb::Error> {
        let span = span_of(datetime);
        let count = self.counts.get(span)?.map_or(0, |count| count.value());
        match count {
            0 | 1 => self.counts.remove(span)?.map(drop),
            _ => self.counts.insert(span, count - 1)?.map(drop),
        };
        if let Some(code) = holodule.effective_code() {
            self.by_code.remove((code, datetime, key, id))?;
        }
        if let Some(name) = &holodule.name {
            self.by_name.remove((name.as_str(), datetime, key, id))?;
        }
        for tag in holodule.tag_texts() {
            self.by_tag.remove((tag, datetime, key, id))?;
        }
        self.texts.remove((datetime, key, id))?;
        Ok(())
    }
}

/// The texts that are searched; `None` if all are empty.
fn text_of(holodule: &Holodule) -> Option<String> {
    let texts = [&holodule.title, &holodule.name, &holodule.description].into_iter().flatten();
    Some(fold_together(texts.map(String::as_str))).filter(|text| !text.is_empty())
}

pub(super) fn owned((datetime, key, id): (&str, &str, u64)) -> HolodulePosition {
    (datetime.to_owned(), key.to_owned(), id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_the_day_and_follows_the_order_of_the_texts() {
        assert_eq!(span_of("20201209 230000"), "20201209 ");
        let mut texts =
            ["", "2020", "20201209 ", "20201209 000000", "20201209!", "2020年12月9日 夜", "年年年年年年年年年年"];
        texts.sort_unstable();
        assert!(texts.map(span_of).is_sorted());
        assert_eq!(span_of("年年年年年年年年年年"), "年年年年年年年年年");
    }

    #[test]
    fn texts_are_folded_and_separate() {
        let holodule = |title: &str, name: &str| Holodule {
            title: Some(title.into()),
            name: Some(name.into()),
            ..Holodule::default()
        };
        assert_eq!(text_of(&holodule("ＡＢ", "ｶﾞ")).as_deref(), Some("ab\0ガ"));
        assert_eq!(text_of(&holodule("", "x")).as_deref(), Some("x"));
        assert_eq!(text_of(&holodule("", "")), None);
    }
}
