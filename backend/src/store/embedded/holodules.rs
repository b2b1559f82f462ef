//! The tables of holodules. Records are ordered by `datetime`, then `key`, so that a day is one range and an export one
//! scan.

use std::ops::{Bound, Range};

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};

use super::META;
use super::indexes::{self, HolodulePosition, Indexes, RecordKey, owned};
use crate::model::{Day, Holodule, Identifier, Precondition, ValidHolodule};
use crate::store::changed::TouchedDays;
use crate::store::{DayListing, Exported, Upserted};

/// `(datetime, key, id)` to the record as JSON. The id is a serial number.
pub(super) const RECORDS: TableDefinition<'_, RecordKey, &[u8]> = TableDefinition::new("holodules");
/// Non-empty `video_id` to the position of its record.
const BY_VIDEO_ID: TableDefinition<'_, &str, (&str, &str, u64)> = TableDefinition::new("holodules_by_video_id");
/// Non-empty `key` and id to the `datetime` of the record. Several videos may share a key.
const BY_KEY: TableDefinition<'_, (&str, u64), &str> = TableDefinition::new("holodules_by_key");

pub(super) fn create_tables(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(RECORDS)?;
    transaction.open_table(BY_VIDEO_ID)?;
    transaction.open_table(BY_KEY)?;
    Ok(())
}

pub(super) fn day(transaction: &ReadTransaction, day: Day) -> Result<DayListing, redb::Error> {
    let range = day.datetimes();
    let mut listing = DayListing::default();
    for record in transaction.open_table(RECORDS)?.range((range.start.as_str(), "", 0)..(range.end.as_str(), "", 0))? {
        let (position, record) = record?;
        match serde_json::from_slice(record.value()) {
            Ok(holodule) => listing.holodules.push(holodule),
            Err(_) => listing.unreadable.push(position.value().2.to_string()),
        }
    }
    listing.sort();
    Ok(listing)
}

pub(super) fn count(transaction: &ReadTransaction) -> Result<u64, redb::Error> {
    Ok(transaction.open_table(RECORDS)?.len()?)
}

/// Up to `limit` records after `after`, and the position of the last one if there may be more.
pub(super) fn page(
    transaction: &ReadTransaction,
    after: Option<&HolodulePosition>,
    limit: usize,
) -> Result<(Vec<Exported>, Option<HolodulePosition>), redb::Error> {
    let table = transaction.open_table(RECORDS)?;
    let from = match after {
        None => Bound::Unbounded,
        Some((datetime, key, id)) => Bound::Excluded((datetime.as_str(), key.as_str(), *id)),
    };
    let (mut records, mut last) = (Vec::new(), None);
    for record in table.range::<(&str, &str, u64)>((from, Bound::Unbounded))?.take(limit) {
        let (position, record) = record?;
        let (datetime, key, id) = position.value();
        records.push(serde_json::from_slice(record.value()).map_err(|_| id.to_string()));
        if records.len() == limit {
            last = Some((datetime.to_owned(), key.to_owned(), id));
        }
    }
    Ok((records, last))
}

/// Calls `each` with the position and content of the readable records in `datetimes`, the latest first, while it
/// returns true.
pub(super) fn each_descending(
    transaction: &ReadTransaction,
    datetimes: Range<String>,
    mut each: impl FnMut((&str, &str, u64), Holodule) -> bool,
) -> Result<(), redb::Error> {
    let table = transaction.open_table(RECORDS)?;
    for record in table.range((datetimes.start.as_str(), "", 0)..(datetimes.end.as_str(), "", 0))?.rev() {
        let (position, record) = record?;
        if let Ok(holodule) = serde_json::from_slice(record.value())
            && !each(position.value(), holodule)
        {
            break;
        }
    }
    Ok(())
}

/// The record at `position`, if it is readable.
pub(super) fn at(
    transaction: &ReadTransaction,
    (datetime, key, id): &HolodulePosition,
) -> Result<Option<Holodule>, redb::Error> {
    let record = transaction.open_table(RECORDS)?.get((datetime.as_str(), key.as_str(), *id))?;
    Ok(record.and_then(|record| serde_json::from_slice(record.value()).ok()))
}

/// The record with this `video_id`, if it is readable.
pub(super) fn with_video(transaction: &ReadTransaction, video_id: &str) -> Result<Option<Holodule>, redb::Error> {
    let position = transaction.open_table(BY_VIDEO_ID)?.get(video_id)?.map(|position| owned(position.value()));
    position.map_or(Ok(None), |position| at(transaction, &position))
}

pub(super) fn upsert(
    transaction: &WriteTransaction,
    entries: &[ValidHolodule],
    touched: &TouchedDays,
) -> Result<Vec<Upserted>, redb::Error> {
    let mut tables = WritableTables::open(transaction)?;
    let mut meta = transaction.open_table(META)?;
    let mut next = meta.get("next_holodule")?.map_or(1, |next| next.value());
    let mut outcomes = Vec::with_capacity(entries.len());
    for entry in entries {
        outcomes.push(match tables.find(entry.identifier())? {
            Some((position, stored)) => {
                let updated = entry.merged_into(&stored);
                if updated == stored {
                    Upserted::Unchanged
                } else {
                    touched.touch(stored.datetime.as_deref());
                    touched.touch(updated.datetime.as_deref());
                    tables.remove(&position, &stored)?;
                    tables.insert(position.2, &updated)?;
                    Upserted::Updated
                }
            }
            None => {
                touched.touch(entry.holodule().datetime.as_deref());
                tables.insert(next, entry.holodule())?;
                next += 1;
                Upserted::Inserted
            }
        });
    }
    meta.insert("next_holodule", next)?;
    Ok(outcomes)
}

/// Whether the stored record meets `condition`; `None` if there is no record.
pub(super) fn allows(
    transaction: &WriteTransaction,
    id: &Identifier,
    condition: &Precondition,
) -> Result<Option<bool>, redb::Error> {
    let found = WritableTables::open(transaction)?.find(id)?;
    Ok(found.map(|(_, stored)| condition.allows(Some(&stored))))
}

pub(super) fn delete(
    transaction: &WriteTransaction,
    id: &Identifier,
    touched: &TouchedDays,
) -> Result<bool, redb::Error> {
    let mut tables = WritableTables::open(transaction)?;
    let Some((position, stored)) = tables.find(id)? else { return Ok(false) };
    touched.touch(stored.datetime.as_deref());
    tables.remove(&position, &stored)?;
    Ok(true)
}

/// The holodules with an identifier, at most `limit`. The first is the one that [`delete`] would remove.
pub(super) fn find(transaction: &ReadTransaction, id: &Identifier, limit: usize) -> Result<Vec<Holodule>, redb::Error> {
    let tables = Tables {
        records: transaction.open_table(RECORDS)?,
        by_video_id: transaction.open_table(BY_VIDEO_ID)?,
        by_key: transaction.open_table(BY_KEY)?,
        indexes: (),
    };
    let Some((position, first)) = tables.find(id)? else { return Ok(Vec::new()) };
    let mut found = vec![first];
    if let Identifier::Key(key) = id {
        for other in tables.by_key.range((key.as_str(), 0)..=(key.as_str(), u64::MAX))? {
            let (id, datetime) = other?;
            let other = (datetime.value().to_owned(), key.clone(), id.value().1);
            if other != position && found.len() < limit {
                found.push(tables.read(other)?.1);
            }
        }
    }
    Ok(found)
}

/// Whether there are no holodules.
pub(super) fn is_empty(transaction: &WriteTransaction) -> Result<bool, redb::Error> {
    Ok(transaction.open_table(RECORDS)?.is_empty()?)
}

/// Removes all holodules.
pub(super) fn clear(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.delete_table(RECORDS)?;
    transaction.delete_table(BY_VIDEO_ID)?;
    transaction.delete_table(BY_KEY)?;
    indexes::clear(transaction)?;
    create_tables(transaction)
}

/// Stores a holodule unchanged; `false` if another has its video.
pub(super) fn restore(transaction: &WriteTransaction, holodule: &Holodule) -> Result<bool, redb::Error> {
    let mut tables = WritableTables::open(transaction)?;
    let (_, _, video_id) = indexed(holodule);
    if !video_id.is_empty() && tables.by_video_id.get(video_id)?.is_some() {
        return Ok(false);
    }
    let mut meta = transaction.open_table(META)?;
    let next = meta.get("next_holodule")?.map_or(1, |next| next.value());
    tables.insert(next, holodule)?;
    meta.insert("next_holodule", next.saturating_add(1))?;
    Ok(true)
}

/// The tables of a transaction. Reads need no indexes, which are `()` then.
struct Tables<R, V, K, I> {
    records: R,
    by_video_id: V,
    by_key: K,
    indexes: I,
}

/// The tables of a write transaction.
type WritableTables<'t> = Tables<
    Table<'t, RecordKey, &'static [u8]>,
    Table<'t, &'static str, RecordKey>,
    Table<'t, (&'static str, u64), &'static str>,
    Indexes<'t>,
>;

impl<R, V, K, I> Tables<R, V, K, I>
where
    R: ReadableTable<RecordKey, &'static [u8]>,
    V: ReadableTable<&'static str, RecordKey>,
    K: ReadableTable<(&'static str, u64), &'static str>,
{
    /// By key, a record without a video is preferred, then the oldest.
    fn find(&self, id: &Identifier) -> Result<Option<(HolodulePosition, Holodule)>, redb::Error> {
        match id {
            Identifier::VideoId(video_id) => {
                let position = self.by_video_id.get(video_id.as_str())?.map(|position| owned(position.value()));
                position.map(|position| self.read(position)).transpose()
            }
            Identifier::Key(key) => {
                let mut oldest = None;
                for found in self.by_key.range((key.as_str(), 0)..=(key.as_str(), u64::MAX))? {
                    let (id, datetime) = found?;
                    let (position, record) = self.read((datetime.value().to_owned(), key.clone(), id.value().1))?;
                    if record.video_id.as_deref().unwrap_or_default().is_empty() {
                        return Ok(Some((position, record)));
                    }
                    oldest.get_or_insert((position, record));
                }
                Ok(oldest)
            }
        }
    }

    fn read(&self, position: HolodulePosition) -> Result<(HolodulePosition, Holodule), redb::Error> {
        let record = self.records.get((position.0.as_str(), position.1.as_str(), position.2))?;
        let record = record.ok_or_else(|| damaged(position.2))?;
        let holodule = serde_json::from_slice(record.value()).map_err(|_| damaged(position.2))?;
        Ok((position, holodule))
    }
}

impl<'t> WritableTables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            records: transaction.open_table(RECORDS)?,
            by_video_id: transaction.open_table(BY_VIDEO_ID)?,
            by_key: transaction.open_table(BY_KEY)?,
            indexes: Indexes::open(transaction)?,
        })
    }

    fn insert(&mut self, id: u64, holodule: &Holodule) -> Result<(), redb::Error> {
        let (datetime, key, video_id) = indexed(holodule);
        let record = serde_json::to_vec(holodule).map_err(|_| damaged(id))?;
        self.records.insert((datetime, key, id), record.as_slice())?;
        if !video_id.is_empty() {
            self.by_video_id.insert(video_id, (datetime, key, id))?;
        }
        if !key.is_empty() {
            self.by_key.insert((key, id), datetime)?;
        }
        self.indexes.insert((datetime, key, id), holodule)
    }

    fn remove(&mut self, position: &HolodulePosition, holodule: &Holodule) -> Result<(), redb::Error> {
        let (_, key, video_id) = indexed(holodule);
        self.records.remove((position.0.as_str(), position.1.as_str(), position.2))?;
        self.by_video_id.remove(video_id)?;
        self.by_key.remove((key, position.2))?;
        self.indexes.remove((position.0.as_str(), position.1.as_str(), position.2), holodule)
    }
}

/// The indexed fields: `datetime`, `key` and `video_id`.
fn indexed(holodule: &Holodule) -> (&str, &str, &str) {
    (
        holodule.datetime.as_deref().unwrap_or_default(),
        holodule.key.as_deref().unwrap_or_default(),
        holodule.video_id.as_deref().unwrap_or_default(),
    )
}

fn damaged(id: u64) -> redb::Error {
    redb::Error::Corrupted(format!("record {id} cannot be read"))
}
