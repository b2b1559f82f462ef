//! The table of streamers, by code.

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, TableError, WriteTransaction};

use super::Embedded;
use crate::model::{Streamer, Streamers};
use crate::store::{StoreError, StreamersStored, random_id};

/// The code to the streamer as JSON. Files of older versions lack this table until a streamer is stored.
const STREAMERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("streamers");

impl Embedded {
    pub(in crate::store) async fn streamers(&self) -> Result<Streamers, StoreError> {
        self.read(|transaction| Ok(all(transaction)?.into_iter().collect())).await
    }

    pub(in crate::store) async fn store_streamers(
        &self,
        streamers: Vec<Streamer>,
    ) -> Result<StreamersStored, StoreError> {
        // The ids are drawn here, because errors of the random source are no errors of the file.
        let new = |streamer: Streamer| Ok((streamer, random_id()?));
        let streamers = streamers.into_iter().map(new).collect::<Result<Vec<_>, StoreError>>()?;
        self.write_days(move |transaction, touched| {
            let mut table = transaction.open_table(STREAMERS)?;
            let mut stored = StreamersStored::default();
            for (streamer, id) in streamers {
                *match store(&mut table, streamer, id)? {
                    Stored::Inserted => &mut stored.inserted,
                    Stored::Updated => &mut stored.updated,
                    Stored::Unchanged => &mut stored.unchanged,
                } += 1;
            }
            if stored.inserted + stored.updated > 0 {
                touched.touch_all();
            }
            Ok(stored)
        })
        .await
    }
}

/// All streamers, by code.
pub(super) fn all(transaction: &ReadTransaction) -> Result<Vec<Streamer>, redb::Error> {
    let table = match transaction.open_table(STREAMERS) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut streamers = Vec::new();
    for streamer in table.iter()? {
        streamers.push(decode(streamer?.1.value())?);
    }
    Ok(streamers)
}

/// Stores a streamer of a backup. A new one gets `new_id` if it has no id, or another streamer has it.
pub(super) fn restore(transaction: &WriteTransaction, streamer: Streamer, new_id: String) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(STREAMERS)?;
    let mut is_taken = streamer.id.is_empty();
    for stored in table.iter()? {
        is_taken |= decode(stored?.1.value())?.id == streamer.id;
    }
    let id = if is_taken { new_id } else { streamer.id.clone() };
    store(&mut table, streamer, id).map(drop)
}

enum Stored {
    Inserted,
    Updated,
    Unchanged,
}

/// Stores a streamer: a new one with `new_id`, or its present fields in place of the stored ones.
fn store(
    table: &mut Table<'_, &'static str, &'static [u8]>,
    streamer: Streamer,
    new_id: String,
) -> Result<Stored, redb::Error> {
    let code = streamer.code.clone();
    let stored = table.get(code.as_str())?.map(|stored| decode(stored.value())).transpose()?;
    let (streamer, outcome) = match stored {
        None => (Streamer { id: new_id, ..streamer }, Stored::Inserted),
        Some(stored) => match merged(&stored, streamer) {
            same if same == stored => return Ok(Stored::Unchanged),
            updated => (updated, Stored::Updated),
        },
    };
    let record = serde_json::to_vec(&streamer).map_err(|_| damaged("written"))?;
    table.insert(code.as_str(), record.as_slice())?;
    Ok(outcome)
}

/// The stored streamer with the present fields of `new`. Its id and code remain.
fn merged(stored: &Streamer, new: Streamer) -> Streamer {
    Streamer {
        id: stored.id.clone(),
        code: stored.code.clone(),
        name: new.name.or_else(|| stored.name.clone()),
        group: new.group.or_else(|| stored.group.clone()),
        affiliations: if new.affiliations.is_empty() { stored.affiliations.clone() } else { new.affiliations },
        image_name: new.image_name.or_else(|| stored.image_name.clone()),
        channel_id: new.channel_id.or_else(|| stored.channel_id.clone()),
        is_retired: new.is_retired.or(stored.is_retired),
    }
}

fn decode(record: &[u8]) -> Result<Streamer, redb::Error> {
    serde_json::from_slice(record).map_err(|_| damaged("read"))
}

fn damaged(action: &str) -> redb::Error {
    redb::Error::Corrupted(format!("a streamer cannot be {action}"))
}
