//! Builds the indexes of a file of format 1, in batches, while the store is used.
//!
//! A file can be opened within milliseconds, whatever its size. Each batch is a transaction that also stores how far the
//! indexes are complete, so that a killed process loses at most one batch.

use std::ops::Bound;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use redb::{ReadableTable, WriteTransaction};

use super::file::StoreFile;
use super::holodules::RECORDS;
use super::indexes::{self, Extent, HolodulePosition};
use super::{Embedded, blocking};
use crate::model::Holodule;
use crate::store::StoreError;

/// The maximum number of records of a batch. Writes wait for one batch at most.
const BATCH: usize = 1000;
/// The bytes of records after which a batch ends.
const BATCH_BYTES: usize = 4 << 20;
/// The pause after a failed batch.
const RETRY: Duration = Duration::from_secs(5);
/// The interval of log lines.
const REPORT: Duration = Duration::from_secs(10);

impl Embedded {
    /// Starts to build the indexes in the background, unless they are complete. From the first batch on, older programs
    /// reject the file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(in crate::store) async fn build_indexes(&self) -> Result<(), StoreError> {
        if self.read(indexes::extent).await? != Extent::Everything {
            // Not the file itself, which is closed when the last clone of the engine is dropped.
            tokio::spawn(build(Arc::downgrade(&self.file), Arc::clone(&self.writer)));
        }
        Ok(())
    }
}

async fn build(file: Weak<StoreFile>, writer: Arc<tokio::sync::Semaphore>) {
    let (begun, mut reported, mut indexed) = (Instant::now(), Instant::now(), 0);
    tracing::info!("building the indexes of lists");
    loop {
        // A semaphore that is closed belongs to a file that another process uses.
        let Ok(permit) = Arc::clone(&writer).acquire_owned().await else { return };
        let Some(file) = file.upgrade() else { return };
        match blocking(permit, move || file.write(batch)).await {
            Ok(Batch { records, is_last: true }) => {
                let (holodules, seconds) = (indexed + records, begun.elapsed().as_secs());
                return tracing::info!(holodules, seconds, "the indexes of lists are complete");
            }
            Ok(Batch { records, .. }) => indexed += records,
            Err(error) => {
                tracing::error!(%error, "the indexes of lists cannot be built now");
                tokio::time::sleep(RETRY).await;
            }
        }
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            tracing::info!(holodules = indexed, "building the indexes of lists");
        }
    }
}

struct Batch {
    records: usize,
    is_last: bool,
}

fn batch(transaction: &WriteTransaction) -> Result<Batch, redb::Error> {
    let extent = indexes::Indexes::open(transaction)?.extent().clone();
    let from = match &extent {
        Extent::Everything => return Ok(Batch { records: 0, is_last: true }),
        Extent::UpTo((datetime, key, id)) => Bound::Excluded((datetime.as_str(), key.as_str(), *id)),
        Extent::Nothing => Bound::Unbounded,
    };
    let table = transaction.open_table(RECORDS)?;
    let (mut records, mut bytes, mut is_last) = (Vec::<(HolodulePosition, Option<Holodule>)>::new(), 0, true);
    for record in table.range::<(&str, &str, u64)>((from, Bound::Unbounded))? {
        if records.len() >= BATCH || bytes >= BATCH_BYTES {
            is_last = false;
            break;
        }
        let (position, record) = record?;
        bytes += record.value().len();
        records.push((indexes::owned(position.value()), serde_json::from_slice(record.value()).ok()));
    }
    indexes::extend(transaction, records.iter().map(|(position, record)| (position, record.as_ref())), is_last)?;
    Ok(Batch { records: records.len(), is_last })
}
