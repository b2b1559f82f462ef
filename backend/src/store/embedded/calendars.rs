//! The tables of calendar feeds.

use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{Embedded, users};
use crate::model::{CALENDARS_LIMIT, Calendar, Delivered, DeliveredRevision, KeyHash};
use crate::store::{CalendarCreated, StoreError};

/// `(owner, id)` to the feed as JSON.
const CALENDARS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("calendars");
/// The hash of the key to `(owner, id)`.
const BY_KEY: TableDefinition<'_, &str, (&str, &str)> = TableDefinition::new("calendars_by_key");
/// The id to the delivered events of the feed, as JSON.
const DELIVERED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("calendars_delivered");

/// Greater than every id, which are hexadecimal digits.
const PAST_IDS: &str = "g";

#[derive(Serialize, Deserialize)]
struct DeliveredRow {
    revision: i64,
    delivered: Delivered,
}

impl Embedded {
    pub(in crate::store) async fn create_calendar(&self, calendar: Calendar) -> Result<CalendarCreated, StoreError> {
        self.write(move |transaction| create(transaction, calendar)).await
    }

    pub(in crate::store) async fn calendars(&self, owner: &str) -> Result<Vec<Calendar>, StoreError> {
        let owner = owner.to_owned();
        self.read(move |transaction| {
            let Some(user) = users::user(transaction, &owner)? else { return Ok(Vec::new()) };
            let mut calendars = Vec::new();
            for row in transaction.open_table(CALENDARS)?.range((owner.as_str(), "")..(owner.as_str(), PAST_IDS))? {
                let calendar: Calendar = decode(row?.1.value())?;
                if calendar.is_of(user.id.as_deref()) {
                    calendars.push(calendar);
                }
            }
            calendars.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
            Ok(calendars)
        })
        .await
    }

    pub(in crate::store) async fn delete_calendar(&self, owner: &str, id: &str) -> Result<bool, StoreError> {
        let (owner, id) = (owner.to_owned(), id.to_owned());
        self.write(move |transaction| delete(transaction, &owner, &id)).await
    }

    pub(in crate::store) async fn calendar(
        &self,
        key: &KeyHash,
    ) -> Result<Option<(Calendar, DeliveredRevision)>, StoreError> {
        let key = key.clone();
        self.read(move |transaction| by_key(transaction, &key)).await
    }

    pub(in crate::store) async fn store_delivered(
        &self,
        id: &str,
        revision: i64,
        delivered: Delivered,
    ) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.write(move |transaction| store_delivered(transaction, &id, revision, delivered)).await
    }
}

/// Stores what a feed has delivered, if `revision` is still the number of the last write.
pub(super) fn store_delivered(
    transaction: &WriteTransaction,
    id: &str,
    revision: i64,
    delivered: Delivered,
) -> Result<bool, redb::Error> {
    let mut table = transaction.open_table(DELIVERED)?;
    let stored = table.get(id)?.map(|row| decode::<DeliveredRow>(row.value())).transpose()?;
    if stored.is_none_or(|stored| stored.revision != revision) {
        return Ok(false);
    }
    let row = DeliveredRow { revision: revision.saturating_add(1), delivered };
    table.insert(id, encode(&row)?.as_slice())?;
    Ok(true)
}

pub(super) fn create_tables(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(CALENDARS)?;
    transaction.open_table(BY_KEY)?;
    transaction.open_table(DELIVERED)?;
    Ok(())
}

/// Whether the tables exist.
pub(super) fn have_tables(transaction: &ReadTransaction) -> Result<bool, redb::Error> {
    // This table is the last one that is created.
    match transaction.open_table(DELIVERED) {
        Ok(_) => Ok(true),
        Err(TableError::TableDoesNotExist(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn create(transaction: &WriteTransaction, mut calendar: Calendar) -> Result<CalendarCreated, redb::Error> {
    let Some(user) = users::active(transaction, &calendar.owner)? else { return Ok(CalendarCreated::NoSuchUser) };
    calendar.owner_id = user;
    let owner = calendar.owner.as_str();
    let count = transaction.open_table(CALENDARS)?.range((owner, "")..(owner, PAST_IDS))?.count();
    if count >= CALENDARS_LIMIT {
        return Ok(CalendarCreated::TooMany);
    }
    insert(transaction, &calendar)?;
    Ok(CalendarCreated::Done)
}

/// Stores a feed that has delivered nothing.
pub(super) fn insert(transaction: &WriteTransaction, calendar: &Calendar) -> Result<(), redb::Error> {
    let position = (calendar.owner.as_str(), calendar.id.as_str());
    transaction.open_table(CALENDARS)?.insert(position, encode(calendar)?.as_slice())?;
    transaction.open_table(BY_KEY)?.insert(calendar.key_hash.as_str(), position)?;
    let none = DeliveredRow { revision: 0, delivered: Delivered::default() };
    transaction.open_table(DELIVERED)?.insert(calendar.id.as_str(), encode(&none)?.as_slice())?;
    Ok(())
}

fn delete(transaction: &WriteTransaction, owner: &str, id: &str) -> Result<bool, redb::Error> {
    let Some(calendar) = transaction
        .open_table(CALENDARS)?
        .remove((owner, id))?
        .map(|row| decode::<Calendar>(row.value()))
        .transpose()?
    else {
        return Ok(false);
    };
    transaction.open_table(BY_KEY)?.remove(calendar.key_hash.as_str())?;
    transaction.open_table(DELIVERED)?.remove(id)?;
    Ok(true)
}

/// Deletes all feeds of a user.
pub(super) fn delete_of(transaction: &WriteTransaction, owner: &str) -> Result<(), redb::Error> {
    let mut ids = Vec::new();
    for row in transaction.open_table(CALENDARS)?.range((owner, "")..(owner, PAST_IDS))? {
        ids.push(row?.0.value().1.to_owned());
    }
    for id in ids {
        delete(transaction, owner, &id)?;
    }
    Ok(())
}

fn by_key(transaction: &ReadTransaction, key: &KeyHash) -> Result<Option<(Calendar, DeliveredRevision)>, redb::Error> {
    let Some(position) = transaction.open_table(BY_KEY)?.get(key.as_str())? else { return Ok(None) };
    let Some(row) = transaction.open_table(CALENDARS)?.get(position.value())? else { return Ok(None) };
    let calendar: Calendar = decode(row.value())?;
    let owner = users::user(transaction, &calendar.owner)?.filter(|user| !user.disabled);
    if owner.is_none_or(|user| !calendar.is_of(user.id.as_deref())) {
        return Ok(None);
    }
    let delivered = delivered(transaction, &calendar.id)?;
    Ok(Some((calendar, delivered)))
}

/// What the feed with this id has delivered.
pub(super) fn delivered(transaction: &ReadTransaction, id: &str) -> Result<DeliveredRevision, redb::Error> {
    let Some(row) = transaction.open_table(DELIVERED)?.get(id)? else { return Ok(DeliveredRevision::default()) };
    let DeliveredRow { revision, delivered } = decode(row.value())?;
    // Earlier versions restored it unchecked.
    let delivered = Some(delivered).filter(Delivered::is_valid).unwrap_or_default();
    Ok(DeliveredRevision { revision, delivered })
}

/// All feeds, as in a backup.
pub(super) fn saved(transaction: &ReadTransaction) -> Result<Vec<Calendar>, redb::Error> {
    transaction.open_table(CALENDARS)?.iter()?.map(|row| decode(row?.1.value())).collect()
}

/// Removes all feeds.
pub(super) fn clear(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.delete_table(CALENDARS)?;
    transaction.delete_table(BY_KEY)?;
    transaction.delete_table(DELIVERED)?;
    create_tables(transaction)
}

fn decode<T: for<'de> Deserialize<'de>>(row: &[u8]) -> Result<T, redb::Error> {
    serde_json::from_slice(row).map_err(|_| redb::Error::Corrupted("a calendar feed cannot be read".to_owned()))
}

fn encode(row: &impl Serialize) -> Result<Vec<u8>, redb::Error> {
    serde_json::to_vec(row).map_err(|_| redb::Error::Corrupted("a calendar feed cannot be written".to_owned()))
}
